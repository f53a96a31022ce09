//! Image references, normalised as Docker and CRI do it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Digest;

/// A full image name: registry, repository, and a tag, a digest or both.
///
/// Parsed the way Docker and containerd's CRI plugin do (distribution/reference, `normalize.go`):
/// `nginx` is `docker.io/library/nginx:latest`. Printed in that full form, which is also the string
/// that CRI looks a name up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// All of it. One text takes less than its parts do, and a set has many.
    text: Box<str>,
    /// Bytes of the repository, with which the text begins.
    repository: u8,
    /// Bytes of the tag behind it; 0 where there is none.
    tag: u8,
}

/// The text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

/// Longest registry and repository together, in bytes (distribution/reference, `NameTotalLengthMax`).
const MAX_REPOSITORY: usize = 255;

impl Reference {
    /// Puts legal parts together; the lengths fit, since neither is longer than its limit.
    fn new(repository: &str, tag: Option<&str>, digest: Option<Digest>) -> Self {
        let mut text = repository.to_owned();
        if let Some(tag) = tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        let tag = tag.map_or(0, |tag| tag.len() as u8);
        Self { text: text.into(), repository: repository.len() as u8, tag }
    }

    /// Registry and path, such as `docker.io/library/nginx`.
    pub fn repository(&self) -> &str {
        &self.text[..usize::from(self.repository)]
    }

    /// The registry's host, with its port if it has one.
    pub fn registry(&self) -> &str {
        self.repository().split_once('/').map_or("", |(registry, _)| registry)
    }

    /// The path below the registry, such as `library/nginx`.
    pub fn path(&self) -> &str {
        self.repository().split_once('/').map_or("", |(_, path)| path)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        let start = usize::from(self.repository) + 1;
        (self.tag > 0).then(|| &self.text[start..start + usize::from(self.tag)])
    }

    /// The digest.
    pub fn digest(&self) -> Option<Digest> {
        self.text.split_once('@').and_then(|(_, digest)| digest.parse().ok())
    }

