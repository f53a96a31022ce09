//! What the newest prune took off a medium.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// What the newest prune took away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Names of images and files that it dropped.
    pub names: BTreeSet<String>,
    /// Blobs and deltas that were Pannier's and are deleted, unless a record names them again.
    pub blobs: BTreeSet<Digest>,
}
