//! Telling a bomb by the encoded bytes as they pass by, without decoding them.

/// How many times its size a layer may look like before it has to be decoded to be believed: encoders end
/// blocks early, and those count as full here. Those of our own media come to three times theirs.
const TIMES: u64 = 8;
/// The same for small layers, in bytes.
const FEW: u64 = 1 << 20;
/// Most bytes that a compressed block decodes to (RFC 8878, Block_Maximum_Size).
const BLOCK: u64 = 128 << 10;

const ZSTD: u32 = 0xfd2f_b528;
const SKIPPABLE: u32 = 0x184d_2a50;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Counts what a layer's encoded bytes decode to at most and at least, by the headers of its blocks.
///
/// containerd unpacks what it is sent and sees only afterwards what came of it: by then a bomb has filled the
/// disk. Decoding everything here as well would take as long as containerd takes for it.
#[derive(Debug)]
pub(crate) struct Meter {
    most: u64,
    bound: u64,
    sure: u64,
    /// Bytes that are passed over before the next header.
    skipped: u64,
    header: Vec<u8>,
    next: Next,
    /// The frame ends with a checksum.
    checksum: bool,
}

/// The header that comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    First,
    Frame,
    Skippable,
    Descriptor,
    Block,
    /// None: it is a tar.
    Plain,
}

impl Next {
    fn length(self) -> usize {
        match self {
            Self::First | Self::Frame | Self::Skippable => 4,
            Self::Descriptor => 1,
            Self::Block => 3,
            Self::Plain => 0,
        }
    }
}

impl Meter {
    /// For a layer that is said to be a tar of `size` bytes.
    pub(crate) fn new(size: u64) -> Self {
        let most = size.saturating_mul(TIMES).saturating_add(FEW);
        Self { most, bound: 0, sure: 0, skipped: 0, header: Vec::new(), next: Next::First, checksum: false }
    }

    /// How long the tar will be at least, by what was taken so far: what blocks say whose length is in their
    /// header. Nobody but a bomb has many of these.
    pub(crate) fn at_least(&self) -> u64 {
        self.sure
    }

    /// Takes the next bytes. `false` when all so far may be far more than was said, or when only decoding
    /// tells (gzip, and what is no format): then it is of no more use.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if matches!(self.next, Next::Plain) {
                self.bound = self.bound.saturating_add(bytes.len() as u64);
                return self.bound <= self.most;
            }
            if self.skipped > 0 {
                let skipped = self.skipped.min(bytes.len() as u64);
                self.skipped -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            let taken = (self.next.length() - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.header.len() == self.next.length() && !self.step() {
                return false;
            }
        }
        true
    }

    /// Reads the header that is complete.
    fn step(&mut self) -> bool {
        let mut value = [0; 4];
        value[..self.header.len()].copy_from_slice(&self.header);
        let value = u32::from_le_bytes(value);
        match self.next {
            Next::First | Next::Frame if value == ZSTD => self.next = Next::Descriptor,
            Next::First | Next::Frame if value & !15 == SKIPPABLE => self.next = Next::Skippable,
            Next::First if self.header.starts_with(&GZIP) => return false,
            Next::First => {
                self.bound = 4;
                self.next = Next::Plain;
            }
            Next::Frame => return false,
            Next::Skippable => {
                self.skipped = value.into();
                self.next = Next::Frame;
            }
            Next::Descriptor => {
                let (size, single) = (value >> 6, value >> 5 & 1);
                let size = [u64::from(single), 2, 4, 8][size as usize];
                let dictionary = [0, 1, 2, 4][(value & 3) as usize];
                self.skipped = u64::from(1 - single) + dictionary + size;
                self.checksum = value >> 2 & 1 == 1;
                self.next = Next::Block;
            }
            Next::Block => {
                let (last, kind, size) = (value & 1 == 1, value >> 1 & 3, u64::from(value >> 3));
                let (encoded, decoded, sure) = match kind {
                    0 => (size, size, size),
                    1 => (1, size, size),
                    2 => (size, BLOCK, 0),
                    _ => return false,
                };
                self.skipped = encoded;
                self.sure = self.sure.saturating_add(sure);
                self.bound = self.bound.saturating_add(decoded);
                if last {
                    self.skipped += if self.checksum { 4 } else { 0 };
                    self.next = Next::Frame;
                }
            }
            Next::Plain => {}
        }
        self.header.clear();
        self.bound <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Most, check};
    use std::io::Write;

    /// How many bytes of `encoded` pass, in pieces of `piece` bytes; `None`: all.
    fn stops_at(encoded: &[u8], size: u64, piece: usize) -> Option<usize> {
        let mut meter = Meter::new(size);
        encoded.chunks(piece).position(|bytes| !meter.take(bytes)).map(|at| at * piece)
    }

    fn passes(encoded: &[u8], size: usize) {
        for piece in [3, 1000, usize::MAX] {
            assert_eq!(stops_at(encoded, size as u64, piece), None, "{piece}");
        }
    }

    /// Text that repeats now and then.
    fn text(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut word = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", state >> 20)
        };
        std::iter::repeat_with(&mut word).flat_map(String::into_bytes).take(size).collect()
    }

    #[test]
    fn layers_that_are_what_they_are_said_to_be_pass() {
        let tar = text(300_000);
        for level in [1, 19] {
            for checksum in [false, true] {
                let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
                encoder.include_checksum(checksum).unwrap();
                encoder.set_pledged_src_size(checksum.then_some(tar.len() as u64)).unwrap();
                encoder.write_all(&tar).unwrap();
                passes(&encoder.finish().unwrap(), tar.len());
            }
        }
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        passes(&[zstd(&tar), b"\x5f\x2a\x4d\x18\x04\0\0\0skip".to_vec(), zstd(b"more")].concat(), tar.len());
        passes(&tar, tar.len());
        passes(b"tar", 3);
        passes(b"", 0);
    }

    #[test]
    fn what_may_be_more_does_not_pass() {
        let size = 1 << 20;
        // Longer than so many times its size, and a bit.
        let most = (TIMES * size + FEW) as usize;
        assert_eq!(stops_at(&vec![b'a'; most], size, most), None);
        assert_eq!(stops_at(&vec![b'a'; most + 1], size, 1), Some(most));
        // Zeros compress to blocks of a few bytes that stand for 128 KiB.
        let bomb = zstd::encode_all(vec![0; 32 << 20].as_slice(), 19).unwrap();
        let stopped = stops_at(&bomb, size, 1).unwrap();
        assert!(stopped < bomb.len() / 2, "{stopped} of {}", bomb.len());
        assert!(check(bomb.as_slice(), Most::Bytes(size)).is_err());
        // Only decoding tells.
        assert_eq!(stops_at(b"\x1f\x8b\x08\0and so on", size, 1), Some(3));
        let frame = zstd::encode_all(&b"the tar"[..], 3).unwrap();
        assert_eq!(stops_at(&[&frame[..], b"tail"].concat(), size, 1), Some(frame.len() + 3));
    }
}
