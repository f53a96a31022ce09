//! Sending a blob, or a part of one, so that nothing wrong is ever sent whole.
//!
//! The last piece is held back until the bytes before it are proven. To prove a part of a blob, all of it would
//! have to be read; so the first reader that comes to the end of a blob leaves the state of its hash at every
//! MiB behind, and a later one starts and ends at the nearest of them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Side};
use crate::image::{Descriptor, Digest, Hasher};

/// How far marks are apart, in bytes: a multiple of the hash's block.
pub const STRIDE: u64 = 1 << 20;
/// How much is read at a time, in bytes.
const PIECE: usize = 128 << 10;
/// Most marks that are kept, of all blobs: about 16 MiB, for 128 GiB of blobs.
const MOST: usize = 1 << 17;

/// States of the hash of a blob at each [`STRIDE`], from 0 on. They belong to bytes that were proven to be it.
type Marks = Arc<[Hasher]>;

/// What was learnt of blobs that were read to their end.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<Digest, Marks>>);

impl Proofs {
    fn find(&self, digest: &Digest) -> Option<Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn keep(&self, digest: Digest, marks: Vec<Hasher>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = known.values().map(|marks| marks.len()).sum();
        if held + marks.len() > MOST {
            known.clear();
        }
        known.insert(digest, marks.into());
    }
}

/// Gives the bytes of a part of a blob in pieces. After an error nothing that was given may be believed, and
/// it was not all.
pub struct Proven {
    inner: Box<dyn Read + Send>,
    blob: Descriptor,
    side: Side,
    part: Range<u64>,
    /// The next byte of the blob.
    at: u64,
    /// Where the reading ends, since everything in the part is proven there.
    until: u64,
    hasher: Hasher,
    known: Option<Marks>,
    /// Marks that are made on the way, where all of the blob is read.
    made: Vec<Hasher>,
    held: Option<Bytes>,
    proofs: Arc<Proofs>,
}

impl Proven {
    /// Opens `part` of `blob` with `open`, which gives its bytes from an offset on. An empty part is an empty
    /// blob, or none of it.
    pub fn open<E>(
        proofs: &Arc<Proofs>,
        blob: &Descriptor,
        part: Range<u64>,
        side: Side,
        open: impl FnOnce(u64) -> Result<Box<dyn Read + Send>, E>,
    ) -> Result<Self, E> {
        let known = proofs.find(&blob.digest);
        let (from, until) = match &known {
            Some(_) => (part.start / STRIDE, part.end.div_ceil(STRIDE).saturating_mul(STRIDE).min(blob.size)),
            None => (0, blob.size),
        };
        let start = known.as_ref().and_then(|marks| marks.get(usize::try_from(from).ok()?)).cloned();
        let at = if start.is_some() { from * STRIDE } else { 0 };
        let known = known.filter(|_| start.is_some());
        Ok(Self {
            inner: open(at)?,
            blob: blob.clone(),
            side,
            part,
            at,
            until: if known.is_some() { until } else { blob.size },
            hasher: start.unwrap_or_default(),
            made: Vec::new(),
            known,
            held: None,
            proofs: proofs.clone(),
        })
    }

