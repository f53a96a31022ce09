//! `index.json`: derived from the commit record, for other tools to read.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::root::Root;
use super::{Medium, durable};
use crate::error::{Error, Result};
use crate::image::json::{self, Keys};
use crate::image::{Child, Index, MAX_MANIFEST, OCI_INDEX};
use crate::record::{FILES_NAME, FILES_TYPE};
use crate::record::{Image, Record};

/// On each of our entries: the digest that the source had under the name. Tells them from entries
/// that another tool made.
const ORIGINAL: &str = "io.pannier.original.digest";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Where an index.json that cannot be read is kept before a new one is written.
const DAMAGED: &str = ".pannier/damaged-index.json";

/// Whether `index.json` has an entry that Pannier made: a guess, for a message.
pub(super) fn has_ours(root: &Root) -> bool {
    let bytes = root.read("index.json", MAX_MANIFEST).ok().flatten().unwrap_or_default();
    bytes.windows(ORIGINAL.len()).any(|text| text == ORIGINAL.as_bytes())
}

/// An entry of `index.json` that another tool made.
#[derive(Clone, Debug)]
pub struct ForeignEntry {
    /// The entry.
    pub entry: Child,
}

/// How `index.json` stands to the commit record.
#[derive(Clone, Debug)]
pub enum IndexState {
    /// It is not there.
    Missing,
    /// It cannot be read: why.
    Damaged(String),
    /// It can be read.
    Present {
        /// Names of our entries that the record says should be there, and are not as it says.
        missing: Vec<String>,
        /// Names or digests of our entries that the record knows nothing of.
        unexpected: Vec<String>,
        /// What other tools put there.
        foreign: Vec<ForeignEntry>,
    },
}

impl Medium {
    /// Writes `index.json` as the newest record says, keeping the entries of other tools.
    ///
    /// An `index.json` that cannot be read is kept beside it; the answer says so.
    pub fn write_index(&self) -> Result<IndexWritten> {
        let Some(record) = self.record() else { return Ok(IndexWritten::Unchanged) };
        // One that is too long to be read is treated like one that makes no sense.
        let current = match self.root.read("index.json", MAX_MANIFEST) {
            Err(Error::Invalid { .. }) => Some(Vec::new()),
            other => other?,
        };
        let mut written = IndexWritten::Written;
        let foreign = match current.as_deref().map(foreign_entries) {
            None => Vec::new(),
            Some(Ok(foreign)) => foreign,
            Some(Err(_)) => {
                durable::publish(&self.root, "index.json", DAMAGED)?;
                written = IndexWritten::DamagedKept(DAMAGED);
                Vec::new()
            }
        };
        let bytes = derive(record, foreign);
        if current.as_deref() == Some(&bytes) {
            return Ok(IndexWritten::Unchanged);
        }
        durable::replace(&self.root, "index.json", &bytes)?;
        Ok(written)
    }

    /// Compares `index.json` with the newest record.
    pub fn index_state(&self) -> Result<IndexState> {
        let bytes = match self.root.read("index.json", MAX_MANIFEST) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(IndexState::Missing),
            Err(Error::Invalid { reason, .. }) => return Ok(IndexState::Damaged(reason)),
            Err(other) => return Err(other),
        };
        let found = match entries(&bytes).and_then(|entries| Ok((entries, Index::parse(&bytes)?))) {
            Ok((entries, index)) => entries.into_iter().zip(index.manifests),
            Err(reason) => return Ok(IndexState::Damaged(reason)),
        };
        let mut missing: Vec<Value> =
            self.record().map(|record| own_entries(record).collect()).unwrap_or_default();
        let (mut unexpected, mut foreign) = (Vec::new(), Vec::new());
        for (value, entry) in found {
            if let Some(at) = missing.iter().position(|own| *own == value) {
                missing.swap_remove(at);
            } else if is_ours(&value) {
                unexpected.push(entry_name(&value));
            } else {
                foreign.push(ForeignEntry { entry });
            }
        }
        let mut missing: Vec<String> = missing.iter().map(entry_name).collect();
        missing.sort();
        Ok(IndexState::Present { missing, unexpected, foreign })
    }
}

/// What [`Medium::write_index`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexWritten {
    /// It was right already.
    Unchanged,
    /// It was written.
    Written,
    /// It was written; the old one could not be read, and is kept under this name.
    DamagedKept(&'static str),
}

