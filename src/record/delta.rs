//! A layer that is carried as what differs from another one.

use serde::{Deserialize, Serialize};

use crate::image::{Compression, Descriptor, Digest, length};
use crate::limits::{DELTA as MAX_PATCH, DELTA_TAR as MAX_TAR};

/// The media type by which a descriptor says that its bytes are a delta, and so where they are.
pub const DELTA: &str = "application/vnd.pannier.delta.v1+zstd";

/// A layer that is carried as what differs from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    /// The layer that it leads to.
    pub diff_id: Digest,
    /// The layer that it starts from, by its diff_id.
    pub base: Digest,
    /// Bytes of the base's tar.
    #[serde(deserialize_with = "length")]
    pub base_size: u64,
    /// Blobs that are known to decode to the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_blobs: Vec<Descriptor>,
    /// The digest of the patch, which is also the name of its file.
    pub digest: Digest,
    /// Bytes of the patch.
    #[serde(deserialize_with = "length")]
    pub size: u64,
    /// The base-2 logarithm of the zstd window that it was made with.
    pub window: u32,
}

impl Delta {
    /// The patch as a blob, to be opened as any other.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { media_type: DELTA.into(), digest: self.digest, size: self.size }
    }

    /// What a node is to make of it: the plain tar of `size` bytes. Manifests on the medium list the
    /// layer so.
    pub fn result(&self, size: u64) -> Descriptor {
        let media_type = Compression::None.oci_layer_type().into();
        Descriptor { media_type, digest: self.diff_id, size }
    }

    /// Why a node would not apply it to get `size` bytes, going by its figures alone.
    pub fn refused(&self, size: u64) -> Option<&'static str> {
        match () {
            () if self.size > MAX_PATCH => Some("its patch is larger than 256 MiB"),
            () if self.base_size.max(size) > MAX_TAR => Some("base or result are larger than 2 GiB"),
            () if self.base == self.diff_id => Some("it starts from the layer that it leads to"),
            () => None,
        }
    }
}
