//! What is served: which tags there are and what each points at, which referrers, and why something is not
//! there. A value, made of records and of the documents that they name.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::documents::Documents;
use crate::image::{Descriptor, Digest, Reference};
use crate::record::{Image, Record};

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A manifest or an index of which everything is there.
    At(Digest),
    /// Nothing, since something of it is missing: what, as a sentence.
    Incomplete(String),
}

/// A referrer, as it is listed (distribution-spec, Listing Referrers).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations of its manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is served under which names.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    repositories: BTreeMap<String, BTreeMap<String, Tag>>,
    referrers: BTreeMap<Digest, Vec<Entry>>,
    absent: BTreeMap<Digest, &'static str>,
}

impl Shelf {
    /// What several media hold together. Where two of them have the same name, the first counts.
    ///
    /// `documents` are the manifests and indexes that could be read; what is not among them is not there.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>, documents: &Documents) -> Self {
        let records: Vec<&Record> = records.into_iter().collect();
        let mut shelf = Self::default();
        for record in records {
            for image in &record.images {
                let tag = tag_of(record, image, documents);
                image.names.iter().for_each(|name| shelf.put(name, tag.clone()));
                for referrer in &image.referrers {
                    match &referrer.name {
                        Some(name) => {
                            let found = documents
                                .complete(&referrer.descriptor)
                                .then_some(Tag::At(referrer.descriptor.digest));
                            let missing = || Tag::Incomplete("a part of it is not on the medium".into());
                            shelf.put(name, found.unwrap_or_else(missing));
                        }
                        None => shelf.refer(
                            referrer.subject,
                            documents.entry(&referrer.descriptor, referrer.artifact_type.clone()),
                        ),
                    }
                }
            }
            shelf.note_absent(record);
        }
        shelf
    }

    /// Adds a name. One without a tag adds its repository only; one that is there stays, unless it is not
    /// complete.
    pub fn put(&mut self, name: &Reference, tag: Tag) {
        let tags = self.repositories.entry(name.repository().to_owned()).or_default();
        if let Some(text) = name.tag()
            && !matches!(tags.get(text), Some(Tag::At(_)))
        {
            tags.insert(text.to_owned(), tag);
        }
    }

    /// Adds a referrer.
    pub fn refer(&mut self, subject: Digest, entry: Entry) {
        let entries = self.referrers.entry(subject).or_default();
        if !entries.iter().any(|known| known.descriptor.digest == entry.descriptor.digest) {
            entries.push(entry);
        }
    }

    fn note_absent(&mut self, record: &Record) {
        let there: BTreeSet<&Digest> = record.blobs.iter().map(|blob| &blob.digest).collect();
        let deltas: BTreeSet<&Digest> = record.deltas.iter().map(|delta| &delta.diff_id).collect();
        for layer in &record.layers {
            let reason = if deltas.contains(&layer.diff_id) {
                "this layer is carried as a delta, for nodes that hold the layer that it starts from"
            } else if layer.encodings.is_empty() {
                "this layer was left out, for nodes that hold it"
            } else {
                "this layer is carried in another compression than upstream's; pull the image by its tag or by the digest \
                 that `pannier digests` prints as carried"
            };
            let missing = layer.originals.iter().filter(|blob| !there.contains(&blob.digest));
            self.absent.extend(missing.map(|blob| (blob.digest, reason)));
        }
    }

    /// The repository, if it is there.
    pub fn repository(&self, name: &str) -> Option<&str> {
        self.repositories.get_key_value(name).map(|(name, _)| name.as_str())
    }

    /// All repositories, with their registries, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// The tags of a repository, in order, those that point at nothing among them.
    pub fn tags(&self, repository: &str) -> impl Iterator<Item = (&str, &Tag)> {
        self.repositories.get(repository).into_iter().flatten().map(|(tag, at)| (tag.as_str(), at))
    }

    /// What a tag stands for.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<&Tag> {
        self.repositories.get(repository)?.get(tag)
    }

    /// What refers to a manifest.
    pub fn referrers(&self, subject: &Digest) -> impl Iterator<Item = &Entry> {
        self.referrers.get(subject).into_iter().flatten()
    }

    /// Why a blob is not there, where that is known: a sentence.
    pub fn why_absent(&self, digest: &Digest) -> Option<&'static str> {
        self.absent.get(digest).copied()
    }
}

/// What the names of an image point at: what upstream has under them where all of it is there, else what is
/// carried for it.
pub(crate) fn tag_of(record: &Record, image: &Image, documents: &Documents) -> Tag {
    for whole in [&image.original, &image.carried] {
        if documents.complete(whole) {
            return Tag::At(whole.digest);
        }
    }
    let deltas: usize = image
        .platforms
        .iter()
        .flat_map(|platform| &platform.diff_ids)
        .filter(|diff_id| record.deltas_to(**diff_id).next().is_some())
        .count();
    Tag::Incomplete(match (record.left_out(image), deltas) {
        (0, 0) => "a part of it is not on the medium, or damaged; `pannier verify` tells".into(),
        (0, deltas) => {
            format!("{deltas} of its layers are carried as deltas, which only `pannier import` can use")
        }
        (absent, _) => format!(
            "{absent} of its layers were left out, for nodes that hold them; serve the medium that it rests on as well"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_is_complete_counts() {
        let mut shelf = Shelf::default();
        let name: Reference = "a.io/b:1".parse().unwrap();
        shelf.put(&name, Tag::Incomplete("x".into()));
        shelf.put(&name, Tag::At(Digest::of(b"1")));
        shelf.put(&name, Tag::At(Digest::of(b"2")));
        shelf.put(&name, Tag::Incomplete("y".into()));
        assert_eq!(shelf.tag("a.io/b", "1"), Some(&Tag::At(Digest::of(b"1"))));
        let digest: Reference = format!("a.io/c@{}", Digest::of(b"3")).parse().unwrap();
        shelf.put(&digest, Tag::At(Digest::of(b"3")));
        assert_eq!(shelf.repository("a.io/c"), Some("a.io/c"));
        assert_eq!(shelf.tags("a.io/c").count(), 0);
    }
}
