//! The medium's root directory: everything beneath it is reached from one open handle.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error, Result, Side};

/// An open directory from which files are reached without leaving it.
///
/// Symbolic links, other mounts, and anything but regular files are refused on the way: a medium is
/// handed around, and a name on it must not lead into the machine it is plugged into.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the directory `path`, which the person named and which may itself be a link.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::io(Side::Medium, "open", path)(errno.into()))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// The path it was opened by, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` beneath it, for messages.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens `name` beneath the root with `flags`, never through a link or into another mount.
    pub(super) fn open_at(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
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
    pub(super) fn open_file(&self, name: &str) -> Result<File> {
        let file = self.open_at(name, OFlags::RDONLY).map_err(|source| self.error("open", name, source))?;
        let kind = rustix::fs::fstat(&file)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(|errno| self.error("examine", name, errno.into()))?;
        if kind != FileType::RegularFile {
            return Err(Error::invalid(Side::Medium, self.join(name).display(), "not a regular file"));
        }
        Ok(file.into())
    }

    /// Reads the file `name`; one longer than `limit` bytes is refused unread. `None` if absent.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.find(self.open_file(name))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| self.error("read", name, source))?;
        if bytes.len() as u64 > limit {
            let reason = format!("longer than the {limit} bytes allowed");
            return Err(Error::invalid(Side::Medium, self.join(name).display(), reason));
        }
        Ok(Some(bytes))
    }

    /// The length of the regular file `name` in bytes; `None` if absent.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(file) = self.find(self.open_file(name))? else { return Ok(None) };
        let stat = file.metadata().map_err(|source| self.error("examine", name, source))?;
        Ok(Some(stat.len()))
    }

    /// The names in the directory `name`, sorted; empty if it is absent.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.open_at(name, flags).map_err(|source| self.error("open", name, source));
        let Some(directory) = self.find(opened)? else { return Ok(Vec::new()) };
        let fail = |errno: rustix::io::Errno| self.error("list", name, errno.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let entry = entry.file_name().to_string_lossy().into_owned();
            if entry != "." && entry != ".." {
                names.push(entry);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Turns "no such file" into `None`.
    fn find<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An error about `name`.
    pub(super) fn error(&self, action: &'static str, name: &str, source: io::Error) -> Error {
        Error::from_io(Side::Medium, action, self.join(name), source)
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
        assert!(walk("blobs/sha256/ok").is_ok());
        for bad in ["blobs/sha256/link", "etc/passwd", "../x", "/etc/passwd"] {
            assert!(root.open_file(bad).is_err(), "{bad} was opened");
            assert!(walk(bad).is_err(), "{bad} was walked to");
        }
        assert!(root.open_file("fifo").is_err());
        assert!(root.open_file("blobs").is_err());
    }
}
