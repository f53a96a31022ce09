//! Pages: a small message kept so that it survives.
//!
//! The message is cut into pieces of 4056 bytes, up to 1024 of which get as many parity pieces and 4 more
//! (Reed-Solomon: any as many as there are pieces give them all back). Each piece is a page of 4 KiB with
//! a head that says which it is and a checksum; pages go in turn to two files, so that either file is
//! enough.
//!
//! ```text
//! offset  bytes
//!      0      8  "pannier" and the format's number, 1
//!      8      8  the set: pages of different messages are never mixed
//!     16      8  the message's length in bytes, little-endian, as are all numbers
//!     24      8  the page's number: of every 2 * 1024 + 4, the first 1024 are pieces and the others parity
//!     32      8  the first bytes of the sha256 of the page without these
//!     40   4056  the piece
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::checksum;
use crate::error::{Error, Result, Side};
use crate::medium::Replacement;

const PAGE: usize = 4096;
const HEAD: usize = 40;
const PIECE: usize = PAGE - HEAD;
const MAGIC: &[u8; 8] = b"pannier\x01";
/// Pieces that share parity, at most.
const GROUP: usize = 1024;
/// Parity pieces beyond as many as there are pieces.
const MORE: usize = 4;
/// The longest message that is believed, in bytes: the table of 16 TiB.
const MAX_MESSAGE: u64 = 64 << 30;

/// Which message a page belongs to.
pub(super) type Set = [u8; 8];

/// Bytes of one of the two files that hold a message.
pub(super) fn file_bytes(message: u64) -> u64 {
    let full = message / (GROUP * PIECE) as u64;
    let rest = (message % (GROUP * PIECE) as u64).div_ceil(PIECE as u64);
    let pages = full * (GROUP + MORE / 2) as u64 + if rest > 0 { rest + (MORE / 2) as u64 } else { 0 };
    pages * PAGE as u64
}

/// Pieces of the `group`th group of a message.
fn pieces(message: u64, group: u64) -> usize {
    let start = group * (GROUP * PIECE) as u64;
    let bytes = message.saturating_sub(start).min((GROUP * PIECE) as u64);
    bytes.div_ceil(PIECE as u64) as usize
}

fn page(set: Set, message: u64, number: u64, piece: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(MAGIC);
    page.extend_from_slice(&set);
    page.extend_from_slice(&message.to_le_bytes());
    page.extend_from_slice(&number.to_le_bytes());
    page.extend_from_slice(&checksum(&[&page[..], piece].concat()));
    page.extend_from_slice(piece);
    page
}

/// A page that is whole: its set, the message's length, its number.
fn read_page(page: &[u8]) -> Option<(Set, u64, u64)> {
    let number = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
    let (head, piece) = (page.get(..HEAD - 8)?, page.get(HEAD..PAGE)?);
    if !head.starts_with(MAGIC) || page[HEAD - 8..HEAD] != checksum(&[head, piece].concat()) {
        return None;
    }
    Some((page[8..16].try_into().ok()?, number(16)?, number(24)?))
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::invalid(Side::Medium, "recovery data", error)
}

/// Writes a message as pages to two files.
#[derive(Debug)]
pub(super) struct PageWriter<'m> {
    set: Set,
    message: u64,
    files: [Replacement<'m>; 2],
    group: u64,
    held: Vec<u8>,
}

