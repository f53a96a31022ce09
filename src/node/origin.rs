//! Where blobs came from, as containerd's own client labels them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::containerd::label;
use crate::image::Digest;
use crate::plan::import::ImportPlan;

/// Where each blob can be had from, as labels: registries of peers go by them (Spegel).
pub(super) fn distribution_sources(plan: &ImportPlan) -> HashMap<Digest, BTreeMap<String, String>> {
    let mut sources: HashMap<Digest, BTreeMap<String, Vec<String>>> = HashMap::new();
    for image in &plan.images {
        let layers = image.layers.iter().map(|(layer, _)| layer.digest);
        let blobs = layers.chain(image.documents().into_iter().map(|(blob, _)| blob.digest));
        for blob in blobs.collect::<HashSet<_>>() {
            for name in &image.wanted.names {
                let host = name.registry().split(':').next().unwrap_or_default();
                let key = format!("{}.{host}", label::DISTRIBUTION_SOURCE);
                let paths = sources.entry(blob).or_default().entry(key).or_default();
                if !paths.iter().any(|path| path == name.path()) {
                    paths.push(name.path().to_owned());
                }
            }
        }
    }
    let joined = |(key, mut paths): (String, Vec<String>)| {
        paths.sort();
        let mut value = String::new();
        // Key and value together are at most 4096 bytes; what does not fit is left out.
        for path in paths {
            if key.len() + value.len() + path.len() < 4000 {
                value.push_str(if value.is_empty() { "" } else { "," });
                value.push_str(&path);
            }
        }
        (key, value)
    };
    sources.into_iter().map(|(blob, keys)| (blob, keys.into_iter().map(joined).collect())).collect()
}
