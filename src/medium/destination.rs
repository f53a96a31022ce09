//! A directory of this machine that files of a medium are written into.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::Mode;

use super::durable;
use super::root::Root;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::record::CarriedFile;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// A directory that files are written into, each whole or not at all.
#[derive(Debug)]
pub struct Destination {
    root: Root,
}

/// What has a file's name in a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    None,
    /// A file with the same bytes.
    Same,
    /// Something else: another file, a link, a directory.
    Other,
}

impl Destination {
    /// Opens the directory `path`, making it if it is not there.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(Side::Node, "create", path))?;
        Ok(Self { root: Root::open_as(Side::Node, path)? })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// What has the name of `file`. A file of the same size is read; a program that may not be run becomes
    /// one that may.
    pub fn occupant(&self, file: &CarriedFile) -> Result<Occupant> {
        let name = file.name.as_str();
        match rustix::fs::statat(&self.root, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(Occupant::None),
            Err(errno) => return Err(self.root.error("examine", name, errno.into())),
        }
        // A link, a directory, a pipe.
        let Ok(there) = self.root.open_file(name) else { return Ok(Occupant::Other) };
        if self.root.size(name)? != Some(file.size) {
            return Ok(Occupant::Other);
        }
        let mut bytes = Verified::new(&there, &file.blob(), Side::Node);
        match io::copy(&mut bytes, &mut io::sink()) {
            Ok(_) => {
                set_executable(&there, file);
                Ok(Occupant::Same)
            }
            Err(error) => match Error::from_io(Side::Node, "read", self.root.join(name), error) {
                error if error.is_damage() => Ok(Occupant::Other),
                error => Err(error),
            },
        }
    }

    /// Writes `file` from `bytes`, which prove themselves at their end: under a name of its own first, then
    /// brought to the disk, then in the place of whatever has its name.
    ///
    /// Where it fails, what was there stays.
    pub fn write(&self, file: &CarriedFile, bytes: impl Read) -> Result<()> {
        let part = format!(".pannier-{}.part", file.digest.hex());
        // Made fresh, so that nothing is written through what somebody left under this name.
        durable::remove(&self.root, &part)?;
        let written = self.write_part(&part, file, bytes).and_then(|()| {
            durable::publish(&self.root, &part, file.name.as_str())?;
            durable::sync_directory(&self.root, ".")
        });
        if written.is_err() {
            durable::remove(&self.root, &part)?;
        }
        written
    }

    fn write_part(&self, part: &str, file: &CarriedFile, mut bytes: impl Read) -> Result<()> {
        let mut to = durable::create(&self.root, part)?;
        let fail = |source| self.root.error("write", part, source);
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = bytes.read(&mut buffer);
            let path = || file.name.as_str().into();
            let n = n.map_err(|source| Error::from_io(Side::Medium, "read", path(), source))?;
            if n == 0 {
                break;
            }
            to.write_all(&buffer[..n]).map_err(fail)?;
        }
        set_executable(&to, file);
        durable::sync_all(&self.root, part, &to)
    }
}

/// Lets a program be run by whoever may read it. A filesystem that has no such bits is none of our business.
fn set_executable(there: &File, file: &CarriedFile) {
    if let Ok(stat) = rustix::fs::fstat(there)
        && file.executable
    {
        let mode = Mode::from_raw_mode(stat.st_mode);
        let _ = rustix::fs::fchmod(there, mode | Mode::from_raw_mode((stat.st_mode & 0o444) >> 2));
    }
}
