//! What an import does: for each image on the medium, what of it the node lacks.
//!
//! Pure: from what is wanted and what is held to a value that says it all. A layer is held when any
//! encoding of its diff_id is, so a node that pulled an image is sent nothing of it but names.

mod held;
mod names;
mod order;
mod platforms;
pub mod prune;
mod rebuild;
mod totals;

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::plan::carried_manifest;

pub use held::{Held, HeldManifest, HeldName, StaleSnapshot, StuckSnapshot, WantedImage, WantedLayer};
pub use names::{Moved, NameVerdict, PlannedName, document_labels, entry_taken};
pub use order::{Order, Step};
pub use platforms::runs_on;
pub use rebuild::{NoBase, Rebuild};
pub use totals::Totals;

/// What is asked of an import.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// Unpack layers, not only send them.
    pub unpack: bool,
    /// Pin what is named.
    pub pin: bool,
    /// Keep no layers once they are unpacked.
    pub discard: bool,
}

/// What an import will do.
#[derive(Clone, Debug)]
pub struct ImportPlan {
    /// The images in their order on the medium.
    pub images: Vec<ImagePlan>,
    /// Blobs to send, each once: those of the largest images first, and of each image together, so that
    /// it is complete early.
    pub sends: Vec<Send>,
    /// Layers to unpack, each chain once; a parent comes before what stands on it.
    pub unpacks: Vec<Unpack>,
    /// Damaged snapshots that are removed first, so that their layers are unpacked anew.
    pub stale: Vec<StaleSnapshot>,
    /// Damaged snapshots that stay, since they are in use.
    pub stuck: Vec<StuckSnapshot>,
    /// Layers that the node lacks and cannot rebuild: with any, the plan cannot be carried out.
    pub no_bases: Vec<NoBase>,
}

/// What becomes of one image.
#[derive(Clone, Debug)]
pub struct ImagePlan {
    /// The image.
    pub wanted: WantedImage,
    /// The single manifest that its names will point at.
    pub target: Descriptor,
    /// Whose manifest that is.
    pub lists: Lists,
    /// The layers as that manifest lists them, and what has to be done about each.
    pub layers: Vec<(Descriptor, LayerVerdict)>,
    /// Its names and what has to be done about each.
    pub names: Vec<PlannedName>,
    /// CRI's own record of it is still to be pinned.
    pub pins_own: bool,
    /// The chain_ids of its layers, bottom first.
    pub chain: Vec<Digest>,
    /// All of them are unpacked once the plan is carried out.
    pub unpacked: bool,
    /// Its layers are not kept once they are unpacked.
    pub discards: bool,
    /// The node has all of it, names included: nothing is done for it.
    pub is_done: bool,
}

/// Whose encodings the node's manifest of an image lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lists {
    /// The node has the image already, under this manifest: it stays.
    Kept,
    /// The source's: the node has its layers as the source had them.
    Original,
    /// The medium's.
    Carried,
    /// Some of one, some of the other; these are the manifest's bytes.
    Mixed(Vec<u8>),
}

/// What is done about a layer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerVerdict {
    /// The node has the medium's blob.
    Present,
    /// The node has the layer in another encoding.
    HeldOtherwise,
    /// The node has it unpacked, and its containerd discards layers after that.
    Discarded,
    /// The node has the layer in no encoding.
    Send,
    /// The node's blob is damaged.
    Replace,
    /// The node makes it from a layer that it holds and a delta.
    Rebuild,
    /// The medium was made for nodes that hold it, and this one does not.
    Missing,
}

impl LayerVerdict {
    /// Whether the node has the layer, in whatever form.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Present | Self::HeldOtherwise | Self::Discarded)
    }
}

/// A blob to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The blob.
    pub blob: Descriptor,
    /// Bytes that are not on the medium: a manifest made for this node.
    pub bytes: Option<Vec<u8>>,
    /// How it is made, where the medium has only a delta that leads to it.
    pub rebuild: Option<Box<Rebuild>>,
    /// It stands in for one that is damaged.
    pub replaces: bool,
    /// It is a layer.
    pub layer: bool,
    /// Bytes of the tar that it decodes to, as the medium's record has it: of a layer.
    pub tar: Option<u64>,
}

