//! Layers as bytes: decoding them to their tar, encoding them anew, and as what differs from another.

mod compare;
mod decode;
pub mod delta;
mod encode;
mod growing;
pub mod gzip;
mod meter;
mod piped;
mod scratch;

pub(crate) use compare::{Applied, compare};
pub(crate) use decode::{Counted, MAX_WINDOW};
pub use decode::{Decoded, Most, check, decode};
pub use encode::{Zstd, ZstdError, recompress, workers};
pub(crate) use meter::Meter;
pub(crate) use piped::with_tar;
pub use scratch::{Scratch, scratch_directory};

/// Bytes that are moved at a time.
const CHUNK: usize = 256 << 10;
