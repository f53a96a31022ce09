//! What the node holds of what is wanted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Node;
use super::repair::is_whole;
use crate::containerd::{BlobInfo, ImageRecord, label};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, Digest, Document, MAX_MANIFEST, MediaKind, Platform, kind};
use crate::plan::import::{Held, HeldManifest, HeldName, WantedImage, runs_on};
use crate::progress::{Event, Run};

/// As many blobs as mean that a node has few names: all of them take about 1 MiB, and one question.
const FEW_BLOBS: usize = 1024;

/// How closely blobs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Documents are hashed; of layers, only that the file is there in full length.
    Present,
    /// Everything is read and hashed.
    Hashed,
}

/// Asks the node what it holds of the wanted images.
///
/// With `prove`, a blob that the medium does not have counts for the layer that it is said to hold only
/// once it was decoded to it; else whoever unpacks it finds out.
pub fn held(node: &Node, wanted: &[WantedImage], depth: Depth, prove: bool, run: Run<'_>) -> Result<Held> {
    let layers = wanted.iter().flat_map(|image| &image.layers);
    let of_use: HashSet<Digest> =
        layers.flat_map(|layer| layer.deltas.iter().map(|delta| delta.base).chain([layer.diff_id])).collect();
    let asked_about: HashSet<Digest> = wanted.iter().flat_map(WantedImage::blobs).collect();
    let mut listed: HashMap<Digest, ListedBlob> = HashMap::new();
    let mut by_diff_id: HashMap<Digest, Vec<Digest>> = HashMap::new();
    let mut blobs = 0;
    node.client.each_blob(|info| {
        blobs += 1;
        let diff_id = info.labels.get(label::UNCOMPRESSED).and_then(|text| text.parse().ok());
        if let Some(diff_id) = diff_id.filter(|diff_id| of_use.contains(diff_id)) {
            by_diff_id.entry(diff_id).or_default().push(info.digest);
        } else if !asked_about.contains(&info.digest) {
            return;
        }
        listed.insert(info.digest, ListedBlob::of(&info));
    })?;
    let mut held = Held { cri: node.cri, ..Held::default() };
    let (seen, decoded, manifests) = Default::default();
    let mut look =
        Survey { node, listed: &listed, asked_about: &asked_about, seen, decoded, manifests, depth, run };
    for image in wanted {
        let documents = [&image.config, &image.original, &image.original_manifest, &image.carried_manifest];
        for document in documents.into_iter().chain(image.indexes()) {
            look.at(document, Depth::Hashed, &mut held)?;
        }
        for layer in &image.layers {
            for encoding in [&layer.carried].into_iter().chain(&layer.others) {
                let there = look.at(encoding, depth, &mut held)?;
                if there && prove && !layer.is_proven(encoding) {
                    look.disprove(layer.diff_id, encoding, &mut held)?;
                }
            }
            // Blobs that the medium does not know of, but containerd unpacked to this very tar.
            for digest in by_diff_id.get(&layer.diff_id).into_iter().flatten() {
                let known = [&layer.carried].into_iter().chain(&layer.others);
                if known.into_iter().any(|blob| blob.digest == *digest)
                    || held.encodings.contains_key(&layer.diff_id)
                {
                    continue;
                }
                let found = look.prove(layer.diff_id, *digest, &mut held)?;
                held.encodings.entry(layer.diff_id).or_default().extend(found);
            }
        }
    }
    bases(wanted, &listed, &by_diff_id, &mut look, &mut held)?;
    names(node, wanted, blobs <= FEW_BLOBS, &mut look, &mut held)?;
    let chains: HashSet<Digest> = wanted.iter().flat_map(WantedImage::chain).collect();
    held.chains = node.chains(|chain_id| chains.contains(chain_id))?;
    if depth == Depth::Hashed && !prove {
        super::renew::find_damaged(node, wanted, &mut held, run)?;
    }
    Ok(held)
}

