//! Deltas on the medium: files beside the layout, since no other tool could do anything with them.
//!
//! An OCI artifact was the other choice. It would list a blob that only Pannier can use, under a
//! manifest that only Pannier looks for, in an `index.json` that other tools copy from; and the
//! record lists each delta with its digest anyway.

use super::{Medium, durable};
use crate::error::Result;
use crate::image::{Descriptor, Digest};
use crate::record::{DELTA, Delta};

pub(super) const DIRECTORY: &str = ".pannier/deltas";

/// The name of the file of `blob` if it is a delta.
pub(super) fn file_name(blob: &Descriptor) -> Option<String> {
    (blob.media_type == DELTA).then(|| path(&blob.digest))
}

pub(super) fn path(digest: &Digest) -> String {
    format!("{DIRECTORY}/{}", digest.hex())
}

impl Medium {
    /// Writes the patch of a delta; nothing is done if it is there.
    pub fn write_delta(&self, patch: &[u8]) -> Result<Descriptor> {
        let blob = Descriptor::of(DELTA, patch);
        durable::make_directory(&self.root, DIRECTORY)?;
        self.place(&blob.digest, patch, &path(&blob.digest))?;
        Ok(blob)
    }

    /// The names of all files in the directory of deltas.
    pub fn delta_names(&self) -> Result<Vec<String>> {
        self.root.list(DIRECTORY)
    }

    /// Whether the file of a delta is there, in full length.
    pub fn has_delta(&self, delta: &Delta) -> Result<bool> {
        Ok(self.root.size(&path(&delta.digest))? == Some(delta.size))
    }
}
