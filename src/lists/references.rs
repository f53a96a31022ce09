//! Lists with one reference a line: a file, standard input, or the `images.txt` inside a snap.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::text::{Bad, all, decode};
use super::{Named, Pattern, Pull, TagFilter, TagsOf, snap};
use crate::error::{Error, Result, Side};
use crate::image::ReferenceError;

/// Largest list that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// What a list names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Images.
    pub images: Vec<Named>,
    /// Tags of repositories, several at once.
    pub tags: Vec<TagsOf>,
}

/// How a list is read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What is left out.
    pub exclude: Vec<Pattern>,
    /// The tags that a name without tag and digest stands for; `latest` where nothing is said.
    pub tags: Option<TagFilter>,
}

/// Reads a list: a file, `-` for standard input, or a snap (squashfs, told by its first bytes).
pub fn read(path: &Path, reading: &Reading) -> Result<Names> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let input = io::stdin().lock().take(MAX_LIST).read_to_end(&mut bytes);
        input.map_err(Error::io(Side::Here, "read", "standard input"))?;
        return parse(&decode(bytes, "standard input")?, "standard input", reading);
    }
    let failed = || Error::io(Side::Here, "read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut start = [0; 4];
    let is_snap = file.read(&mut start).map_err(failed())? == 4 && start == snap::MAGIC;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    if is_snap {
        let text = snap::images(BufReader::new(file), path)?;
        return parse(&text, &format!("images.txt in {}", path.display()), reading);
    }
    file.take(MAX_LIST).read_to_end(&mut bytes).map_err(failed())?;
    let name = path.display().to_string();
    parse(&decode(bytes, &name)?, &name, reading)
}

/// Reads the lines of a list; `file` is what it is called in messages. Empty lines and those that
/// begin with `#` count for nothing, nor does what stands behind ` #`; `docker://` in front of a name is
/// taken off. An error names every line that is no reference.
pub fn parse(text: &str, file: &str, reading: &Reading) -> Result<Names> {
    let (mut names, mut bad) = (Names::default(), Vec::new());
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let line = bare(line);
        if line.is_empty() || reading.exclude.iter().any(|pattern| pattern.fits_text(line)) {
            continue;
        }
        let place = format!("{file}:{number}");
        if let Err(error) = names.add(line, &place, reading.tags.as_ref()) {
            bad.push(Bad::new(place, line, &error));
        }
    }
    let yaml = yaml_hint(text);
    match all(&bad, |place, reason| Error::Usage(format!("{place}: {reason}{yaml}"))) {
        Some(error) => Err(error),
        None => Ok(names),
    }
}

impl Names {
    /// Adds what `text` names: an image, or several tags of a repository; `tags` are those of a name without one.
    pub fn add(&mut self, text: &str, place: &str, tags: Option<&TagFilter>) -> Result<(), ReferenceError> {
        match TagsOf::read(text, tags, place) {
            Some(several) => self.tags.push(several?),
            None => {
                let (image, place) = (text.parse()?, place.to_owned());
                self.images.push(Named { image, place, pull: Pull::Unsaid });
            }
        }
        Ok(())
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
        let named = parse(text, "images.txt", &Reading::default()).unwrap().images;
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
        let error =
            parse("nginx:1\n\nNot A Reference\n", "list", &Reading::default()).unwrap_err().to_string();
        assert!(error.starts_with("list:3: "), "{error}");
    }

    #[test]
    fn a_line_is_read_as_people_write_it() {
        let text = "nginx:1   # the web\ndocker://quay.io/team/app:2\n\u{feff}redis:7\t#x\nREPLACE_ME\n";
        let reading = Reading { exclude: vec!["REPLACE_ME".parse().unwrap()], tags: None };
        let named = parse(&decode(text.into(), "x").unwrap(), "x", &reading).unwrap().images;
        let names: Vec<_> = named.iter().map(|named| named.image.to_string()).collect();
        assert_eq!(names, ["docker.io/library/nginx:1", "quay.io/team/app:2", "docker.io/library/redis:7"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_what_to_do() {
        let said = |text: &str| parse(text, "l", &Reading::default()).unwrap_err().to_string();
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

    #[test]
    fn a_line_may_stand_for_several_tags() {
        let text = "nginx:1.29.*\nredis\nbusybox:1\n";
        let names = parse(text, "l", &Reading::default()).unwrap();
        assert_eq!((names.images.len(), names.tags.len()), (2, 1));
        assert_eq!(names.tags[0].place, "l:1");
        let reading = Reading { tags: Some("semver >=7".parse().unwrap()), ..Reading::default() };
        let names = parse(text, "l", &reading).unwrap();
        assert_eq!((names.images.len(), names.tags.len()), (1, 2));
    }
}
