//! The nouns: pure values of the OCI image format, no input or output.

mod chain;
mod config;
mod descriptor;
mod digest;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use chain::chain_ids;
pub use config::ImageConfig;
pub use descriptor::{Child, Descriptor};
pub use digest::{Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, LayerType, MediaKind, kind};
pub(crate) use media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, is_oci};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

/// Largest manifest or index that is read, in bytes.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest image config that is read, in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Most layers that one manifest may list.
pub const MAX_LAYERS: usize = 512;
/// Deepest nesting of indexes that is followed.
pub const MAX_INDEX_DEPTH: usize = 4;
