//! What one set of images has and another has not: media, inventories, nodes.
//!
//! Pure: both sides are described by the same value, whatever they are, and compared by image ids and
//! diff_ids, so that it does not matter which tool compressed what.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::image::{Digest, Names, Platform};
use crate::inventory::Inventory;
use crate::plan::import::runs_on;
use crate::record::{Layer, Record};

/// One side of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The platform of a node; media have several.
    platform: Option<Platform>,
    images: Vec<Item>,
    /// Every layer that is there, with the bytes of its smallest blob.
    layers: BTreeMap<Digest, Option<u64>>,
}

/// An image for one platform.
#[derive(Clone, Debug)]
struct Item {
    names: Names,
    platform: Platform,
    id: Digest,
    layers: Vec<Digest>,
}

/// What differs between two sides, A and B.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Images whose names only B has.
    pub added: Vec<DiffImage>,
    /// Images whose names only A has.
    pub removed: Vec<DiffImage>,
    /// Names that both have, for different images.
    pub changed: Vec<DiffImage>,
    /// How many names stand for the same image on both sides.
    pub same: usize,
    /// Layers of B's images that A has in no encoding.
    pub layers_added: Vec<DiffLayer>,
    /// Layers of A's images that B has in no encoding.
    pub layers_removed: Vec<DiffLayer>,
    /// How many layers of B's images A has as well.
    pub layers_same: usize,
    /// Bytes of the layers that are added, each once and as B has them. What is not in B itself, since it
    /// is a top-up, counts nothing.
    pub bytes_to_carry: u64,
    /// How many of the layers that are added are not in B itself.
    pub layers_elsewhere: usize,
}

/// An image that one side has, or both have differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffImage {
    /// Its name.
    pub name: String,
    /// The platform.
    pub platform: String,
    /// The image id: the one in A, where both have the name.
    pub id: Digest,
    /// The image id in B, where both have the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Digest>,
    /// How many layers it has; in B, where both have the name.
    pub layers: usize,
    /// How many of them the other side lacks.
    pub layers_lacking: usize,
    /// Bytes of those.
    pub bytes: u64,
}

/// A layer that one side has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffLayer {
    /// The layer.
    pub diff_id: Digest,
    /// Bytes of the smallest blob that holds it; `None` where the side only counts on it.
    pub size: Option<u64>,
}

impl Contents {
    /// What a medium has by its newest record. Layers that were left out are there for whoever imports it.
    pub fn of_record(record: &Record) -> Self {
        let mut contents = Self::default();
        for image in &record.images {
            for platform in &image.platforms {
                contents.images.push(Item {
                    names: image.names.clone(),
                    platform: platform.platform.clone(),
                    id: platform.config.digest,
                    layers: platform.diff_ids.clone(),
                });
            }
        }
        let size = |layer: &Layer| {
            let deltas = record.deltas_to(layer.diff_id).map(|delta| delta.size);
            layer.encodings.iter().map(|blob| blob.size).chain(deltas).min()
        };
        let sizes: BTreeMap<Digest, Option<u64>> =
            record.layers.iter().map(|layer| (layer.diff_id, size(layer))).collect();
        let needed = contents.images.iter().flat_map(|image| &image.layers);
        contents.layers = needed.map(|layer| (*layer, sizes.get(layer).copied().flatten())).collect();
        contents
    }

    /// What a node holds.
    pub fn of_inventory(held: &Inventory) -> Self {
        let images = held.images.iter().map(|image| Item {
            names: image.names.clone(),
            platform: held.platform.clone(),
            id: image.config,
            layers: image.layers.clone(),
        });
        let unpacked = held.only_unpacked.iter().map(|image| Item {
            names: image.names.clone(),
            platform: held.platform.clone(),
            id: image.config,
            layers: image.layers.clone(),
        });
        let layers = held.layers.iter();
        let layers = layers.map(|(layer, blobs)| (*layer, blobs.iter().map(|blob| blob.size).min()));
        let mut layers: BTreeMap<Digest, Option<u64>> = layers.collect();
        for layer in held.only_unpacked.iter().flat_map(|image| &image.layers) {
            layers.entry(*layer).or_insert(None);
        }
        Self { platform: Some(held.platform.clone()), images: images.chain(unpacked).collect(), layers }
    }

