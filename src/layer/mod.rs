//! Layers as bytes: decoding them to their tar, and encoding them anew.

mod decode;
mod encode;

pub(crate) use decode::MAX_WINDOW;
pub use decode::{Decoded, check, decode};
pub use encode::{Zstd, ZstdError, recompress};

/// Bytes that are moved at a time.
const CHUNK: usize = 256 << 10;
