//! The only place that creates, syncs and renames files on the medium.
//!
//! What each call achieves on which filesystem was measured (exFAT through FUSE, ext4): renaming to
//! a fresh name loses at most that file, renaming over an existing name can lose both, and `syncfs`
//! alone does not reach the device below a FUSE filesystem. After a sync that failed nothing is
//! synced again: the kernel reports such an error once, and a second call would lie.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::root::Root;
use crate::error::Result;

/// Makes the directory `name` unless it is there. Refused: a link or another mount in its place.
pub(super) fn make_directory(root: &Root, name: &str) -> Result<()> {
    let fail = |source| root.error("create", name, source);
    let (directory, last) = root.parent(name).map_err(fail)?;
    match rustix::fs::mkdirat(directory, last, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => root.open_directory(name).map(drop).map_err(fail),
        Err(errno) => Err(fail(errno.into())),
    }
}

/// Creates the file `name`, in the place of one that is there. Refused: anything but a regular file there, which
/// would be written through.
pub(crate) fn create(root: &Root, name: &str) -> Result<File> {
    match create_new(root, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            root.open_file(name)?;
            remove(root, name)?;
            create_new(root, name)
        }
        other => other,
    }
    .map_err(|source| root.error("create", name, source))
}

/// Opens the file `name` to go on writing; creates it if it is not there.
pub(super) fn reopen(root: &Root, name: &str) -> Result<File> {
    match root.find(root.open_regular(name, OFlags::RDWR))? {
        Some(file) => Ok(file),
        None => create_new(root, name).map_err(|source| root.error("create", name, source)),
    }
}

fn create_new(root: &Root, name: &str) -> io::Result<File> {
    Ok(root.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?.into())
}

/// Brings what was written to `file` to the device; `name` is for the message.
pub(super) fn sync_data(root: &Root, name: &str, file: &File) -> Result<()> {
    file.sync_data().map_err(|source| root.error("sync", name, source))
}

/// Gives the finished file `from` its final name. The name is fresh, or what it names is the same.
pub(super) fn publish(root: &Root, from: &str, to: &str) -> Result<()> {
    let rename = || -> io::Result<()> {
        let ((from_in, from), (to_in, to)) = (root.parent(from)?, root.parent(to)?);
        Ok(rustix::fs::renameat(from_in, from, to_in, to)?)
    };
    rename().map_err(|source| root.error("rename", from, source))
}

/// Writes `bytes` to the fresh name `name` and brings it to the device with its directory entry.
pub(super) fn write_new(root: &Root, directory: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let path = format!("{directory}/{name}");
    let mut file = create(root, &path)?;
    file.write_all(bytes).map_err(|source| root.error("write", &path, source))?;
    sync_all(root, &path, &file)?;
    sync_directory(root, directory)
}

/// Replaces the file `name` in the root. Not atomic on FAT and exFAT: a crash can lose the file, so
/// this is for what can be made again.
pub(super) fn replace(root: &Root, name: &str, bytes: &[u8]) -> Result<()> {
    let staged = format!(".pannier/ingest/{name}");
    let mut file = create(root, &staged)?;
    file.write_all(bytes).map_err(|source| root.error("write", &staged, source))?;
    sync_all(root, &staged, &file)?;
    drop(file);
    publish(root, &staged, name)?;
    sync_directory(root, ".")
}

/// Gives the file `staged`, all of which is written, the name `name` in the same directory, once it is on the
/// device: whoever looks finds the old file or the new one, whole. For directories of a node: on FAT a rename
/// can lose the file.
pub(crate) fn settle(root: &Root, file: &File, staged: &str, name: &str) -> Result<()> {
    sync_all(root, staged, file)?;
    publish(root, staged, name)?;
    sync_directory(root, ".")
}

/// Writes `bytes` as the file `name`, in the place of what is there; see [`settle`].
pub(crate) fn write_whole(root: &Root, name: &str, bytes: &[u8]) -> Result<()> {
    let staged = format!("{name}.new");
    let mut file = create(root, &staged)?;
    file.write_all(bytes).map_err(|source| root.error("write", &staged, source))?;
    settle(root, &file, &staged, name)
}

