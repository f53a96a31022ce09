//! Which images an import takes away: those that imports brought and that the medium no longer has.
//!
//! Pure: from the newest record, the names that imports made on the node, and what uses images.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::image::{Descriptor, Digest};
use crate::record::{Image, Origin, Record};

/// Whose images are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that came from the same medium.
    Medium,
    /// Those that came from any medium.
    All,
}

/// A name on the node that an import made, and that still stands for the same image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedName {
    /// The name, as containerd spells it.
    pub name: String,
    /// What it points at.
    pub target: Descriptor,
    /// The image id: the digest of the config.
    pub image: Digest,
    /// The id of the medium.
    pub medium: String,
    /// The sequence of the export.
    pub sequence: u64,
}

/// What is taken away, and what only seems to be unwanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// The images, by their first name.
    pub images: Vec<PruneImage>,
}

/// An image that the medium no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneImage {
    /// The image id.
    pub id: Digest,
    /// The names to remove, and what they point at. Names that were not made by such an import stay.
    pub names: BTreeMap<String, Descriptor>,
    /// What becomes of it.
    pub verdict: PruneVerdict,
}

/// What becomes of an image that the medium no longer has, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PruneVerdict {
    /// Its names are removed.
    Remove,
    /// It stays: these use it.
    InUse(Vec<String>),
    /// It stays: it came with a later export than the medium's newest, which this is an older copy of.
    Later(u64),
}

/// The images of a medium, as far as pruning asks.
#[derive(Debug)]
pub struct Kept {
    medium: String,
    sequence: u64,
    /// The media that it is a copy of, and their sequences then.
    origins: Vec<Origin>,
    images: HashSet<Digest>,
    names: HashSet<String>,
}

impl Kept {
    /// All images of the newest record, on every platform.
    pub fn of(record: &Record) -> Self {
        let platforms = record.images.iter().flat_map(|image| &image.platforms);
        Self {
            medium: record.medium.clone(),
            sequence: record.sequence,
            origins: record.cloned_from.clone(),
            images: platforms.map(|platform| platform.config.digest).collect(),
            names: record.images.iter().flat_map(names).collect(),
        }
    }

    /// Whether a name came from this medium, or from what it is a copy of before they parted.
    fn is_of_chain(&self, name: &ImportedName) -> bool {
        let of = |origin: &Origin| origin.medium == name.medium && name.sequence <= origin.sequence;
        name.medium == self.medium || self.origins.iter().any(of)
    }

    /// Whether an image may have to go: the medium does not have it.
    pub fn lacks(&self, image: &Digest) -> bool {
        !self.images.contains(image)
    }
}

/// Every name that an image of the medium may have on a node.
fn names(image: &Image) -> BTreeSet<String> {
    let platforms = image.platforms.iter().flat_map(|p| [p.original.digest, p.carried.digest]);
    let digests: Vec<Digest> = platforms.chain([image.original.digest, image.carried.digest]).collect();
    let mut names = BTreeSet::new();
    for name in &image.names {
        names.extend(name.tag().map(|tag| format!("{}:{tag}", name.repository())));
        names.extend(digests.iter().map(|digest| name.with_digest(*digest).to_string()));
    }
    names
}

impl PrunePlan {
    /// Finds the images that have to go.
    ///
    /// An image stays under all its names while one of them is a name that the medium has for another
    /// image: that one was not imported yet. `moving` are names that an import is about to move.
    pub fn new(
        kept: &Kept,
        imported: &[ImportedName],
        uses: &HashMap<Digest, Vec<String>>,
        moving: &HashSet<&str>,
        scope: Scope,
    ) -> Self {
        let mut images: BTreeMap<Digest, Vec<&ImportedName>> = BTreeMap::new();
        for name in imported.iter().filter(|name| kept.lacks(&name.image)) {
            if !moving.contains(name.name.as_str()) {
                images.entry(name.image).or_default().push(name);
            }
        }
        images.retain(|_, names| !names.iter().any(|name| kept.names.contains(&name.name)));
        let judge = |(id, names): (Digest, Vec<&ImportedName>)| {
            let own = |name: &&&ImportedName| scope == Scope::All || kept.is_of_chain(name);
            let own: Vec<&&ImportedName> = names.iter().filter(own).collect();
            let later = own.iter().filter(|name| name.medium == kept.medium).map(|name| name.sequence).max();
            let verdict = match (later.filter(|last| *last > kept.sequence), uses.get(&id)) {
                (Some(last), _) => PruneVerdict::Later(last),
                (None, Some(users)) if !users.is_empty() => PruneVerdict::InUse(users.clone()),
                (None, _) => PruneVerdict::Remove,
            };
            let names: BTreeMap<_, _> =
                own.into_iter().map(|name| (name.name.clone(), name.target.clone())).collect();
            (!names.is_empty()).then_some(PruneImage { id, names, verdict })
        };
        let mut images: Vec<PruneImage> = images.into_iter().filter_map(judge).collect();
        images.sort_by(|a, b| a.label().cmp(b.label()));
        Self { images }
    }

