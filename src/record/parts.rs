//! A blob that is longer than a file on the medium may be.

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// A blob that is carried in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// The blob.
    pub digest: Digest,
    /// Bytes of each part but the last.
    pub size: u64,
}