fn derive(record: &Record, foreign: Vec<Value>) -> Vec<u8> {
    // One entry at a time: as a tree, all of them take ten times their text.
    let mut bytes = b"{\"manifests\":[".to_vec();
    for (place, entry) in foreign.into_iter().chain(own_entries(record)).enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(entry.to_string().as_bytes());
    }
    bytes.extend_from_slice(format!("],\"mediaType\":\"{OCI_INDEX}\",\"schemaVersion\":2}}").as_bytes());
    bytes
}

/// One entry for each name: a tag alone would be ambiguous in a set, so the full name is given in
/// both annotations that tools look at.
fn own_entries(record: &Record) -> impl Iterator<Item = Value> {
    let mut named: Vec<(String, &Image)> = record
        .images
        .iter()
        // Of the others layers are missing here: other tools would fail in the middle of a copy.
        .filter(|image| record.is_whole(image))
        .flat_map(|image| image.names.iter().map(move |name| (name.to_string(), image)))
        .collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let images = named.into_iter().map(|(name, image)| {
        json!({
            "mediaType": image.carried.media_type,
            "digest": image.carried.digest,
            "size": image.carried.size,
            "annotations": {
                CONTAINERD_NAME: name,
                REF_NAME: name,
                ORIGINAL: image.original.digest,
            },
        })
    });
    images.chain(referrer_entries(record)).chain(files_entry(record))
}

/// The entry of the files beside the images, under a short name: `oras pull --oci-layout MEDIUM:files`.
fn files_entry(record: &Record) -> Option<Value> {
    let manifest = record.files_manifest.as_ref()?;
    Some(json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "artifactType": FILES_TYPE,
        "annotations": { REF_NAME: FILES_NAME, ORIGINAL: manifest.digest },
    }))
}

/// One entry for each referrer: under the name by which cosign looks for it, or, as `oras` has them, by
/// digest alone. None has containerd's name, since a node has no use for them, and their subjects have
/// no entry: the original's layers are not here in its encoding.
fn referrer_entries(record: &Record) -> impl Iterator<Item = Value> {
    let referrers = record.images.iter().flat_map(|image| &image.referrers);
    let by_key = referrers.map(|r| ((r.descriptor.digest, r.name.as_ref().map(ToString::to_string)), r));
    by_key.collect::<BTreeMap<_, _>>().into_iter().map(|((_, name), referrer)| {
        let mut entry = json!({
            "mediaType": referrer.descriptor.media_type,
            "digest": referrer.descriptor.digest,
            "size": referrer.descriptor.size,
            "annotations": { ORIGINAL: referrer.descriptor.digest },
        });
        if let Some(artifact_type) = &referrer.artifact_type {
            entry["artifactType"] = artifact_type.clone().into();
        }
        if let Some(name) = name {
            entry["annotations"][REF_NAME] = name.into();
        }
        entry
    })
}

/// The entries as they are, so that what another tool wrote is kept to the last field.
fn entries(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut index: Map<String, Value> =
        json::read(bytes, Keys::Manifest).map_err(|error| format!("not an index: {error}"))?;
    match index.remove("manifests") {
        Some(Value::Array(entries)) => Ok(entries),
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err("not an index: its manifests are no list".into()),
    }
}

/// Those of other tools among them; ours are let go of as they are read.
fn foreign_entries(bytes: &[u8]) -> Result<Vec<Value>, String> {
    #[derive(Deserialize)]
    struct Entries {
        #[serde(default)]
        manifests: Option<Foreign>,
    }
    let entries: Entries =
        json::read(bytes, Keys::Manifest).map_err(|error| format!("not an index: {error}"))?;
    Ok(entries.manifests.map(|foreign| foreign.0).unwrap_or_default())
}

struct Foreign(Vec<Value>);

impl<'de> Deserialize<'de> for Foreign {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Foreign;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of manifests")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Foreign, A::Error> {
                let mut foreign = Vec::new();
                while let Some(entry) = list.next_element::<Value>()? {
                    if !is_ours(&entry) {
                        foreign.push(entry);
                    }
                }
                Ok(Foreign(foreign))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

fn is_ours(entry: &Value) -> bool {
    entry["annotations"][ORIGINAL].is_string()
}

fn entry_name(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&entry["annotations"][REF_NAME])
        .or_else(|| text(&entry["digest"]))
        .unwrap_or_else(|| "an entry without a name".into())
}
