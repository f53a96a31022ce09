//! Unpacked layers that are damaged, and what is in the way of unpacking them anew.

use std::collections::{HashMap, HashSet};

use super::Node;
use super::snapshot::{Standing, differences, fatal, gone, looking, places};
use crate::containerd::Client;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::plan::import::{Held, StaleSnapshot, StuckSnapshot, WantedImage, WantedLayer};
use crate::progress::{Run, Stoppable};

/// Compares what is unpacked of the wanted images with the layers, byte by byte.
///
/// A damaged snapshot counts as not unpacked, and makes way with all that stands on it, unless a container does, or
/// an image that is not wanted here and would not be unpacked again.
pub(super) fn find_damaged(node: &Node, wanted: &[WantedImage], held: &mut Held, run: Run<'_>) -> Result<()> {
    let ours: HashSet<String> =
        wanted.iter().flat_map(WantedImage::chain).map(|chain_id| chain_id.to_string()).collect();
    for at in 0..held.chains.len() {
        let snapshotter = held.chains[at].0.clone();
        let damaged = looking(&node.client, |client| damaged(node, client, wanted, held, at, run))?;
        if damaged.is_empty() {
            continue;
        }
        let standing = Standing::of(&node.client, &snapshotter)?;
        for (chain_id, diff_id, fault) in damaged {
            let (above, users) = standing.on(chain_id);
            let others = above.iter().filter(|name| !ours.contains(*name)).count();
            if others > 0 || !users.is_empty() {
                let snapshotter = snapshotter.clone();
                held.stuck.push(StuckSnapshot { snapshotter, diff_id, chain_id, fault, users, others });
                continue;
            }
            for name in above.into_iter().chain([chain_id.to_string()]) {
                if let Ok(chain_id) = name.parse::<Digest>() {
                    held.chains[at].1.remove(&chain_id);
                }
                let stale = StaleSnapshot { snapshotter: snapshotter.clone(), name };
                if !held.stale.contains(&stale) {
                    held.stale.push(stale);
                }
            }
        }
    }
    Ok(())
}

/// The damaged snapshots of a snapshotter, what stands on others coming first, and what is wrong with each.
fn damaged(
    node: &Node,
    client: &Client,
    wanted: &[WantedImage],
    held: &Held,
    at: usize,
    run: Run<'_>,
) -> Result<Vec<(Digest, Digest, String)>> {
    let (snapshotter, there) = &held.chains[at];
    let mut seen: HashMap<Digest, ()> = HashMap::new();
    let mut found = Vec::new();
    for image in wanted {
        let chain = image.chain();
        // A chain stands on all below it.
        let length = chain.iter().rposition(|chain_id| there.contains(chain_id)).map_or(0, |at| at + 1);
        let chain = &chain[..length];
        if node.snapshot_root.is_none() || chain.iter().all(|chain_id| seen.contains_key(chain_id)) {
            continue;
        }
        let places = places(client, snapshotter, chain)?;
        for (at, ((chain_id, layer), place)) in chain.iter().zip(&image.layers).zip(&places).enumerate() {
            if seen.insert(*chain_id, ()).is_some() {
                continue;
            }
            run.check()?;
            let fault = match blob(held, layer) {
                None => gone(place),
                Some(blob) => {
                    let found = match node.client.read_blob(&blob, 0) {
                        Ok(reader) => {
                            let reader = Verified::new(Stoppable(reader, run), &blob, Side::Node);
                            differences(place, reader, true)
                        }
                        Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
                        Err(error) => Err(error.into()),
                    };
                    match found {
                        Ok(fault) => fault,
                        Err(error) => {
                            fatal(error)?;
                            None
                        }
                    }
                }
            };
            found.extend(fault.map(|fault| (at, *chain_id, layer.diff_id, fault.to_string())));
        }
    }
    found.sort_by_key(|(at, chain_id, ..)| (std::cmp::Reverse(*at), *chain_id));
    Ok(found.into_iter().map(|(_, chain_id, diff_id, fault)| (chain_id, diff_id, fault)).collect())
}

/// A blob of the node that holds a layer.
fn blob(held: &Held, layer: &WantedLayer) -> Option<Descriptor> {
    let labelled = held.encodings.get(&layer.diff_id).into_iter().flatten();
    let mut blobs = [&layer.carried].into_iter().chain(&layer.others).chain(labelled);
    blobs.find(|blob| held.holds_layer(&layer.diff_id, blob)).cloned()
}
