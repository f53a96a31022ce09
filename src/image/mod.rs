//! The nouns: pure values of the OCI image format, no input or output.

mod chain;
mod config;
mod descriptor;
mod digest;
pub(crate) mod graph;
pub(crate) mod json;
mod manifest;
mod media_type;
mod names;
mod platform;
mod reference;

pub use chain::chain_ids;
pub use config::ImageConfig;
pub(crate) use descriptor::length;
pub use descriptor::{Child, Descriptor};
pub use digest::{Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub(crate) use graph::Listed;
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, LayerType, MediaKind, MediaType, kind};
pub(crate) use media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, is_oci};
pub use names::Names;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

pub use crate::limits::{
    CONFIG as MAX_CONFIG, INDEX_DEPTH as MAX_INDEX_DEPTH, LAYERS as MAX_LAYERS, MANIFEST as MAX_MANIFEST,
};
