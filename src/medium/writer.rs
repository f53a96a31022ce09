//! A file on the medium that is written and hashed at once, and brought to the device on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use super::parts::MOST;
use super::root::Root;
use super::{Medium, durable};
use crate::error::{Error, Result};
use crate::image::{Digest, Hasher};

/// After so many bytes, of one file or of all together, the file that is being written is brought to the device,
/// so that a medium that went away is noticed soon and not at the end, also where all files are small.
const SYNC_EVERY: u64 = 64 << 20;
/// After so many bytes the system is asked to start writing them out, so that the medium works while
/// layers are compressed: left alone, Linux waits for 30 s or a tenth of the memory.
const WRITE_OUT_EVERY: u64 = 4 << 20;

/// A file that is being written; or several, where one would become longer than it may be.
#[derive(Debug)]
pub(super) struct Writer<'m> {
    root: &'m Root,
    name: String,
    /// Bytes that a file may have; what comes after them goes to the next one.
    most: u64,
    /// How many files are full.
    full: usize,
    /// The file that is written to.
    file: File,
    /// Bytes in it.
    filled: u64,
    hasher: Hasher,
    unsynced: u64,
    /// The same of all files of the medium together.
    all: &'m AtomicU64,
    /// Up to where in it was asked for that the bytes are written out.
    written_out: u64,
}

/// The name of one of the files of what is written as `name`.
pub(super) fn part_name(name: &str, number: usize) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}.{number:03}") }
}

impl<'m> Writer<'m> {
    /// Writes to `file`, which is `name` on the medium, from its start; after every `most` bytes to a new one.
    pub(super) fn new(medium: &'m Medium, name: String, file: File, most: u64) -> Self {
        let (root, all, hasher) = (&medium.root, &medium.unsynced, Hasher::default());
        Self { root, name, most, full: 0, file, filled: 0, hasher, unsynced: 0, all, written_out: 0 }
    }

    /// The path beneath the root of its first file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The path beneath the root of each of its files.
    pub(super) fn names(&self) -> Vec<String> {
        (0..=self.full).map(|number| part_name(&self.name, number)).collect()
    }

    /// How many bytes are written, or were read of what was there.
    pub(super) fn offset(&self) -> u64 {
        self.hasher.count()
    }

    /// The digest and size of what was written so far.
    pub(super) fn written(&self) -> (Digest, u64) {
        (self.hasher.clone().finish(), self.hasher.count())
    }

    /// How many bytes an earlier run left.
    pub(super) fn left_over(&self) -> Result<u64> {
        let mut bytes: u64 = 0;
        for number in 0..MOST {
            let Some(size) = self.root.size(&part_name(&self.name, number))? else { break };
            bytes = bytes.saturating_add(size);
            if size < self.most {
                break;
            }
        }
        Ok(bytes)
    }

    /// Reads the next of what was there; 0 at its end. To be read to that end before anything is written.
    pub(super) fn read_there(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.file.read(buffer).map_err(|source| self.failed("read", source))?;
            self.hasher.update(&buffer[..n]);
            self.filled += n as u64;
            self.written_out = self.filled;
            if n > 0 || self.filled < self.most || self.full + 1 >= MOST {
                return Ok(n);
            }
            let next = part_name(&self.name, self.full + 1);
            if self.root.size(&next)?.is_none() {
                return Ok(0);
            }
            self.turn_to(durable::reopen(self.root, &next)?);
        }
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<()> {
        for number in 1..MOST {
            let part = part_name(&self.name, number);
            if self.root.size(&part)?.is_none() {
                break;
            }
            durable::remove(self.root, &part)?;
        }
        self.hasher = Hasher::default();
        self.turn_to(durable::create(self.root, &self.name)?);
        self.full = 0;
        Ok(())
    }

    /// Closes it; the paths of its files beneath the root.
    pub(super) fn close(self) -> Vec<String> {
        self.names()
    }

    /// Has the rest written out; waits for nothing.
    pub(super) fn write_out(&mut self) {
        durable::start_write_out(&self.file, self.written_out, self.filled);
        self.written_out = self.filled;
    }

    /// Brings what was written to the open file to the device.
    fn sync(&mut self) -> Result<()> {
        durable::sync_data(self.root, &part_name(&self.name, self.full), &self.file)?;
        self.unsynced = 0;
        self.written_out = self.filled;
        Ok(())
    }

    /// Goes on in the next file.
    fn begin_next(&mut self) -> Result<()> {
        if self.full + 1 >= MOST {
            let reason = format!("takes more than {MOST} parts; make them larger with --split SIZE");
            return Err(Error::unfit(self.root.join(&self.name).display(), reason));
        }
        self.sync()?;
        let next = durable::create(self.root, &part_name(&self.name, self.full + 1))?;
        self.turn_to(next);
        Ok(())
    }

    fn turn_to(&mut self, file: File) {
        self.file = file;
        self.full += 1;
        self.filled = 0;
        self.written_out = 0;
        self.unsynced = 0;
    }

    /// Names the file in an error, but for an interruption: whoever calls tries again, and has to know it.
    fn failed(&self, action: &'static str, source: io::Error) -> io::Error {
        match source.kind() {
            io::ErrorKind::Interrupted => source,
            _ => self.root.error(action, &part_name(&self.name, self.full), source).into(),
        }
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled >= self.most && !bytes.is_empty() {
            self.begin_next()?;
        }
        let room = usize::try_from(self.most - self.filled).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        let n = self.file.write(bytes).map_err(|source| self.failed("write", source))?;
        self.hasher.update(&bytes[..n]);
        self.filled += n as u64;
        self.unsynced += n as u64;
        let all = self.all.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
        if self.unsynced >= SYNC_EVERY || all >= SYNC_EVERY {
            self.all.store(0, Ordering::Relaxed);
            self.sync()?;
        } else if self.filled - self.written_out >= WRITE_OUT_EVERY {
            self.write_out();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
