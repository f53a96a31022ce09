//! Where blobs came from, as containerd's own client labels them.

use std::collections::{BTreeMap, HashMap};

use crate::containerd::label;
use crate::image::Digest;
use crate::plan::import::{ImagePlan, ImportPlan};

/// Which images each blob of a plan belongs to, by their places in it; sorted.
#[derive(Debug)]
pub(super) struct Sources(Vec<(Digest, u32)>);

impl Sources {
    /// Of all blobs that `plan` is about.
    pub(super) fn new(plan: &ImportPlan) -> Self {
        let mut blobs = Vec::new();
        for (place, image) in (0u32..).zip(&plan.images) {
            let layers = image.layers.iter().map(|(layer, _)| layer);
            blobs.extend(layers.chain(image.documents()).map(|blob| (blob.digest, place)));
        }
        blobs.sort_unstable();
        blobs.dedup();
        Self(blobs)
    }

    /// The images of `plan` that a blob belongs to.
    pub(super) fn images<'p>(
        &self,
        plan: &'p ImportPlan,
        blob: Digest,
    ) -> impl Iterator<Item = &'p ImagePlan> + use<'_, 'p> {
        let start = self.0.partition_point(|(digest, _)| *digest < blob);
        let places = self.0[start..].iter().take_while(move |(digest, _)| *digest == blob);
        places.filter_map(|(_, place)| plan.images.get(*place as usize))
    }

    /// Where a blob can be had from, as labels: registries of peers go by them (Spegel).
    pub(super) fn labels(&self, plan: &ImportPlan, blob: Digest) -> HashMap<String, String> {
        let mut sources: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in self.images(plan, blob).flat_map(|image| &image.wanted.names) {
            let host = name.registry().split(':').next().unwrap_or_default();
            sources.entry(format!("{}.{host}", label::DISTRIBUTION_SOURCE)).or_default().push(name.path());
        }
        let joined = |(key, mut paths): (String, Vec<&str>)| {
            paths.sort_unstable();
            paths.dedup();
            let mut value = String::new();
            // Key and value together are at most 4096 bytes; what does not fit is left out.
            for path in paths {
                if key.len() + value.len() + path.len() < 4000 {
                    value.push_str(if value.is_empty() { "" } else { "," });
                    value.push_str(path);
                }
            }
            (key, value)
        };
        sources.into_iter().map(joined).collect()
    }
}
