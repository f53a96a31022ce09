//! The commit record: the whole state of a medium, as one self-checking file.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::basis::{Basis, TopUp};
use super::delta::Delta;
use super::device::Plugged;
use super::files::CarriedFile;
use super::lane::{Lane, Moment};
use super::level::Level;
use super::parts::Parts;
use super::prune::Pruned;
use super::root_files::RootFile;
use super::volume::Volume;
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, Hasher, Names, Platform, Reference, length};
pub(super) use crate::limits::RECORD as MAX_RECORD;

/// The format this version writes, and the newest it reads.
const FORMAT: &str = "pannier-commit-v1";
/// What writes records: this version.
pub(super) const TOOL: &str = concat!("pannier ", env!("CARGO_PKG_VERSION"));
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
const KNOWN: [&str; 6] = [DELTAS, TOP_UP, FILES, PARTS, LANE, EXPIRES];
/// How the file begins; 64 hex digits of the checksum follow.
const CHECKSUM_PREFIX: &[u8] = b"{\"checksum\":\"sha256:";

/// The state of a medium after one export: every image, layer and blob it carries.
///
/// The file is JSON. Its first member is a checksum: the sha256 of the whole file with the
/// checksum's own 64 digits replaced by zeros, so that damage is found without a signature as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format's name and version.
    format: String,
    /// Features that a reader has to know; one that it does not know makes it refuse the record.
    critical: Vec<String>,
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
    pub expires: Option<Moment>,
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

/// A list without room for more: with many images, that room is a third of what a record takes.
fn exact<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
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

