//! The names of an image on a node, and what each of them points at.
//!
//! A name by digest points at just that digest, whatever encodings the node's own manifest lists: programs that
//! list images refuse a record which says otherwise. The source's documents name layers that are not on the node
//! in that encoding; a container stands on what is unpacked, which the config leads to.

use std::collections::BTreeMap;

use super::{Held, ImagePlan, LayerVerdict, WantedImage, runs_on};
use crate::image::{Descriptor, Digest, Index, Platform};

/// A name of an image, and what has to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedName {
    /// The name as containerd records it.
    pub name: String,
    /// What it will point at.
    pub target: Descriptor,
    /// What is done, and why.
    pub verdict: NameVerdict,
}

/// What is done about a name, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameVerdict {
    /// It points where it should.
    Present,
    /// It points where it should, but lacks the pin.
    Pin,
    /// The node does not know it.
    Add,
    /// It stands for the image, but points at another document of it.
    Correct,
    /// It stands for something else.
    Move(Box<Moved>),
}

/// What a name stood for that is moved. Boxed in a verdict: few names are moved, and a node has many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it pointed at.
    pub from: Descriptor,
    /// The image id it stood for, if that is known.
    pub was: Option<Digest>,
}

impl NameVerdict {
    /// Whether a record is made or changed so that it points elsewhere.
    pub fn makes(&self) -> bool {
        matches!(self, Self::Add | Self::Correct | Self::Move(_))
    }
}

impl WantedImage {
    /// Every name under which pods may ask for the image, judged: tags, and the digests of the node's
    /// `target`, of the source's index and of the source's manifest.
    ///
    /// Where it is not `unpacked`, containerd unpacks it when the first container starts, and needs the layers
    /// that a name leads to: then all of them point at the target. So does the digest of an index from which
    /// containerd would take another manifest.
    pub(super) fn plan_names(
        &self,
        target: &Descriptor,
        held: &Held,
        unpacked: bool,
        pin: bool,
    ) -> Vec<PlannedName> {
        let mut names: BTreeMap<String, &Descriptor> = self.tagged().map(|name| (name, target)).collect();
        names.extend(self.names_of(target).map(|name| (name, target)));
        for document in [&self.original_manifest, &self.original] {
            let leads = document.digest == self.original_manifest.digest || self.way.is_some();
            let points_at = if unpacked && leads { document } else { target };
            for name in self.names_of(document) {
                names.entry(name).or_insert(points_at);
            }
        }
        let judge = |(name, points_at): (String, &Descriptor)| {
            let verdict = held.judge_name(&name, points_at, target, self.config.digest, pin);
            PlannedName { name, target: points_at.clone(), verdict }
        };
        names.into_iter().map(judge).collect()
    }

    /// The source's indexes from the one that was exported down to the manifest, where containerd comes to that.
    pub fn indexes(&self) -> impl Iterator<Item = &Descriptor> {
        let original = Some(&self.original).filter(|index| index.digest != self.original_manifest.digest);
        original.into_iter().chain(self.way.iter().flatten())
    }
}

impl Held {
    /// What has to be done so that `name` points at `points_at`, of an image with this config whose manifest on
    /// the node is `target`.
    fn judge_name(
        &self,
        name: &str,
        points_at: &Descriptor,
        target: &Descriptor,
        config: Digest,
        pin: bool,
    ) -> NameVerdict {
        let Some(held) = self.names.get(name) else { return NameVerdict::Add };
        let manifest = held.manifest.as_ref();
        // A name with a tag may point at an index that comes down to the manifest.
        let comes_down = manifest.is_some_and(|manifest| manifest.manifest.digest == target.digest);
        let is_free = points_at.digest == target.digest && !name.ends_with(&format!("@{}", target.digest));
        match held.target.digest == points_at.digest || (is_free && comes_down) {
            true if pin && !held.pinned => NameVerdict::Pin,
            true => NameVerdict::Present,
            false if manifest.is_some_and(|manifest| manifest.config == config) => NameVerdict::Correct,
            false => NameVerdict::Move(Box::new(Moved {
                from: held.target.clone(),
                was: manifest.map(|manifest| manifest.config),
            })),
        }
    }
}

/// The entry of an index that containerd takes for an image on `node`: the first of the platform it likes best,
/// else the first without one. It does not look whether that is there (containerd, `images.Manifest`).
pub fn entry_taken<'a>(index: &'a Index, node: &Platform) -> Option<&'a Descriptor> {
    let of = |platform: Option<&Platform>| {
        index
            .manifests
            .iter()
            .find(|child| child.platform.as_ref() == platform)
            .map(|child| &child.descriptor)
    };
    runs_on(node).iter().find_map(|platform| of(Some(platform))).or_else(|| of(None))
}