    /// The same repository with this digest and no tag: the form in which CRI looks up a digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self::new(self.repository(), None, Some(digest))
    }

    /// The name without its digest where it has a tag as well: one name, of one form.
    pub fn without_redundant_digest(&self) -> Self {
        match self.tag() {
            Some(tag) => Self::new(self.repository(), Some(tag), None),
            None => self.clone(),
        }
    }

    /// Replaces the registry or path prefix `from` of the repository by `to`, whole components only.
    ///
    /// `None` when the repository does not start with `from`, or the new name would not be legal.
    pub fn rename(&self, from: &str, to: &str) -> Option<Self> {
        let from = from.trim_end_matches('/');
        let rest = self.repository().strip_prefix(from)?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let behind = &self.text[usize::from(self.repository)..];
        format!("{}{rest}{behind}", to.trim_end_matches('/')).parse().ok()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError { text: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse::<Digest>()
                        .map_err(|_| refuse("its digest is not sha256 and 64 hex digits"))?,
                ),
            ),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it is a registry's port.
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("its tag has characters that a tag cannot have, or is too long"));
        }
        if digest.is_none() && name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse("64 hex digits are an image id, not a name"));
        }
        let is_id = |tag: &str| tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        if name == "sha256" && tag.is_some_and(is_id) {
            return Err(refuse("sha256 and 64 hex digits are an image id, not a name"));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(&registry) {
            return Err(refuse("its registry is not a host name"));
        }
        if path.is_empty() || !path.split('/').all(is_path_component) {
            return Err(refuse("its repository must be lower-case words joined by . _ - and /"));
        }
        let repository = format!("{registry}/{path}");
        if repository.len() > MAX_REPOSITORY {
            return Err(refuse("its repository is longer than 255 bytes"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self::new(&repository, tag, digest))
    }
}

/// Applies the defaults `docker.io` and `library/`.
fn split_registry(name: &str) -> (String, String) {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    if registry == "docker.io" && !path.contains('/') {
        (registry.into(), format!("library/{path}"))
    } else {
        (registry.into(), path.into())
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let legal_port =
        port.is_none_or(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()));
    let legal_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    legal_port && legal_host
}

/// Lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends && bytes
        .split(alphanumeric)
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    /// By repository, then tag, then digest.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_part = self.repository().cmp(other.repository()).then_with(|| self.tag().cmp(&other.tag()));
        // What differs then is the digest, whose text is in the order of its bytes; none comes before any.
        by_part.then_with(|| self.text.cmp(&other.text))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_become_the_names_that_cri_looks_up() {
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("nginx:1.22"), "docker.io/library/nginx:1.22");
        assert_eq!(full("bitnami/redis"), "docker.io/bitnami/redis:latest");
        assert_eq!(full("index.docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("docker.io/nginx:1"), "docker.io/library/nginx:1");
        assert_eq!(full("localhost/a"), "localhost/a:latest");
        assert_eq!(full("host:5000/a/b:t"), "host:5000/a/b:t");
        assert_eq!(full("Registry/a"), "Registry/a:latest");
        assert_eq!(full("ghcr.io/canonical/k8s-snap/pause:3.10"), "ghcr.io/canonical/k8s-snap/pause:3.10");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("a__b/c.d-e--f"), "docker.io/a__b/c.d-e--f:latest");
    }

    #[test]
    fn a_digest_keeps_its_tag_and_takes_no_default_tag() {
        assert_eq!(full(&format!("nginx@sha256:{HEX}")), format!("docker.io/library/nginx@sha256:{HEX}"));
        let both: Reference = format!("nginx:1@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(
            both.with_digest(both.digest().unwrap()).to_string(),
            format!("docker.io/library/nginx@sha256:{HEX}")
        );
    }

    #[test]
    fn names_are_in_the_order_of_their_parts() {
        let digest = |digit: &str| format!("@sha256:{}", digit.repeat(64));
        let sorted = [
            format!("a.io/b{}", digest("0")),
            format!("a.io/b{}", digest("1")),
            "a.io/b:1".into(),
            format!("a.io/b:1{}", digest("0")),
            "a.io/b:2".into(),
            "a.io/b-c:1".into(),
            "a.io/b/c:1".into(),
            "b.io/a:1".into(),
        ];
        let names: Vec<Reference> = sorted.iter().map(|name| name.parse().unwrap()).collect();
        assert!(names.is_sorted());
        assert_eq!(names[3].without_redundant_digest(), names[2]);
        assert_eq!((names[0].tag(), names[3].tag(), names[7].path()), (None, Some("1"), "a"));
        assert_eq!(names[3].digest().unwrap().hex(), "0".repeat(64));
        let longest: Reference = format!("a/{}:{}", "r".repeat(243), "t".repeat(128)).parse().unwrap();
        assert_eq!((longest.repository().len(), longest.tag().unwrap().len()), (255, 128));
        assert_eq!(size_of::<Reference>(), 24);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a:b:c",
            "Nginx",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a b",
            "a\n",
            "a@sha256:12",
            "a@",
            "host:port/a",
            "..",
            "a/../b",
            HEX,
            "-x.io/a",
            "a:-t",
            "ex\u{e4}mple",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
        assert!(format!("{}/a", "x".repeat(300)).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }

    #[test]
    fn renaming_replaces_whole_components_only() {
        let nginx: Reference = "nginx:1".parse().unwrap();
        let renamed = |from, to| nginx.rename(from, to).map(|r| r.to_string());
        assert_eq!(renamed("docker.io", "mirror.local:5000").unwrap(), "mirror.local:5000/library/nginx:1");
        assert_eq!(renamed("docker.io/library", "quay.io/base/").unwrap(), "quay.io/base/nginx:1");
        assert_eq!(renamed("docker.io/lib", "x.io"), None);
        assert_eq!(renamed("docker.io", "UPPER CASE"), None);
    }
}