/// Why a record's file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not what an export wrote, or not all of it: a sentence.
    #[error("{0}")]
    Damaged(String),
    /// It is whole, and in a format or with features that this version does not know.
    #[error("written by a newer pannier ({0}), which this version cannot read; use that one or a later one")]
    Newer(String),
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
            verified: None,
            pruned: None,
            parts: Vec::new(),
            root: Vec::new(),
        }
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

    /// The bytes of the record's file.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut file = CHECKSUM_PREFIX.to_vec();
        file.extend_from_slice(&[b'0'; 64]);
        file.push(b'"');
        let body = file.len();
        serde_json::to_writer(&mut file, self)?;
        // The opening brace is already there: the record's own becomes the comma after the checksum.
        file[body] = b',';
        file.push(b'\n');
        let checksum = Digest::of(&file).hex();
        file[CHECKSUM_PREFIX.len()..][..64].copy_from_slice(checksum.as_bytes());
        Ok(file)
    }

    /// Reads a record's file. The error does not hold the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        let damaged = |reason: &str| Unusable::Damaged(reason.into());
        let start = CHECKSUM_PREFIX.len();
        if !bytes.starts_with(CHECKSUM_PREFIX) || bytes.len() < start + 64 {
            return Err(damaged("does not begin as a commit record does"));
        }
        let mut zeroed = Hasher::default();
        [CHECKSUM_PREFIX, &[b'0'; 64], &bytes[start + 64..]].iter().for_each(|part| zeroed.update(part));
        if zeroed.finish().hex().as_bytes() != &bytes[start..start + 64] {
            return Err(damaged("its checksum does not match: it is damaged, or was not written to its end"));
        }
        json::check(bytes, Keys::Own)
            .map_err(|reason| Unusable::Damaged(format!("not a commit record: {reason}")))?;
        #[derive(Deserialize)]
        struct Version {
            format: String,
            #[serde(default)]
            critical: Vec<String>,
            #[serde(default)]
            tool: String,
        }
        let no_record = |error: serde_json::Error| {
            Unusable::Damaged(format!("not a commit record: {}", json::plain(&error)))
        };
        let version: Version = serde_json::from_slice(bytes).map_err(no_record)?;
        let unknown = |feature: &String| !KNOWN.contains(&feature.as_str());
        if version.format != FORMAT || version.critical.iter().any(unknown) {
            return Err(Unusable::Newer(version.tool.escape_debug().to_string()));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(no_record)?;
        record.unsound().map_err(Unusable::Damaged)?;
        if record.medium.len() != 32 || !record.medium.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(damaged("its medium id is not 32 hex digits"));
        }
        if !record.top_ups.iter().flat_map(|top_up| &top_up.rests_on).all(Basis::is_sound) {
            return Err(damaged("what it rests on is not named as an export names it"));
        }
        if let Some(fault) = record.files_fault() {
            return Err(Unusable::Damaged(fault));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let descriptor = Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"{}");
        let diff_id = Digest::of(b"tar");
        let mut record = Record::empty("0123456789abcdef0123456789abcdef".into());
        record.sequence = 1;
        record.created = "2026-01-02T03:04:05Z".into();
        record.tool = "pannier 0.1.0".into();
        record.images.push(Image {
            names: ["nginx:1".parse().unwrap()].into(),
            original: descriptor.clone(),
            carried: descriptor.clone(),
            platforms: vec![ImagePlatform {
                platform: "linux/amd64".parse().unwrap(),
                original: descriptor.clone(),
                carried: descriptor.clone(),
                config: descriptor.clone(),
                diff_ids: vec![diff_id],
            }],
            sequence: 1,
            referrers: Vec::new(),
        });
        record.layers.push(Layer {
            diff_id,
            size: 3,
            originals: vec![descriptor.clone()],
            encodings: vec![descriptor.clone()],
            elsewhere: Vec::new(),
        });
        record.blobs.push(Blob { digest: descriptor.digest, size: 2, role: Role::Manifest });
        record
    }

    #[test]
    fn what_is_written_is_read() {
        let record = sample();
        assert_eq!(Record::parse(&record.to_bytes().unwrap()).unwrap(), record);
    }

    #[test]
    fn the_format_does_not_drift() {
        // A medium in somebody's drawer must still be readable: change this only with the format's name.
        assert_eq!(
            Digest::of(&sample().to_bytes().unwrap()).to_string(),
            "sha256:8e3844e27af9fc3fb7f78f88de52d51bd0c157251122b20ac8d00d6726c5957f"
        );
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_found() {
        let bytes = sample().to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Record::parse(&damaged).is_err(), "byte {at}");
            assert!(Record::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn errors_hold_nothing_that_a_terminal_acts_on() {
        // Found by the fuzzer: serde quotes a role that it does not know.
        let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
        let body = text.replace("\"role\":\"manifest\"", "\"role\":\"ma\\u202e\\u001b\"");
        let mut zeroed = body.into_bytes();
        zeroed[CHECKSUM_PREFIX.len()..][..64].fill(b'0');
        let checksum = Digest::of(&zeroed).hex();
        zeroed[CHECKSUM_PREFIX.len()..][..64].copy_from_slice(checksum.as_bytes());
        let Err(Unusable::Damaged(reason)) = Record::parse(&zeroed) else { panic!("it was read") };
        assert!(reason.contains("unknown variant") && reason.is_ascii(), "{reason}");
        assert!(!reason.contains('\u{1b}'), "{reason:?}");
    }

    #[test]
    fn a_record_of_a_newer_format_or_with_an_unknown_critical_feature_is_refused() {
        let newer = Record { format: "pannier-commit-v2".into(), ..sample() };
        let refused = Err(Unusable::Newer("pannier 0.1.0".into()));
        assert_eq!(Record::parse(&newer.to_bytes().unwrap()), refused);
        let critical = Record { critical: vec!["unheard-of".into()], ..sample() };
        assert_eq!(Record::parse(&critical.to_bytes().unwrap()), refused);
        let mut deltas = sample();
        deltas.deltas.push(Delta {
            diff_id: Digest::of(b"tar"),
            base: Digest::of(b"base"),
            base_size: 4,
            base_blobs: Vec::new(),
            digest: Digest::of(b"patch"),
            size: 5,
            window: 10,
        });
        deltas.name_features();
        assert_eq!(deltas.critical, ["deltas"]);
        assert_eq!(Record::parse(&deltas.to_bytes().unwrap()).unwrap(), deltas);
    }
}
