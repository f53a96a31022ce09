//! The commit record: the whole state of a medium after an export.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::basis::TopUp;
use super::delta::Delta;
use super::entries::{Blob, Encoded, Image, Layer, Role, exact};
use super::files::CarriedFile;
use super::lane::{Lane, Timestamp};
use super::level::Level;
use super::parts::Parts;
use super::plugged::Plugged;
use super::pruned::Pruned;
use super::root_file::{RootFile, RootName};
use super::volume::Volume;
use crate::image::{Descriptor, Digest, length};

/// The format this version writes, and the newest it reads.
pub(crate) const FORMAT: &str = "pannier-commit-v1";
/// What writes records: this version.
pub(crate) const TOOL: &str = concat!("pannier ", env!("CARGO_PKG_VERSION"));
/// On a record with deltas: a reader that does not know them would miss layers.
const DELTAS: &str = "deltas";
/// Layers are left out that nodes hold already.
const TOP_UP: &str = "top-up";
/// Files are carried beside the images: an export that does not know them would drop them.
const FILES: &str = "files";
/// Blobs lie in parts, where a reader that knows only `blobs/` would miss them.
const PARTS: &str = "parts";
/// It is for a lane.
const LANE: &str = "lane";
/// It expires.
const EXPIRES: &str = "expires";
/// The critical features that this version knows.
pub(super) const KNOWN: [&str; 6] = [DELTAS, TOP_UP, FILES, PARTS, LANE, EXPIRES];

/// The state of a medium after one export: every image, layer and blob it carries.
///
/// The file is JSON. Its first member is a checksum: the sha256 of the whole file with the
/// checksum's own 64 digits replaced by zeros, so that damage is found without a signature as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format's name and version.
    pub(super) format: String,
    /// Features that a reader has to know; one that it does not know makes it refuse the record.
    pub(super) critical: Vec<String>,
    /// The medium's own id, made up when it is first written: 32 hex digits.
    pub medium: String,
    /// The export's number, from 1.
    pub sequence: u64,
    /// The digest of the record file before this one.
    pub previous: Option<Digest>,
    /// When it was written (RFC 3339). For people; and no node believes afterwards that it is earlier.
    pub created: String,
    /// The version that wrote it.
    pub tool: String,
    /// Every image.
    #[serde(deserialize_with = "exact")]
    pub images: Vec<Image>,
    /// Every layer, by diff_id.
    #[serde(deserialize_with = "exact")]
    pub layers: Vec<Layer>,
    /// Every blob that the images and layers need.
    #[serde(deserialize_with = "exact")]
    pub blobs: Vec<Blob>,
    /// Layers that are carried as what differs from another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<Delta>,
    /// The lane that it travels in, where it does: whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// From when on no node takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What exports counted on that left out layers, or carried deltas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_ups: Vec<TopUp>,
    /// Layers that were recompressed with other than the usual settings, for whoever makes one again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encoded: Vec<Encoded>,
    /// The parity that was made of the blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// The files that are carried beside the images, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<CarriedFile>,
    /// The manifest that lists them for other tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_manifest: Option<Descriptor>,
    /// Which of several media this is, where a set was spread over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Where the medium was plugged in when the record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Plugged>,
    /// The media that this one is a copy of, the oldest first, and their sequences when it was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloned_from: Vec<Origin>,
    /// How everything that the record names was verified before it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Level>,
    /// What a prune took away, so that it can be completed when it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// The blobs that are carried in parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Parts>,
    /// Copies of blobs at the root of the medium.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root: Vec<RootFile>,
}

/// A medium that another one was copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its id.
    pub medium: String,
    /// The last sequence that both have.
    pub sequence: u64,
}

/// Recovery data: see [`crate::recovery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// How much was asked for, in percent of the blobs.
    pub percent: u32,
    /// The digest of the list of blobs that it was made of. Where the record's own list has another,
    /// the recovery data are out of date.
    pub covers: Digest,
    /// Bytes of a block.
    pub block: u32,
    /// How many groups the blocks are dealt out to.
    pub groups: u64,
    /// Parity blocks of each group.
    pub parity: u64,
    /// The files below `.pannier/recovery`.
    pub files: Vec<RecoveryFile>,
}

