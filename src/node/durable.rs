//! Brings what containerd wrote to the device, where containerd does not do so by itself.
//!
//! Done through its directories, so only where they can be seen from here.

use std::fs::File;
use std::path::Path;

use super::Node;
use crate::error::{Error, Result, Side};

/// Snapshotters whose layers containerd unpacks into a plain directory, the only place of which it
/// brings the filesystem to the device itself (containerd issue 9497).
const PLAIN: [&str; 2] = ["overlayfs", "native"];

/// The files of a layer that was just unpacked, if this containerd left that to us.
pub(super) fn layer(node: &Node, snapshotter: &str) -> Result<()> {
    if node.version.syncs_layers() && PLAIN.contains(&snapshotter) {
        return Ok(());
    }
    node.snapshot_root.as_deref().map_or(Ok(()), sync)
}

/// Everything that was put into the node.
///
/// Before 2.2 containerd's database can list a blob whose file is still under the name of its ingest
/// after a power failure, as it does not bring the folder to the device (containerd issue 10457).
pub(super) fn everything(node: &Node) -> Result<()> {
    [&node.content_root, &node.snapshot_root].into_iter().flatten().try_for_each(|root| sync(root))
}

/// The filesystem that `directory` is on.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    let handle = File::open(directory).map_err(Error::io(Side::Node, "open", directory))?;
    rustix::fs::syncfs(&handle)
        .map_err(|errno| Error::from_io(Side::Node, "sync", directory.into(), errno.into()))
}
