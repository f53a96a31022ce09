//! The name of a repository as clients of a mirror give it, and which repositories it may mean.

use super::answer::{Code, Refusal};
use crate::image::Reference;

/// Longest repository with its registry, in bytes (distribution/reference, `NameTotalLengthMax`).
const MAX_NAME: usize = 255;
/// The registry of names that say none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A repository as it was asked for: the path, and the registry that containerd says it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The registry, from `?ns=`.
    ns: Option<String>,
    /// The path between `/v2/` and what is asked of it.
    path: String,
}

impl Name {
    /// Checks both parts.
    ///
    /// Errors: 400 `NAME_INVALID` for what is no name in a registry.
    pub fn new(ns: Option<&str>, path: &str) -> Result<Self, Refusal> {
        let legal = |name: &str| name.len() <= MAX_NAME && repository(name).is_some();
        let ns = ns.filter(|ns| !ns.is_empty());
        let whole = match ns {
            Some(ns) => legal(&format!("{ns}/{path}")) && !ns.contains('/'),
            None => legal(path) || legal(&format!("{DEFAULT_REGISTRY}/{path}")),
        };
        if !whole {
            return Err(Refusal::new(400, Code::NameInvalid, "this is no name of a repository"));
        }
        Ok(Self { ns: ns.map(str::to_owned), path: path.to_owned() })
    }

    /// The path, as the client gave it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The registry that the client says the mirror stands for.
    pub fn ns(&self) -> Option<&str> {
        self.ns.as_deref()
    }

    /// The repositories that it may mean, with their registry; the first that there is counts.
    ///
    /// A registry that is named leaves no choice: what another one calls the same must not be given for it.
    /// The path may begin with that registry too, where the mirror is nested (`override_path`).
    pub fn candidates(&self) -> Vec<String> {
        let path = &self.path;
        match &self.ns {
            Some(ns) => {
                let mut candidates = vec![format!("{ns}/{path}")];
                if path.strip_prefix(ns.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                    candidates.push(path.clone());
                }
                candidates.into_iter().filter_map(|name| repository(&name)).collect()
            }
            // `a.b/c` is taken for a registry and its path first, and `c/d` is Docker Hub's.
            None => {
                let hub = format!("{DEFAULT_REGISTRY}/{path}");
                let mut candidates: Vec<String> =
                    [repository(path), repository(&hub)].into_iter().flatten().collect();
                candidates.dedup();
                candidates
            }
        }
    }

    /// Whether `repository` may be meant where none of the candidates is there: it has this path in any
    /// registry.
    pub fn is_path_of(&self, repository: &str) -> bool {
        self.ns.is_none() && repository.split_once('/').is_some_and(|(_, path)| path == self.path)
    }
}

/// The repository in full, with its registry, such as `docker.io/library/nginx`; `None` for no name.
fn repository(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b));
    if !plain || name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return None;
    }
    name.parse::<Reference>().ok().map(|reference| reference.repository().to_owned())
}

/// Whether `text` can be a tag (OCI distribution-spec, `<reference>`).
pub fn is_tag(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(legal)
        && text.bytes().all(|b| legal(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(ns: Option<&str>, path: &str) -> Vec<String> {
        Name::new(ns, path).unwrap().candidates()
    }

    #[test]
    fn a_name_is_read_as_each_client_writes_it() {
        assert_eq!(candidates(Some("docker.io"), "library/nginx"), ["docker.io/library/nginx"]);
        assert_eq!(candidates(Some("ghcr.io"), "canonical/pause"), ["ghcr.io/canonical/pause"]);
        assert_eq!(
            candidates(Some("ghcr.io"), "ghcr.io/a/b"),
            ["ghcr.io/ghcr.io/a/b", "ghcr.io/a/b"],
            "a nested mirror"
        );
        assert_eq!(candidates(Some("localhost:5000"), "a"), ["localhost:5000/a"]);
        assert_eq!(candidates(None, "nginx"), ["docker.io/library/nginx"]);
        assert_eq!(candidates(None, "library/nginx"), ["docker.io/library/nginx"]);
        assert_eq!(candidates(None, "ghcr.io/a/b"), ["ghcr.io/a/b", "docker.io/ghcr.io/a/b"]);
        assert_eq!(candidates(None, "localhost:5000/a"), ["localhost:5000/a"]);
    }

    #[test]
    fn a_bare_path_may_be_of_any_registry_and_one_with_a_registry_only_of_that() {
        let bare = Name::new(None, "canonical/pause").unwrap();
        assert!(bare.is_path_of("ghcr.io/canonical/pause"));
        assert!(!bare.is_path_of("ghcr.io/x/canonical/pause"));
        assert!(
            !Name::new(Some("quay.io"), "canonical/pause").unwrap().is_path_of("ghcr.io/canonical/pause")
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a/".repeat(200) + "a";
        for (ns, path) in [
            (None, ""),
            (None, ".."),
            (None, "../etc"),
            (None, "a//b"),
            (None, "a/"),
            (None, "a b"),
            (None, "a:1"),
            (None, "a@sha256:00"),
            (None, long.as_str()),
            (Some("a/b"), "c"),
            (Some("../x"), "c"),
            (Some("doc ker.io"), "c"),
        ] {
            assert_eq!(Name::new(ns, path).unwrap_err().status, 400, "{ns:?} {path}");
        }
        assert!(is_tag("1.27-alpine_x") && is_tag(&"a".repeat(128)));
        for tag in ["", ".x", "-x", "a/b", "a:b", "é", &"a".repeat(129)] {
            assert!(!is_tag(tag), "{tag}");
        }
    }
}
