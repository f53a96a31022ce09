//! Whether it fits, before the first byte.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Side};
use crate::layer::scratch_directory;
use crate::node::Node;
use crate::plan::import::Totals;

/// How full kubelet lets the filesystem of images get before it collects them, in percent, unless it
/// is told otherwise (`imageGCHighThresholdPercent`).
const COLLECTS_AT: u64 = 85;
/// What unpacked layers take up beyond their tars, in percent: files are rounded up to blocks.
const UNPACKED_EXTRA: u64 = 10;

/// Bytes that an import will take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Of blobs.
    pub blobs: u64,
    /// Of unpacked layers, estimated.
    pub unpacked: u64,
}

impl Need {
    /// All of it.
    pub fn total(self) -> u64 {
        self.blobs + self.unpacked
    }
}

/// One filesystem of the node.
#[derive(Clone, Debug)]
pub struct Space {
    /// A directory on it.
    pub path: PathBuf,
    /// What the import takes up there.
    pub need: Need,
    /// Bytes free.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

impl Space {
    /// Whether kubelet, with its usual settings, would begin to collect images afterwards.
    pub fn kubelet_collects(&self) -> bool {
        let used = self.size.saturating_sub(self.free) + self.need.total();
        used.saturating_mul(100) > self.size.saturating_mul(COLLECTS_AT)
    }
}

/// What an import takes up on each filesystem; nothing where the node's files cannot be seen.
pub(super) fn needs(node: &Node, totals: &Totals) -> Result<Vec<Space>> {
    let unpacked = totals.unpack_bytes + totals.copied_bytes;
    let blobs = Need { blobs: totals.send_bytes, unpacked: 0 };
    let layers = Need { blobs: 0, unpacked: unpacked + unpacked / 100 * UNPACKED_EXTRA };
    let mut spaces: Vec<(u64, Space)> = Vec::new();
    let scratch = Need { blobs: totals.scratch_bytes, unpacked: 0 };
    let scratch_directory = (scratch.blobs > 0).then(scratch_directory);
    for (root, need) in
        [(&node.content_root, blobs), (&node.snapshot_root, layers), (&scratch_directory, scratch)]
    {
        let Some(root) = root else { continue };
        let device = std::fs::metadata(root).map_err(Error::io(Side::Node, "examine", root))?.dev();
        match spaces.iter_mut().find(|(known, _)| *known == device) {
            Some((_, space)) => {
                space.need.blobs += need.blobs;
                space.need.unpacked += need.unpacked;
            }
            None => spaces.push((device, measure(root, need)?)),
        }
    }
    Ok(spaces.into_iter().map(|(_, space)| space).collect())
}

fn measure(root: &Path, need: Need) -> Result<Space> {
    let stat = rustix::fs::statvfs(root)
        .map_err(|errno| Error::from_io(Side::Node, "examine", root.into(), errno.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { path: root.into(), need, free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
}

/// An error if it will not fit.
pub(super) fn require(spaces: &[Space]) -> Result<()> {
    match spaces.iter().find(|space| space.need.total() > space.free) {
        None => Ok(()),
        Some(space) => Err(Error::NoSpace {
            side: Side::Node,
            path: space.path.clone(),
            needed: space.need.total(),
            free: space.free,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(need: u64, free: u64) -> Space {
        Space { path: "/".into(), need: Need { blobs: need, unpacked: 0 }, free, size: 1000 }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(require(&[space(10, 10)]).is_ok());
        let refused = require(&[space(10, 10), space(11, 10)]);
        assert!(matches!(refused, Err(Error::NoSpace { needed: 11, free: 10, .. })));
    }

    #[test]
    fn kubelet_collects_above_85_percent() {
        assert!(!space(50, 200).kubelet_collects());
        assert!(space(51, 200).kubelet_collects());
    }
}