/// A layer to unpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// The snapshotter.
    pub snapshotter: String,
    /// The name of the result.
    pub chain_id: Digest,
    /// What it stands on.
    pub parent: Option<Digest>,
    /// The layer as the node has it.
    pub layer: Descriptor,
    /// What it must decode to.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub size: u64,
}

impl ImportPlan {
    /// Compares what is wanted with what is held.
    ///
    /// `originals` are the bytes of the manifests that [`WantedImage::mixes`] asks for, by digest.
    pub fn new(
        wanted: Vec<WantedImage>,
        held: &Held,
        choices: Choices,
        originals: &HashMap<Digest, Vec<u8>>,
    ) -> Result<Self> {
        let images: Result<Vec<_>> =
            wanted.into_iter().map(|image| ImagePlan::new(image, held, choices, originals)).collect();
        let mut plan = Self {
            images: images?,
            sends: Vec::new(),
            unpacks: Vec::new(),
            stale: held.stale.clone(),
            stuck: held.stuck.clone(),
            no_bases: Vec::new(),
        };
        let mut sent = HashSet::new();
        let mut unpacked = HashSet::new();
        for at in order::longest_first(&plan.images, held) {
            let image = &mut plan.images[at];
            for ((layer, verdict), wanted) in image.layers.iter().zip(&image.wanted.layers) {
                if *verdict == LayerVerdict::Missing {
                    plan.no_bases.push(wanted.no_base(&image.wanted, held));
                }
                let sends =
                    matches!(verdict, LayerVerdict::Send | LayerVerdict::Replace | LayerVerdict::Rebuild);
                if !sends || !sent.insert(layer.digest) {
                    continue;
                }
                let rebuild = match verdict {
                    LayerVerdict::Rebuild => wanted.rebuild(&held.bases).map(Box::new),
                    _ => None,
                };
                if *verdict == LayerVerdict::Rebuild && rebuild.is_none() {
                    plan.no_bases.push(wanted.no_base(&image.wanted, held));
                }
                let tar = Some(wanted.size);
                plan.sends.push(Send { layer: true, tar, rebuild, ..held.send(layer, None) });
            }
            for blob in image.documents() {
                if !held.blobs.contains_key(&blob.digest) && sent.insert(blob.digest) {
                    plan.sends.push(held.send(blob, image.made(blob)));
                }
            }
            let steps: Vec<Unpack> = image.unpacks(held).filter(|_| choices.unpack).collect();
            image.is_done = steps.is_empty() && image.is_named() && image.is_there(held);
            for step in steps {
                if unpacked.insert((step.snapshotter.clone(), step.chain_id)) {
                    plan.unpacks.push(step);
                }
            }
        }
        Ok(plan)
    }

    /// Whether the node has everything, names included.
    pub fn is_done(&self) -> bool {
        self.images.iter().all(|image| image.is_done)
    }
}

impl ImagePlan {
    fn new(
        wanted: WantedImage,
        held: &Held,
        choices: Choices,
        originals: &HashMap<Digest, Vec<u8>>,
    ) -> Result<Self> {
        let chain = wanted.chain();
        let (target, lists, layers) = match held.kept(&wanted, &chain) {
            Some((manifest, layers)) => (manifest, Lists::Kept, layers),
            None => choose_manifest(&wanted, held, originals)?,
        };
        let unpacked = choices.unpack || chain.last().is_some_and(|top| held.is_unpacked(top));
        let names = wanted.plan_names(&target, held, unpacked, choices.pin);
        let pins_own = choices.pin && held.lacks_own_pin(wanted.config.digest);
        let discards = choices.discard && unpacked;
        Ok(Self { target, lists, layers, names, pins_own, chain, unpacked, discards, is_done: false, wanted })
    }

    /// Whether all names are as they should be.
    pub fn is_named(&self) -> bool {
        !self.pins_own && self.names.iter().all(|name| name.verdict == NameVerdict::Present)
    }