/// Asks for the names that the images may have, and not for all unless there are `few`: a node may have many more,
/// with which containerd answers at once.
fn names(
    node: &Node,
    wanted: &[WantedImage],
    few: bool,
    look: &mut Survey<'_>,
    held: &mut Held,
) -> Result<()> {
    let all = if few { node.client.list_images()? } else { Vec::new() };
    let all: HashMap<String, ImageRecord> =
        all.into_iter().map(|record| (record.name.clone(), record)).collect();
    let records_of = |names: BTreeSet<String>| match few {
        true => Ok(names.iter().filter_map(|name| all.get(name)).cloned().collect()),
        false => node.client.images_named(names),
    };
    for image in wanted {
        look.run.check()?;
        let own = image.config.digest.to_string();
        let mut ask: BTreeSet<String> = image.known_names().chain(node.cri.then(|| own.clone())).collect();
        while !ask.is_empty() {
            for record in records_of(std::mem::take(&mut ask))? {
                let manifest = match record.name == own {
                    true => None,
                    false => look.manifest(&record.target, held)?,
                };
                // A manifest that was made for this node has names of its own.
                ask.extend(manifest.iter().flat_map(|manifest| image.names_of(&manifest.manifest)));
                let pinned =
                    record.labels.get(label::PINNED).is_some_and(|value| value == label::PINNED_VALUE);
                held.names.insert(record.name, HeldName { target: record.target, manifest, pinned });
            }
            ask.retain(|name| !held.names.contains_key(name));
        }
    }
    Ok(())
}

/// What is kept of a blob that containerd lists. A node may have many; their labels take far more.
#[derive(Clone, Copy, Debug)]
struct ListedBlob {
    /// Length in bytes.
    size: u64,
    /// A manifest that keeps its config, but no layers: its containerd discards them once they are unpacked.
    discards_layers: bool,
}

impl ListedBlob {
    fn of(info: &BlobInfo) -> Self {
        let keeps = |key: &String| key.starts_with("containerd.io/gc.ref.content.l.");
        let discards_layers =
            info.labels.contains_key("containerd.io/gc.ref.content.config") && !info.labels.keys().any(keeps);
        Self { size: info.size, discards_layers }
    }
}

/// Notes blobs from which layers can be rebuilt: what is labelled as the base, or what the medium
/// says was the base's blob. Their bytes are proven when they are used.
fn bases(
    wanted: &[WantedImage],
    listed: &HashMap<Digest, ListedBlob>,
    by_diff_id: &HashMap<Digest, Vec<Digest>>,
    look: &mut Survey<'_>,
    held: &mut Held,
) -> Result<()> {
    let layers = wanted.iter().flat_map(|image| &image.layers).filter(|layer| layer.is_delta());
    for delta in layers.flat_map(|layer| &layer.deltas) {
        if held.bases.contains_key(&delta.base) {
            continue;
        }
        let known = delta.base_blobs.iter().map(|blob| blob.digest).chain([delta.base]);
        let labelled = by_diff_id.get(&delta.base).into_iter().flatten().copied();
        let mut found: Vec<Descriptor> = Vec::new();
        for digest in labelled.chain(known) {
            let Some(info) = listed.get(&digest) else { continue };
            let blob = Descriptor { media_type: Default::default(), digest, size: info.size };
            if !found.contains(&blob) && look.at(&blob, Depth::Present, held)? {
                found.push(blob);
            }
        }
        held.bases.insert(delta.base, found);
    }
    Ok(())
}

/// Looks at each blob once.
struct Survey<'a> {
    node: &'a Node,
    listed: &'a HashMap<Digest, ListedBlob>,
    /// What was looked for in the list; anything else is asked for when it is met.
    asked_about: &'a HashSet<Digest>,
    seen: HashMap<Digest, bool>,
    decoded: HashMap<Digest, Option<Digest>>,
    /// What targets of names come down to. Several names have one target.
    manifests: HashMap<Descriptor, Option<Arc<HeldManifest>>>,
    depth: Depth,
    run: Run<'a>,
}