/// A file of recovery data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryFile {
    /// Its name below `.pannier/recovery`.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(deserialize_with = "length")]
    pub size: u64,
}

impl Record {
    /// The record before the first export: nothing is carried.
    pub fn empty(medium: String) -> Self {
        Self {
            format: FORMAT.into(),
            critical: Vec::new(),
            medium,
            sequence: 0,
            previous: None,
            created: String::new(),
            tool: TOOL.into(),
            images: Vec::new(),
            layers: Vec::new(),
            blobs: Vec::new(),
            deltas: Vec::new(),
            lane: None,
            expires: None,
            top_ups: Vec::new(),
            encoded: Vec::new(),
            recovery: None,
            files: Vec::new(),
            files_manifest: None,
            volume: None,
            written: None,
            cloned_from: Vec::new(),
            verified: None,
            pruned: None,
            parts: Vec::new(),
            root: Vec::new(),
        }
    }

    /// Gives what will be the record of a copy an id of its own: from here on the two media go their own ways.
    pub fn part_from_original(&mut self, last: u64, id: String) {
        let medium = std::mem::replace(&mut self.medium, id);
        self.cloned_from.push(Origin { medium, sequence: last });
    }

    /// Lists as critical what a reader has to know to make use of this record.
    pub fn name_features(&mut self) {
        self.critical.retain(|feature| !KNOWN.contains(&feature.as_str()));
        for (feature, there) in [(LANE, self.lane.is_some()), (EXPIRES, self.expires.is_some())] {
            if there {
                self.critical.push(feature.into());
            }
        }
        if !self.deltas.is_empty() {
            self.critical.push(DELTAS.into());
        }
        if self.layers.iter().any(|layer| !layer.elsewhere.is_empty()) {
            self.critical.push(TOP_UP.into());
        }
        if self.blobs.iter().any(|blob| blob.role == Role::File) {
            self.critical.push(FILES.into());
        }
        if !self.parts.is_empty() {
            self.critical.push(PARTS.into());
        }
    }

    /// Whether all layers of an image are on the medium, so that other tools can read it.
    pub fn is_whole(&self, image: &Image) -> bool {
        let here = |diff_id: &Digest| {
            self.layer(diff_id).is_some_and(|layer| {
                !layer.encodings.is_empty()
                    && !layer.encodings.iter().any(|blob| self.is_in_parts(&blob.digest))
            }) && self.deltas_to(*diff_id).next().is_none()
        };
        image.platforms.iter().flat_map(|platform| &platform.diff_ids).all(here)
    }

    /// Whether a blob is carried in parts.
    pub fn is_in_parts(&self, digest: &Digest) -> bool {
        self.parts.iter().any(|parts| parts.digest == *digest)
    }

    /// How many layers of an image are on the medium in no way.
    pub fn left_out(&self, image: &Image) -> usize {
        let layers: BTreeSet<&Digest> = image.platforms.iter().flat_map(|p| &p.diff_ids).collect();
        let absent = |layer: &Layer| {
            layer.encodings.is_empty()
                && !layer.elsewhere.is_empty()
                && self.deltas_to(layer.diff_id).next().is_none()
        };
        layers.into_iter().filter_map(|diff_id| self.layer(diff_id)).filter(|layer| absent(layer)).count()
    }

    /// The layer with this diff_id.
    pub fn layer(&self, diff_id: &Digest) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.diff_id == *diff_id)
    }

    /// The deltas that lead to a layer.
    pub fn deltas_to(&self, diff_id: Digest) -> impl Iterator<Item = &Delta> {
        self.deltas.iter().filter(move |delta| delta.diff_id == diff_id)
    }

    /// The file at the root that has this name.
    pub fn root_file(&self, name: RootName) -> Option<&RootFile> {
        self.root.iter().find(|file| file.name == name)
    }
}
