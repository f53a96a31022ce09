//! Whether a directory is what a layer unpacks to.
//!
//! What the tar says of each file is held against the file: type, size, mode, owner, link, device, extended
//! attributes, and its bytes where that is asked for. Times are not, as nothing that runs goes by them; nor is what
//! the tar does not list: a directory that only leads to a file has no attributes of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::CHUNK;

/// The prefix of the name of a file that hides one of the layers below (OCI image-spec, layer.md).
const WHITEOUT: &[u8] = b".wh.";
/// In a directory: it hides all that the layers below have there.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that begin so are marks of the layer's tool, no files.
const MARK: &[u8] = b".wh..wh.";
/// How PAX headers name extended attributes.
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// How a directory came from the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is the upper directory of an overlay, in which what hides a file is a device of number 0.
    Overlay,
    /// It is the whole tree: what was hidden is not there.
    Tree,
}

/// What of a directory differs from its layer: paths, and what is wrong with each.
pub(crate) type Differences = BTreeMap<PathBuf, String>;

/// Compares the directory `root` with the layer `tar`; `content` compares the bytes of files as well.
///
/// Errors are those of reading the tar, and that it is none. What cannot be read of the directory is a difference.
pub(crate) fn compare(
    tar: impl Read,
    root: &Path,
    applied: Applied,
    content: bool,
) -> io::Result<Differences> {
    let mut comparison = match Comparison::open(root, applied, content) {
        Ok(comparison) => comparison,
        Err(error) => return Ok(BTreeMap::from([(PathBuf::from("/"), cannot_be_read(&error))])),
    };
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        comparison.entry(entry?)?;
    }
    Ok(comparison.found)
}

