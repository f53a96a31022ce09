//! What the plans of several parts of a set come to together.

use std::collections::{HashMap, HashSet};

use super::{ImportPlan, Unpack};
use crate::image::Digest;

/// The snapshotter that has no layers, but copies.
const COPIES: &str = "native";

/// What an import will do, in numbers. What several parts of a set share counts once, as the first of them sends it.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Images.
    pub images: usize,
    /// Blobs to send.
    pub sends: usize,
    /// How many of them are layers.
    pub layers: usize,
    /// Bytes to send.
    pub send_bytes: u64,
    /// Layers to unpack.
    pub unpacks: usize,
    /// Bytes of their tars.
    pub unpack_bytes: u64,
    /// Bytes that are copied for them: a snapshotter without layers has all of what is below in each directory.
    pub copied_bytes: u64,
    /// Bytes of scratch files.
    pub scratch_bytes: u64,
    /// Bytes on the medium of layers that the node has, in whatever encoding.
    pub reused: u64,
    /// Whether there is nothing to do.
    pub is_done: bool,
    sent: HashSet<Digest>,
    unpacked: HashSet<Digest>,
    there: HashSet<Digest>,
}

impl Totals {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { is_done: true, ..Self::default() }
    }

    /// Adds the plan of one more part.
    pub fn add(&mut self, plan: &ImportPlan) {
        self.images += plan.images.len();
        self.is_done &= plan.is_done();
        // Parts are carried out one after the other, and leave no scratch files.
        self.scratch_bytes = self.scratch_bytes.max(plan.scratch_bytes());
        for send in &plan.sends {
            // Of documents, which few images share, no account is kept.
            if !send.layer || self.sent.insert(send.blob.digest) {
                self.sends += 1;
                self.layers += usize::from(send.layer);
                self.send_bytes += send.blob.size;
            }
        }
        let is_new = |chain_id: &Digest| !self.unpacked.contains(chain_id);
        // Each snapshotter unpacks a chain for itself.
        let unpacks: Vec<_> = plan.unpacks.iter().filter(|step| is_new(&step.chain_id)).collect();
        self.unpacks += unpacks.len();
        self.unpack_bytes += unpacks.iter().map(|step| step.size).sum::<u64>();
        self.copied_bytes += copied(plan, &unpacks);
        self.unpacked.extend(unpacks.iter().map(|step| step.chain_id));
        for image in &plan.images {
            for ((_, verdict), wanted) in image.layers.iter().zip(&image.wanted.layers) {
                if verdict.is_there() && self.there.insert(wanted.diff_id) {
                    self.reused += wanted.carried.size;
                }
            }
        }
    }

    /// Forgets which layers were counted: nothing is added any more.
    pub fn close(&mut self) {
        (self.sent, self.unpacked, self.there) = Default::default();
    }
}

/// Bytes below each of these steps, where its snapshotter copies them.
fn copied(plan: &ImportPlan, steps: &[&Unpack]) -> u64 {
    if !steps.iter().any(|step| step.snapshotter == COPIES) {
        return 0;
    }
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    for image in &plan.images {
        let mut sum = 0;
        for (chain_id, layer) in image.chain.iter().zip(&image.wanted.layers) {
            sum += layer.size;
            sizes.insert(*chain_id, sum);
        }
    }
    let below = |step: &&&Unpack| step.parent.and_then(|parent| sizes.get(&parent)).copied().unwrap_or(0);
    steps.iter().filter(|step| step.snapshotter == COPIES).map(|step| below(&step)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::WantedImage;
    use super::super::tests::{PINNED, empty, wanted};
    use super::*;
    use crate::image::{Descriptor, OCI_INDEX};

    fn plan(images: &[&[&str]]) -> ImportPlan {
        let mut held = empty();
        held.chains.push(("native".into(), HashSet::new()));
        let of = |tars: &&[&str]| {
            let original = Descriptor::of(OCI_INDEX, tars.join(" ").as_bytes());
            WantedImage { original, ..wanted(tars) }
        };
        let images = images.iter().map(of).collect();
        ImportPlan::new(images, &held, PINNED, &HashMap::new()).unwrap()
    }

    #[test]
    fn what_parts_share_counts_once() {
        let images: [&[&str]; 3] = [&["a", "b"], &["a", "c"], &["a", "b", "d"]];
        let (whole, mut in_parts) = (plan(&images), Totals::new());
        images.iter().for_each(|image| in_parts.add(&plan(&[image])));
        let mut at_once = Totals::new();
        at_once.add(&whole);
        let sent: u64 = whole.sends.iter().map(|send| send.blob.size).sum();
        let unpacked: u64 = whole.unpacks.iter().map(|step| step.size).sum();
        for totals in [in_parts, at_once] {
            assert_eq!((totals.images, totals.sends, totals.layers), (3, whole.sends.len(), 4));
            assert_eq!((totals.send_bytes, totals.unpack_bytes), (sent, unpacked));
            assert_eq!((totals.unpacks, totals.is_done), (whole.unpacks.len(), false));
            // Of 100 bytes each: b, c on a; d on a and b.
            assert_eq!(totals.copied_bytes, 100 + 100 + 200);
        }
        assert!(Totals::new().is_done);
    }
}
