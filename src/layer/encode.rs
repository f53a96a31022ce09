//! Encoding: a layer recompressed with zstd, the same bytes on every machine.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use zstd::stream::write::Encoder;
use zstd_safe::CParameter;

use super::decode::{self, Decoded, MAX_WINDOW};

/// Bytes that one worker compresses at a time. Part of what decides the output.
const JOB: u32 = 16 << 20;

/// The zstd parameters that a layer is encoded with.
///
/// The bytes depend on these, on the job size, and on the version of libzstd, all of which are
/// fixed; not on the number of workers, as long as there is one (zstd's encoder without workers
/// gives other bytes and is never used).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zstd {
    /// The compression level, 1 to 19.
    pub level: u32,
    /// The base-2 logarithm of the window in bytes, 17 to 27: the memory that decoding takes.
    pub window: u32,
}

impl Default for Zstd {
    /// Level 9 in a window of 16 MiB: containerd unpacks several such layers at a time within
    /// 170 MiB, where a window of 128 MiB, for 2 % fewer bytes, takes it up to 850 MiB.
    fn default() -> Self {
        Self { level: 9, window: 24 }
    }
}

/// The text is no zstd setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a compression: say zstd, zstd:LEVEL (1 to 19), zstd:LEVEL,window=LOG (17 to 27), or none"
)]
pub struct ZstdError(String);

impl FromStr for Zstd {
    type Err = ZstdError;

    fn from_str(text: &str) -> Result<Self, ZstdError> {
        let refuse = || ZstdError(text.chars().take(100).collect());
        let mut zstd = Self::default();
        let Some(parameters) = text.strip_prefix("zstd") else { return Err(refuse()) };
        if parameters.is_empty() {
            return Ok(zstd);
        }
        for parameter in parameters.strip_prefix(':').ok_or_else(refuse)?.split(',') {
            let (field, value) = match parameter.strip_prefix("window=") {
                Some(value) => (&mut zstd.window, value),
                None => (&mut zstd.level, parameter),
            };
            *field = value.parse().map_err(|_| refuse())?;
        }
        let legal = (1..=19).contains(&zstd.level) && (17..=MAX_WINDOW).contains(&zstd.window);
        legal.then_some(zstd).ok_or_else(refuse)
    }
}

impl fmt::Display for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zstd:{},window={}", self.level, self.window)
    }
}

/// Compressing threads for one layer, at most: with the layers that are worked on at a time they bound
/// the memory that is taken.
const MAX_WORKERS: usize = 6;

/// Compressing threads for one layer on this machine.
pub fn workers() -> u32 {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MAX_WORKERS) as u32
}

/// Decodes the layer `original` and writes it to `out` as one zstd frame.
///
/// A tar that fits in the window is held in memory first, so that its size is known and the frame
/// asks for no larger a window than the tar. Memory: about 32 MiB and 40 MiB for each of `workers`.
pub fn recompress(original: impl Read, out: impl Write, zstd: Zstd, workers: u32) -> io::Result<Decoded> {
    let mut sink = Sink::Held { tar: Vec::new(), out };
    let decoded = decode::decode(original, decode::Most::Ratio, |bytes| sink.write(bytes, zstd, workers))?;
    sink.finish(zstd, workers)?;
    Ok(decoded)
}

/// The tar so far: held until it outgrows the window, then handed to an encoder.
enum Sink<W: Write> {
    Held { tar: Vec<u8>, out: W },
    Encoding(Encoder<'static, W>),
    Moved,
}

impl<W: Write> Sink<W> {
    fn write(&mut self, bytes: &[u8], zstd: Zstd, workers: u32) -> io::Result<()> {
        match self {
            Self::Held { tar, .. } if tar.len() + bytes.len() <= 1 << zstd.window => {
                tar.extend_from_slice(bytes);
                Ok(())
            }
            Self::Encoding(encoder) => encoder.write_all(bytes),
            Self::Held { .. } => {
                if let Self::Held { tar, out } = std::mem::replace(self, Self::Moved) {
                    let mut encoder = encoder(out, zstd, workers, None)?;
                    encoder.write_all(&tar)?;
                    encoder.write_all(bytes)?;
                    *self = Self::Encoding(encoder);
                }
                Ok(())
            }
            Self::Moved => Err(io::Error::other("the encoder failed before")),
        }
    }

