//! Lists with one reference a line: a file, standard input, or the `images.txt` inside a snap.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Named, Pull, snap};
use crate::error::{Error, Result, Side};

/// Largest list that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// Reads a list: a file, `-` for standard input, or a snap (squashfs, told by its first bytes).
pub fn read(path: &Path) -> Result<Vec<Named>> {
    let mut text = String::new();
    if path == Path::new("-") {
        let input = io::stdin().lock().take(MAX_LIST).read_to_string(&mut text);
        input.map_err(Error::io(Side::Here, "read", "standard input"))?;
        return parse(&text, "standard input");
    }
    let failed = || Error::io(Side::Here, "read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut start = [0; 4];
    let is_snap = file.read(&mut start).map_err(failed())? == 4 && start == snap::MAGIC;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    if is_snap {
        let text = snap::images(BufReader::new(file), path)?;
        return parse(&text, &format!("images.txt in {}", path.display()));
    }
    file.take(MAX_LIST).read_to_string(&mut text).map_err(failed())?;
    parse(&text, &path.display().to_string())
}

/// Reads the lines of a list; `file` is what it is called in messages. Empty lines and those that
/// begin with `#` count for nothing. An error names the line.
pub fn parse(text: &str, file: &str) -> Result<Vec<Named>> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).zip(1..);
    let entry = |(line, number): (&str, u64)| {
        let place = format!("{file}:{number}");
        match line.parse() {
            Ok(image) => Ok(Named { image, place, pull: Pull::Unsaid }),
            Err(error) => Err(Error::Usage(format!("{place}: {error}"))),
        }
    };
    lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonicals_list_is_read_as_it_is() {
        let text = "ghcr.io/canonical/cilium-operator-generic:1.15.2-ck2\r\n\n# more\n  ghcr.io/canonical/k8s-snap/pause:3.10\n";
        let named = parse(text, "images.txt").unwrap();
        let lines: Vec<_> = named.iter().map(|n| (n.image.to_string(), n.place.as_str())).collect();
        assert_eq!(
            lines,
            [
                ("ghcr.io/canonical/cilium-operator-generic:1.15.2-ck2".into(), "images.txt:1"),
                ("ghcr.io/canonical/k8s-snap/pause:3.10".into(), "images.txt:4"),
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_reference_is_named() {
        let error = parse("nginx:1\n\nNot A Reference\n", "list").unwrap_err().to_string();
        assert!(error.starts_with("list:3: "), "{error}");
    }
}
