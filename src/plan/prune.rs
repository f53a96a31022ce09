//! What a prune of a medium takes away.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{Digest, Reference};
use crate::record::{FileName, Image, Pruned, Record, Role};

/// What is to go.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names. An image goes with its last name.
    pub names: BTreeSet<Reference>,
    /// Files beside the images.
    pub files: BTreeSet<FileName>,
    /// Images go that were last exported before the newest exports, of which so many count.
    pub keep: Option<usize>,
    /// Whether blobs go as well that nothing refers to, whoever left them there.
    pub unreferenced: bool,
}

/// What is on the medium besides the newest record.
#[derive(Clone, Debug, Default)]
pub struct BesideRecord {
    /// What each index that the record names lists.
    pub lists: BTreeMap<Digest, Vec<Digest>>,
    /// What the entries of other tools in `index.json` lead to.
    pub foreign: BTreeSet<Digest>,
    /// What older records name.
    pub before: BTreeSet<Digest>,
    /// The blobs that are there, and their lengths in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// The deltas that are there, and their lengths in bytes.
    pub deltas: BTreeMap<Digest, u64>,
}

/// A prune.
#[derive(Clone, Debug)]
pub struct Pruning {
    /// The names that go.
    pub names: BTreeSet<Reference>,
    /// The files that go.
    pub files: BTreeSet<FileName>,
    /// Names of images and files that an earlier prune took away.
    pub already: BTreeSet<String>,
    /// How many images go altogether.
    pub images: usize,
    /// The state afterwards.
    pub next: Record,
    /// Documents that it names and that may have to be written.
    pub documents: Vec<Vec<u8>>,
    /// Whether that is another state than the one before.
    pub changed: bool,
    /// Blobs that are deleted, and their lengths in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Deltas that are deleted, and their lengths in bytes.
    pub deltas: BTreeMap<Digest, u64>,
    /// Blobs that nothing refers to and that stay, since it is not known whose they are.
    pub strays: usize,
}

impl Pruning {
    /// Plans it. The error is the first name that is not on the medium.
    ///
    /// Layers are kept in every encoding, as long as an image needs them. What other tools' entries need
    /// is kept whatever else is true of it.
    pub fn new(record: &Record, around: &BesideRecord, selection: &Selection) -> Result<Self, String> {
        let pruned = record.pruned.clone().unwrap_or_default();
        let images = selection.names.iter().map(|name| {
            let there = record.images.iter().any(|image| image.names.contains(name));
            (name.to_string(), there)
        });
        let files = selection.files.iter().map(|name| (name.to_string(), record.file(name).is_some()));
        let absent = images.chain(files).filter(|(_, there)| !there);
        let already: BTreeSet<String> = absent.map(|(name, _)| name).collect();
        if let Some(unknown) = already.difference(&pruned.names).next() {
            return Err(unknown.clone());
        }
        let oldest = selection.keep.map_or(0, |keep| oldest_kept(record, keep));
        let mut next = record.clone();
        let mut names = BTreeSet::new();
        for image in &mut next.images {
            let goes = |name: &Reference| image.sequence < oldest || selection.names.contains(name);
            let (gone, stay): (Vec<_>, Vec<_>) = image.names.iter().cloned().partition(goes);
            image.names = stay.into_iter().collect();
            names.extend(gone);
        }
        next.images.retain(|image| !image.names.is_empty());
        let images = record.images.len() - next.images.len();
        let there = selection.files.iter().filter_map(|name| record.file(name));
        let files: BTreeSet<FileName> = there.map(|file| file.name.clone()).collect();
        let documents = if files.is_empty() { Vec::new() } else { next.drop_files(&files) };
        reduce(&mut next, around);
        let changed = next != *record;

        let named = next.named();
        let ours: BTreeSet<Digest> =
            record.named().union(&around.before).chain(&pruned.blobs).copied().collect();
        let goes = |digest: &Digest| !named.contains(digest) && !around.foreign.contains(digest);
        let dropped = |digest: &Digest| goes(digest) && (ours.contains(digest) || selection.unreferenced);
        let chosen = |files: &BTreeMap<Digest, u64>| -> BTreeMap<Digest, u64> {
            files.iter().filter(|(digest, _)| dropped(digest)).map(|(d, size)| (*d, *size)).collect()
        };
        let (blobs, deltas) = (chosen(&around.blobs), chosen(&around.deltas));
        let strays = around.blobs.keys().filter(|digest| goes(digest) && !dropped(digest)).count();
        if changed {
            let blobs = blobs.keys().chain(deltas.keys()).copied().collect();
            let dropped = names.iter().map(ToString::to_string).chain(files.iter().map(ToString::to_string));
            next.pruned = Some(Pruned { names: dropped.chain(already.iter().cloned()).collect(), blobs });
        }
        Ok(Self { names, files, already, images, next, documents, changed, blobs, deltas, strays })
    }

    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        !self.changed && self.blobs.is_empty() && self.deltas.is_empty()
    }

    /// Everything that is deleted.
    pub fn deleted(&self) -> BTreeSet<Digest> {
        self.blobs.keys().chain(self.deltas.keys()).copied().collect()
    }

    /// Bytes that become free, at least.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().chain(self.deltas.values()).sum()
    }
}

/// The sequence of the `keep`th newest export that an image on the medium comes from.
fn oldest_kept(record: &Record, keep: usize) -> u64 {
    let exports: BTreeSet<u64> = record.images.iter().map(|image| image.sequence).collect();
    exports.iter().nth(exports.len().saturating_sub(keep)).copied().unwrap_or(0)
}

/// Drops from a record what its images do not need.
fn reduce(next: &mut Record, around: &BesideRecord) {
    let used: BTreeSet<Digest> = next
        .images
        .iter()
        .flat_map(|image| &image.platforms)
        .flat_map(|platform| platform.diff_ids.iter().copied())
        .collect();
    next.layers.retain(|layer| used.contains(&layer.diff_id));
    next.deltas.retain(|delta| used.contains(&delta.diff_id));
    let mut needed: BTreeSet<Digest> = next.needs().into_iter().flatten().collect();
    needed.extend(next.file_blobs());
    for image in &next.images {
        originals(image, next, around, &mut needed);
    }
    next.blobs.retain(|blob| needed.contains(&blob.digest));
    let named = next.named();
    next.encoded.retain(|encoded| named.contains(&encoded.digest));
    next.name_features();
}

/// Adds the indexes that lie between an image's original and its platforms.
fn originals(image: &Image, record: &Record, around: &BesideRecord, needed: &mut BTreeSet<Digest>) {
    let is_index = |digest: &Digest| {
        let blob = record.blobs.iter().find(|blob| blob.digest == *digest);
        blob.is_some_and(|blob| matches!(blob.role, Role::Index | Role::OriginalIndex))
    };
    let mut open = vec![image.original.digest];
    let mut seen = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if !seen.insert(digest) {
            continue;
        }
        for child in around.lists.get(&digest).into_iter().flatten().filter(|child| is_index(child)) {
            needed.insert(*child);
            open.push(*child);
        }
    }
}