    /// Only what a node of this platform would run.
    fn narrow(&self, node: &Platform) -> Self {
        let runs = runs_on(node);
        let rank = |item: &Item| runs.iter().position(|platform| *platform == item.platform);
        let mut best: BTreeMap<&Names, (usize, &Item)> = BTreeMap::new();
        for item in &self.images {
            let Some(rank) = rank(item) else { continue };
            let known = best.entry(&item.names).or_insert((rank, item));
            if rank < known.0 {
                *known = (rank, item);
            }
        }
        let item = |(_, item): (usize, &Item)| Item { platform: node.clone(), ..item.clone() };
        let images: Vec<Item> = best.into_values().map(item).collect();
        let needed: BTreeSet<&Digest> = images.iter().flat_map(|image| &image.layers).collect();
        let layers = self.layers.iter().filter(|(layer, _)| needed.contains(layer));
        let layers = layers.map(|(layer, size)| (*layer, *size)).collect();
        Self { platform: Some(node.clone()), images, layers }
    }

    /// The images by the names that they are told apart by: those with a tag, else one by digest.
    ///
    /// A node has names by digest of every image, which no other side has.
    fn by_name(&self) -> BTreeMap<(String, String), &Item> {
        let mut names = BTreeMap::new();
        for item in &self.images {
            let mut tagged = item.names.iter().filter(|name| name.tag().is_some()).peekable();
            let alone = item.names.iter().next().filter(|_| tagged.peek().is_none());
            for name in tagged.chain(alone) {
                names.insert((name.to_string(), item.platform.to_string()), item);
            }
        }
        names
    }

    /// Of these layers, what `other` has in no encoding: how many, and bytes as they are here.
    fn lacking(&self, layers: &[Digest], other: &Self) -> (usize, u64) {
        let layers: BTreeSet<&Digest> = layers.iter().collect();
        let lacking = layers.into_iter().filter(|layer| !other.layers.contains_key(layer));
        let sizes = lacking.map(|layer| self.layers.get(layer).copied().flatten().unwrap_or(0));
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    fn image(&self, name: &(String, String), item: &Item, other: &Self) -> DiffImage {
        let (layers_lacking, bytes) = self.lacking(&item.layers, other);
        let (name, platform) = name.clone();
        DiffImage { name, platform, id: item.id, to: None, layers: item.layers.len(), layers_lacking, bytes }
    }

    /// The layers of the images that `other` has in no encoding.
    fn layers_lacking(&self, other: &Self) -> Vec<DiffLayer> {
        let needed: BTreeSet<Digest> =
            self.images.iter().flat_map(|image| image.layers.iter().copied()).collect();
        let lacking = needed.into_iter().filter(|layer| !other.layers.contains_key(layer));
        lacking
            .map(|diff_id| DiffLayer { diff_id, size: self.layers.get(&diff_id).copied().flatten() })
            .collect()
    }
}

impl Diff {
    /// Compares two sides. Where one is a node and the other is none, only what that node runs counts.
    pub fn new(a: &Contents, b: &Contents) -> Self {
        match (&a.platform, &b.platform) {
            (Some(node), None) => Self::between(a, &b.narrow(node)),
            (None, Some(node)) => Self::between(&a.narrow(node), b),
            _ => Self::between(a, b),
        }
    }

    fn between(a: &Contents, b: &Contents) -> Self {
        let mut diff = Self::default();
        let (before, after) = (a.by_name(), b.by_name());
        let ids = |contents: &Contents| contents.images.iter().map(|image| image.id).collect::<BTreeSet<_>>();
        let (ids_before, ids_after) = (ids(a), ids(b));
        // What has no tag has no name that both sides would know.
        let nameless = |name: &str| name.contains('@');
        for (name, item) in &after {
            match before.get(name) {
                Some(old) if old.id == item.id => diff.same += 1,
                Some(old) => {
                    diff.changed.push(DiffImage { id: old.id, to: Some(item.id), ..b.image(name, item, a) });
                }
                None if nameless(&name.0) && ids_before.contains(&item.id) => diff.same += 1,
                None => diff.added.push(b.image(name, item, a)),
            }
        }
        for (name, item) in before.iter().filter(|(name, _)| !after.contains_key(name)) {
            if !(nameless(&name.0) && ids_after.contains(&item.id)) {
                diff.removed.push(a.image(name, item, b));
            }
        }
        diff.layers_added = b.layers_lacking(a);
        diff.layers_removed = a.layers_lacking(b);
        let needed: BTreeSet<&Digest> = b.images.iter().flat_map(|image| &image.layers).collect();
        diff.layers_same = needed.len() - diff.layers_added.len();
        diff.bytes_to_carry = diff.layers_added.iter().filter_map(|layer| layer.size).sum();
        diff.layers_elsewhere = diff.layers_added.iter().filter(|layer| layer.size.is_none()).count();
        diff
    }

