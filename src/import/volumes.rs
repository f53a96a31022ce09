//! The other media of a set that is spread over several.

use std::collections::{BTreeSet, HashMap};

use crate::containerd::ImageRecord;
use crate::error::Result;
use crate::node::{Node, manifest};
use crate::record::{Elsewhere, Volume};

/// The numbers of the set's media of which the node lacks an image.
///
/// An image is there when its name stands for one of the ids that it has in the set.
pub fn missing_volumes(node: &Node, volume: &Volume) -> Result<Vec<u32>> {
    let records = node.client.list_images()?;
    let by_name: HashMap<&str, &ImageRecord> =
        records.iter().map(|record| (record.name.as_str(), record)).collect();
    let mut missing = BTreeSet::new();
    for image in &volume.elsewhere {
        if missing.contains(&image.volume) {
            continue;
        }
        let record = by_name.get(image.name.to_string().as_str());
        if !record.is_some_and(|record| stands_for(node, record, image)) {
            missing.insert(image.volume);
        }
    }
    Ok(missing.into_iter().collect())
}

/// One whose documents cannot be read is not there.
fn stands_for(node: &Node, record: &ImageRecord, image: &Elsewhere) -> bool {
    let manifest = manifest(node, &record.target).ok().flatten();
    manifest.is_some_and(|manifest| image.ids.contains(&manifest.config.digest))
}
