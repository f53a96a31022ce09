//! What a path is that is no medium: what was meant is often near.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::NoMedium;

/// How many entries of a directory are looked at for a medium one level below.
const ENTRIES: usize = 100;
/// Kinds of sources that are written before a path, as in `oci:DIR`.
const KINDS: [&str; 4] = ["oci", "medium", "dir", "file"];

/// What a path is under which there is nothing.
pub(super) fn absent(path: &Path) -> NoMedium {
    let text = path.to_string_lossy();
    let bare =
        text.split_once(':').filter(|(kind, _)| KINDS.contains(kind)).map(|(_, rest)| PathBuf::from(rest));
    match bare.filter(|path| path.exists()) {
        Some(path) => NoMedium::Prefixed { path },
        None => NoMedium::Absent,
    }
}

/// What something is that is no directory.
pub(super) fn no_directory(path: &Path) -> NoMedium {
    let kind = path.metadata().map(|metadata| metadata.file_type());
    match kind {
        Ok(kind) if kind.is_block_device() => NoMedium::Device,
        Ok(kind) if kind.is_file() => match above(path) {
            Some(medium) => NoMedium::Inside { medium },
            None if is_archive(path) => NoMedium::Archive,
            None => NoMedium::File,
        },
        _ => NoMedium::File,
    }
}

/// What a directory is that has neither `oci-layout` nor a commit record.
pub(super) fn directory(path: &Path) -> NoMedium {
    if let Some(medium) = above(path) {
        return NoMedium::Inside { medium };
    }
    match below(path) {
        Some(medium) => NoMedium::Above { medium },
        None if path.read_dir().is_ok_and(|mut entries| entries.next().is_none()) => NoMedium::Empty,
        None => NoMedium::Nothing,
    }
}

fn looks_like_one(path: &Path) -> bool {
    path.join(super::commits::DIRECTORY).is_dir() || path.join("oci-layout").is_file()
}

fn above(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    path.ancestors().skip(1).find(|path| looks_like_one(path)).map(Path::to_owned)
}

fn below(path: &Path) -> Option<PathBuf> {
    let mut found = path.read_dir().ok()?.flatten().take(ENTRIES).map(|entry| entry.path());
    found.find(|path| path.join(super::commits::DIRECTORY).is_dir())
}

/// Whether a file is a tar, or compressed as those are (POSIX ustar, RFC 1952, RFC 8878).
fn is_archive(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut head));
    let tar = head.get(257..262) == Some(b"ustar");
    read.is_ok() && (tar || head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]))
}