    /// The images that are taken away.
    pub fn removed(&self) -> impl Iterator<Item = &PruneImage> {
        self.images.iter().filter(|image| image.verdict == PruneVerdict::Remove)
    }
}

impl PruneImage {
    /// The name to tell people: one with a tag, if there is any.
    pub fn label(&self) -> &str {
        let mut names = self.names.keys();
        let tagged = self.names.keys().find(|name| !name.contains('@'));
        tagged.or(names.next()).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Platform, Reference};
    use crate::record::ImagePlatform;

    const MEDIUM: &str = "m";

    fn id(seed: &str) -> Digest {
        Digest::of(seed.as_bytes())
    }

    fn blob(seed: &str) -> Descriptor {
        Descriptor::of("x", seed.as_bytes())
    }

    /// A record of export 5 with one image of this name and config.
    fn record(name: &str, config: &str) -> Record {
        let manifest = blob(&format!("manifest of {config}"));
        let platform = ImagePlatform {
            platform: Platform::host(),
            original: manifest.clone(),
            carried: manifest.clone(),
            config: blob(config),
            diff_ids: Vec::new(),
        };
        let mut record = Record::empty(MEDIUM.into());
        record.sequence = 5;
        record.images.push(Image {
            names: [name.parse::<Reference>().unwrap()].into(),
            original: manifest.clone(),
            carried: manifest,
            platforms: vec![platform],
            sequence: 5,
            referrers: Vec::new(),
        });
        record
    }

    fn name(name: &str, image: &str, medium: &str, sequence: u64) -> ImportedName {
        let (name, medium) = (name.to_owned(), medium.to_owned());
        ImportedName { name, target: blob(image), image: id(image), medium, sequence }
    }

    fn plan(imported: &[ImportedName], moving: &[&str], scope: Scope) -> Vec<(String, PruneVerdict)> {
        let uses = HashMap::from([(id("used"), vec!["container c".to_owned()])]);
        let kept = Kept::of(&record("app:2", "new"));
        let plan = PrunePlan::new(&kept, imported, &uses, &moving.iter().copied().collect(), scope);
        let shown =
            |image: PruneImage| (image.names.into_keys().collect::<Vec<_>>().join(" "), image.verdict);
        plan.images.into_iter().map(shown).collect()
    }

    #[test]
    fn what_the_medium_has_stays_and_what_it_dropped_goes_with_all_its_names() {
        let there = [
            name("docker.io/library/app:2", "new", MEDIUM, 5),
            name("docker.io/library/old:1", "old", MEDIUM, 1),
            name("docker.io/library/old@sha256:1", "old", MEDIUM, 1),
        ];
        let names = "docker.io/library/old:1 docker.io/library/old@sha256:1".to_owned();
        assert_eq!(plan(&there, &[], Scope::Medium), [(names, PruneVerdict::Remove)]);
    }

    #[test]
    fn what_is_used_stays_and_so_does_what_a_later_export_brought() {
        let there = [name("a:1", "used", MEDIUM, 1), name("b:1", "later", MEDIUM, 6)];
        let users = vec!["container c".to_owned()];
        assert_eq!(
            plan(&there, &[], Scope::Medium),
            [("a:1".into(), PruneVerdict::InUse(users)), ("b:1".into(), PruneVerdict::Later(6))]
        );
    }

    #[test]
    fn what_another_medium_brought_stays_unless_all_is_meant() {
        let there = [name("a:1", "a", "n", 9), name("b:1", "b", "n", 9), name("b:2", "b", MEDIUM, 1)];
        assert_eq!(plan(&there, &[], Scope::Medium), [("b:2".into(), PruneVerdict::Remove)]);
        let all = [("a:1".into(), PruneVerdict::Remove), ("b:1 b:2".into(), PruneVerdict::Remove)];
        assert_eq!(plan(&there, &[], Scope::All), all);
    }

    #[test]
    fn an_older_image_goes_only_once_its_name_has_moved() {
        let tag = "docker.io/library/app:2";
        let there = [name(tag, "old", MEDIUM, 1), name("docker.io/library/app@sha256:1", "old", MEDIUM, 1)];
        assert_eq!(plan(&there, &[], Scope::Medium), []);
        let alias = "docker.io/library/app@sha256:1".to_owned();
        assert_eq!(plan(&there, &[tag], Scope::Medium), [(alias, PruneVerdict::Remove)]);
    }

    #[test]
    fn a_copy_takes_away_what_both_brought_and_not_what_the_original_brought_after() {
        let mut copy = record("app:2", "new");
        copy.part_from_original(3, "c".into());
        let there = [
            name("docker.io/library/before:1", "before", MEDIUM, 3),
            name("docker.io/library/after:1", "after", MEDIUM, 4),
            name("docker.io/library/own:1", "own", "c", 4),
        ];
        let plan = PrunePlan::new(&Kept::of(&copy), &there, &HashMap::new(), &HashSet::new(), Scope::Medium);
        let names: Vec<&str> = plan.images.iter().map(PruneImage::label).collect();
        assert_eq!(names, ["docker.io/library/before:1", "docker.io/library/own:1"]);
    }
}
