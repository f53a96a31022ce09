//! Everything that a node holds of its images, for whoever fills the next medium.

use std::collections::{BTreeMap, HashMap};

use super::{Node, label};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::holdings::{HeldImage, Holdings};
use crate::image::{
    Descriptor, Digest, Document, ImageConfig, LayerType, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST,
    Manifest, MediaKind, Platform, Reference, chain_ids, kind,
};
use crate::plan::import::runs_on;
use crate::progress::Run;

/// Asks a node what it holds. Layers are not read: their files are there, in full length.
///
/// Images of which something is absent or damaged are left out, each with a warning.
pub fn holdings(node: &Node, created: String, run: Run<'_>) -> Result<Holdings> {
    let mut holdings =
        Holdings::empty(node.platform.clone(), node.version.text.clone(), node.snapshotters.clone(), created);
    let mut chains: Option<std::collections::HashSet<Digest>> = None;
    for snapshotter in &node.snapshotters {
        let snapshots = node.client.list_snapshots(snapshotter)?.into_iter().filter(|s| s.committed);
        let there = snapshots.filter_map(|snapshot| snapshot.name.parse().ok()).collect();
        chains = Some(match chains {
            Some(chains) => &chains & &there,
            None => there,
        });
    }
    let chains = chains.unwrap_or_default();
    let mut images: BTreeMap<Digest, Option<HeldImage>> = BTreeMap::new();
    let mut readable: HashMap<Digest, bool> = HashMap::new();
    for record in node.client.list_images()? {
        run.check()?;
        // CRI has records of its own, under the image id.
        let Ok(name) = record.name.parse::<Reference>() else { continue };
        if let (Some(medium), Some(sequence)) =
            (record.labels.get(label::MEDIUM), record.labels.get(label::SEQUENCE))
            && let Ok(sequence) = sequence.parse::<u64>()
        {
            let last = holdings.imported.entry(medium.clone()).or_default();
            *last = sequence.max(*last);
        }
        let digest = record.target.digest;
        if let Some(known) = images.get_mut(&digest) {
            known.iter_mut().for_each(|image| {
                image.names.insert(name.clone());
            });
            continue;
        }
        let image = match look(node, &record.target, &mut holdings, &mut readable) {
            Ok(Some((config, layers))) => {
                let unpacked = chain_ids(&layers).last().copied().filter(|chain| chains.contains(chain));
                Some(HeldImage { names: [name].into(), config, layers, unpacked })
            }
            Ok(None) => None,
            Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
            Err(error) => {
                let text = format!("{name} is left out: {error}");
                run.report(crate::progress::Event::Warning(&text));
                None
            }
        };
        images.insert(digest, image);
    }
    holdings.images = images.into_values().flatten().collect();
    holdings.images.sort_by(|a, b| a.names.cmp(&b.names));
    Ok(holdings)
}

/// The config and the layers of an image on the node's platform, if all of it is there.
fn look(
    node: &Node,
    target: &Descriptor,
    holdings: &mut Holdings,
    readable: &mut HashMap<Digest, bool>,
) -> Result<Option<(Digest, Vec<Digest>)>> {
    let Some(manifest) = manifest(node, target, 0)? else { return Ok(None) };
    let config = read(node, &manifest.config, MAX_CONFIG)?;
    let what = |blob: &Descriptor| format!("{}", blob.digest);
    let config = ImageConfig::parse(&config)
        .map_err(|reason| Error::invalid(Side::Node, what(&manifest.config), reason))?;
    if config.diff_ids().len() != manifest.layers.len() {
        let reason = "has another number of layers than its manifest";
        return Err(Error::invalid(Side::Node, what(&manifest.config), reason));
    }
    let mut whole = true;
    for (layer, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
        let blob = &layer.descriptor;
        let MediaKind::Layer(LayerType::Tar(compression)) = kind(&blob.media_type) else {
            whole = false;
            continue;
        };
        let there = match readable.get(&blob.digest) {
            Some(there) => *there,
            None => node.client.blob_is_readable(blob)?,
        };
        readable.insert(blob.digest, there);
        whole &= there;
        let blob = Descriptor { media_type: compression.oci_layer_type().to_owned(), ..blob.clone() };
        let known = holdings.layers.entry(*diff_id).or_default();
        if there && !known.contains(&blob) {
            known.push(blob);
        }
    }
    holdings.layers.retain(|_, blobs| !blobs.is_empty());
    Ok(whole.then(|| (manifest.config.digest, config.diff_ids().to_vec())))
}

fn manifest(node: &Node, target: &Descriptor, depth: usize) -> Result<Option<Manifest>> {
    let document = Document::parse(&target.media_type, &read(node, target, MAX_MANIFEST)?)
        .map_err(|reason| Error::invalid(Side::Node, target.digest, reason))?;
    let index = match document {
        Document::Manifest(manifest) => return Ok(Some(manifest)),
        Document::Index(_) if depth > MAX_INDEX_DEPTH => return Ok(None),
        Document::Index(index) => index,
    };
    for platform in runs_on(&node.platform) {
        let matches = |of: &Option<Platform>| of.as_ref() == Some(&platform);
        if let Some(child) = index.manifests.iter().find(|child| matches(&child.platform)) {
            return manifest(node, &child.descriptor, depth + 1);
        }
    }
    Ok(None)
}

fn read(node: &Node, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    content::read_all(node.client.read_blob(blob, 0)?, blob, Side::Node, limit)
}