impl Survey<'_> {
    fn known(&self, digest: Digest) -> Result<Option<ListedBlob>> {
        match self.listed.get(&digest) {
            None if !self.asked_about.contains(&digest) => {
                Ok(self.node.client.blob(digest)?.map(|info| ListedBlob::of(&info)))
            }
            known => Ok(known.copied()),
        }
    }

    /// Notes whether a blob is there, or damaged; true when it is there and good.
    fn at(&mut self, blob: &Descriptor, depth: Depth, held: &mut Held) -> Result<bool> {
        self.run.check()?;
        if let Some(good) = self.seen.get(&blob.digest) {
            return Ok(*good);
        }
        let Some(info) = self.known(blob.digest)? else {
            self.seen.insert(blob.digest, false);
            return Ok(false);
        };
        let good = info.size == blob.size
            && match depth {
                Depth::Present => self.node.client.blob_is_readable(blob)?,
                Depth::Hashed => is_whole(&self.node.client, blob, self.run)?,
            };
        if good {
            held.blobs.insert(blob.digest, blob.size);
        } else {
            held.damaged.insert(blob.digest);
        }
        self.seen.insert(blob.digest, good);
        Ok(good)
    }

    /// Decodes a blob that is said to hold a layer, and notes when it does not.
    fn disprove(&mut self, diff_id: Digest, blob: &Descriptor, held: &mut Held) -> Result<()> {
        if held.disproved.contains(&(diff_id, blob.digest)) {
            return Ok(());
        }
        let found = match self.decoded.get(&blob.digest) {
            Some(found) => *found,
            None => super::repair::decode(&self.node.client, blob, self.run)?.map(|(_, found)| found),
        };
        self.decoded.insert(blob.digest, found);
        match found {
            Some(found) if found == diff_id => return Ok(()),
            Some(found) => {
                let text = format!("blob {} was taken for layer {diff_id}, but holds {found}", blob.digest);
                self.run.report(Event::Warning(&text));
            }
            // It does not decode, or its bytes are others than its digest says.
            None => {
                held.damaged.insert(blob.digest);
            }
        }
        held.disproved.insert((diff_id, blob.digest));
        Ok(())
    }

    /// Decodes a blob that is labelled with a diff_id but unknown to the medium: labels can be set
    /// by anyone.
    fn prove(&mut self, diff_id: Digest, digest: Digest, held: &mut Held) -> Result<Option<Descriptor>> {
        let Some(ListedBlob { size, .. }) = self.known(digest)? else { return Ok(None) };
        let mut blob = Descriptor { media_type: Default::default(), digest, size };
        if !self.at(&blob, self.depth, held)? {
            return Ok(None);
        }
        let Some((compression, found)) = super::repair::decode(&self.node.client, &blob, self.run)? else {
            return Ok(None);
        };
        blob.media_type = Compression::oci_layer_type(compression).into();
        Ok((found == diff_id).then_some(blob))
    }

    /// The manifest that a target of a name comes down to on the node's platform.
    fn manifest(&mut self, target: &Descriptor, held: &mut Held) -> Result<Option<Arc<HeldManifest>>> {
        if let Some(known) = self.manifests.get(target) {
            return Ok(known.clone());
        }
        let found = self.resolve(target, held)?;
        self.manifests.insert(target.clone(), found.clone());
        Ok(found)
    }

    fn resolve(&mut self, target: &Descriptor, held: &mut Held) -> Result<Option<Arc<HeldManifest>>> {
        if !self.at(target, Depth::Hashed, held)? {
            return Ok(None);
        }
        let reader = self.node.client.read_blob(target, 0)?;
        let bytes = match content::read_all(reader, target, Side::Node, MAX_MANIFEST) {
            Ok(bytes) => bytes,
            Err(Error::Invalid { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        match Document::parse(&target.media_type, &bytes) {
            Ok(Document::Manifest(manifest)) => {
                let (config, layers) = (manifest.config.digest, manifest.descriptors());
                for layer in &layers {
                    self.at(layer, self.depth, held)?;
                }
                let discards_layers = self.known(target.digest)?.is_some_and(|known| known.discards_layers);
                let manifest = target.clone();
                Ok(Some(Arc::new(HeldManifest { manifest, config, layers, discards_layers })))
            }
            Ok(Document::Index(index)) => {
                for platform in runs_on(&self.node.platform) {
                    let matches = |of: &Option<Platform>| of.as_ref() == Some(&platform);
                    let child = index.manifests.iter().find(|child| {
                        matches(&child.platform) && kind(&child.descriptor.media_type) == MediaKind::Manifest
                    });
                    if let Some(child) = child {
                        return self.manifest(&child.descriptor, held);
                    }
                }
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }
}
