//! What the filesystem below a medium is and can hold.

use std::path::{Path, PathBuf};

use super::device::Mount;
use crate::error::{Error, Result, Side};

/// The magic number of filesystems in user space.
const FUSE: u64 = 0x6573_5546;

/// The filesystem that a path is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// Its usual name, such as `ext4` or `FAT32`.
    pub name: String,
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes that the smallest file takes up.
    pub block: u64,
    /// How many more files it has room for; `None` where only bytes count.
    pub files: Option<u64>,
    /// The longest file it holds, in bytes; `None` where there is no limit that matters.
    pub largest_file: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

impl Filesystem {
    /// Examines the filesystem of `path`, or of its nearest parent that exists.
    pub fn of(path: &Path) -> Result<Self> {
        let existing = nearest(path);
        let fail =
            |errno: rustix::io::Errno| Error::io(Side::Medium, "examine", existing.clone())(errno.into());
        let magic = rustix::fs::statfs(&existing).map_err(fail)?.f_type as u64;
        let stat = rustix::fs::statvfs(&existing).map_err(fail)?;
        let name = name(magic, &existing);
        Ok(Self {
            largest_file: (name == "FAT32").then_some(u64::from(u32::MAX)),
            name,
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            block: stat.f_frsize.max(1),
            // exFAT tells its clusters, and btrfs nothing.
            files: (stat.f_files > 0 && magic != FUSE).then_some(stat.f_favail),
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    /// What a file of `bytes` takes up.
    pub fn occupied(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block).saturating_mul(self.block)
    }
}

pub(super) fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Names a filesystem by its magic number (`statfs(2)`); one behind FUSE by its first sector.
fn name(magic: u64, path: &Path) -> String {
    match magic {
        0x4d44 => "FAT32",
        0x2011_bab0 => "exFAT",
        0x5346_544e | 0x7366_746e => "NTFS",
        0x9660 => "ISO 9660",
        0x1501_3346 => "UDF",
        0xef53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlayfs",
        0x7371_7368 => "squashfs",
        0xe0f5_e1e2 => "erofs",
        0x0102_1994 => "tmpfs",
        0x6969 => "NFS",
        FUSE => behind_fuse(path).unwrap_or("FUSE"),
        _ => return format!("filesystem {magic:#x}"),
    }
    .to_owned()
}

/// What is behind a FUSE mount of a block device, if its first sector may be read.
fn behind_fuse(path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::FileExt;
    let source = Mount::of(path)?.source;
    let mut sector = [0; 512];
    let read = std::fs::File::open(&source).and_then(|device| device.read_exact_at(&mut sector, 0));
    if read.is_err() {
        return told_by_udev(&source);
    }
    match () {
        () if &sector[3..11] == b"EXFAT   " => Some("exFAT"),
        () if &sector[3..7] == b"NTFS" => Some("NTFS"),
        () if &sector[82..87] == b"FAT32" => Some("FAT32"),
        () => None,
    }
}

/// What udev found on a device, which everybody may read.
fn told_by_udev(device: &Path) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let number = device.metadata().ok()?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let told = std::fs::read_to_string(format!("/run/udev/data/b{major}:{minor}")).ok()?;
    let value = |key: &str| {
        told.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))
    };
    match (value("ID_FS_TYPE")?, value("ID_FS_VERSION")) {
        ("exfat", _) => Some("exFAT"),
        ("ntfs", _) => Some("NTFS"),
        ("vfat", _) => Some("FAT32"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_still_to_be_made_is_on_its_parents_filesystem() {
        let directory = tempfile::tempdir().unwrap();
        let there = Filesystem::of(directory.path()).unwrap();
        let below = Filesystem::of(&directory.path().join("not/yet")).unwrap();
        assert_eq!((there.name, there.block), (below.name, below.block));
    }

    #[test]
    fn files_take_up_whole_blocks() {
        let fat = Filesystem {
            name: "FAT32".into(),
            free: 0,
            block: 32768,
            files: None,
            largest_file: None,
            read_only: false,
        };
        assert_eq!((fat.occupied(0), fat.occupied(1), fat.occupied(32769)), (0, 32768, 65536));
    }
}
