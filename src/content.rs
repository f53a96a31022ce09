//! Reading content so that what was not hashed is never believed.

use std::io::{self, Read};

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Hasher};

/// Reads a blob and checks its size and digest.
///
/// The end of the stream is an error unless exactly the bytes that the descriptor names were read:
/// a caller that reads to the end and sees no error has read the blob. One byte more than the size
/// is never returned, however long the underlying stream is.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    descriptor: Descriptor,
    side: Side,
}

impl<R: Read> Verified<R> {
    /// Reads the blob `descriptor` from `inner`, which belongs to `side`.
    pub fn new(inner: R, descriptor: &Descriptor, side: Side) -> Self {
        Self::resumed(inner, descriptor, side, Hasher::default())
    }

    /// Goes on behind the bytes that `hasher` has seen already.
    pub fn resumed(inner: R, descriptor: &Descriptor, side: Side, hasher: Hasher) -> Self {
        Self { inner, hasher: Some(hasher), descriptor: descriptor.clone(), side }
    }

    fn size_error(&self, found: u64) -> io::Error {
        Error::SizeMismatch {
            side: self.side,
            what: format!("blob {}", self.descriptor.digest),
            expected: self.descriptor.size,
            found,
        }
        .into()
    }

    fn check_end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if hasher.count() != self.descriptor.size {
            return Err(self.size_error(hasher.count()));
        }
        let found = hasher.finish();
        if found != self.descriptor.digest {
            return Err(Error::DigestMismatch {
                side: self.side,
                what: format!("blob {}", self.descriptor.digest),
                expected: self.descriptor.digest,
                found,
            }
            .into());
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        if n == 0 {
            self.check_end()?;
            return Ok(0);
        }
        let size = self.descriptor.size;
        match &mut self.hasher {
            Some(hasher) if hasher.count() + n as u64 <= size => hasher.update(&buffer[..n]),
            _ => return Err(self.size_error(size.saturating_add(1))),
        }
        Ok(n)
    }
}

/// Reads a whole blob into memory and checks it; refuses one larger than `limit` bytes unread.
pub fn read_all(inner: impl Read, descriptor: &Descriptor, side: Side, limit: u64) -> Result<Vec<u8>> {
    let what = format!("blob {}", descriptor.digest);
    if descriptor.size > limit {
        let reason = format!("{} bytes, more than the {limit} allowed for its kind", descriptor.size);
        return Err(Error::Invalid { side, what, reason });
    }
    let mut bytes = Vec::with_capacity(descriptor.size as usize);
    Verified::new(inner, descriptor, side)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::from_io(side, "read", what.into(), source))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], descriptor: &Descriptor) -> Result<Vec<u8>> {
        read_all(bytes, descriptor, Side::Medium, 100)
    }

    #[test]
    fn the_right_bytes_pass() {
        let descriptor = Descriptor::of("x", b"abc");
        assert_eq!(read(b"abc", &descriptor).unwrap(), b"abc");
        assert!(read(b"", &Descriptor::of("x", b"")).unwrap().is_empty());
    }

    #[test]
    fn shorter_longer_and_other_bytes_are_errors() {
        let descriptor = Descriptor::of("x", b"abc");
        assert!(matches!(read(b"ab", &descriptor), Err(Error::SizeMismatch { found: 2, .. })));
        assert!(matches!(read(b"abcd", &descriptor), Err(Error::SizeMismatch { found: 4, .. })));
        assert!(matches!(read(b"abd", &descriptor), Err(Error::DigestMismatch { .. })));
    }

    #[test]
    fn a_blob_over_the_limit_is_not_read() {
        let descriptor = Descriptor { size: 101, ..Descriptor::of("x", b"abc") };
        assert!(matches!(read(b"abc", &descriptor), Err(Error::Invalid { .. })));
    }
}
