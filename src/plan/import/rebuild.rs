//! Layers that a node makes itself, from one that it holds and a delta.

use std::collections::HashMap;

use super::{Held, ImportPlan, WantedImage, WantedLayer};
use crate::image::{Descriptor, Digest};
use crate::record::Delta;

/// A layer to rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// The delta on the medium.
    pub delta: Delta,
    /// Blobs of the node that decode to its base, as labels or the medium say; not proven.
    pub bases: Vec<Descriptor>,
}

/// A layer that the node lacks and the medium does not have: it was left out, or the node has none of the
/// bases from which it could be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoBase {
    /// The names of the image.
    pub image: String,
    /// The original of the image.
    pub original: Digest,
    /// The layer.
    pub diff_id: Digest,
    /// The layers that it can be rebuilt from; none where it was left out.
    pub bases: Vec<Digest>,
    /// A blob of the node that would hold it, where it was left out, but is damaged.
    pub damaged: Option<Digest>,
}

impl WantedLayer {
    /// Whether the medium has no encoding of it, only deltas.
    pub fn is_delta(&self) -> bool {
        self.carried.digest == self.diff_id && !self.deltas.is_empty()
    }

    /// How to make it from what the node holds; `None` if it lacks every base.
    pub(super) fn rebuild(&self, held: &HashMap<Digest, Vec<Descriptor>>) -> Option<Rebuild> {
        self.deltas.iter().find_map(|delta| {
            let bases = held.get(&delta.base).filter(|bases| !bases.is_empty())?;
            Some(Rebuild { delta: delta.clone(), bases: bases.clone() })
        })
    }

    pub(super) fn no_base(&self, image: &WantedImage, held: &Held) -> NoBase {
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        let bases = self.deltas.iter().map(|delta| delta.base).collect();
        let mut blobs = [&self.carried].into_iter().chain(&self.others).map(|blob| blob.digest);
        let damaged = blobs.find(|blob| held.damaged.contains(blob));
        NoBase {
            image: names.join(" "),
            original: image.original.digest,
            diff_id: self.diff_id,
            bases,
            damaged,
        }
    }
}

impl ImportPlan {
    /// The layers to rebuild, with the bytes of their tars.
    pub fn rebuilds(&self) -> impl Iterator<Item = (&Rebuild, u64)> {
        self.sends.iter().filter_map(|send| Some((send.rebuild.as_deref()?, send.blob.size)))
    }

    /// Bytes of scratch files: one layer is rebuilt at a time, while two others that are done are sent.
    pub fn scratch_bytes(&self) -> u64 {
        let work = self.rebuilds().map(|(rebuild, size)| rebuild.delta.base_size + size).max();
        let mut tars: Vec<u64> = self.rebuilds().map(|(_, size)| size).collect();
        tars.sort_unstable_by(|a, b| b.cmp(a));
        work.unwrap_or(0) + tars.iter().take(2).sum::<u64>()
    }
}