    fn finish(self, zstd: Zstd, workers: u32) -> io::Result<()> {
        match self {
            Self::Held { tar, out } => {
                let mut encoder = encoder(out, zstd, workers, Some(tar.len() as u64))?;
                encoder.write_all(&tar)?;
                encoder.finish()?.flush()
            }
            Self::Encoding(encoder) => encoder.finish()?.flush(),
            Self::Moved => Err(io::Error::other("the encoder failed before")),
        }
    }
}

fn encoder<W: Write>(out: W, zstd: Zstd, workers: u32, size: Option<u64>) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(out, zstd.level as i32)?;
    encoder.window_log(zstd.window)?;
    encoder.long_distance_matching(true)?;
    encoder.include_checksum(true)?;
    encoder.multithread(workers.max(1))?;
    encoder.set_parameter(CParameter::JobSize(JOB))?;
    encoder.set_pledged_src_size(size)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Compression, Digest};

    /// Bytes that compress somewhat, like a tar of programs.
    fn tar(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|at| if at % 7 < 4 { (at / 64) as u8 } else { next() }).collect()
    }

    fn encode(tar: &[u8], zstd: Zstd, workers: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let decoded = recompress(tar, &mut out, zstd, workers).unwrap();
        assert_eq!(decoded.diff_id, Digest::of(tar));
        out
    }

    #[test]
    fn the_number_of_workers_does_not_change_the_bytes() {
        let zstd = Zstd { level: 3, window: 20 };
        for length in [0, 1000, 1 << 20, (1 << 20) + 1, 40 << 20] {
            let tar = tar(length);
            let one = encode(&tar, zstd, 1);
            assert_eq!(one, encode(&tar, zstd, 0), "{length}");
            assert_eq!(one, encode(&tar, zstd, 4), "{length}");
            let back = decode::check(one.as_slice(), decode::Most::Ratio).unwrap();
            assert_eq!((back.compression, back.diff_id), (Compression::Zstd, Digest::of(&tar)));
        }
    }

    #[test]
    fn a_change_of_libzstd_or_of_our_parameters_does_not_go_unnoticed() {
        // Media made by two versions would no longer share layers; a deliberate change says so here.
        let digest = Digest::of(&encode(&tar(3 << 20), Zstd::default(), 2));
        assert_eq!(
            digest.to_string(),
            "sha256:8e04eca36c0cc98fdd28d9bfec2e324ffb99a56d5c9d6620e14534a7182bed97"
        );
    }

    #[test]
    fn a_small_layer_asks_for_a_small_window() {
        // RFC 8878, 3.1.1.1: bit 5 of the descriptor byte says that the window is the content's size.
        let frame = encode(&tar(8000), Zstd::default(), 2);
        assert_eq!(frame[4] & 0x20, 0x20);
    }

    #[test]
    fn settings_are_read_as_they_are_written() {
        assert_eq!("zstd".parse(), Ok(Zstd::default()));
        assert_eq!("zstd:3".parse(), Ok(Zstd { level: 3, window: 24 }));
        assert_eq!("zstd:19,window=27".parse(), Ok(Zstd { level: 19, window: 27 }));
        let zstd = Zstd { level: 5, window: 20 };
        assert_eq!(zstd.to_string().parse(), Ok(zstd));
        for bad in ["", "gzip", "zstd:", "zstd:0", "zstd:20", "zstd:9,window=28", "zstd:9,x=1", "zstd9"] {
            assert!(bad.parse::<Zstd>().is_err(), "{bad:?} was accepted");
        }
    }
}
