//! The root directory of a medium or a layout: everything beneath it is reached from one open handle.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error, Result, Side};
use crate::limits;

/// An open directory from which files are reached without leaving it.
///
/// Symbolic links, other mounts, and anything but regular files are refused on the way: a medium is
/// handed around, and a name on it must not lead into the machine it is plugged into.
#[derive(Debug)]
pub(crate) struct Root {
    handle: OwnedFd,
    path: PathBuf,
    side: Side,
}

impl Root {
    /// Opens the directory `path`, which the person named and which may itself be a link.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_as(Side::Medium, path)
    }

    /// The same for a directory of another side, to which errors are laid.
    pub(crate) fn open_as(side: Side, path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::io(side, "open", path)(errno.into()))?;
        Ok(Self { handle, path: path.to_owned(), side })
    }

    /// The path it was opened by, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` beneath it, for messages.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens `name` beneath the root with `flags`, never through a link or into another mount.
    pub(crate) fn open_at(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // A place alone is never waited for, and openat2 takes no such flag with it.
        let waits = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | waits;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.handle, name, flags, mode, resolve) {
            // Kernels before 5.6, and seccomp profiles that do not know the call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => self.walk_to(name, flags, mode),
            other => Ok(other?),
        }
    }

    /// The same, one component at a time.
    fn walk_to(&self, name: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let through = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = rustix::fs::fstat(&self.handle)?.st_dev;
        let mut at = rustix::fs::openat(&self.handle, ".", through, Mode::empty())?;
        let name = name.strip_prefix("./").unwrap_or(name);
        if name == "." {
            return Ok(rustix::fs::openat(&at, name, flags, mode)?);
        }
        let (directories, last) = name.rsplit_once('/').map_or(("", name), |(d, l)| (d, l));
        for component in directories.split('/').filter(|c| !c.is_empty()).chain([last]) {
            if matches!(component, "" | "." | "..") {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            at = if std::ptr::eq(component, last) {
                rustix::fs::openat(&at, component, flags, mode)?
            } else {
                rustix::fs::openat(&at, component, through, Mode::empty())?
            };
            if rustix::fs::fstat(&at)?.st_dev != home {
                return Err(rustix::io::Errno::XDEV.into());
            }
        }
        Ok(at)
    }

    /// Opens the regular file `name` for reading.
    pub(crate) fn open_file(&self, name: &str) -> Result<File> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens `name` with `flags` if it is a regular file, and makes none.
    pub(super) fn open_regular(&self, name: &str, flags: OFlags) -> Result<File> {
        let fail = |source: io::Error| self.error("open", name, source);
        // Opening a device can do something already (a watchdog, a tape), so it is looked at first.
        let place = self.open_at(name, OFlags::PATH).map_err(fail)?;
        let kind = rustix::fs::fstat(&place)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(|errno| self.error("examine", name, errno.into()))?;
        match kind {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(fail(rustix::io::Errno::LOOP.into())),
            _ => return Err(Error::invalid(self.side, self.join(name).display(), "not a regular file")),
        }
        let again = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), again, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            // Without /proc the name is followed once more, with the same care.
            Err(rustix::io::Errno::NOENT) => self.open_at(name, flags).map(File::from).map_err(fail),
            Err(errno) => Err(fail(errno.into())),
        }
    }

    /// The directory that `name` is in, opened beneath the root without links, and the last component of `name`.
    ///
    /// For calls that make, rename or remove a name: the kernel follows no link in a single component there.
    pub(super) fn parent<'n>(&self, name: &'n str) -> io::Result<(OwnedFd, &'n str)> {
        let (directory, last) = name.rsplit_once('/').unwrap_or((".", name));
        if matches!(last, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((self.open_directory(directory)?, last))
    }

    /// Opens the directory `name` beneath the root; `.` is the root.
    pub(super) fn open_directory(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match name {
            "." => Ok(rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?),
            _ => self.open_at(name, flags),
        }
    }

    /// Reads the file `name`; one longer than `limit` bytes is refused unread. `None` if absent.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.find(self.open_file(name))? else { return Ok(None) };
        let length = file.metadata().map_err(|source| self.error("examine", name, source))?.len();
        let too_long = || {
            let reason = format!("longer than the {limit} bytes allowed");
            Error::invalid(self.side, self.join(name).display(), reason)
        };
        if length > limit {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| self.error("read", name, source))?;
        if bytes.len() as u64 > limit {
            return Err(too_long());
        }
        Ok(Some(bytes))
    }

    /// The length of the regular file `name` in bytes; `None` if absent.
    pub(crate) fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(file) = self.find(self.open_file(name))? else { return Ok(None) };
        let stat = file.metadata().map_err(|source| self.error("examine", name, source))?;
        Ok(Some(stat.len()))
    }

    /// The names in the directory `name`, sorted; empty if it is absent. Refused: more than
    /// [`limits::FILES`] of them.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>> {
        let opened = self.open_directory(name).map_err(|source| self.error("open", name, source));
        let Some(directory) = self.find(opened)? else { return Ok(Vec::new()) };
        let fail = |errno: rustix::io::Errno| self.error("list", name, errno.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if names.len() == limits::FILES {
                let reason = format!("more than the {} files allowed", limits::FILES);
                return Err(Error::invalid(self.side, self.join(name).display(), reason));
            }
            let entry = entry.file_name().to_string_lossy().into_owned();
            if entry != "." && entry != ".." {
                names.push(entry);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Turns "no such file" into `None`.
    pub(crate) fn find<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An error about `name`.
    pub(crate) fn error(&self, action: &'static str, name: &str, source: io::Error) -> Error {
        Error::from_io(self.side, action, self.join(name), source)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out_and_only_regular_files_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        std::fs::write(path.join("blobs/sha256/ok"), "ok").unwrap();
        symlink("/etc/passwd", path.join("blobs/sha256/link")).unwrap();
        symlink("/etc", path.join("etc")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let root = Root::open(path).unwrap();
        assert_eq!(root.read("blobs/sha256/ok", 2).unwrap().unwrap(), b"ok");
        assert_eq!(root.size("blobs/sha256/ok").unwrap(), Some(2));
        assert_eq!(root.size("blobs/sha256/absent").unwrap(), None);
        assert!(root.read("blobs/sha256/ok", 1).is_err());
        let walk = |name: &str| {
            root.walk_to(name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        // Files at the root, and the root itself to sync it, are named so by `durable`.
        for good in ["blobs/sha256/ok", "./blobs/sha256/ok", "."] {
            assert!(walk(good).is_ok(), "{good} was refused");
        }
        for bad in ["blobs/sha256/link", "etc/passwd", "../x", "./../x", "/etc/passwd"] {
            assert!(root.open_file(bad).is_err(), "{bad} was opened");
            assert!(walk(bad).is_err(), "{bad} was walked to");
        }
        assert!(root.open_file("fifo").is_err());
        assert!(root.open_file("blobs").is_err());
    }
}