impl<'m> PageWriter<'m> {
    /// Begins a message of exactly `message` bytes.
    pub(super) fn new(set: Set, message: u64, files: [Replacement<'m>; 2]) -> Self {
        Self { set, message, files, group: 0, held: Vec::new() }
    }

    /// Adds the next bytes of the message.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(GROUP * PIECE - self.held.len());
            self.held.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.held.len() == GROUP * PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the message and returns the two files, which are still to be committed.
    pub(super) fn finish(mut self) -> Result<[Replacement<'m>; 2]> {
        if !self.held.is_empty() {
            self.flush()?;
        }
        Ok(self.files)
    }

    fn flush(&mut self) -> Result<()> {
        let count = pieces(self.message, self.group);
        self.held.resize(count * PIECE, 0);
        let mut encoder = ReedSolomonEncoder::new(count, count + MORE, PIECE).map_err(failed)?;
        for piece in self.held.chunks(PIECE) {
            encoder.add_original_shard(piece).map_err(failed)?;
        }
        let parity = encoder.encode().map_err(failed)?;
        let first = self.group * (2 * GROUP + MORE) as u64;
        for (at, piece) in self.held.chunks(PIECE).chain(parity.recovery_iter()).enumerate() {
            let page = page(self.set, self.message, first + at as u64, piece);
            self.files[at % 2].write_bytes(&page)?;
        }
        self.group += 1;
        self.held.clear();
        Ok(())
    }
}

/// A message in pages, read group by group.
#[derive(Debug)]
pub(super) struct PageReader {
    set: Set,
    message: u64,
    files: [Option<File>; 2],
    /// The group that was read last, and its bytes; `None` if too little of it is left.
    last: Option<(u64, Option<Vec<u8>>)>,
}

impl PageReader {
    /// Finds a message in two files, either of which may be missing. `set` is which, where that is known.
    ///
    /// `None` if not a single whole page of it is there.
    pub(super) fn open(files: [Option<File>; 2], set: Option<Set>) -> Option<Self> {
        let mut buffer = vec![0; PAGE];
        for file in files.iter().flatten() {
            let pages = file.metadata().map_or(0, |metadata| metadata.len()) / PAGE as u64;
            for at in 0..pages {
                if file.read_exact_at(&mut buffer, at * PAGE as u64).is_err() {
                    continue;
                }
                let Some((found, message, _)) = read_page(&buffer) else { continue };
                if set.is_none_or(|set| set == found) && message <= MAX_MESSAGE {
                    return Some(Self { set: found, message, files, last: None });
                }
            }
        }
        None
    }

    /// Whether every page of both files is there and right.
    pub(super) fn is_whole(&self) -> bool {
        let mut page = vec![0; PAGE];
        let groups = self.message.div_ceil((GROUP * PIECE) as u64);
        let length = file_bytes(self.message);
        let of_right_length = |file: &Option<File>| {
            file.as_ref()
                .and_then(|file| file.metadata().ok())
                .is_some_and(|metadata| metadata.len() == length)
        };
        self.files.iter().all(of_right_length)
            && (0..groups).all(|group| {
                (0..2 * pieces(self.message, group) + MORE).all(|at| self.read_into(group, at, &mut page))
            })
    }

    /// Reads a page of a group; whether it is the right one.
    fn read_into(&self, group: u64, at: usize, page: &mut [u8]) -> bool {
        let Some(file) = &self.files[at % 2] else { return false };
        let of_file = group * (GROUP + MORE / 2) as u64 + at as u64 / 2;
        let number = group * (2 * GROUP + MORE) as u64 + at as u64;
        file.read_exact_at(page, of_file * PAGE as u64).is_ok()
            && read_page(page) == Some((self.set, self.message, number))
    }

    /// The message's length in bytes.
    pub(super) fn message(&self) -> u64 {
        self.message
    }

    /// `length` bytes of the message from `start` on; `None` where they are lost.
    pub(super) fn read(&mut self, start: u64, length: u64) -> Option<Vec<u8>> {
        let end = start.checked_add(length).filter(|end| *end <= self.message)?;
        let size = (GROUP * PIECE) as u64;
        let mut bytes = Vec::with_capacity(length as usize);
        let mut at = start;
        while at < end {
            let (group, from) = (at / size, (at % size) as usize);
            let held = self.group(group)?;
            let n = (end - at).min((held.len() - from) as u64) as usize;
            bytes.extend_from_slice(&held[from..from + n]);
            at += n as u64;
        }
        Some(bytes)
    }

