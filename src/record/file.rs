//! The file of a commit record: JSON that checks itself.

use serde::Deserialize;

use super::basis::Basis;
use super::commit::{FORMAT, KNOWN, Record};
use crate::image::json::{self, Keys};
use crate::image::{Digest, Hasher};
use crate::limits::NODES;

/// How the file begins; 64 hex digits of the checksum follow.
const CHECKSUM_PREFIX: &[u8] = b"{\"checksum\":\"sha256:";

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
        let is_id = |id: &str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if record.cloned_from.len() > NODES || !record.cloned_from.iter().all(|origin| is_id(&origin.medium))
        {
            return Err(damaged("what it is a copy of is not named as an export names it"));
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
    use crate::image::Descriptor;
    use crate::record::{Blob, Delta, Image, ImagePlatform, Layer, Role};

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
