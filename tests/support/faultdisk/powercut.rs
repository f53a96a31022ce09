//! The disk that a loss of power leaves.
//!
//! What was written before the last flush is there. Of what was written since, a disk promises nothing:
//! each sector may be there, not be there, or be garbage (the model of SQLite's crash tests).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::model::{Disk, Entry, SECTOR};

/// Up to here is what describes the filesystem.
const SUPERBLOCK: u64 = 4096;

/// What becomes of the sectors that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All are there: the disk writes in order and at once.
    Written,
    /// None is there.
    Dropped,
    /// Each is there or not, by the seed.
    Mixed(u64),
    /// Each is there, not there, or garbage, by the seed.
    Garbled(u64),
}

/// What was written to a disk since some moment.
#[derive(Debug)]
pub(crate) struct Recording {
    base: PathBuf,
    entries: Vec<Entry>,
}

impl Recording {
    /// Begins to record; what the disk holds now is copied to `base`.
    pub(crate) fn begin(disk: &Disk, base: &Path) {
        disk.copy_to(base);
        disk.record();
    }

    /// What was recorded since.
    pub(crate) fn end(disk: &Disk, base: &Path) -> Self {
        Self { base: base.to_owned(), entries: disk.recorded() }
    }

    /// How many requests were recorded.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The moments right before and right after each flush, and some in between: as counts of requests.
    pub(crate) fn moments(&self) -> Vec<usize> {
        let flushes = self.entries.iter().enumerate().filter(|(_, entry)| matches!(entry, Entry::Flush));
        let mut moments: Vec<usize> = flushes.flat_map(|(at, _)| [at, at + 1]).collect();
        moments.extend((0..self.len()).step_by(1 + self.len() / 16));
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// Writes the disk to `to` as it is when the power goes after `end` requests. A disk that `ignores_flushes`
    /// has kept nothing for sure since the recording began.
    pub(crate) fn cut(&self, to: &Path, end: usize, fate: Fate, ignores_flushes: bool) {
        fs::copy(&self.base, to).unwrap();
        let disk = File::options().write(true).open(to).unwrap();
        let flush = self.entries[..end].iter().rposition(|entry| matches!(entry, Entry::Flush));
        let kept = if ignores_flushes { 0 } else { flush.unwrap_or(0) };
        let mut dice = Dice::new(fate);
        for (at, entry) in self.entries[..end].iter().enumerate() {
            let Entry::Write(offset, bytes) = entry else { continue };
            // ext4 has one superblock on so small a disk, and writes it in place: no filesystem is proof against that.
            if at < kept || fate == Fate::Written || *offset < SUPERBLOCK {
                disk.write_all_at(bytes, *offset).unwrap();
            } else {
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    if let Some(sector) = dice.throw(sector) {
                        disk.write_all_at(&sector, offset + (number * SECTOR) as u64).unwrap();
                    }
                }
            }
        }
    }
}

struct Dice {
    fate: Fate,
    state: u64,
}

impl Dice {
    fn new(fate: Fate) -> Self {
        let seed = if let Fate::Mixed(seed) | Fate::Garbled(seed) = fate { seed } else { 0 };
        Self { fate, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    /// What is on the disk of a sector that was not flushed; `None` for what was there before.
    fn throw(&mut self, sector: &[u8]) -> Option<Vec<u8>> {
        match self.fate {
            Fate::Written => Some(sector.to_vec()),
            Fate::Dropped => None,
            Fate::Mixed(_) => self.next().is_multiple_of(2).then(|| sector.to_vec()),
            Fate::Garbled(_) => match self.next() % 3 {
                0 => None,
                1 => Some(sector.to_vec()),
                _ => Some(sector.iter().map(|_| self.next() as u8).collect()),
            },
        }
    }
}
