//! What nodes leave on a medium after they took it up.

use std::path::Path;

use super::durable;
use super::root::Root;
use crate::error::Result;

const DIRECTORY: &str = ".pannier/results";
/// Longest part of a host's name that is used.
const MAX_NAME: usize = 63;

/// Leaves `bytes` as the result of the node `host` on the medium at `path`, in the place of its last one.
///
/// Nothing on the medium is read, so that it may be one that was refused. Nothing depends on the file.
pub fn write_result(path: &Path, host: &str, bytes: &[u8]) -> Result<()> {
    let root = Root::open(path)?;
    durable::make_directory(&root, ".pannier")?;
    durable::make_directory(&root, DIRECTORY)?;
    durable::write_new(&root, DIRECTORY, &name(host), bytes)
}

fn name(host: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let host: String = host.chars().take(MAX_NAME).map(legal).collect();
    format!("host-{host}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_replaces_the_last_and_goes_nowhere_else() {
        assert_eq!(name("Node-1.cluster/../x"), "host-node-1_cluster____x.json");
        let directory = tempfile::tempdir().unwrap();
        write_result(directory.path(), "n", b"a longer one").unwrap();
        write_result(directory.path(), "n", b"second").unwrap();
        let at = directory.path().join(DIRECTORY).join("host-n.json");
        assert_eq!(std::fs::read(&at).unwrap(), b"second");
        std::fs::remove_file(&at).unwrap();
        let outside = directory.path().join("outside");
        std::fs::write(&outside, "mine").unwrap();
        std::os::unix::fs::symlink(&outside, &at).unwrap();
        assert!(write_result(directory.path(), "n", b"x").is_err());
        assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    }
}
