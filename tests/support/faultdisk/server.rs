//! Serves the disk to the kernel as the file `disk`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use super::model::{Disk, Op};
use super::stick::leave_namespace;

/// How long the kernel may believe what it was told of names and sizes: they never change.
const TTL: Duration = Duration::from_secs(3600);
const FILE: INodeNo = INodeNo(2);

/// A disk that is being served; unmounted with the value.
pub(super) struct Served {
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// Mounts `disk` as the file `disk` in `directory`.
///
/// The thread that answers is not in the mount namespace of the test. When a test is killed, the last thread
/// in the namespace unmounts what is in it, and needs an answer for that: it must not be the one to give it.
pub(super) fn serve(disk: &Disk, directory: &Path) -> Served {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("faultdisk".into())];
    let session = fuser::Session::new(Server(disk.clone()), directory, &config).expect("FUSE mounts");
    let thread = std::thread::spawn(move || {
        leave_namespace();
        // It ends when the disk is unmounted.
        let _ = session.run();
    });
    Served { directory: directory.to_owned(), thread: Some(thread) }
}

impl Drop for Served {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.directory).stderr(Stdio::null()).status();
        // Where something still holds it, it goes with the test.
        if unmounted.is_ok_and(|status| status.success())
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Server(Disk);

impl Server {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let directory = ino == INodeNo::ROOT;
        let size = if directory { 0 } else { self.0.size() };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: if directory { 0o755 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    fn wait(&self, op: Op, bytes: usize) {
        let delay = self.0.delay(op, bytes);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&TTL, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // No cache of the kernel's between the loop device and the disk.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.wait(Op::Read, size as usize);
        let end = (offset + u64::from(size)).min(self.0.size());
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        match self.0.read(offset, &mut bytes) {
            Ok(()) => reply.data(&bytes),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.wait(Op::Write, data.len());
        match self.0.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.wait(Op::Flush, 0);
        match self.0.flush() {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
