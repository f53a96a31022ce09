//! Lists with one reference a line: a file, standard input, or the `images.txt` inside a snap.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::text::{Bad, all, decode};
use super::{Named, Pattern, Pull, snap};
use crate::error::{Error, Result, Side};

/// Largest list that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// Reads a list: a file, `-` for standard input, or a snap (squashfs, told by its first bytes). What fits
/// one of `exclude` is left out.
pub fn read(path: &Path, exclude: &[Pattern]) -> Result<Vec<Named>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let input = io::stdin().lock().take(MAX_LIST).read_to_end(&mut bytes);
        input.map_err(Error::io(Side::Here, "read", "standard input"))?;
        return parse(&decode(bytes, "standard input")?, "standard input", exclude);
    }
    let failed = || Error::io(Side::Here, "read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut start = [0; 4];
    let is_snap = file.read(&mut start).map_err(failed())? == 4 && start == snap::MAGIC;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    if is_snap {
        let text = snap::images(BufReader::new(file), path)?;
        return parse(&text, &format!("images.txt in {}", path.display()), exclude);
    }
    file.take(MAX_LIST).read_to_end(&mut bytes).map_err(failed())?;
    let name = path.display().to_string();
    parse(&decode(bytes, &name)?, &name, exclude)
}

/// Reads the lines of a list; `file` is what it is called in messages. Empty lines and those that
/// begin with `#` count for nothing, nor does what stands behind ` #`; `docker://` in front of a name is
/// taken off. An error names every line that is no reference.
pub fn parse(text: &str, file: &str, exclude: &[Pattern]) -> Result<Vec<Named>> {
    let (mut named, mut bad) = (Vec::new(), Vec::new());
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let line = bare(line);
        if line.is_empty() || exclude.iter().any(|pattern| pattern.fits_text(line)) {
            continue;
        }
        let place = format!("{file}:{number}");
        match line.parse() {
            Ok(image) => named.push(Named { image, place, pull: Pull::Unsaid }),
            Err(error) => bad.push(Bad::new(place, line, &error)),
        }
    }
    let yaml = yaml_hint(text);
    match all(&bad, |place, reason| Error::Usage(format!("{place}: {reason}{yaml}"))) {
        Some(error) => Err(error),
        None => Ok(named),
    }
}

/// A line without its comment, and without the transport that skopeo wants in front of a name.
fn bare(line: &str) -> &str {
    let line = line.trim();
    let comment = line.starts_with('#').then_some(0).or_else(|| {
        let blank = |at: &usize| line[..*at].ends_with(char::is_whitespace);
        line.match_indices('#').map(|(at, _)| at).find(blank)
    });
    let line = comment.map_or(line, |at| line[..at].trim_end());
    line.strip_prefix("docker://").unwrap_or(line)
}

/// What to do with a list that is YAML.
fn yaml_hint(text: &str) -> &'static str {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines().any(|line| line.starts_with("apiVersion:") || line.starts_with("kind:")) {
        "\n  It looks like Kubernetes manifests, which --manifests reads"
    } else if lines().any(|line| line.starts_with("- ") || line.ends_with(':') || line == "---") {
        "\n  It looks like YAML; a list has one reference a line, and nothing else"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonicals_list_is_read_as_it_is() {
        let text = "ghcr.io/canonical/cilium-operator-generic:1.15.2-ck2\r\n\n# more\n  ghcr.io/canonical/k8s-snap/pause:3.10\n";
        let named = parse(text, "images.txt", &[]).unwrap();
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
        let error = parse("nginx:1\n\nNot A Reference\n", "list", &[]).unwrap_err().to_string();
        assert!(error.starts_with("list:3: "), "{error}");
    }

    #[test]
    fn a_line_is_read_as_people_write_it() {
        let text = "nginx:1   # the web\ndocker://quay.io/team/app:2\n\u{feff}redis:7\t#x\nREPLACE_ME\n";
        let exclude = ["REPLACE_ME".parse().unwrap()];
        let named = parse(&decode(text.into(), "x").unwrap(), "x", &exclude).unwrap();
        let names: Vec<_> = named.iter().map(|named| named.image.to_string()).collect();
        assert_eq!(names, ["docker.io/library/nginx:1", "quay.io/team/app:2", "docker.io/library/redis:7"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_what_to_do() {
        let said = |text: &str| parse(text, "l", &[]).unwrap_err().to_string();
        let error = said("a b\nnginx:1\nbusybox:${TAG}\nx:{{ .Values.tag }}\n");
        for part in ["l:1: ", "l:3: ", "envsubst", "l:4: ", "helm template"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(said("apiVersion: v1\nkind: Pod\n").contains("--manifests"));
        assert!(said("images:\n- nginx:1\n").contains("one reference a line"));
        let id = format!("sha256:{}", "a".repeat(64));
        assert!(said(&id).contains("image id"), "{}", said(&id));
        assert!(said(&"a b\n".repeat(100)).contains("and 80 more"));
    }
}