    /// Whether both sides have the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Compression, Descriptor};
    use crate::inventory::HeldImage;

    fn id(seed: &str) -> Digest {
        Digest::of(seed.as_bytes())
    }

    /// Images as `NAME PLATFORM LAYER...`; the id is that of the layers.
    fn contents(images: &[&str]) -> Contents {
        let mut contents = Contents::default();
        for image in images {
            let mut words = image.split(' ');
            let (name, platform) = (words.next().unwrap(), words.next().unwrap());
            let layers: Vec<Digest> = words.map(id).collect();
            contents.layers.extend(layers.iter().map(|layer| (*layer, Some(10))));
            contents.images.push(Item {
                names: [name.parse().unwrap()].into(),
                platform: platform.parse().unwrap(),
                id: Digest::of(format!("{layers:?}").as_bytes()),
                layers,
            });
        }
        contents
    }

    fn names(images: &[DiffImage]) -> Vec<&str> {
        images.iter().map(|image| image.name.trim_start_matches("docker.io/library/")).collect()
    }

    #[test]
    fn names_are_added_removed_changed_or_the_same() {
        let a = contents(&["same:1 linux/amd64 x", "app:1 linux/amd64 x old", "gone:1 linux/amd64 y"]);
        let b = contents(&["same:1 linux/amd64 x", "app:1 linux/amd64 x new", "more:1 linux/amd64 x new z"]);
        let diff = Diff::new(&a, &b);
        assert_eq!(names(&diff.added), ["more:1"]);
        assert_eq!(names(&diff.removed), ["gone:1"]);
        assert_eq!(names(&diff.changed), ["app:1"]);
        assert_eq!((diff.same, diff.layers_same), (1, 1));
        assert_eq!((diff.layers_added.len(), diff.bytes_to_carry), (2, 20), "a shared layer counts once");
        assert_eq!(diff.layers_removed.len(), 2);
        let changed = &diff.changed[0];
        assert_eq!((changed.layers, changed.layers_lacking, changed.bytes), (2, 1, 10));
        assert!(changed.to.is_some_and(|to| to != changed.id));
        let mut top_up = b.clone();
        top_up.layers.insert(id("new"), None);
        let diff = Diff::new(&a, &top_up);
        assert_eq!((diff.bytes_to_carry, diff.layers_elsewhere), (10, 1));
        let same = Diff::new(&a, &a);
        assert!(same.is_empty() && same.bytes_to_carry == 0);
    }

    #[test]
    fn of_several_platforms_the_one_counts_that_the_node_runs() {
        let mut node = contents(&["app:1 linux/amd64 x"]);
        node.platform = Some("linux/amd64".parse().unwrap());
        let medium = contents(&["app:1 linux/amd64 x", "app:1 linux/arm64 y", "arm:1 linux/arm64 z"]);
        for diff in [Diff::new(&node, &medium), Diff::new(&medium, &node)] {
            assert!(diff.is_empty() && diff.layers_added.is_empty(), "{diff:?}");
            assert_eq!(diff.same, 1);
        }
        assert_eq!(Diff::new(&contents(&[]), &medium).added.len(), 3);
    }

    #[test]
    fn names_by_digest_that_a_node_has_besides_are_no_difference() {
        let layer = Descriptor::of(Compression::Gzip.oci_layer_type(), b"blob");
        let mut held =
            Inventory::empty("linux/amd64".parse().unwrap(), String::new(), Vec::new(), String::new());
        held.layers.insert(id("x"), vec![layer]);
        let digest = format!("app@{}", id("manifest"));
        let image = |names: &[&str]| HeldImage {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            config: id("config"),
            layers: vec![id("x")],
            unpacked: None,
        };
        held.images = vec![image(&["app:1", &digest])];
        let tagged = Contents::of_inventory(&held);
        held.images = vec![image(&[&digest])];
        let by_digest = Contents::of_inventory(&held);
        let mut medium = tagged.clone();
        medium.platform = None;
        assert!(Diff::new(&tagged, &medium).is_empty());
        let diff = Diff::new(&by_digest, &medium);
        assert_eq!((diff.added.len(), diff.removed.len()), (1, 0), "{diff:?}");
    }
}