    /// The next piece; `None` after the last.
    ///
    /// Errors: the bytes are not those of the blob, or cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        while self.at < self.until {
            if self.at.is_multiple_of(STRIDE) && self.known.is_none() {
                self.made.push(self.hasher.clone());
            }
            // A piece ends where a mark is.
            let most = (STRIDE - self.at % STRIDE).min(self.until - self.at).min(PIECE as u64);
            let mut piece = vec![0; most as usize];
            self.inner.read_exact(&mut piece).map_err(|error| self.short(error))?;
            self.hasher.update(&piece);
            let start = self.at;
            self.at += most;
            if self.at.is_multiple_of(STRIDE) && self.at < self.blob.size {
                self.check_mark()?;
            }
            let piece = self.cut(piece, start);
            if !piece.is_empty()
                && let Some(ready) = self.held.replace(piece)
            {
                return Ok(Some(ready));
            }
        }
        if self.at == self.blob.size {
            self.check_end()?;
        }
        Ok(self.held.take())
    }

    /// What of a piece that begins at `start` belongs to the part.
    fn cut(&self, piece: Vec<u8>, start: u64) -> Bytes {
        let within = |at: u64| at.clamp(start, start + piece.len() as u64) - start;
        let (from, to) = (within(self.part.start) as usize, within(self.part.end) as usize);
        Bytes::from(piece).slice(from..to)
    }

    fn check_mark(&self) -> io::Result<()> {
        let place = usize::try_from(self.at / STRIDE).unwrap_or(usize::MAX);
        let mark = self.known.as_ref().and_then(|marks| marks.get(place));
        match mark {
            Some(mark) if mark.clone().finish() != self.hasher.clone().finish() => Err(self.damaged()),
            _ => Ok(()),
        }
    }

    fn check_end(&mut self) -> io::Result<()> {
        if self.hasher.clone().finish() != self.blob.digest {
            return Err(self.damaged());
        }
        if self.known.is_none() {
            self.proofs.keep(self.blob.digest, std::mem::take(&mut self.made));
            self.known = self.proofs.find(&self.blob.digest);
        }
        Ok(())
    }

    fn damaged(&self) -> io::Error {
        let what = format!("blob {}", self.blob.digest);
        let reason = "its bytes are not what its digest says; the connection was cut";
        Error::invalid(self.side, what, reason).into()
    }

    fn short(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return error;
        }
        let what = format!("blob {}", self.blob.digest);
        Error::SizeMismatch { side: self.side, what, expected: self.blob.size, found: self.at }.into()
    }
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven").field("blob", &self.blob).field("part", &self.part).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i / 7) as u8 ^ (i >> 13) as u8).collect()
    }

    /// What is sent, whether it ended well, and how many bytes were read for it.
    fn send(proofs: &Arc<Proofs>, blob: &Descriptor, bytes: &[u8], part: Range<u64>) -> (Vec<u8>, bool, u64) {
        struct Counted(io::Cursor<Vec<u8>>, Arc<AtomicU64>);
        impl Read for Counted {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let n = self.0.read(out)?;
                self.1.fetch_add(n as u64, Ordering::Relaxed);
                Ok(n)
            }
        }
        let count = Arc::new(AtomicU64::new(0));
        let mut proven = Proven::open(proofs, blob, part, Side::Medium, |offset| {
            let mut cursor = io::Cursor::new(bytes.to_vec());
            cursor.set_position(offset);
            Ok::<_, Infallible>(Box::new(Counted(cursor, count.clone())) as Box<dyn Read + Send>)
        })
        .unwrap();
        let mut sent = Vec::new();
        let whole = loop {
            match proven.next_piece() {
                Ok(Some(piece)) => sent.extend(piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        (sent, whole, count.load(Ordering::Relaxed))
    }

    #[test]
    fn every_part_is_sent_as_it_is_before_and_after_the_blob_is_known() {
        for length in [0, 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 12345] {
            let bytes = content(length);
            let blob = Descriptor::of("x", &bytes);
            let size = length as u64;
            for part in
                [0..size, 0..size.min(1), size / 2..size, size / 3..size / 2, size.saturating_sub(1)..size]
            {
                let proofs = Arc::new(Proofs::default());
                let expected = &bytes[part.start as usize..part.end as usize];
                for _ in 0..3 {
                    let (sent, whole, _) = send(&proofs, &blob, &bytes, part.clone());
                    assert!(whole && sent == expected, "{part:?} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_known_blob_is_read_only_about_the_part() {
        let bytes = content(5 << 20);
        let (blob, proofs) = (Descriptor::of("x", &bytes), Arc::new(Proofs::default()));
        let part = (2 << 20) + 5..(2 << 20) + 6;
        assert_eq!(send(&proofs, &blob, &bytes, part.clone()).2, 5 << 20);
        assert_eq!(send(&proofs, &blob, &bytes, part).2, 1 << 20);
    }

    #[test]
    fn what_is_wrong_anywhere_is_never_sent_whole() {
        let bytes = content((3 << 20) + 999);
        let blob = Descriptor::of("x", &bytes);
        let size = blob.size;
        let known = Arc::new(Proofs::default());
        assert!(send(&known, &blob, &bytes, 0..size).1);
        for at in [0, 1 << 20, (2 << 20) + 17, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            for proofs in [Arc::new(Proofs::default()), known.clone()] {
                let (sent, whole, _) = send(&proofs, &blob, &wrong, 0..size);
                assert!(!whole && (sent.len() as u64) < size, "{at}");
                let part = at as u64..at as u64 + 1;
                let (sent, whole, _) = send(&proofs, &blob, &wrong, part);
                assert!(!whole && sent.is_empty(), "{at}");
            }
        }
        let (sent, whole, _) = send(&known, &blob, &bytes[..1 << 20], 0..size);
        assert!(!whole && sent.len() < 1 << 20);
        // Nothing wrong was learnt.
        assert!(send(&known, &blob, &bytes, 5..size).1);
    }
}