/// The blobs that a document of an image keeps alive, as labels: the key's suffix and the child's digest.
///
/// Of the manifest that the node has, exactly what containerd's own client sets (`images.ChildGCLabels`), and the
/// proof besides. Of the source's documents what a container needs which is started by their digests; their
/// layers are not, since what is unpacked stands for them.
pub fn document_labels(image: &ImagePlan, document: Digest) -> BTreeMap<String, Digest> {
    let wanted = &image.wanted;
    // Named by the digest: an image that came from elsewhere with another original may have this very
    // document too, and what one of them adds is not to take the place of the other's.
    let own = |child: Digest| (format!("pannier.{}", &child.hex()[..12]), child);
    if document == image.target.digest {
        let mut labels = BTreeMap::from([("config".to_owned(), wanted.config.digest)]);
        for (n, (layer, verdict)) in image.layers.iter().enumerate() {
            if *verdict != LayerVerdict::Discarded && !image.discards {
                labels.insert(format!("l.{n}"), layer.digest);
            }
        }
        labels.extend(image.proof().map(|proof| own(proof.digest)));
        return labels;
    }
    if !image.unpacked {
        return BTreeMap::new();
    }
    if document == wanted.original_manifest.digest {
        return BTreeMap::from([("config".to_owned(), wanted.config.digest)]);
    }
    let below = wanted.indexes().skip(1).chain([&wanted.original_manifest]);
    let mut pairs = wanted.indexes().zip(below);
    let child = pairs.find(|(index, _)| index.digest == document).map(|(_, child)| child.digest);
    child.into_iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{after, empty, plan, wanted};
    use super::*;
    use crate::image::{Child, OCI_INDEX, OCI_MANIFEST};

    fn targets(plan: &super::super::ImportPlan) -> Vec<(&str, Digest)> {
        let names = plan.images[0].names.iter();
        names
            .map(|name| (name.name.trim_start_matches("docker.io/library/app"), name.target.digest))
            .collect()
    }

    #[test]
    fn a_digest_points_at_itself_and_a_tag_at_what_the_node_has() {
        let image = wanted(&["a"]);
        let plan = plan(image.clone(), &empty());
        let carried = image.carried_manifest.digest;
        for (name, target) in targets(&plan) {
            match name.strip_prefix('@') {
                Some(digest) => assert_eq!(digest, target.to_string()),
                None => assert_eq!((name, target), (":1", carried)),
            }
        }
        assert_eq!(plan.images[0].names.len(), 4);
    }

    #[test]
    fn all_names_point_at_what_the_node_has_where_it_is_not_unpacked_or_the_index_leads_elsewhere() {
        let held = empty();
        for (way, unpacked, others) in
            [(Some(Vec::new()), false, 0), (None, true, 1), (Some(Vec::new()), true, 2)]
        {
            let image = WantedImage { way, ..wanted(&["a"]) };
            let names = image.plan_names(&image.carried_manifest, &held, unpacked, true);
            let other = |name: &&PlannedName| name.target.digest != image.carried_manifest.digest;
            assert_eq!(names.iter().filter(other).count(), others);
        }
    }

    #[test]
    fn names_of_before_are_corrected_and_nothing_is_sent() {
        let image = wanted(&["a"]);
        let first = plan(image.clone(), &empty());
        let mut held = after(&first, &empty());
        // Until 0.1.0 all names pointed at the node's manifest.
        let tag = held.names["docker.io/library/app:1"].clone();
        held.names.values_mut().for_each(|name| *name = tag.clone());
        let again = plan(image.clone(), &held);
        assert!(again.sends.is_empty() && again.unpacks.is_empty() && !again.is_done());
        let corrected = { again.images[0].names.iter() }.filter(|name| name.verdict == NameVerdict::Correct);
        assert_eq!(corrected.count(), 2);
        assert!(plan(image, &after(&again, &held)).is_done());
    }

    #[test]
    fn what_the_originals_list_is_kept_but_for_layers() {
        let mut image = wanted(&["a"]);
        let inner = Descriptor::of(OCI_INDEX, b"inner");
        image.way = Some(vec![inner.clone()]);
        let plan = plan(image.clone(), &empty());
        let of = |digest| document_labels(&plan.images[0], digest).into_values().collect::<Vec<_>>();
        assert_eq!(of(image.original.digest), [inner.digest]);
        assert_eq!(of(inner.digest), [image.original_manifest.digest]);
        assert_eq!(of(image.original_manifest.digest), [image.config.digest]);
        let target = of(image.carried_manifest.digest);
        for kept in [&image.config, &image.layers[0].carried, &image.original, &inner] {
            assert!(target.contains(&kept.digest), "{kept:?}");
        }
        let sent: Vec<Digest> = plan.sends.iter().map(|send| send.blob.digest).collect();
        assert!(sent.contains(&inner.digest));
    }

    #[test]
    fn containerd_takes_the_first_entry_of_the_best_platform() {
        let entry = |name: &str, platform: Option<&str>| Child {
            descriptor: Descriptor::of(OCI_MANIFEST, name.as_bytes()),
            platform: platform.map(|text| text.parse().unwrap()),
            annotations: Default::default(),
            urls: Default::default(),
        };
        let index = |manifests| Index { manifests };
        let all = index(vec![
            entry("none", None),
            entry("386", Some("linux/386")),
            entry("amd64", Some("linux/amd64")),
            entry("second", Some("linux/amd64")),
        ]);
        let taken = |index: &Index, node: &str| entry_taken(index, &node.parse().unwrap()).map(|d| d.digest);
        let digest = |name: &str| Some(Digest::of(name.as_bytes()));
        assert_eq!(taken(&all, "linux/amd64"), digest("amd64"));
        assert_eq!(taken(&all, "linux/arm64"), digest("none"));
        let one = index(vec![entry("386", Some("linux/386"))]);
        assert_eq!((taken(&one, "linux/amd64"), taken(&one, "linux/s390x")), (digest("386"), None));
    }
}
