//! Decoding: gzip, zstd or plain, to the tar that the diff_id names.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};

use super::{CHUNK, Meter};
use crate::image::{Compression, Digest, Hasher};
use crate::limits;

pub(crate) use crate::limits::WINDOW as MAX_WINDOW;

/// What a layer turned out to be when it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// How it was compressed, told by its bytes.
    pub compression: Compression,
    /// The digest of the tar.
    pub diff_id: Digest,
    /// The tar's size in bytes.
    pub size: u64,
}

/// How long a layer's tar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// So many bytes: what is said of it where it is listed.
    Bytes(u64),
    /// Nobody has said: in proportion to what is read of the encoded layer ([`limits::DECODED`],
    /// [`limits::RATIO`]).
    Ratio,
}

impl Most {
    /// An error if what `read` bytes were decoded to, `size` bytes, is too long.
    pub(crate) fn allows(self, size: u64, read: u64) -> io::Result<()> {
        let most = match self {
            Self::Bytes(most) => most,
            Self::Ratio => limits::DECODED.max(limits::RATIO.saturating_mul(read)),
        };
        if size > most {
            let reason = format!("it decodes to more than {most} bytes: damaged, or a decompression bomb");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(())
    }
}

/// Decodes the layer `encoded` and hands its tar to `sink` piece by piece.
///
/// `encoded` is read to its end, so that a reader which proves itself there has done so. Limits: the
/// zstd window is at most 2^27 bytes, and decoding ends with the piece that leads beyond `most`, which is
/// not handed over, or before it, where the encoded bytes say that it comes. Errors are those of `encoded`,
/// of `sink`, or of the decoder: what follows the compressed stream is one.
pub fn decode(
    encoded: impl Read,
    most: Most,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Decoded> {
    let mut hasher = Hasher::default();
    let compression = expand(encoded, most, |bytes| {
        hasher.update(bytes);
        sink(bytes)
    })?;
    let size = hasher.count();
    Ok(Decoded { compression, diff_id: hasher.finish(), size })
}

/// Decodes as [`decode`] does, for whoever proves the tar in another way: it is not hashed.
pub(super) fn expand(
    encoded: impl Read,
    most: Most,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Compression> {
    let read = Cell::new(0);
    let counted = Counted { inner: encoded, read: &read };
    let metered = Metered { inner: counted, most, meter: Some(Meter::new(limits::BLOB)) };
    let mut encoded = BufReader::with_capacity(CHUNK, metered);
    let compression = detect(&mut encoded)?;
    let mut size = 0;
    let mut take = |bytes: &[u8]| {
        size += bytes.len() as u64;
        most.allows(size, read.get())?;
        sink(bytes)
    };
    match compression {
        Compression::None => each_chunk(&mut encoded, &mut take)?,
        Compression::Gzip => each_chunk(flate2::bufread::MultiGzDecoder::new(&mut encoded), &mut take)?,
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&mut encoded)?;
            decoder.window_log_max(MAX_WINDOW)?;
            each_chunk(decoder, &mut take)?;
        }
    }
    // The decoders stop at the end of their format; the reader below proves itself at its own.
    if !encoded.fill_buf()?.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "bytes follow the end of the compressed stream",
        ));
    }
    Ok(compression)
}

/// Decodes the layer `encoded` only to see what it is.
pub fn check(encoded: impl Read, most: Most) -> io::Result<Decoded> {
    decode(encoded, most, |_| Ok(()))
}

/// Looks ahead of the decoder: an error where what was read says that it leads too far.
struct Metered<'a, R> {
    inner: Counted<'a, R>,
    most: Most,
    meter: Option<Meter>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(meter) = &mut self.meter {
            if meter.take(&buffer[..n]) {
                self.most.allows(meter.at_least(), self.inner.read.get())?;
            } else {
                self.meter = None;
            }
        }
        Ok(n)
    }
}

/// Counts what is read through it.
pub(crate) struct Counted<'a, R> {
    pub(crate) inner: R,
    pub(crate) read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Tells the compression by the first bytes, which stay in the buffer.
fn detect(encoded: &mut impl BufRead) -> io::Result<Compression> {
    loop {
        match encoded.fill_buf() {
            Ok(start) => return Ok(Compression::detect(start)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads to the end and hands over each piece.
pub(super) fn each_chunk(
    mut reader: impl Read,
    take: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(bytes: &[u8], compression: Compression) {
        let got = check(bytes, Most::Ratio).unwrap();
        assert_eq!(got, Decoded { compression, diff_id: Digest::of(b"the tar"), size: 7 });
    }

    #[test]
    fn every_encoding_decodes_to_the_same_diff_id() {
        decoded(b"the tar", Compression::None);
        decoded(&gzip(b"the tar"), Compression::Gzip);
        decoded(&[gzip(b"the "), gzip(b"tar")].concat(), Compression::Gzip);
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        decoded(&zstd(b"the tar"), Compression::Zstd);
        decoded(&[zstd(b"the "), zstd(b"tar")].concat(), Compression::Zstd);
    }

    #[test]
    fn cut_and_trailing_bytes_are_errors() {
        let zstd = zstd::encode_all(&b"the tar"[..], 3).unwrap();
        for whole in [gzip(b"the tar"), zstd] {
            assert!(check(&whole[..whole.len() - 1], Most::Ratio).is_err());
            assert!(check([&whole[..], b"garbage"].concat().as_slice(), Most::Ratio).is_err());
        }
    }

    #[test]
    fn a_window_that_would_take_too_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"the tar").unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(check(bytes.as_slice(), Most::Ratio).is_err());
    }

    /// A zstd frame of `blocks` blocks, each of which says of one byte that it is repeated 131072 times
    /// (RFC 8878, RLE_Block).
    fn bomb(blocks: usize) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
        for at in 1..=blocks {
            let header = u32::from(at == blocks) | 1 << 1 | (128 << 10) << 3;
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    }

    #[test]
    fn a_bomb_goes_off_within_bounds() {
        let (three, most) = (bomb(3), 3 << 17);
        assert_eq!(check(three.as_slice(), Most::Bytes(most)).unwrap().size, most);
        let mut seen = 0;
        let mut sink = |bytes: &[u8]| {
            seen += bytes.len() as u64;
            Ok(())
        };
        let error = decode(bomb(4000).as_slice(), Most::Bytes(most), &mut sink).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
        assert!(seen <= most);
        // What the ratio lets pass, and what it does not: 16 GiB in 512 KiB, of which nothing is decoded.
        assert!(check(three.as_slice(), Most::Ratio).is_ok());
        let mut sink = |_: &[u8]| -> io::Result<()> { panic!("it is decoded") };
        let error = decode(bomb(1 << 17).as_slice(), Most::Ratio, &mut sink).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
        let packed = gzip(&vec![0; 1 << 20]);
        assert!((1 << 20) / packed.len() < limits::RATIO as usize, "gzip does not reach it");
    }
}
