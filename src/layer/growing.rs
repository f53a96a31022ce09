//! A file of ours that grows from its start, all of it addressable meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::Scratch;

/// How much is written at a time, in bytes: what the file takes of memory is this, and what was looked
/// at again since.
const STEP: usize = 4 << 20;

/// Memory in which a tar comes about: what is finished goes to a file, and is a mapping of that file
/// from then on.
///
/// A writable mapping of the whole file would be simpler, but each page of it is a call of the
/// filesystem, and a full disk ends the process.
pub(super) struct Growing {
    file: File,
    memory: MmapMut,
    length: usize,
    /// How much of it is in the file, and a mapping of it: whole pages.
    kept: usize,
}

impl Growing {
    /// Room for `length` bytes, with a file in `directory`.
    pub(super) fn new(directory: &Path, length: usize) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        let memory = MmapOptions::new().len(length.max(1)).no_reserve_swap().map_anon()?;
        // Fewer faults, where the system has large pages; no harm where it has none.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self { file, memory, length, kept: 0 })
    }

    /// All of it. What [`keep`](Self::keep) has taken must not be written again.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }

    /// Whether enough has come to be kept, when the first `end` bytes are finished.
    pub(super) fn is_due(&self, end: usize) -> bool {
        end - self.kept >= STEP
    }

    /// Moves what is finished, the first `end` bytes, to the file as far as it fills pages.
    pub(super) fn keep(&mut self, end: usize) -> io::Result<()> {
        let pages = self.kept..end - end % rustix::param::page_size();
        if !pages.is_empty() {
            self.file.write_all(&self.memory[pages.clone()])?;
            self.map(pages)?;
        }
        self.forget()
    }

    /// The file, with all that is finished in it.
    pub(super) fn finish(mut self) -> io::Result<Scratch> {
        self.file.write_all(&self.memory[self.kept..self.length])?;
        Ok(Scratch { file: self.file, length: self.length as u64 })
    }

    /// Puts the file in the place of its bytes.
    fn map(&mut self, pages: Range<usize>) -> io::Result<()> {
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let place = self.memory[pages.clone()].as_mut_ptr().cast();
        // SAFETY: the pages are within a mapping of ours that nothing else borrows, the file holds the
        // same bytes at the same places, and nobody can shorten it: it has no name.
        #[allow(unsafe_code)]
        unsafe { mmap(place, pages.len(), ProtFlags::READ, flags, &self.file, pages.start as u64) }?;
        self.kept = pages.end;
        Ok(())
    }

    /// Lets go of the memory of what is in the file.
    fn forget(&self) -> io::Result<()> {
        if self.kept == 0 {
            return Ok(());
        }
        // SAFETY: of a shared mapping of a file, dropped pages come back with the same bytes.
        #[allow(unsafe_code)]
        unsafe {
            self.memory.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, 0, self.kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Fills `length` bytes in pieces of `piece`, each of which repeats what came before it.
    fn filled(length: usize, piece: usize) -> (Growing, Vec<u8>) {
        let mut growing = Growing::new(&std::env::temp_dir(), length).unwrap();
        let mut expected = Vec::with_capacity(length);
        while expected.len() < length {
            let end = length.min(expected.len() + piece);
            let from = expected.len() / 2;
            for at in expected.len()..end {
                // Read back through the mapping, wherever that byte is by now.
                let byte = growing.bytes()[from + (at - from) / 3].wrapping_add(at as u8);
                growing.bytes()[at] = byte;
                expected.push(byte);
            }
            if growing.is_due(end) {
                growing.keep(end).unwrap();
            }
        }
        (growing, expected)
    }

    #[test]
    fn what_was_written_stays_addressable_and_ends_up_in_the_file() {
        for (length, piece) in
            [(0, 1), (1, 1), (4096, 100), (STEP + 1, 70_001), (3 * STEP, STEP), (2 * STEP + 5, 999_999)]
        {
            let (mut growing, expected) = filled(length, piece);
            assert!(growing.bytes() == expected, "{length}");
            let (scratch, mut bytes) = (growing.finish().unwrap(), Vec::new());
            scratch.reader().unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == expected, "{length}");
            assert_eq!(scratch.len(), length as u64);
        }
    }

    /// Bytes of it that are in memory.
    fn resident(growing: &mut Growing) -> usize {
        let place = growing.bytes().as_ptr_range();
        let (mut sum, mut within) = (0, false);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let range = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            });
            if let Some((from, to)) = range {
                within = from < place.end as usize && to > place.start as usize;
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| within) {
                sum += size.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
            }
        }
        sum
    }

    #[test]
    fn little_of_it_takes_memory() {
        let length = 16 * STEP;
        let mut growing = Growing::new(&std::env::temp_dir(), length).unwrap();
        for end in (STEP..=length).step_by(STEP) {
            growing.bytes()[end - STEP..end].fill(7);
            assert!(resident(&mut growing) >= STEP, "what is told of the memory can be believed");
            growing.keep(end).unwrap();
            assert!(resident(&mut growing) <= STEP, "at {end}");
        }
        assert!(growing.bytes().iter().all(|byte| *byte == 7));
    }
}
