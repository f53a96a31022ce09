//! The list of images inside a snap, as Canonical's k8s snap has it.

use std::io::{BufRead, Read, Seek};
use std::path::Path;

use backhand::{FilesystemReader, InnerNode};

use crate::error::{Error, Result, Side};

/// How a squashfs begins (superblock, `s_magic`).
pub(super) const MAGIC: [u8; 4] = *b"hsqs";
/// Largest `images.txt` that is read, in bytes.
const MAX_IMAGES: u64 = 1 << 20;

/// The text of `images.txt` at the root of a snap. Squashfs 4.0 with xz, gzip or no compression, as
/// snaps have it by default; a snap that was packed with lzo has to be unpacked by `unsquashfs`.
pub(super) fn images(snap: impl BufRead + Seek + Send, path: &Path) -> Result<String> {
    let invalid = |reason: String| Error::invalid(Side::Source, path.display(), reason);
    let unpack = "; unpack it with `unsquashfs`, and give images.txt with --list";
    let filesystem = FilesystemReader::from_reader(snap)
        .map_err(|error| invalid(format!("a snap that cannot be read: {error}{unpack}")))?;
    let file = filesystem.files().find_map(|node| match &node.inner {
        InnerNode::File(file) if node.fullpath == Path::new("/images.txt") => Some(file),
        _ => None,
    });
    let file = file.ok_or_else(|| invalid("a snap without a list of images (images.txt)".into()))?;
    let broken =
        |error: &dyn std::fmt::Display| invalid(format!("its images.txt cannot be read: {error}{unpack}"));
    let mut text = String::new();
    let reader = filesystem.file(file).reader_checked().map_err(|error| broken(&error))?;
    reader.take(MAX_IMAGES).read_to_string(&mut text).map_err(|error| broken(&error))?;
    Ok(text)
}
