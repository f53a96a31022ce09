//! What is on a medium: images, platforms, sizes, and what is shared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Basis, CarriedFile, Image, LaneName, Record, Referrer, Timestamp, Volume};
use crate::image::Digest;

/// An image on a medium, with what it takes up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedImage {
    /// The names it is carried under.
    pub names: Vec<String>,
    /// The platforms.
    pub platforms: Vec<String>,
    /// Bytes of all its blobs.
    pub size: u64,
    /// Bytes of those blobs that no other image needs.
    pub own: u64,
    /// Bytes of those that other images need as well.
    pub shared: u64,
    /// The digest that the source had under its name.
    pub original: Digest,
    /// The digest of the manifest or index that lists the layers as they are carried.
    pub carried: Digest,
    /// The sequence of the export that last exported it.
    pub commit: u64,
    /// The layers that are carried as deltas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<ListedDelta>,
    /// How many layers are not here, since the nodes that it was exported for hold them.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// What the nodes must have for it: nothing where all of it is here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rests_on: Vec<Basis>,
    /// Signatures, attestations and SBOMs that came along.
    pub referrers: Vec<ListedReferrer>,
}

/// Something that refers to an image on a medium.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedReferrer {
    /// What it is.
    pub artifact_type: Option<String>,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The name by which it is looked for, where it has one.
    pub name: Option<String>,
    /// The digest of the original index or manifest that it is about.
    pub subject: Digest,
    /// Bytes of its manifest and of all that it lists.
    pub size: u64,
}

/// A layer that is carried as what differs from one that the node must hold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedDelta {
    /// The layer.
    pub diff_id: Digest,
    /// The layer that it starts from.
    pub base: Digest,
    /// Bytes of the patch.
    pub size: u64,
}

/// The content of a medium.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The medium's id.
    pub medium: String,
    /// The sequence of the newest commit.
    pub commit: u64,
    /// When it was made (RFC 3339).
    pub created: String,
    /// The lane that it travels in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<LaneName>,
    /// From when on no node takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Which of several media this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The images, by name.
    pub images: Vec<ListedImage>,
    /// The files beside the images, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<CarriedFile>,
    /// Bytes of all blobs that images need.
    pub size: u64,
    /// Bytes that the same images would take if each had its blobs to itself.
    pub alone: u64,
    /// Bytes of blobs that no image and no file needs any more.
    pub unused: u64,
    /// The recovery data, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<ListedRecovery>,
}

/// Recovery data on a medium.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRecovery {
    /// How much was asked for, in percent of the blobs.
    pub percent: u32,
    /// Bytes that they take.
    pub size: u64,
    /// Whether they were made of the blobs that the newest commit names.
    pub current: bool,
}

/// Lists what a record names.
pub fn list(record: &Record) -> Listing {
    let mut sizes: BTreeMap<Digest, u64> = record.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    sizes.extend(record.deltas.iter().map(|delta| (delta.digest, delta.size)));
    let blobs = record.needs();
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for digest in blobs.iter().flatten() {
        *users.entry(*digest).or_default() += 1;
    }
    let sum =
        |digests: &mut dyn Iterator<Item = &Digest>| digests.filter_map(|digest| sizes.get(digest)).sum();
    let images: Vec<ListedImage> = record
        .images
        .iter()
        .zip(&blobs)
        .map(|(image, blobs)| {
            let size: u64 = sum(&mut blobs.iter());
            let own = sum(&mut blobs.iter().filter(|digest| users.get(digest) == Some(&1)));
            ListedImage {
                names: image.names.iter().map(ToString::to_string).collect(),
                platforms: image.platforms.iter().map(|p| p.platform.to_string()).collect(),
                size,
                own,
                shared: size - own,
                original: image.original.digest,
                carried: image.carried.digest,
                commit: image.sequence,
                deltas: deltas(record, image),
                left_out: record.left_out(image),
                rests_on: record.rests_on(image).to_vec(),
                referrers: image.referrers.iter().map(listed).collect(),
            }
        })
        .collect();
    let size = sum(&mut users.keys());
    let of_files = record.file_blobs();
    let used = |digest: &Digest| users.contains_key(digest) || of_files.contains(digest);
    Listing {
        medium: record.medium.clone(),
        commit: record.sequence,
        created: record.created.clone(),
        lane: record.lane.as_ref().map(|lane| lane.name.clone()),
        expires: record.expires,
        volume: record.volume.clone(),
        alone: images.iter().map(|image| image.size).sum(),
        unused: sizes.iter().filter(|(digest, _)| !used(digest)).map(|(_, size)| size).sum(),
        files: record.files.clone(),
        images,
        size,
        recovery: record.recovery.as_ref().map(|recovery| ListedRecovery {
            percent: recovery.percent,
            size: recovery.files.iter().map(|file| file.size).sum(),
            current: record.recovery_is_current(),
        }),
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn deltas(record: &Record, image: &Image) -> Vec<ListedDelta> {
    let diff_ids: BTreeSet<Digest> =
        image.platforms.iter().flat_map(|platform| platform.diff_ids.iter().copied()).collect();
    let deltas = diff_ids.into_iter().flat_map(|diff_id| record.deltas_to(diff_id));
    deltas.map(|delta| ListedDelta { diff_id: delta.diff_id, base: delta.base, size: delta.size }).collect()
}

fn listed(referrer: &Referrer) -> ListedReferrer {
    let below: u64 = referrer.blobs.iter().map(|blob| blob.size).sum();
    ListedReferrer {
        artifact_type: referrer.artifact_type.clone(),
        digest: referrer.descriptor.digest,
        name: referrer.name.as_ref().map(ToString::to_string),
        subject: referrer.subject,
        size: referrer.descriptor.size + below,
    }
}
