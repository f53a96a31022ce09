//! Snapshots that containerd's own database lists and the snapshotter does not have.
//!
//! So it is when the snapshotter's directory was lost, or it was told of another one. containerd then says of each
//! such layer that it is there when it is to be unpacked, and that it is not when a container is made of it.

use std::collections::{BTreeMap, HashSet};

use super::Node;
use super::manifest::{manifest, read};
use crate::containerd::Client;
use crate::error::{Error, Result};
use crate::image::{Digest, ImageConfig, MAX_CONFIG, chain_ids};
use crate::plan::import::ImportPlan;

/// Has containerd forget the snapshots of all images, those of the plan and others, that the snapshotter does not
/// have. What cannot be forgotten since a container was made on it stays.
///
/// Nothing may be unpacked meanwhile.
pub(super) fn forget(node: &Node, client: &Client, snapshotter: &str, plan: &ImportPlan) -> Result<()> {
    let mut chains: Vec<Vec<Digest>> = plan.images.iter().map(|image| image.chain.clone()).collect();
    let mut seen = HashSet::new();
    for record in node.client.list_images()? {
        if !seen.insert(record.target.digest) {
            continue;
        }
        match chain(node, &record.target) {
            Ok(chain) => chains.extend(chain),
            Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
            // What is wrong with its documents is not our business here.
            Err(_) => {}
        }
    }
    // By their height: what stands on others goes first.
    let mut by_height: BTreeMap<usize, HashSet<Digest>> = BTreeMap::new();
    for chain in chains {
        for (height, chain_id) in chain.into_iter().enumerate() {
            by_height.entry(height).or_default().insert(chain_id);
        }
    }
    for chain_id in by_height.into_values().rev().flatten() {
        let name = chain_id.to_string();
        if client.snapshot(snapshotter, &name)?.is_none() {
            match client.remove_snapshot(snapshotter, &name) {
                // Whoever needs it is told.
                Ok(()) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn chain(node: &Node, target: &crate::image::Descriptor) -> Result<Option<Vec<Digest>>> {
    let Some(manifest) = manifest(node, target)? else { return Ok(None) };
    let config = ImageConfig::parse(&read(node, &manifest.config, MAX_CONFIG)?).ok();
    Ok(config.map(|config| chain_ids(config.diff_ids())))
}
