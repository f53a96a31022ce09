//! Everything that a node holds of its images, for whoever fills the next medium.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::manifest::{manifest, read};
use super::{Node, label};
use crate::error::{Error, Result, Side};
use crate::image::{
    Descriptor, Digest, ImageConfig, LayerType, MAX_CONFIG, MediaKind, Names, Reference, chain_ids, kind,
};
use crate::inventory::{HeldImage, Inventory, UnpackedImage};
use crate::progress::Run;
use crate::record::is_host;

/// Asks a node what it holds. Layers are not read: their files are there, in full length.
///
/// Images of which something is absent or damaged are left out, each with a warning; those of which only layers are
/// absent that are unpacked are listed by themselves.
pub fn take_inventory(node: &Node, created: String, run: Run<'_>) -> Result<Inventory> {
    let mut inventory = Inventory::empty(
        node.platform.clone(),
        node.version.text.clone(),
        node.snapshotters.clone(),
        created,
    );
    // Of a node behind a forwarded socket only that machine knows its name.
    let uname = rustix::system::uname();
    let host = uname.nodename().to_str().ok().filter(|_| node.is_local());
    inventory.host = host.filter(|host| is_host(host)).map(str::to_owned);
    let chains = node.chains(|_| true)?;
    let is_unpacked =
        |chain_id: &Digest| !chains.is_empty() && chains.iter().all(|(_, there)| there.contains(chain_id));
    // By target what it comes down to, and by the image's id what is held of it.
    let mut seen: HashMap<Digest, Option<Digest>> = HashMap::new();
    let mut images: BTreeMap<Digest, (Names, Found)> = BTreeMap::new();
    let mut readable: HashMap<Digest, bool> = HashMap::new();
    for record in node.client.list_images()? {
        run.check()?;
        // CRI has records of its own, under the image id, which would pass for a name with a tag.
        let named = Some(&record.name).filter(|name| !name.starts_with("sha256:"));
        let Some(name) = named.and_then(|name| name.parse::<Reference>().ok()) else { continue };
        if let (Some(medium), Some(sequence)) =
            (record.labels.get(label::MEDIUM), record.labels.get(label::SEQUENCE))
            && let Ok(sequence) = sequence.parse::<u64>()
        {
            let last = inventory.imported.entry(medium.clone()).or_default();
            *last = sequence.max(*last);
        }
        let digest = record.target.digest;
        if let Entry::Vacant(unseen) = seen.entry(digest) {
            let found = match look(node, &record.target, &mut inventory, &mut readable) {
                Ok(found) => found,
                Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
                Err(error) => {
                    let text = format!("{name} is left out: {error}");
                    run.report(crate::progress::Event::Warning(&text));
                    None
                }
            };
            unseen.insert(found.as_ref().map(|found| found.config));
            if let Some(found) = found {
                let known = images.entry(found.config).or_insert_with(|| (Names::default(), found.clone()));
                if found.whole && !known.1.whole {
                    known.1 = found;
                }
            }
        }
        if let Some((names, _)) = seen.get(&digest).copied().flatten().and_then(|id| images.get_mut(&id)) {
            names.insert(name);
        }
    }
    for (names, found) in images.into_values() {
        let Found { config, layers, blobs, whole } = found;
        let unpacked = chain_ids(&layers).last().copied().filter(is_unpacked);
        if whole {
            inventory.images.push(HeldImage { names, config, layers, unpacked });
        } else if let (Some(blobs), Some(_)) = (blobs, unpacked) {
            inventory.only_unpacked.push(UnpackedImage { names, config, layers, blobs });
        }
    }
    inventory.only_unpacked.sort_by(|a, b| a.names.cmp(&b.names));
    inventory.images.sort_by(|a, b| a.names.cmp(&b.names));
    Ok(inventory)
}

/// An image on the node's platform.
#[derive(Clone)]
struct Found {
    config: Digest,
    layers: Vec<Digest>,
    /// As its manifest lists them; `None` where one is no tar.
    blobs: Option<Vec<Descriptor>>,
    /// All of them are there.
    whole: bool,
}

/// What a target comes down to on the node's platform.
fn look(
    node: &Node,
    target: &Descriptor,
    inventory: &mut Inventory,
    readable: &mut HashMap<Digest, bool>,
) -> Result<Option<Found>> {
    let Some(manifest) = manifest(node, target)? else { return Ok(None) };
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
        if !matches!(kind(&blob.media_type), MediaKind::Layer(LayerType::Tar(_))) {
            whole = false;
            continue;
        }
        let there = match readable.get(&blob.digest) {
            Some(there) => *there,
            None => node.client.blob_is_readable(blob)?,
        };
        readable.insert(blob.digest, there);
        whole &= there;
        if there {
            let (blob, known) = (blob.as_oci_layer(), inventory.layers.entry(*diff_id).or_default());
            if !known.contains(&blob) {
                known.push(blob);
            }
        }
    }
    let mut blobs = manifest.layers.iter().map(|layer| &layer.descriptor);
    let is_tar = |blob: &Descriptor| matches!(kind(&blob.media_type), MediaKind::Layer(LayerType::Tar(_)));
    let all_tars = blobs.clone().all(is_tar);
    let blobs = all_tars.then(|| blobs.by_ref().map(Descriptor::as_oci_layer).collect());
    Ok(Some(Found { config: manifest.config.digest, layers: config.diff_ids().to_vec(), blobs, whole }))
}