/// Brings the finished file `name` and its entry in `directory` to the device.
pub(super) fn sync_new(root: &Root, directory: &str, name: &str, file: &File) -> Result<()> {
    sync_all(root, name, file)?;
    sync_directory(root, directory)
}

/// Puts the file `staged`, which is on the device, in the place of `target`, which is damaged or absent.
///
/// `target` goes aside first, to a name of its own, and is removed last: a rename that a power cut hits
/// can lose the file it renames, and never are both at stake.
pub(super) fn exchange(root: &Root, staged: &str, target: &str, aside: &str) -> Result<()> {
    let directory = target.rsplit_once('/').map_or(".", |(directory, _)| directory);
    let sync = || {
        sync_directory(root, directory)?;
        sync_directory(root, ".pannier/ingest")
    };
    if root.find(publish(root, target, aside))?.is_some() {
        sync()?;
    }
    publish(root, staged, target)?;
    sync()?;
    remove(root, aside)
}

/// Removes the file `name` if it is there.
pub(crate) fn remove(root: &Root, name: &str) -> Result<()> {
    let unlink = || -> io::Result<()> {
        let (directory, last) = root.parent(name)?;
        Ok(rustix::fs::unlinkat(directory, last, AtFlags::empty())?)
    };
    match unlink() {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(root.error("remove", name, source)),
        _ => Ok(()),
    }
}

/// Brings everything written so far to the device, as far as the system lets us know.
pub(super) fn barrier(root: &Root) -> Result<()> {
    rustix::fs::syncfs(root.as_fd()).map_err(|errno| root.error("sync", ".", errno.into()))?;
    // Below FUSE only an fsync of something makes the daemon flush the device.
    for directory in ["blobs/sha256", "blobs", ".pannier/commits", "."] {
        sync_directory(root, directory)?;
    }
    // Only where there are any of these.
    for directory in [".pannier/deltas", ".pannier/parts"] {
        root.find(sync_directory(root, directory))?;
    }
    Ok(())
}

/// Drops the cached pages of `file`, so that the next read comes from the medium where the system
/// allows it.
pub(super) fn forget_cached(file: &File) {
    // Advice only: where it is not heeded the read still checks what the system believes.
    forgot_cached(file);
}

/// The same; whether the system took the advice.
pub(super) fn forgot_cached(file: &File) -> bool {
    rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed).is_ok()
}

/// Asks the system to start writing out the bytes of `file` from `start` to `end`; waits for nothing.
///
/// The advice that these bytes are not needed makes Linux do so (`mm/fadvise.c`: writing starts, and
/// only pages that are clean are dropped).
pub(super) fn start_write_out(file: &File, start: u64, end: u64) {
    // Where it is not heeded, the next sync has more to do.
    if let Some(length) = end.checked_sub(start).and_then(std::num::NonZeroU64::new) {
        let _ = rustix::fs::fadvise(file.as_fd(), start, Some(length), rustix::fs::Advice::DontNeed);
    }
}

/// Brings the entries of the directory `name` to the device.
pub(super) fn sync_directory(root: &Root, name: &str) -> Result<()> {
    let fail = |source| root.error("sync", name, source);
    let directory: File = root.open_directory(name).map_err(fail)?.into();
    tolerate_unsupported(directory.sync_all()).map_err(fail)
}

/// Brings the finished file `name` to the device, without its directory entry.
pub(super) fn sync_all(root: &Root, name: &str, file: &File) -> Result<()> {
    tolerate_unsupported(file.sync_all()).map_err(|source| root.error("sync", name, source))
}

/// Some FUSE filesystems know no sync of a file or directory; `syncfs` has to do there.
fn tolerate_unsupported(result: io::Result<()>) -> io::Result<()> {
    use rustix::io::Errno;
    match result {
        Err(error)
            if [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_never_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert!(create(&root, "pipe").is_err());
        assert!(reopen(&root, "pipe").is_err());
        assert!(std::fs::symlink_metadata(&path).is_ok());
    }

    #[test]
    fn a_file_that_has_another_name_elsewhere_keeps_its_bytes_there() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mine"), "mine").unwrap();
        std::fs::hard_link(directory.path().join("mine"), directory.path().join("name")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        create(&root, "name").unwrap().write_all(b"other").unwrap();
        assert_eq!(std::fs::read(directory.path().join("mine")).unwrap(), b"mine");
    }
}