struct Comparison {
    root: OwnedFd,
    applied: Applied,
    content: bool,
    found: Differences,
    /// The directory that was looked into last.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Comparison {
    fn open(root: &Path, applied: Applied, content: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self { root, applied, content, found: BTreeMap::new(), parent: None })
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> io::Result<()> {
        if matches!(entry.header().entry_type(), EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = plain(&entry.path_bytes());
        let name = path.file_name().unwrap_or_default().as_bytes().to_owned();
        let (path, what) = if name == OPAQUE {
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            let what = self.opaque(&directory);
            match what {
                // What is known of the directory itself stays.
                None => return Ok(()),
                what => (directory, what),
            }
        } else if name.starts_with(MARK) {
            return Ok(());
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden = path.with_file_name(OsStr::from_bytes(hidden));
            let what = self.whiteout(&hidden);
            self.forget_below(&hidden);
            (hidden, what)
        } else {
            let is_directory = entry_type(&entry) == EntryType::Directory;
            if !is_directory {
                self.forget_below(&path);
            }
            let what = self.file(&path, &mut entry)?;
            (path, what)
        };
        // A later entry takes the place of an earlier one.
        match what {
            Some(what) => self.found.insert(path, what),
            None => self.found.remove(&path),
        };
        Ok(())
    }

    /// What was below something that is no directory any more is gone with good reason.
    fn forget_below(&mut self, path: &Path) {
        if !self.found.is_empty() {
            self.found.retain(|known, _| known == path || !known.starts_with(path));
        }
    }

    /// The directory above a file, with links followed as they lead below the root.
    fn above(&mut self, path: &Path) -> Result<&OwnedFd, Errno> {
        let above = path.parent().unwrap_or(Path::new(""));
        if self.parent.as_ref().is_none_or(|(known, _)| known != above) {
            let at = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat2(&self.root, at, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
            self.parent = Some((above.to_owned(), opened));
        }
        self.parent.as_ref().map(|(_, opened)| opened).ok_or(Errno::NOENT)
    }

    fn stat(&mut self, path: &Path) -> Result<Stat, Errno> {
        match path.file_name() {
            None => rustix::fs::fstat(&self.root),
            Some(name) => rustix::fs::statat(self.above(path)?, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// A path to the file that the kernel takes to it without following a link.
    fn own_path(&mut self, path: &Path) -> Result<PathBuf, Errno> {
        let (descriptor, name) = match path.file_name() {
            None => (self.root.as_raw_fd(), OsStr::new(".").to_owned()),
            Some(name) => (self.above(path)?.as_raw_fd(), name.to_owned()),
        };
        Ok(PathBuf::from(format!("/proc/self/fd/{descriptor}")).join(name))
    }

    fn opaque(&mut self, directory: &Path) -> Option<String> {
        if self.applied == Applied::Tree {
            return None;
        }
        let path = self.own_path(directory);
        let is_set = |path: &Path| {
            let mut value = [0; 2];
            let names = ["trusted.overlay.opaque", "user.overlay.opaque"];
            names
                .iter()
                .any(|name| rustix::fs::lgetxattr(path, *name, &mut value[..]) == Ok(1) && value[0] == b'y')
        };
        match path {
            Ok(path) if is_set(&path) => None,
            Ok(_) => Some("does not hide what the layers below have there".into()),
            Err(errno) => Some(cannot_be_read(&errno.into())),
        }
    }

    fn whiteout(&mut self, hidden: &Path) -> Option<String> {
        if self.applied == Applied::Tree {
            return None;
        }
        match self.stat(hidden) {
            Ok(stat)
                if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                    && stat.st_rdev == 0 =>
            {
                None
            }
            Ok(_) => Some("does not hide what the layers below have there".into()),
            Err(errno) => Some(cannot_be_read(&errno.into())),
        }
    }

    fn file(&mut self, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<Option<String>> {
        let stat = match self.stat(path) {
            Ok(stat) => stat,
            Err(errno) => return Ok(Some(cannot_be_read(&errno.into()))),
        };
        let kind = entry_type(entry);
        if kind == EntryType::Link {
            return self.hard_link(&stat, entry);
        }
        let found = FileType::from_raw_mode(stat.st_mode);
        let expected = match kind {
            EntryType::Directory => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            EntryType::Fifo => FileType::Fifo,
            _ => FileType::RegularFile,
        };
        if found != expected {
            return Ok(Some(format!("is {}, not {}", name_of(found), name_of(expected))));
        }
        let size = entry.size();
        if expected == FileType::RegularFile && stat.st_size as u64 != size {
            return Ok(Some(format!("has {} bytes, not {size}", stat.st_size)));
        }
        let extensions = Extensions::of(entry)?;
        // A field that was left empty is 0, which the reader of headers takes for none.
        let uid = extensions.uid.unwrap_or_else(|| entry.header().uid().unwrap_or(0));
        let gid = extensions.gid.unwrap_or_else(|| entry.header().gid().unwrap_or(0));
        if (u64::from(stat.st_uid), u64::from(stat.st_gid)) != (uid, gid) {
            return Ok(Some(format!("belongs to {}:{}, not {uid}:{gid}", stat.st_uid, stat.st_gid)));
        }
        let (mode, wanted) = (stat.st_mode & 0o7777, entry.header().mode().unwrap_or(0) & 0o7777);
        if expected != FileType::Symlink && mode != wanted {
            return Ok(Some(format!("has mode {mode:04o}, not {wanted:04o}")));
        }
        match expected {
            FileType::Symlink => {
                let wanted = entry.link_name_bytes().unwrap_or_default().into_owned();
                let name = path.file_name().unwrap_or_default();
                let read = self.above(path).and_then(|above| rustix::fs::readlinkat(above, name, Vec::new()));
                match read {
                    Ok(target) if target.as_bytes() == wanted => {}
                    Ok(target) => {
                        let shown = |bytes: &[u8]| OsString::from_vec(bytes.to_vec()).display().to_string();
                        let (is, not) = (shown(target.as_bytes()), shown(&wanted));
                        return Ok(Some(format!("leads to {is:?}, not to {not:?}")));
                    }
                    Err(errno) => return Ok(Some(cannot_be_read(&errno.into()))),
                }
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let header = entry.header();
                let number = |found: io::Result<Option<u32>>| found.ok().flatten().unwrap_or(0);
                let (major, minor) = (number(header.device_major()), number(header.device_minor()));
                let rdev = stat.st_rdev;
                let (is_major, is_minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
                if (is_major, is_minor) != (major, minor) {
                    return Ok(Some(format!("is device {is_major}:{is_minor}, not {major}:{minor}")));
                }
            }
            _ => {}
        }
        if let Some(what) = self.attributes(path, &extensions.attributes) {
            return Ok(Some(what));
        }
        if self.content && expected == FileType::RegularFile && size > 0 {
            return self.bytes(path, entry);
        }
        Ok(None)
    }

    fn hard_link(&mut self, stat: &Stat, entry: &Entry<'_, impl Read>) -> io::Result<Option<String>> {
        let target = plain(&entry.link_name_bytes().unwrap_or_default());
        Ok(match self.stat(&target) {
            Ok(other) if (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino) => None,
            _ => Some(format!("is not the same file as {:?}", target.display().to_string())),
        })
    }

    fn attributes(&mut self, path: &Path, wanted: &[(String, Vec<u8>)]) -> Option<String> {
        if wanted.is_empty() {
            return None;
        }
        let own = match self.own_path(path) {
            Ok(own) => own,
            Err(errno) => return Some(cannot_be_read(&errno.into())),
        };
        for (name, value) in wanted {
            // One byte more than what is right.
            let mut found = vec![0; value.len() + 1];
            match rustix::fs::lgetxattr(&own, name.as_str(), found.as_mut_slice()) {
                Ok(length) if found[..length] == value[..] => {}
                // containerd leaves out what the filesystem does not take.
                Err(Errno::OPNOTSUPP) => {}
                Err(Errno::NODATA) => return Some(format!("lacks attribute {name:?}")),
                Ok(_) | Err(_) => return Some(format!("has another value of attribute {name:?}")),
            }
        }
        None
    }

    fn bytes(&mut self, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = path.file_name().unwrap_or_default();
        let opened =
            self.above(path).and_then(|above| rustix::fs::openat(above.as_fd(), name, flags, Mode::empty()));
        let mut file = match opened {
            Ok(file) => File::from(file),
            Err(errno) => return Ok(Some(cannot_be_read(&errno.into()))),
        };
        let (mut wanted, mut found) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            let n = match entry.read(&mut wanted) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if n == 0 {
                return Ok(None);
            }
            match file.read_exact(&mut found[..n]) {
                Ok(()) if found[..n] == wanted[..n] => {}
                Ok(()) => return Ok(Some("has other bytes".into())),
                Err(error) => return Ok(Some(cannot_be_read(&error))),
            }
        }
    }
}

/// What PAX headers say of a file that its own header has no place for.
#[derive(Default)]
struct Extensions {
    uid: Option<u64>,
    gid: Option<u64>,
    attributes: Vec<(String, Vec<u8>)>,
}

impl Extensions {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        let mut extensions = Self::default();
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            let number = || extension.value().ok().and_then(|text| text.parse().ok());
            match key {
                "uid" => extensions.uid = number(),
                "gid" => extensions.gid = number(),
                key => {
                    if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                        extensions.attributes.push((name.to_owned(), extension.value_bytes().to_owned()));
                    }
                }
            }
        }
        Ok(extensions)
    }
}

/// The type of an entry; old tars tell a directory by its name alone.
fn entry_type(entry: &Entry<'_, impl Read>) -> EntryType {
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous if entry.path_bytes().ends_with(b"/") => {
            EntryType::Directory
        }
        other => other,
    }
}

/// A path below the root, as unpacking takes it.
fn plain(bytes: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    path
}

fn cannot_be_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is missing".into(),
        _ => format!("cannot be read: {error}"),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Fifo => "a pipe",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tar::{Builder, Header};

    /// A tar of one of each kind that an unprivileged user may make as well.
    fn tar() -> Vec<u8> {
        let me = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let mut archive = Builder::new(Vec::new());
        let header = |kind, mode, size: usize| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size as u64);
            header.set_uid(me.into());
            header.set_gid(group.into());
            header
        };
        archive.append_data(&mut header(EntryType::Directory, 0o750, 0), "./bin/", &b""[..]).unwrap();
        archive.append_data(&mut header(EntryType::Regular, 0o4755, 5), "./bin/app", &b"hello"[..]).unwrap();
        archive.append_data(&mut header(EntryType::Regular, 0o644, 5), "etc/conf", &b"first"[..]).unwrap();
        archive.append_data(&mut header(EntryType::Regular, 0o600, 6), "etc/conf", &b"second"[..]).unwrap();
        archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), "lib", "bin").unwrap();
        archive.append_link(&mut header(EntryType::Link, 0o755, 0), "same", "bin/app").unwrap();
        archive.append_data(&mut header(EntryType::Regular, 0o644, 1), "lib/under", &b"u"[..]).unwrap();
        archive.into_inner().unwrap()
    }

    fn unpacked() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let mode = |path: &str, mode| {
            std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::create_dir_all(at("etc")).unwrap();
        for (path, content) in [("bin/app", "hello"), ("etc/conf", "second"), ("bin/under", "u")] {
            std::fs::write(at(path), content).unwrap();
        }
        mode("bin", 0o750);
        mode("bin/app", 0o4755);
        mode("etc/conf", 0o600);
        mode("bin/under", 0o644);
        symlink("bin", at("lib")).unwrap();
        std::fs::hard_link(at("bin/app"), at("same")).unwrap();
        directory
    }

    fn found(directory: &Path, content: bool) -> Vec<String> {
        let found = compare(tar().as_slice(), directory, Applied::Overlay, content).unwrap();
        found.into_iter().map(|(path, what)| format!("{} {what}", path.display())).collect()
    }

    #[test]
    fn what_was_unpacked_is_as_the_tar_says() {
        let directory = unpacked();
        assert_eq!(found(directory.path(), true), [""; 0]);
    }

    #[test]
    fn each_difference_is_found() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 8] = [
            ("etc/conf has 0 bytes, not 6", |at| std::fs::write(at.join("etc/conf"), "").unwrap()),
            ("etc/conf is missing", |at| std::fs::remove_file(at.join("etc/conf")).unwrap()),
            ("etc/conf has mode 0640, not 0600", |at| {
                std::fs::set_permissions(at.join("etc/conf"), std::fs::Permissions::from_mode(0o640))
                    .unwrap();
            }),
            ("etc/conf is a directory, not a file", |at| {
                std::fs::remove_file(at.join("etc/conf")).unwrap();
                std::fs::create_dir(at.join("etc/conf")).unwrap();
            }),
            ("lib leads to \"etc\", not to \"bin\"", |at| {
                std::fs::remove_file(at.join("lib")).unwrap();
                std::fs::write(at.join("etc/under"), "u").unwrap();
                std::fs::set_permissions(at.join("etc/under"), std::fs::Permissions::from_mode(0o644))
                    .unwrap();
                symlink("etc", at.join("lib")).unwrap();
            }),
            ("same is not the same file as \"bin/app\"", |at| {
                std::fs::remove_file(at.join("same")).unwrap();
                std::fs::write(at.join("same"), "hello").unwrap();
            }),
            ("bin/under is missing lib/under is missing", |at| {
                std::fs::remove_file(at.join("bin/under")).unwrap()
            }),
            ("etc/conf has other bytes", |at| std::fs::write(at.join("etc/conf"), "Second").unwrap()),
        ];
        for (expected, change) in changes {
            let directory = unpacked();
            change(directory.path());
            let found = found(directory.path(), true).join(" ");
            assert!(expected.contains(&found) && !found.is_empty(), "{expected}: {found}");
            let bytes = expected.contains("bytes") && expected.contains("other");
            assert_eq!(self::found(directory.path(), false).is_empty(), bytes, "{expected}");
        }
        let gone = Path::new("/nonexistent/directory");
        assert_eq!(found(gone, false), ["/ is missing"]);
    }
}
