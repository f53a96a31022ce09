//! Paths of a system that is not the one that runs: an image that is mounted somewhere.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on the way to one path (Linux, `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Where `path` of the system below `root` is, with links followed as that system does: an absolute one
/// begins at `root`, and nothing leads out of it. What does not exist keeps its name. `None` for links
/// that lead round in a circle.
pub fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut links = 0;
    let mut at = PathBuf::new();
    let mut ahead: VecDeque<OsString> = names(path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let Ok(target) = std::fs::read_link(root.join(&at).join(&name)) else {
            at.push(name);
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        if target.is_absolute() {
            at = PathBuf::new();
        }
        let mut names = names(&target);
        names.append(&mut ahead);
        ahead = names;
    }
    Some(root.join(at))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_as_the_system_below_would() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("data/containerd")).unwrap();
        std::fs::create_dir_all(root.join("var/lib")).unwrap();
        symlink("/data/containerd", root.join("var/lib/containerd")).unwrap();
        symlink("../../../../../../data", root.join("var/lib/up")).unwrap();
        symlink("round", root.join("round")).unwrap();
        for (path, found) in [
            ("/var/lib/containerd", "data/containerd"),
            ("/var/lib/containerd/new", "data/containerd/new"),
            ("/var/lib/up/x", "data/x"),
            ("/var/lib/k0s", "var/lib/k0s"),
            ("/../../etc", "etc"),
        ] {
            assert_eq!(resolve(root, Path::new(path)), Some(root.join(found)), "{path}");
        }
        assert_eq!(resolve(root, Path::new("/round/x")), None);
        assert_eq!(resolve(Path::new("/"), Path::new("/etc/x")), Some("/etc/x".into()));
    }
}