    fn group(&mut self, group: u64) -> Option<&[u8]> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != group) {
            self.last = Some((group, self.load(group)));
        }
        self.last.as_ref()?.1.as_deref()
    }

    /// Reads a group's pieces, making again those that are lost.
    fn load(&self, group: u64) -> Option<Vec<u8>> {
        let count = pieces(self.message, group);
        let mut found: Vec<Option<Vec<u8>>> = vec![None; 2 * count + MORE];
        for (at, slot) in found.iter_mut().enumerate() {
            let mut page = vec![0; PAGE];
            if self.read_into(group, at, &mut page) {
                *slot = Some(page.split_off(HEAD));
            }
        }
        if found[..count].iter().any(Option::is_none) {
            let mut decoder = ReedSolomonDecoder::new(count, count + MORE, PIECE).ok()?;
            for (at, piece) in found.iter().enumerate() {
                let Some(piece) = piece else { continue };
                if at < count {
                    decoder.add_original_shard(at, piece).ok()?;
                } else {
                    decoder.add_recovery_shard(at - count, piece).ok()?;
                }
            }
            let restored = decoder.decode().ok()?;
            let restored: Vec<(usize, Vec<u8>)> =
                restored.restored_original_iter().map(|(at, piece)| (at, piece.to_vec())).collect();
            for (at, piece) in restored {
                found[at] = Some(piece);
            }
        }
        let pieces: Option<Vec<Vec<u8>>> = found.into_iter().take(count).collect();
        Some(pieces?.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::medium::Medium;

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn write(medium: &Medium, bytes: &[u8]) {
        let files =
            ["0000000001.table.0", "0000000001.table.1"].map(|name| medium.replace_recovery(name).unwrap());
        let mut writer = PageWriter::new([1; 8], bytes.len() as u64, files);
        for part in bytes.chunks(10_000) {
            writer.write(part).unwrap();
        }
        for file in writer.finish().unwrap() {
            file.commit_as_it_is().unwrap();
        }
    }

    fn read(medium: &Medium) -> Option<Vec<u8>> {
        let files =
            ["0000000001.table.0", "0000000001.table.1"].map(|name| medium.recovery_file(name).unwrap());
        let mut reader = PageReader::open(files, None)?;
        let length = reader.message();
        reader.read(0, length)
    }

    #[test]
    fn a_message_survives_either_file_and_any_half_of_its_pages() {
        for length in [1, 4056, 4057, 50_000, GROUP * PIECE, GROUP * PIECE + 5000] {
            let directory = tempfile::tempdir().unwrap();
            let medium = Medium::create(directory.path()).unwrap();
            let bytes = message(length);
            write(&medium, &bytes);
            let path = |n: usize| directory.path().join(format!(".pannier/recovery/0000000001.table.{n}"));
            let whole = [0, 1].map(|n| std::fs::read(path(n)).unwrap());
            assert_eq!(whole[0].len() as u64, file_bytes(length as u64), "{length}");
            assert_eq!(whole[1].len(), whole[0].len());
            assert!(read(&medium).unwrap() == bytes);
            for n in [0, 1] {
                std::fs::remove_file(path(n)).unwrap();
                assert!(read(&medium).unwrap() == bytes, "{length} without file {n}");
                std::fs::write(path(n), &whole[n]).unwrap();
            }
            // Every other page of both files, by zeros or by one bit.
            for n in [0, 1] {
                let mut damaged = whole[n].clone();
                for (at, page) in damaged.chunks_mut(PAGE).enumerate().filter(|(at, _)| at % 2 == n) {
                    if at % 4 < 2 { page.fill(0) } else { page[1000] ^= 1 }
                }
                std::fs::write(path(n), damaged).unwrap();
            }
            assert!(read(&medium).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn too_much_damage_is_no_message_and_never_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::create(directory.path()).unwrap();
        write(&medium, &message(50_000));
        for n in [0, 1] {
            let path = directory.path().join(format!(".pannier/recovery/0000000001.table.{n}"));
            let mut damaged = std::fs::read(&path).unwrap();
            let keep = damaged.len() / PAGE / 3 * PAGE;
            damaged[keep..].fill(0);
            std::fs::write(&path, damaged).unwrap();
        }
        assert_eq!(read(&medium), None);
    }

    #[test]
    fn the_format_does_not_drift() {
        // Recovery data in somebody's drawer must still be readable: change this only with the number.
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::create(directory.path()).unwrap();
        write(&medium, &message(50_000));
        let bytes = std::fs::read(directory.path().join(".pannier/recovery/0000000001.table.1")).unwrap();
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "sha256:a9442a175b35bda52871e656568276a58acae60615c733a3c58326ef4c4f8191"
        );
    }
}
