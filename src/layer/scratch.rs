//! Files of ours without a name: tars that have to be addressable while a delta is made or applied.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::decode::{Most, each_chunk, expand};
use super::{Decoded, decode};
use crate::image::{Digest, Hasher};

/// A file in a temporary directory that was never linked, or is no longer: gone with its last handle,
/// and no other process can shorten it.
#[derive(Debug)]
pub struct Scratch {
    pub(super) file: File,
    pub(super) length: u64,
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

    /// The same, but nothing says yet which tar it is: whatever is made of it has to be proven.
    pub fn unproven_tar(directory: &Path, encoded: impl Read, limit: u64) -> io::Result<Self> {
        let mut scratch = Self::empty(directory)?;
        expand(encoded, Most::Bytes(limit), |bytes| scratch.append(bytes, limit))?;
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

    /// The digest of its bytes, which are read for that.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut hasher = Hasher::default();
        each_chunk(self.reader()?, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(hasher.finish())
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
    pub(super) fn map(&self) -> io::Result<Mapped> {
        // SAFETY: the file has no name and its handle leaves this type only as a reader, so
        // nobody changes or shortens it while it is mapped.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&self.file) };
        Ok(Mapped(map?))
    }
}

/// The bytes of a file of ours, in memory as far as they were looked at.
pub(super) struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Lets go of the memory; what is looked at again comes back from the page cache.
    pub(super) fn forget(&self) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        // SAFETY: of a shared mapping of a file, dropped pages come back with the same bytes.
        #[allow(unsafe_code)]
        unsafe {
            self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed)
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
