//! A file on the medium that is written and hashed at once, and brought to the device on the way.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::durable;
use super::root::Root;
use crate::error::Result;
use crate::image::{Digest, Hasher};

/// After so many bytes they are brought to the device, so that a medium that went away is noticed soon
/// and not at the end, and no more than this of a file waits in memory for a slow one.
const SYNC_EVERY: u64 = 64 << 20;
/// After so many bytes the system is asked to start writing them out, so that the medium works while
/// layers are compressed: left alone, Linux waits for 30 s or a tenth of the memory.
const WRITE_OUT_EVERY: u64 = 4 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writer<'m> {
    root: &'m Root,
    name: String,
    file: File,
    hasher: Hasher,
    unsynced: u64,
    /// Up to where it was asked for that the bytes are written out.
    written_out: u64,
}

impl<'m> Writer<'m> {
    /// Writes to `file`, which is `name` beneath `root`, from its start.
    pub(super) fn new(root: &'m Root, name: String, file: File) -> Self {
        Self { root, name, file, hasher: Hasher::default(), unsynced: 0, written_out: 0 }
    }

    /// Its path beneath the root.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes are written, or were read of what was there.
    pub(super) fn offset(&self) -> u64 {
        self.hasher.count()
    }

    /// The digest and size of what was written so far.
    pub(super) fn written(&self) -> (Digest, u64) {
        (self.hasher.clone().finish(), self.hasher.count())
    }

    /// Reads the next of what was there; 0 at its end. To be read to that end before anything is written.
    pub(super) fn read_there(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer).map_err(|source| self.root.error("read", &self.name, source))?;
        self.hasher.update(&buffer[..n]);
        self.written_out = self.hasher.count();
        Ok(n)
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.hasher = Hasher::default();
        self.written_out = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(|source| self.root.error("write", &self.name, source))
    }

    /// Closes the file; its path beneath the root.
    pub(super) fn close(self) -> String {
        self.name
    }

    /// Has the rest written out; waits for nothing.
    pub(super) fn write_out(&mut self) {
        let end = self.hasher.count();
        durable::start_write_out(&self.file, self.written_out, end);
        self.written_out = end;
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes).map_err(|source| self.root.error("write", &self.name, source))?;
        self.hasher.update(&bytes[..n]);
        self.unsynced += n as u64;
        if self.unsynced >= SYNC_EVERY {
            durable::sync_data(self.root, &self.name, &self.file)?;
            self.unsynced = 0;
            self.written_out = self.hasher.count();
        } else if self.hasher.count() - self.written_out >= WRITE_OUT_EVERY {
            self.write_out();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