    /// Whether every blob of it is there.
    fn is_there(&self, held: &Held) -> bool {
        (!self.discards || held.discards(&self.target.digest))
            && self.layers.iter().all(|(_, verdict)| verdict.is_there())
            && self.documents().all(|blob| held.blobs.contains_key(&blob.digest))
    }

    /// How many names have to be made or moved.
    pub fn names_to_make(&self) -> usize {
        self.names.iter().filter(|name| name.verdict.makes()).count()
    }

    /// Config, target and the proof of where it came from; children before parents.
    pub fn documents(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.wanted.config).chain(self.proof()).chain([&self.target])
    }

    /// The bytes of a document that is not on the medium: a manifest made for this node.
    fn made(&self, document: &Descriptor) -> Option<Vec<u8>> {
        match &self.lists {
            Lists::Mixed(bytes) if document.digest == self.target.digest => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The source's own manifest and indexes, except where the target is the same; children before parents.
    pub fn proof(&self) -> impl Iterator<Item = &Descriptor> {
        let indexes: Vec<&Descriptor> = self.wanted.indexes().collect();
        let documents = [&self.wanted.original_manifest].into_iter().chain(indexes.into_iter().rev());
        documents.filter(|document| document.digest != self.target.digest)
    }

    fn unpacks<'a>(&'a self, held: &'a Held) -> impl Iterator<Item = Unpack> + 'a {
        held.chains.iter().flat_map(move |(snapshotter, there)| {
            // A chain stands on all below it: nothing under the highest that is there is asked for.
            let from =
                self.chain.iter().rposition(|chain_id| there.contains(chain_id)).map_or(0, |at| at + 1);
            (from..self.chain.len()).map(move |at| Unpack {
                snapshotter: snapshotter.clone(),
                chain_id: self.chain[at],
                parent: at.checked_sub(1).map(|below| self.chain[below]),
                layer: self.layers[at].0.clone(),
                diff_id: self.wanted.layers[at].diff_id,
                size: self.wanted.layers[at].size,
            })
        })
    }
}

impl WantedImage {
    /// The source's manifest, if the node will have one made from it: it holds layers in several encodings.
    pub fn mixes(&self, held: &Held) -> Option<&Descriptor> {
        let (lists, _) = choose_layers(self, held);
        lists.is_none().then_some(&self.original_manifest)
    }
}

/// The manifest that the node will have, and the layers as it lists them.
#[allow(clippy::type_complexity)]
fn choose_manifest(
    wanted: &WantedImage,
    held: &Held,
    originals: &HashMap<Digest, Vec<u8>>,
) -> Result<(Descriptor, Lists, Vec<(Descriptor, LayerVerdict)>)> {
    let original = &wanted.original_manifest;
    let (lists, layers) = choose_layers(wanted, held);
    match lists {
        Some(Lists::Original) => Ok((original.clone(), Lists::Original, layers)),
        Some(lists) => Ok((wanted.carried_manifest.clone(), lists, layers)),
        None => {
            let invalid =
                |reason| Error::invalid(Side::Medium, format!("manifest {}", original.digest), reason);
            let bytes = originals
                .get(&original.digest)
                .ok_or_else(|| invalid("it was not read before the plan was made".to_owned()))?;
            let chosen: Vec<Descriptor> = layers.iter().map(|(layer, _)| layer.clone()).collect();
            let made = carried_manifest(original, bytes, &chosen).map_err(invalid)?;
            let target = Descriptor::of(&wanted.carried_manifest.media_type, &made);
            Ok((target, Lists::Mixed(made), layers))
        }
    }
}

/// The encoding of each layer that the node's manifest will list, and whose manifest lists just those.
fn choose_layers(wanted: &WantedImage, held: &Held) -> (Option<Lists>, Vec<(Descriptor, LayerVerdict)>) {
    let originals = &wanted.original_layers;
    let pairs = originals.iter().zip(&wanted.layers);
    let all_original = originals.len() == wanted.layers.len() && { pairs }
        .all(|(blob, layer)| held.holds_layer(&layer.diff_id, blob));
    let all_carried = wanted.layers.iter().all(|layer| held.holds_layer(&layer.diff_id, &layer.carried));
    if all_original && !all_carried {
        let layers = originals.iter().map(|layer| (layer.clone(), LayerVerdict::HeldOtherwise)).collect();
        return (Some(Lists::Original), layers);
    }
    let chain = wanted.chain();
    let chosen = wanted.layers.iter().zip(&chain);
    let layers: Vec<_> = chosen.map(|(layer, chain_id)| choose_encoding(layer, chain_id, held)).collect();
    let mut pairs = layers.iter().zip(&wanted.layers);
    let all_carried = pairs.all(|((chosen, _), layer)| chosen.digest == layer.carried.digest);
    (all_carried.then_some(Lists::Carried), layers)
}

/// The medium's blob if the node has it, else any encoding that the node has, else the medium's.
///
/// A layer that is unpacked already is not sent where the medium cannot give it, or none is to be kept.
fn choose_encoding(layer: &WantedLayer, chain_id: &Digest, held: &Held) -> (Descriptor, LayerVerdict) {
    let holds = |blob: &Descriptor| held.holds_layer(&layer.diff_id, blob);
    if holds(&layer.carried) {
        return (layer.carried.clone(), LayerVerdict::Present);
    }
    let labelled = held.encodings.get(&layer.diff_id).into_iter().flatten();
    if let Some(other) = layer.others.iter().chain(labelled).find(|other| holds(other)) {
        return (other.as_oci_layer(), LayerVerdict::HeldOtherwise);
    }
    let unpacked = held.is_unpacked(chain_id);
    let no_base = layer.is_delta() && layer.rebuild(&held.bases).is_none();
    // One that is there and damaged is not taken for one that was discarded.
    let is_damaged =
        [&layer.carried].into_iter().chain(&layer.others).any(|blob| held.damaged.contains(&blob.digest));
    if unpacked && !is_damaged && (held.takes_unpacked || layer.left_out || no_base) {
        return (layer.carried.clone(), LayerVerdict::Discarded);
    }
    if layer.is_delta() {
        return (layer.carried.clone(), LayerVerdict::Rebuild);
    }
    if layer.left_out {
        return (layer.carried.clone(), LayerVerdict::Missing);
    }
    let damaged = held.damaged.contains(&layer.carried.digest);
    (layer.carried.clone(), if damaged { LayerVerdict::Replace } else { LayerVerdict::Send })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Compression, Document, OCI_CONFIG, OCI_MANIFEST};

    pub(super) const PINNED: Choices = Choices { unpack: true, pin: true, discard: false };

    fn gzip(tar: &str) -> Descriptor {
        Descriptor::of(Compression::Gzip.oci_layer_type(), format!("gzip of {tar}").as_bytes())
    }

    fn zstd(tar: &str) -> Descriptor {
        Descriptor::of(Compression::Zstd.oci_layer_type(), format!("zstd of {tar}").as_bytes())
    }

    fn manifest(config: &Descriptor, layers: &[Descriptor]) -> (Descriptor, Vec<u8>) {
        let value = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
        });
        let bytes = value.to_string().into_bytes();
        (Descriptor::of(OCI_MANIFEST, &bytes), bytes)
    }

    /// `app:1`, gzipped at its source, carried as zstd.
    pub(super) fn wanted(tars: &[&str]) -> WantedImage {
        let config = Descriptor::of(OCI_CONFIG, tars.join(" ").as_bytes());
        let originals: Vec<Descriptor> = tars.iter().map(|tar| gzip(tar)).collect();
        let carried: Vec<Descriptor> = tars.iter().map(|tar| zstd(tar)).collect();
        let original = manifest(&config, &originals);
        let made = carried_manifest(&original.0, &original.1, &carried).unwrap();
        let layer = |tar: &&str| WantedLayer {
            deltas: Vec::new(),
            diff_id: Digest::of(tar.as_bytes()),
            size: 100,
            carried: zstd(tar),
            others: vec![gzip(tar)],
            left_out: false,
        };
        WantedImage {
            names: ["app:1".parse().unwrap()].into(),
            sequence: 1,
            platform: "linux/amd64".parse().unwrap(),
            original: Descriptor::of(crate::image::OCI_INDEX, b"index"),
            way: Some(Vec::new()),
            original_layers: originals,
            original_manifest: original.0,
            carried_manifest: Descriptor::of(OCI_MANIFEST, &made),
            config,
            layers: tars.iter().map(layer).collect(),
        }
    }

    pub(super) fn empty() -> Held {
        Held { chains: vec![("overlayfs".into(), HashSet::new())], ..Held::default() }
    }

    fn with(blobs: impl IntoIterator<Item = Descriptor>) -> Held {
        Held { blobs: blobs.into_iter().map(|blob| (blob.digest, blob.size)).collect(), ..empty() }
    }

    pub(super) fn plan(image: WantedImage, held: &Held) -> ImportPlan {
        let originals = image.mixes(held).map(|original| {
            let (descriptor, bytes) = manifest(&image.config, &image.original_layers);
            assert_eq!(descriptor, *original);
            (descriptor.digest, bytes)
        });
        ImportPlan::new(vec![image.clone()], held, PINNED, &originals.into_iter().collect()).unwrap()
    }

    fn layers_sent(plan: &ImportPlan) -> Vec<Digest> {
        plan.sends.iter().filter(|send| send.layer).map(|send| send.blob.digest).collect()
    }

    /// What the node is like after the plan was carried out.
    pub(super) fn after(plan: &ImportPlan, held: &Held) -> Held {
        let mut held = held.clone();
        held.blobs.extend(plan.sends.iter().map(|send| (send.blob.digest, send.blob.size)));
        for step in &plan.unpacks {
            let (_, there) = held.chains.iter_mut().find(|(name, _)| *name == step.snapshotter).unwrap();
            assert!(step.parent.is_none_or(|parent| there.contains(&parent)), "a parent comes first");
            there.insert(step.chain_id);
        }
        for image in &plan.images {
            let manifest = HeldManifest {
                manifest: image.target.clone(),
                config: image.wanted.config.digest,
                layers: image.layers.iter().map(|(layer, _)| layer.clone()).collect(),
                discards_layers: false,
            };
            for name in &image.names {
                let original = HeldManifest {
                    manifest: image.wanted.original_manifest.clone(),
                    layers: image.wanted.original_layers.clone(),
                    discards_layers: true,
                    ..manifest.clone()
                };
                let is_target = name.target.digest == image.target.digest;
                let manifest = Some(if is_target { manifest.clone() } else { original }.into());
                let entry = HeldName { target: name.target.clone(), manifest, pinned: true };
                held.names.insert(name.name.clone(), entry);
            }
        }
        held
    }

    #[test]
    fn an_empty_node_is_sent_everything_once_and_then_nothing() {
        let first = plan(wanted(&["a", "b"]), &empty());
        assert_eq!(layers_sent(&first), [zstd("a").digest, zstd("b").digest]);
        assert_eq!((first.unpacks.len(), &first.images[0].lists), (2, &Lists::Carried));
        assert_eq!(first.images[0].names_to_make(), 4);
        let held = after(&first, &empty());
        assert!(plan(wanted(&["a", "b"]), &held).is_done());
    }

    #[test]
    fn an_image_is_not_done_before_the_record_that_cri_makes_of_it_is_pinned() {
        let image = wanted(&["a"]);
        let first = plan(image.clone(), &empty());
        let mut held = Held { cri: true, ..after(&first, &empty()) };
        let cut_off = plan(image.clone(), &held);
        assert!(!cut_off.is_done() && cut_off.sends.is_empty() && cut_off.images[0].names_to_make() == 0);
        let record = HeldName { target: image.config.clone(), manifest: None, pinned: true };
        held.names.insert(image.config.digest.to_string(), record);
        assert!(plan(image, &held).is_done());
    }

    #[test]
    fn layers_that_images_share_are_sent_and_unpacked_once() {
        let both = vec![wanted(&["a", "b"]), wanted(&["a", "c"])];
        let plan = ImportPlan::new(both, &empty(), PINNED, &HashMap::new()).unwrap();
        assert_eq!(layers_sent(&plan), [zstd("a"), zstd("b"), zstd("c")].map(|layer| layer.digest));
        assert_eq!(plan.unpacks.len(), 3);
    }

    #[test]
    fn an_image_that_is_there_is_done_whatever_another_needs() {
        let first = plan(wanted(&["a", "b"]), &empty());
        let held = after(&first, &empty());
        let plan = |held: &Held| {
            let both = vec![wanted(&["a", "b"]), wanted(&["a", "c"])];
            ImportPlan::new(both, held, PINNED, &HashMap::new()).unwrap()
        };
        let done = |plan: ImportPlan| plan.images.iter().map(|image| image.is_done).collect::<Vec<_>>();
        assert_eq!(done(plan(&held)), [true, false]);
        for lost in first.images[0].documents().map(|blob| blob.digest).chain([zstd("b").digest]) {
            let mut held = held.clone();
            held.blobs.remove(&lost);
            assert_eq!(done(plan(&held)), [false, false], "without {lost}");
        }
        let mut held = held.clone();
        held.chains[0].1.remove(&first.unpacks[1].chain_id);
        assert_eq!(done(plan(&held)), [false, false]);
    }

    #[test]
    fn a_node_that_has_the_originals_is_sent_no_layer_and_keeps_its_manifest() {
        let image = wanted(&["a", "b"]);
        let mut held = with([gzip("a"), gzip("b"), image.config.clone()]);
        let plan = plan(image.clone(), &held);
        assert!(layers_sent(&plan).is_empty());
        assert_eq!(plan.images[0].lists, Lists::Original);
        assert_eq!(plan.images[0].target, image.original_manifest);
        // Under the name of an index the same: the record's own target stays.
        let manifest = HeldManifest {
            manifest: image.original_manifest.clone(),
            config: image.config.digest,
            layers: vec![gzip("a"), gzip("b")],
            discards_layers: false,
        };
        let name =
            HeldName { target: image.original.clone(), manifest: Some(manifest.into()), pinned: false };
        held.names.insert("docker.io/library/app:1".into(), name);
        let plan = self::plan(image, &held);
        assert_eq!(plan.images[0].lists, Lists::Kept);
        let verdict =
            |wanted: &str| plan.images[0].names.iter().find(|name| name.name.ends_with(wanted)).unwrap();
        assert_eq!(verdict(":1").verdict, NameVerdict::Pin);
        assert_eq!(plan.images[0].names_to_make(), 2);
    }

    #[test]
    fn of_a_changed_image_the_new_layer_is_sent_and_the_manifest_names_what_is_there() {
        let held = with([gzip("a"), gzip("b")]);
        let plan = plan(wanted(&["a", "new"]), &held);
        assert_eq!(layers_sent(&plan), [zstd("new").digest]);
        let Lists::Mixed(bytes) = &plan.images[0].lists else { panic!("{:?}", plan.images[0].lists) };
        assert_eq!(Digest::of(bytes), plan.images[0].target.digest);
        let Document::Manifest(made) = Document::parse(OCI_MANIFEST, bytes).unwrap() else { panic!() };
        let layers: Vec<Descriptor> = made.layers.into_iter().map(|layer| layer.descriptor).collect();
        assert_eq!(layers, [gzip("a"), zstd("new")]);
        assert!(plan.sends.iter().any(|send| send.bytes.as_ref() == Some(bytes)));
        let held = after(&plan, &held);
        assert!(self::plan(wanted(&["a", "new"]), &held).is_done());
    }

    #[test]
    fn an_encoding_that_only_the_node_knows_counts_when_it_was_proven() {
        let foreign = Descriptor::of(Compression::Gzip.oci_layer_type(), b"another tool's");
        let mut held = with([foreign.clone()]);
        held.encodings.insert(Digest::of(b"a"), vec![foreign.clone()]);
        let plan = plan(wanted(&["a"]), &held);
        assert!(layers_sent(&plan).is_empty());
        assert_eq!(plan.images[0].layers[0], (foreign, LayerVerdict::HeldOtherwise));
    }

    #[test]
    fn layers_that_containerd_discards_are_not_sent_again_but_lost_ones_are() {
        let image = wanted(&["a"]);
        let mut held = with([]);
        held.chains[0].1.insert(Digest::of(b"a"));
        let mut manifest = HeldManifest {
            manifest: image.original_manifest.clone(),
            config: image.config.digest,
            layers: vec![gzip("a")],
            discards_layers: true,
        };
        let mut named = |manifest: &HeldManifest| {
            let target = manifest.manifest.clone();
            let name = HeldName { target, manifest: Some(manifest.clone().into()), pinned: true };
            held.names.insert("docker.io/library/app:1".into(), name);
            plan(image.clone(), &held)
        };
        let kept = named(&manifest);
        assert!(layers_sent(&kept).is_empty());
        assert!(!document_labels(&kept.images[0], kept.images[0].target.digest).contains_key("l.0"));
        manifest.discards_layers = false;
        assert_eq!(layers_sent(&named(&manifest)), [zstd("a").digest]);
    }

    #[test]
    fn layers_that_are_not_to_be_kept_are_sent_only_to_be_unpacked() {
        let discard = Choices { discard: true, ..PINNED };
        let plan = |image: WantedImage, held: &Held| {
            let held = Held { takes_unpacked: true, ..held.clone() };
            ImportPlan::new(vec![image], &held, discard, &HashMap::new()).unwrap()
        };
        let first = plan(wanted(&["a", "b"]), &empty());
        assert_eq!(layers_sent(&first), [zstd("a").digest, zstd("b").digest]);
        let target = first.images[0].target.digest;
        assert!(!document_labels(&first.images[0], target).keys().any(|key| key.starts_with("l.")));
        // What containerd keeps then.
        let mut held = after(&first, &empty());
        for layer in [zstd("a"), zstd("b")] {
            held.blobs.remove(&layer.digest);
        }
        for name in held.names.values_mut() {
            let manifest = name.manifest.as_deref().unwrap().clone();
            name.manifest = Some(HeldManifest { discards_layers: true, ..manifest }.into());
        }
        assert!(plan(wanted(&["a", "b"]), &held).is_done());
        let other = WantedImage { names: ["other:1".parse().unwrap()].into(), ..wanted(&["a", "c"]) };
        assert_eq!(layers_sent(&plan(other.clone(), &held)), [zstd("c").digest]);
        // One that is left out since the node has it unpacked is not missed, on any node.
        let mut other = other;
        other.layers[0].left_out = true;
        let topped_up = self::plan(other, &held);
        assert!(topped_up.no_bases.is_empty());
        assert_eq!(layers_sent(&topped_up), [zstd("c").digest]);
    }

    #[test]
    fn a_name_that_stood_for_something_else_is_moved() {
        let image = wanted(&["a"]);
        let old = Descriptor::of(OCI_MANIFEST, b"old");
        let manifest = HeldManifest {
            manifest: old.clone(),
            config: Digest::of(b"old config"),
            layers: Vec::new(),
            discards_layers: false,
        };
        let mut held = empty();
        let name = HeldName { target: old.clone(), manifest: Some(manifest.into()), pinned: true };
        held.names.insert("docker.io/library/app:1".into(), name);
        let moved = NameVerdict::Move(Box::new(Moved { from: old, was: Some(Digest::of(b"old config")) }));
        let plan = plan(image, &held);
        let name = plan.images[0].names.iter().find(|name| name.name == "docker.io/library/app:1").unwrap();
        assert_eq!(name.verdict, moved);
    }

    #[test]
    fn a_damaged_blob_is_replaced() {
        let mut held = with([gzip("b")]);
        held.damaged.insert(zstd("a").digest);
        let plan = plan(wanted(&["a", "b"]), &held);
        assert_eq!(plan.images[0].layers[0].1, LayerVerdict::Replace);
        assert!(plan.sends.iter().any(|send| send.replaces && send.blob.digest == zstd("a").digest));
    }
}
