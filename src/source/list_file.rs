//! Lists of images: one reference a line, as they come with a release.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result, Side};
use crate::image::Reference;

/// Longest list that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// Reads the list in the file `path`, or from standard input if that is `-`.
pub fn read_list(path: &Path) -> Result<Vec<Reference>> {
    if path == Path::new("-") {
        return read_from(io::stdin().lock(), Path::new("standard input"));
    }
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Usage(format!("the list {} is not there", path.display())))
        }
        opened => read_from(opened.map_err(Error::io(Side::Source, "open", path))?, path),
    }
}

fn read_from(reader: impl Read, path: &Path) -> Result<Vec<Reference>> {
    let mut bytes = Vec::new();
    reader.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(Error::io(Side::Source, "read", path))?;
    let name = path.display();
    if bytes.len() as u64 > MAX_LIST {
        return Err(Error::Usage(format!("{name}: longer than the {MAX_LIST} bytes a list may have")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::Usage(format!("{name}: not UTF-8 text; PowerShell's > writes UTF-16")))?;
    parse_list(&text, &name.to_string())
}

/// Parses a list: one reference a line, blank lines and comments from `#` on left out.
///
/// Each image is given once, at its first place. The first line that is no reference is an error,
/// which names it as `name:line`.
pub fn parse_list(text: &str, name: &str) -> Result<Vec<Reference>> {
    let mut seen = BTreeSet::new();
    let mut images = Vec::new();
    // Windows editors put a byte order mark first.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let image: Reference =
            line.parse().map_err(|error| Error::Usage(format!("{name}:{}: {error}", number + 1)))?;
        if seen.insert(image.clone()) {
            images.push(image);
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_repeats_are_left_out() {
        let text = "\u{feff}# release 1.32\r\n\r\n  nginx:1.22  \r\nredis # cache\n\tquay.io/a/b:1\ndocker.io/library/redis:latest";
        let images = parse_list(text, "list").unwrap();
        let names: Vec<String> = images.iter().map(Reference::to_string).collect();
        assert_eq!(
            names,
            ["docker.io/library/nginx:1.22", "docker.io/library/redis:latest", "quay.io/a/b:1"]
        );
        assert!(parse_list("", "list").unwrap().is_empty());
    }

    #[test]
    fn an_error_names_file_and_line() {
        let error = parse_list("nginx\n# x\n\nNot A Name\n", "images.txt").unwrap_err();
        assert!(error.to_string().starts_with("images.txt:4: "), "{error}");
    }

    #[test]
    fn other_encodings_are_told_apart() {
        let utf16: Vec<u8> = "\u{feff}nginx".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = read_from(utf16.as_slice(), Path::new("l")).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }
}
