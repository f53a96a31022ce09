//! Who works on a medium. The kernel lets go of every lock here when its process ends, however it does.
//!
//! | lock (`flock(2)`) on | shared | exclusive |
//! |---|---|---|
//! | `.pannier` | | whoever writes: one at a time |
//! | `.pannier/commits` | whoever reads blobs | whoever deletes blobs |
//!
//! An export disturbs no reader, since it adds files only, and waits for none. Both are directories that are
//! there anyway: no file is made for a lock, so a read-only medium can be locked, and nothing is left
//! over that somebody would have to judge by its time or a process id.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::root::Root;
use super::{Medium, commits};
use crate::error::{Error, Result};

const WRITERS: &str = ".pannier";
const READERS: &str = commits::DIRECTORY;

/// Held while the medium is worked on.
#[derive(Debug)]
pub struct Lock {
    _handle: OwnedFd,
    certain: bool,
    /// Device and number of the medium's directory.
    on: (u64, u64),
}

impl Lock {
    /// An error unless this is a lock on `medium`: what writes asks for one, and another one does not help.
    pub fn require_on(&self, medium: &Medium) -> Result<()> {
        if self.on == identity(&medium.root)? {
            return Ok(());
        }
        Err(Error::unfit(medium.path().display(), "the lock is one on another medium"))
    }

    /// Whether others are kept out. A filesystem that knows no locks lets everybody pass.
    pub fn is_certain(&self) -> bool {
        self.certain
    }
}

impl Medium {
    /// Locks the medium against others that write, and reads the newest record again: one of them may
    /// just have ended. Readers are not kept out: they see the last commit.
    ///
    /// Errors: [`Error::Locked`] at once while another one writes.
    pub fn lock(&mut self) -> Result<Lock> {
        // A medium that cannot be written is told of here, before any work.
        let stat = rustix::fs::fstatvfs(&self.root)
            .map_err(|errno| self.root.error("examine", ".", errno.into()))?;
        if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(self.root.error("write", ".", Errno::ROFS.into()));
        }
        self.lock_to_export()
    }

    /// The same for an export, which writes nothing where the medium has all of it: whether it can be
    /// written is asked by its plan.
    pub fn lock_to_export(&mut self) -> Result<Lock> {
        let handle = self
            .root
            .open_at(WRITERS, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|source| self.root.error("lock", WRITERS, source))?;
        let certain = take(&self.root, WRITERS, &handle, FlockOperation::NonBlockingLockExclusive)?;
        self.reload()?;
        self.may_write = true;
        Ok(Lock { _handle: handle, certain, on: identity(&self.root)? })
    }

    /// Keeps out readers, and waits for none: [`Error::Locked`] while there is one besides this medium
    /// itself. For deleting what an older record names.
    pub fn shut_out_readers(&mut self) -> Result<Lock> {
        // Locks of one process on two handles are strangers to each other.
        self.reader = None;
        let handle = self
            .root
            .open_at(READERS, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|source| self.root.error("lock", READERS, source))?;
        let certain = take(&self.root, READERS, &handle, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Lock { _handle: handle, certain, on: identity(&self.root)? })
    }
}

fn identity(root: &Root) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(root).map_err(|errno| root.error("examine", ".", errno.into()))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The lock of whoever reads; `None` where there is nothing to lock yet, or locks are unknown.
///
/// Errors: [`Error::Locked`] while somebody deletes.
pub(super) fn shared(root: &Root) -> Result<Option<Lock>> {
    let Ok(handle) = root.open_at(READERS, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(None) };
    let certain = take(root, READERS, &handle, FlockOperation::NonBlockingLockShared)?;
    let on = identity(root)?;
    Ok(certain.then_some(Lock { _handle: handle, certain, on }))
}

/// True if the lock was taken, false where the filesystem or the system knows none.
fn take(root: &Root, name: &str, handle: &OwnedFd, operation: FlockOperation) -> Result<bool> {
    match rustix::fs::flock(handle, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Err(Error::Locked { path: root.path().to_owned() }),
        // Network and FUSE filesystems without locks; a lock server that cannot be reached.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF) => Ok(false),
        Err(errno) => Err(root.error("lock", name, errno.into())),
    }
}
