//! What a node holds, in a file that is carried to where media are filled: `pannier inventory`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, LayerType, MediaKind, Platform, Reference, kind};
use crate::limits::INVENTORY as MAX_BYTES;

const FORMAT: &str = "pannier-inventory-v1";

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holdings {
    format: String,
    /// When it was taken, by the node's clock (RFC 3339).
    pub created: String,
    /// What the node runs.
    pub platform: Platform,
    /// The version of its containerd.
    pub containerd: String,
    /// The snapshotters that its images are unpacked with.
    pub snapshotters: Vec<String>,
    /// The last export of each medium that was imported, by the medium's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imported: BTreeMap<String, u64>,
    /// The images of which all layers are there.
    pub images: Vec<HeldImage>,
    /// Every layer that is there, with the blobs that decode to it.
    pub layers: BTreeMap<Digest, Vec<Descriptor>>,
}

/// An image on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldImage {
    /// Its names.
    pub names: BTreeSet<Reference>,
    /// The digest of its config, which is also the image id.
    pub config: Digest,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
    /// The chain_id of all its layers together, where it is unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Digest>,
}

impl Holdings {
    /// What a node holds of which nothing is known yet but what it is.
    pub fn empty(platform: Platform, containerd: String, snapshotters: Vec<String>, created: String) -> Self {
        Self {
            format: FORMAT.into(),
            created,
            platform,
            containerd,
            snapshotters,
            imported: BTreeMap::new(),
            images: Vec::new(),
            layers: BTreeMap::new(),
        }
    }

    /// Reads a file; the digest of its bytes comes with it.
    ///
    /// Errors: it cannot be read, is longer than 16 MiB, is no inventory, is of a newer format, or names
    /// blobs that are no layers.
    pub fn read(path: &Path) -> Result<(Self, Digest)> {
        let file = File::open(path).map_err(Error::io(Side::Source, "open", path))?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(Error::io(Side::Source, "read", path))?;
        let held = Self::parse(&bytes).map_err(|reason| {
            let what = format!("inventory {}", path.display());
            Error::invalid(Side::Source, what, reason)
        })?;
        Ok((held, Digest::of(&bytes)))
    }

    /// Reads the bytes of a file; the error is a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: String,
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err("is longer than 16 MiB; `pannier inventory -o FILE` makes one".into());
        }
        let none = |error: String| format!("is none that `pannier inventory` made: {error}");
        let version: Version = json::read(bytes, Keys::Own).map_err(none)?;
        if version.format != FORMAT {
            let format: String = version.format.escape_debug().take(40).collect();
            return Err(format!("is in the format {format}, of which this version knows only {FORMAT}"));
        }
        let holdings: Self = serde_json::from_slice(bytes).map_err(|error| none(json::plain(&error)))?;
        for (diff_id, blobs) in &holdings.layers {
            let layer =
                |blob: &Descriptor| matches!(kind(&blob.media_type), MediaKind::Layer(LayerType::Tar(_)));
            if blobs.is_empty() || !blobs.iter().all(layer) {
                return Err(format!("lists no blob, or one that is no layer, for layer {diff_id}"));
            }
        }
        let known = |image: &HeldImage| image.layers.iter().all(|layer| holdings.layers.contains_key(layer));
        match holdings.images.iter().find(|image| !known(image)) {
            Some(image) => Err(format!("names a layer of image {} that it does not list", image.config)),
            None => Ok(holdings),
        }
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Compression;

    fn sample() -> Holdings {
        let mut holdings = Holdings::empty(
            "linux/amd64".parse().unwrap(),
            "1.7.24".into(),
            vec!["overlayfs".into()],
            "2026-01-02T03:04:05Z".into(),
        );
        let layer = Digest::of(b"tar");
        let blob = Descriptor::of(Compression::Gzip.oci_layer_type(), b"blob");
        holdings.layers.insert(layer, vec![blob]);
        holdings.images.push(HeldImage {
            names: ["nginx:1".parse().unwrap()].into(),
            config: Digest::of(b"config"),
            layers: vec![layer],
            unpacked: Some(layer),
        });
        holdings
    }

    fn changed(from: &str, to: &str) -> Result<Holdings, String> {
        let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        Holdings::parse(text.replace(from, to).as_bytes())
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Holdings::parse(&sample().to_bytes().unwrap()), Ok(sample()));
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let tar = Digest::of(b"tar").to_string();
        let other = Digest::of(b"other").to_string();
        let layer = Compression::Gzip.oci_layer_type();
        for (from, to, reason) in [
            (FORMAT, "pannier-inventory-v9\\u001b[2J", "knows only"),
            (layer, "application/vnd.oci.image.config.v1+json", "no layer"),
            (layer, "\\u001b]0;x", "no layer"),
            (&format!("\"layers\":[\"{tar}\"]"), &format!("\"layers\":[\"{other}\"]"), "does not list"),
            ("docker.io/library/nginx:1", "../../etc/passwd", "none that"),
            ("docker.io/library/nginx:1", "nginx:1 --all", "none that"),
            (&tar, "sha256:12", "none that"),
            ("\"size\":4", "\"size\":-4", "none that"),
            ("\"size\":4", "\"size\":99999999999999999999999", "none that"),
        ] {
            let error = changed(from, to).unwrap_err();
            assert!(error.contains(reason), "{to}: {error}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
        for bytes in [&b""[..], b"{", b"[]", b"null", &b"[".repeat(100_000), &[0xff; 64]] {
            assert!(Holdings::parse(bytes).unwrap_err().contains("none that"));
        }
        assert!(Holdings::parse(&vec![b' '; MAX_BYTES as usize + 1]).unwrap_err().contains("16 MiB"));
    }
}
