//! What a commit record lists: images, layers and blobs.

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Digest, Names, Platform, Reference, length};

/// A list without room for more: with many images, that room is a third of what a record takes.
pub(super) fn exact<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

/// How a layer on the medium was recompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Encoded {
    /// The blob.
    pub digest: Digest,
    /// The zstd level.
    pub level: u32,
    /// The base-2 logarithm of the window in bytes.
    pub window: u32,
}

/// An image: one or several platforms of what a name stood for at its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The names it is carried under.
    pub names: Names,
    /// The index or manifest that the source had under the name.
    pub original: Descriptor,
    /// The index or manifest on the medium that lists the layers as they are carried.
    pub carried: Descriptor,
    /// The platforms that are carried, in the order in which they were exported.
    #[serde(deserialize_with = "exact")]
    pub platforms: Vec<ImagePlatform>,
    /// The sequence of the export that last exported it.
    pub sequence: u64,
    /// Signatures, attestations and SBOMs that refer to the original or to its platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Referrer>,
}

/// Something that refers to an image, carried as its source had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The original index or manifest that it is about.
    pub subject: Digest,
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The name by which it is looked for, where it does not name its subject itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Reference>,
    /// Every blob below its manifest.
    pub blobs: Vec<Descriptor>,
}

/// One platform of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePlatform {
    /// The platform.
    pub platform: Platform,
    /// The manifest as the source had it.
    pub original: Descriptor,
    /// The manifest that lists the layers as they are carried; the same where nothing changed.
    pub carried: Descriptor,
    /// The image config, whose digest is the image id.
    pub config: Descriptor,
    /// The layers, bottom first, as the config lists them.
    #[serde(deserialize_with = "exact")]
    pub diff_ids: Vec<Digest>,
}

/// A layer: a tar, known by the digest of its bytes, and the encodings it is carried in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// The tar's size in bytes; 0 where the layer was left out and nobody knew.
    #[serde(deserialize_with = "length")]
    pub size: u64,
    /// The blobs that manifests at the sources list for it. The first is the one it was read from.
    #[serde(deserialize_with = "exact")]
    pub originals: Vec<Descriptor>,
    /// The blobs on the medium that decode to it.
    #[serde(deserialize_with = "exact")]
    pub encodings: Vec<Descriptor>,
    /// Blobs that decode to it on the nodes for whose sake it was left out. A manifest that was carried
    /// without it lists one of the originals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Descriptor>,
}

impl Layer {
    /// Whether a carried manifest that lists `blob` for it was carried without it.
    pub fn was_left_out(&self, blob: &Digest) -> bool {
        let is = |known: &Descriptor| known.digest == *blob;
        !self.elsewhere.is_empty() && !self.encodings.iter().any(is) && self.originals.iter().any(is)
    }
}

/// A blob on the medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its digest, which is also its name.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(deserialize_with = "length")]
    pub size: u64,
    /// What it is.
    pub role: Role,
}

/// What a blob on the medium is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An encoded layer.
    Layer,
    /// An image config.
    Config,
    /// A manifest that lists layers as they are carried.
    Manifest,
    /// An index of such manifests.
    Index,
    /// A manifest kept as the source had it, as proof.
    OriginalManifest,
    /// An index kept as the source had it, as proof.
    OriginalIndex,
    /// A signature, an attestation or an SBOM, or a part of one.
    Referrer,
    /// A file beside the images, or a document of the artifact that lists them.
    File,
}
