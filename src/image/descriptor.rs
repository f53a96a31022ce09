//! Descriptors: what a blob is, how long, and under which digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;

use super::platform::Loose;
use super::{Digest, LayerType, MediaKind, MediaType, Platform, kind};

/// Names one blob: media type, digest and size in bytes (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type, as the document that lists the blob gives it.
    pub media_type: MediaType,
    /// The digest of the blob's bytes.
    pub digest: Digest,
    /// The blob's length in bytes.
    #[serde(deserialize_with = "length")]
    pub size: u64,
}

impl Descriptor {
    /// Describes `bytes` as a blob of `media_type`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.into(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    /// The same blob as an OCI manifest lists it, where it is a layer; Docker's types become OCI's.
    pub fn as_oci_layer(&self) -> Self {
        let mut layer = self.clone();
        if let MediaKind::Layer(LayerType::Tar(compression)) = kind(&self.media_type) {
            layer.media_type = compression.oci_layer_type().into();
        }
        layer
    }
}

/// An entry of an index or a manifest: a descriptor and what is said about it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Child {
    /// The blob.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The platform a manifest is for; given in indexes only, and optional there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "Loose::read")]
    pub platform: Option<Platform>,
    /// Annotations on this entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Other places of the blob. Never fetched from; a layer that has some is foreign.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
}

/// A length in bytes, of at most [`limits::BLOB`]: sums of lengths are not checked for overflow.
pub(crate) fn length<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let length = u64::deserialize(deserializer)?;
    if length > limits::BLOB {
        return Err(serde::de::Error::custom(format_args!("{length} bytes are more than a blob may have")));
    }
    Ok(length)
}

/// Go writes an absent map or list as `null` where `omitempty` was forgotten.
pub(super) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
