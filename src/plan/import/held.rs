//! What is wanted of a medium, and what a node holds: the two sides that an import's plan compares.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{LayerVerdict, Send};
use crate::image::{Descriptor, Digest, Names, Platform, chain_ids};
use crate::record::Delta;

/// One platform of an image on the medium, read and proven.
#[derive(Clone, Debug)]
pub struct WantedImage {
    /// The names it is carried under.
    pub names: Names,
    /// The export that carried it.
    pub sequence: u64,
    /// Its platform.
    pub platform: Platform,
    /// The index or manifest that the source had.
    pub original: Descriptor,
    /// The source's manifest for this platform.
    pub original_manifest: Descriptor,
    /// The indexes between the two, outermost first; `None` where containerd on the node would come from the
    /// original to another manifest.
    pub way: Option<Vec<Descriptor>>,
    /// The layers as the source's manifest lists them.
    pub original_layers: Vec<Descriptor>,
    /// The manifest that lists the layers as they are on the medium.
    pub carried_manifest: Descriptor,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<WantedLayer>,
}

/// A layer of a wanted image.
#[derive(Clone, Debug)]
pub struct WantedLayer {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub size: u64,
    /// The blob on the medium.
    pub carried: Descriptor,
    /// Other blobs known to decode to the same tar.
    pub others: Vec<Descriptor>,
    /// Deltas on the medium that lead to it.
    pub deltas: Vec<Delta>,
    /// It is not on the medium, since the nodes that it was made for hold it.
    pub left_out: bool,
}

/// What the node holds, as far as an import asks.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Blobs that can be read, with their sizes.
    pub blobs: HashMap<Digest, u64>,
    /// Blobs that containerd lists but that were found damaged, or whose file is gone.
    pub damaged: HashSet<Digest>,
    /// Blobs that do not decode to the layer which they were said to: the layer, the blob.
    pub disproved: HashSet<(Digest, Digest)>,
    /// Layer blobs by the diff_id they were proven to decode to.
    pub encodings: HashMap<Digest, Vec<Descriptor>>,
    /// Blobs that may decode to bases of deltas, by their diff_id; not proven.
    pub bases: HashMap<Digest, Vec<Descriptor>>,
    /// The chain_ids that are unpacked, for each snapshotter in use, the default one first.
    pub chains: Vec<(String, HashSet<Digest>)>,
    /// Names and what they stand for.
    pub names: HashMap<String, HeldName>,
    /// A layer that is unpacked where an image wants it need not be there as a blob.
    pub takes_unpacked: bool,
    /// Snapshots that make way for new ones, what stands on others coming first; `chains` does not have them.
    pub stale: Vec<StaleSnapshot>,
    /// Damaged snapshots that cannot be made anew.
    pub stuck: Vec<StuckSnapshot>,
    /// CRI is there, and keeps a record of its own for each image, named by the image's id.
    pub cri: bool,
}

/// A snapshot that is removed before its layer is unpacked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleSnapshot {
    /// The snapshotter.
    pub snapshotter: String,
    /// Its chain_id.
    pub name: String,
}

/// A damaged snapshot that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckSnapshot {
    /// The snapshotter.
    pub snapshotter: String,
    /// The layer.
    pub diff_id: Digest,
    /// The snapshot.
    pub chain_id: Digest,
    /// What is wrong with it.
    pub fault: String,
    /// The containers that stand on it.
    pub users: Vec<String>,
    /// How many layers of images that are not imported stand on it.
    pub others: usize,
}

/// A name on the node.
#[derive(Clone, Debug)]
pub struct HeldName {
    /// What it points at.
    pub target: Descriptor,
    /// The manifest that this comes down to on the node's platform; `None` when it is not there.
    pub manifest: Option<Arc<HeldManifest>>,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// A manifest on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldManifest {
    /// The manifest.
    pub manifest: Descriptor,
    /// The digest of its config.
    pub config: Digest,
    /// Its layers.
    pub layers: Vec<Descriptor>,
    /// It was pulled by a containerd that throws layers away once they are unpacked
    /// (`discard_unpacked_layers`): there, absent layers are as they should be.
    pub discards_layers: bool,
}

impl WantedImage {
    /// The names with a tag as containerd records them.
    pub(super) fn tagged(&self) -> impl Iterator<Item = String> + '_ {
        self.names.iter().filter_map(|name| Some(format!("{}:{}", name.repository(), name.tag()?)))
    }

    /// The names that the image may have on a node, as far as that does not depend on the node.
    pub fn known_names(&self) -> impl Iterator<Item = String> + '_ {
        let documents = [&self.carried_manifest, &self.original, &self.original_manifest];
        self.tagged().chain(documents.into_iter().flat_map(|document| self.names_of(document)))
    }

    /// Its names by the digest of `document`.
    pub fn names_of(&self, document: &Descriptor) -> impl Iterator<Item = String> + use<'_> {
        let digest = document.digest;
        self.names.iter().map(move |name| name.with_digest(digest).to_string())
    }

    /// Every blob that it may consist of on a node, or be made from, as far as the medium knows.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let documents = [&self.config, &self.original, &self.original_manifest, &self.carried_manifest];
        let layers = self.layers.iter().flat_map(|layer| {
            let bases = layer
                .deltas
                .iter()
                .flat_map(|delta| delta.base_blobs.iter().map(|b| b.digest).chain([delta.base]));
            [layer.carried.digest]
                .into_iter()
                .chain(layer.others.iter().map(|other| other.digest))
                .chain(bases)
        });
        documents.into_iter().chain(self.indexes()).map(|document| document.digest).chain(layers)
    }

    /// The chain_ids of its layers, bottom first.
    pub fn chain(&self) -> Vec<Digest> {
        chain_ids(&self.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>())
    }
}

