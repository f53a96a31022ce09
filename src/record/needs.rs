//! What an image needs: files of the medium, and what nodes must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{Basis, Delta, Image, Layer, Record, TopUp};
use crate::image::{Descriptor, Digest};

impl Record {
    /// What an image rests on; nothing where all of it is on the medium, or an older version exported it.
    pub fn rests_on(&self, image: &Image) -> &[Basis] {
        let top_up = self.top_ups.iter().find(|top_up| top_up.sequence == image.sequence);
        top_up.filter(|_| !self.is_whole(image)).map_or(&[], |top_up| &top_up.rests_on)
    }

    /// Notes what the newest export rests on, and forgets what no image rests on any more.
    pub fn note_basis(&mut self, rests_on: Vec<Basis>) {
        self.top_ups.push(TopUp { sequence: self.sequence, rests_on });
        let partial = self.images.iter().filter(|image| !self.is_whole(image));
        let needed: BTreeSet<u64> = partial.map(|image| image.sequence).collect();
        self.top_ups.retain(|top_up| needed.contains(&top_up.sequence) && !top_up.rests_on.is_empty());
    }

    /// Every blob and delta that each image needs, in the order of the images.
    pub fn needs(&self) -> Vec<BTreeSet<Digest>> {
        let files = |layer: &Layer| {
            let deltas = self.deltas_to(layer.diff_id).map(|delta| delta.digest);
            layer.encodings.iter().map(|encoding| encoding.digest).chain(deltas).collect()
        };
        let layers: BTreeMap<Digest, Vec<Digest>> =
            self.layers.iter().map(|layer| (layer.diff_id, files(layer))).collect();
        self.images.iter().map(|image| of(image, &layers)).collect()
    }

    /// Every blob and delta that the record names, to be opened; what a blob is does not matter for that.
    pub fn descriptors(&self) -> Vec<Descriptor> {
        let blobs = self.blobs.iter().map(|blob| Descriptor {
            media_type: Default::default(),
            digest: blob.digest,
            size: blob.size,
        });
        blobs.chain(self.deltas.iter().map(Delta::descriptor)).collect()
    }

    /// The digests of the same.
    pub fn named(&self) -> BTreeSet<Digest> {
        let blobs = self.blobs.iter().map(|blob| blob.digest);
        blobs.chain(self.deltas.iter().map(|delta| delta.digest)).collect()
    }
}

fn of(image: &Image, layers: &BTreeMap<Digest, Vec<Digest>>) -> BTreeSet<Digest> {
    let mut blobs = BTreeSet::from([image.original.digest, image.carried.digest]);
    for platform in &image.platforms {
        blobs.extend([platform.original.digest, platform.carried.digest, platform.config.digest]);
        blobs.extend(platform.diff_ids.iter().filter_map(|diff_id| layers.get(diff_id)).flatten());
    }
    for referrer in &image.referrers {
        blobs.insert(referrer.descriptor.digest);
        blobs.extend(referrer.blobs.iter().map(|blob| blob.digest));
    }
    blobs
}
