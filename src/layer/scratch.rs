//! Files of ours without a name: tars and patches that have to be addressable while a delta is made or applied.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use super::decode::{Most, each_chunk};
use super::{Decoded, decode};

/// A file in a temporary directory that was never linked, or is no longer: gone with its last handle,
/// and no other process can shorten it.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    length: u64,
}

/// Where scratch files go: `TMPDIR`, else `/var/tmp`, which is on a disk where `/tmp` often is memory.
pub fn scratch_directory() -> PathBuf {
    match std::env::var_os("TMPDIR").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None if Path::new("/var/tmp").is_dir() => "/var/tmp".into(),
        None => std::env::temp_dir(),
    }
}

impl Scratch {
    /// Decodes a layer into a file in `directory`; an error once its tar has more than `limit` bytes.
    pub fn tar(directory: &Path, encoded: impl Read, limit: u64) -> io::Result<(Self, Decoded)> {
        let mut scratch = Self::empty(directory)?;
        let decoded = decode(encoded, Most::Bytes(limit), |bytes| scratch.append(bytes, limit))?;
        Ok((scratch, decoded))
    }

    /// Copies `from` into a file in `directory`; an error once it has more than `limit` bytes.
    pub fn copy(directory: &Path, from: impl Read, limit: u64) -> io::Result<Self> {
        let mut scratch = Self::empty(directory)?;
        each_chunk(from, &mut |bytes| scratch.append(bytes, limit))?;
        Ok(scratch)
    }

    /// A file of `length` zeros that all have their place on the disk: a write to it through a mapping
    /// cannot find the disk full, which would end the process.
    pub(super) fn reserved(directory: &Path, length: u64) -> io::Result<Self> {
        let mut scratch = Self::empty(directory)?;
        let reserve =
            rustix::fs::fallocate(&scratch.file, rustix::fs::FallocateFlags::empty(), 0, length.max(1));
        match reserve {
            Ok(()) => scratch.file.set_len(length)?,
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(&mut io::repeat(0).take(length), &mut scratch.file)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        scratch.length = length;
        Ok(scratch)
    }

    fn empty(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, length: 0 })
    }

    fn append(&mut self, bytes: &[u8], limit: u64) -> io::Result<()> {
        if self.length + bytes.len() as u64 > limit {
            let text = format!("more than the {limit} bytes that are allowed");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads it from the start. One reader at a time: they share a position.
    pub fn reader(&self) -> io::Result<impl Read + '_> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Its bytes, as a mapping of the file: the kernel drops and reads pages as it likes.
    pub(super) fn map(&self) -> io::Result<impl Deref<Target = [u8]>> {
        // SAFETY: the file has no name and its handle leaves this type only as a reader, so
        // nobody changes or shortens it while it is mapped.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&self.file) };
        map
    }

    /// Its bytes, to be written through a mapping.
    pub(super) fn map_mut(&mut self) -> io::Result<impl DerefMut<Target = [u8]>> {
        // SAFETY: as for `map`; the exclusive borrow keeps other mappings of this value away.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::MmapMut::map_mut(&self.file) };
        map
    }
}