impl WantedLayer {
    /// Whether the export saw that `blob` holds the layer: it is on the medium, or the tar itself.
    pub fn is_proven(&self, blob: &Descriptor) -> bool {
        blob.digest == self.diff_id || (blob.digest == self.carried.digest && !self.left_out)
    }
}

impl Held {
    pub(super) fn send(&self, blob: &Descriptor, bytes: Option<Vec<u8>>) -> Send {
        let replaces = self.damaged.contains(&blob.digest);
        Send { blob: blob.clone(), bytes, rebuild: None, replaces, layer: false, tar: None }
    }

    pub(super) fn holds(&self, blob: &Descriptor) -> bool {
        self.blobs.get(&blob.digest) == Some(&blob.size)
    }

    /// Whether a blob is there that holds a layer.
    pub(crate) fn holds_layer(&self, diff_id: &Digest, blob: &Descriptor) -> bool {
        self.holds(blob) && !self.disproved.contains(&(*diff_id, blob.digest))
    }

    pub(super) fn is_unpacked(&self, chain_id: &Digest) -> bool {
        !self.chains.is_empty() && self.chains.iter().all(|(_, there)| there.contains(chain_id))
    }

    /// The node's own manifest of an image, if nothing of it is missing; it stays what the names point at.
    ///
    /// One whose layers are all there comes first. Where none is, one of which containerd discarded them after
    /// it unpacked them is as good, unless the node keeps the layers of another one: then some were lost.
    #[allow(clippy::type_complexity)]
    pub(super) fn kept(
        &self,
        wanted: &WantedImage,
        chain: &[Digest],
    ) -> Option<(Descriptor, Vec<(Descriptor, LayerVerdict)>)> {
        let originals = [&wanted.original, &wanted.original_manifest];
        let digests = originals.into_iter().flat_map(|document| wanted.names_of(document));
        let names: Vec<String> = wanted.tagged().chain(digests).collect();
        let known = names.iter().filter_map(|name| self.names.get(name)?.manifest.as_deref());
        let found: Vec<&HeldManifest> =
            known.filter(|manifest| manifest.config == wanted.config.digest).collect();
        if let Some(kept) = found.iter().find_map(|manifest| self.complete(manifest, wanted, false)) {
            return Some(kept);
        }
        let all_held = wanted.layers.iter().all(|layer| self.holds_any(layer));
        let keeps = self.names.values().filter_map(|name| name.manifest.as_deref());
        let keeps = { keeps }.any(|held| held.config == wanted.config.digest && !held.discards_layers);
        let unpacked = chain.last().is_none_or(|chain_id| self.is_unpacked(chain_id));
        if all_held || keeps || !unpacked {
            return None;
        }
        let mut discarded = found.iter().filter(|manifest| manifest.discards_layers);
        discarded.find_map(|manifest| self.complete(manifest, wanted, true))
    }

    /// Whether a blob is there that holds this layer.
    fn holds_any(&self, layer: &WantedLayer) -> bool {
        let labelled = self.encodings.get(&layer.diff_id).into_iter().flatten();
        let mut blobs = [&layer.carried].into_iter().chain(&layer.others).chain(labelled);
        blobs.any(|blob| self.holds_layer(&layer.diff_id, blob))
    }

    #[allow(clippy::type_complexity)]
    fn complete(
        &self,
        manifest: &HeldManifest,
        wanted: &WantedImage,
        discarded: bool,
    ) -> Option<(Descriptor, Vec<(Descriptor, LayerVerdict)>)> {
        if manifest.layers.len() != wanted.layers.len() {
            return None;
        }
        let verdict = |(layer, wanted): (&Descriptor, &WantedLayer)| {
            let verdict = match self.holds_layer(&wanted.diff_id, layer) {
                true if layer.digest == wanted.carried.digest => LayerVerdict::Present,
                true => LayerVerdict::HeldOtherwise,
                false if discarded => LayerVerdict::Discarded,
                false => return None,
            };
            Some((layer.clone(), verdict))
        };
        let layers = manifest.layers.iter().zip(&wanted.layers).map(verdict).collect::<Option<Vec<_>>>()?;
        Some((manifest.manifest.clone(), layers))
    }

    /// Whether a manifest of the node keeps no layers.
    pub(super) fn discards(&self, manifest: &Digest) -> bool {
        let mut manifests = self.names.values().filter_map(|name| name.manifest.as_deref());
        manifests.any(|held| held.manifest.digest == *manifest && held.discards_layers)
    }

    /// Whether CRI's own record of an image lacks the pin: an import was cut off before it set that.
    pub(super) fn lacks_own_pin(&self, config: Digest) -> bool {
        self.cri && self.names.get(&config.to_string()).is_none_or(|record| !record.pinned)
    }
}
