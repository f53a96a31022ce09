//! Decoding: gzip, zstd or plain, to the tar that the diff_id names.

use std::io::{self, BufRead, BufReader, Read};

use super::CHUNK;
use crate::image::{Compression, Digest, Hasher};

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

/// Decodes the layer `encoded` and hands its tar to `sink` piece by piece.
///
/// `encoded` is read to its end, so that a reader which proves itself there has done so. Limits: the
/// zstd window is at most 2^27 bytes. Errors are those of `encoded`, of `sink`, or of the decoder:
/// what follows the compressed stream is one.
pub fn decode(encoded: impl Read, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Decoded> {
    let mut encoded = BufReader::with_capacity(CHUNK, encoded);
    let compression = detect(&mut encoded)?;
    let mut hasher = Hasher::default();
    let mut take = |bytes: &[u8]| {
        hasher.update(bytes);
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
    let size = hasher.count();
    Ok(Decoded { compression, diff_id: hasher.finish(), size })
}

/// Decodes the layer `encoded` only to see what it is.
pub fn check(encoded: impl Read) -> io::Result<Decoded> {
    decode(encoded, |_| Ok(()))
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
        let got = check(bytes).unwrap();
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
            assert!(check(&whole[..whole.len() - 1]).is_err());
            assert!(check([&whole[..], b"garbage"].concat().as_slice()).is_err());
        }
    }

    #[test]
    fn a_window_that_would_take_too_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"the tar").unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(check(bytes.as_slice()).is_err());
    }
}
