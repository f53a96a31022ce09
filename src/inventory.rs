//! What a node holds, in a file that is carried to where media are filled: `pannier inventory`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, LayerType, MediaKind, Names, Platform, kind};
use crate::limits::{
    BLOB as MAX_LAYER, INVENTORY as MAX_BYTES, LAYERS as MAX_LAYERS, SIGNATURE as MAX_SIGNATURE,
};
use crate::record::is_host;

/// The name of the format of inventories.
pub(crate) const FORMAT: &str = "pannier-inventory-v1";

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    format: String,
    /// When it was taken, by the node's clock (RFC 3339).
    pub created: String,
    /// The node's host name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
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
    /// Images that are unpacked, but of which the node does not have every layer as a blob: its containerd discards
    /// layers. A new image can stand on them; a delta cannot start from them. Versions before 0.2 do not know it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_unpacked: Vec<UnpackedImage>,
}

/// An image on a node of which not every layer is there as a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpackedImage {
    /// Its names.
    pub names: Names,
    /// The digest of its config, which is also the image id.
    pub config: Digest,
    /// Its layers, bottom first; all of them are unpacked.
    pub layers: Vec<Digest>,
    /// The blobs that they were unpacked from, in the same order.
    pub blobs: Vec<Descriptor>,
}

/// An image on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldImage {
    /// Its names.
    pub names: Names,
    /// The digest of its config, which is also the image id.
    pub config: Digest,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
    /// The chain_id of all its layers together, where it is unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Digest>,
}

impl Inventory {
    /// What a node holds of which nothing is known yet but what it is.
    pub fn empty(platform: Platform, containerd: String, snapshotters: Vec<String>, created: String) -> Self {
        Self {
            format: FORMAT.into(),
            created,
            host: None,
            platform,
            containerd,
            snapshotters,
            imported: BTreeMap::new(),
            images: Vec::new(),
            layers: BTreeMap::new(),
            only_unpacked: Vec::new(),
        }
    }

    /// Reads a file; the digest of its bytes comes with it.
    ///
    /// Errors: it cannot be read, is longer than 16 MiB, is no inventory, is of a newer format, or names
    /// blobs that are no layers.
    pub fn read(path: &Path) -> Result<(Self, Digest)> {
        Self::read_checked(path, |_, _| Ok(()))
    }

    /// Reads a file whose bytes, and those of the signature beside it, pass `check` before any of it is
    /// parsed. The error of `check` is a sentence: [`Error::UntrustedInventory`] carries it.
    pub fn read_checked(
        path: &Path,
        check: impl FnOnce(&[u8], &[Vec<u8>]) -> Result<(), String>,
    ) -> Result<(Self, Digest)> {
        let what = format!("inventory {}", path.display());
        let bytes = read_at_most(path, MAX_BYTES + 1)?;
        let signature = match read_at_most(&signature_of(path), MAX_SIGNATURE) {
            Ok(signature) => vec![signature],
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        check(&bytes, &signature)
            .map_err(|reason| Error::UntrustedInventory { what: what.clone(), reason })?;
        let held = Self::parse(&bytes).map_err(|reason| Error::invalid(Side::Here, what, reason))?;
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
        let inventory: Self = serde_json::from_slice(bytes).map_err(|error| none(json::plain(&error)))?;
        inventory.require_sound().map(|()| inventory)
    }

    /// An error, a sentence, where it says what no node would.
    fn require_sound(&self) -> Result<(), String> {
        let variant = self.platform.variant.as_deref();
        let platform = [Some(self.platform.os.as_str()), Some(&self.platform.architecture), variant];
        let word = |text: &str| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (1..=32).contains(&text.len()) && text.bytes().all(legal)
        };
        let texts = self.snapshotters.iter().chain([&self.containerd, &self.created]);
        let legible = |text: &String| text.len() <= 256 && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        let medium = |id: &String| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !platform.into_iter().flatten().all(word) {
            return Err("names a platform that is none".into());
        }
        if self.host.as_deref().is_some_and(|host| !is_host(host)) {
            return Err("names a host that cannot be".into());
        }
        if !{ texts }.all(legible) || !self.imported.keys().all(medium) || !is_time(&self.created) {
            return Err("tells of the node what cannot be".into());
        }
        let mut holds: BTreeMap<Digest, Digest> = BTreeMap::new();
        for (diff_id, blobs) in &self.layers {
            let layer =
                |blob: &Descriptor| matches!(kind(&blob.media_type), MediaKind::Layer(LayerType::Tar(_)));
            if blobs.is_empty() || !blobs.iter().all(layer) {
                return Err(format!("lists no blob, or one that is no layer, for layer {diff_id}"));
            }
            if blobs.iter().any(|blob| !(1..=MAX_LAYER).contains(&blob.size)) {
                return Err(format!(
                    "lists a blob for layer {diff_id} that is empty, or too large to be one"
                ));
            }
            if blobs.iter().any(|blob| holds.insert(blob.digest, *diff_id).is_some_and(|of| of != *diff_id)) {
                return Err(format!(
                    "lists a blob for layer {diff_id} that it lists for another one as well"
                ));
            }
        }
        for image in &self.only_unpacked {
            let sound = |blob: &Descriptor| {
                matches!(kind(&blob.media_type), MediaKind::Layer(LayerType::Tar(_)))
                    && (1..=MAX_LAYER).contains(&blob.size)
            };
            if image.layers.len() > MAX_LAYERS
                || image.blobs.len() != image.layers.len()
                || !image.blobs.iter().all(sound)
            {
                return Err(format!("lists for image {} what are no blobs of its layers", image.config));
            }
            for (blob, diff_id) in image.blobs.iter().zip(&image.layers) {
                if holds.insert(blob.digest, *diff_id).is_some_and(|of| of != *diff_id) {
                    return Err(format!(
                        "lists a blob for layer {diff_id} that it lists for another one as well"
                    ));
                }
            }
        }
        for image in &self.images {
            if image.layers.len() > MAX_LAYERS {
                return Err(format!("lists more than {MAX_LAYERS} layers for image {}", image.config));
            }
            if !image.layers.iter().all(|layer| self.layers.contains_key(layer)) {
                return Err(format!("names a layer of image {} that it does not list", image.config));
            }
        }
        Ok(())
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// It gets into the record of a medium.
fn is_time(text: &str) -> bool {
    text.len() <= 40
        && text.bytes().all(|b| b.is_ascii_graphic())
        && time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

/// Where the signature of an inventory is: beside it, as ssh-keygen puts it.
pub fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(Side::Here, "open", path))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io(Side::Here, "read", path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Compression;

    fn sample() -> Inventory {
        let mut inventory = Inventory::empty(
            "linux/amd64".parse().unwrap(),
            "1.7.24".into(),
            vec!["overlayfs".into()],
            "2026-01-02T03:04:05Z".into(),
        );
        let layer = Digest::of(b"tar");
        let blob = Descriptor::of(Compression::Gzip.oci_layer_type(), b"blob");
        inventory.host = Some("node1".into());
        inventory.layers.insert(layer, vec![blob]);
        inventory.images.push(HeldImage {
            names: ["nginx:1".parse().unwrap()].into(),
            config: Digest::of(b"config"),
            layers: vec![layer],
            unpacked: Some(layer),
        });
        inventory
    }

    fn changed(from: &str, to: &str) -> Result<Inventory, String> {
        let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        Inventory::parse(text.replace(from, to).as_bytes())
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Inventory::parse(&sample().to_bytes().unwrap()), Ok(sample()));
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let tar = Digest::of(b"tar").to_string();
        let other = Digest::of(b"other").to_string();
        let blob = Digest::of(b"blob").to_string();
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
            ("\"size\":4", "\"size\":18446744073709551615", "more than a blob"),
            ("\"size\":4", "\"size\":0", "empty"),
            ("\"size\":4", "\"size\":4,\"size\":5", "none that"),
            ("\"architecture\":\"amd64\"", "\"architecture\":\"\\u001b[2J\"", "platform"),
            ("\"architecture\":\"amd64\"", "\"architecture\":\"../x\"", "platform"),
            ("2026-01-02T03:04:05Z", "yesterday", "cannot be"),
            ("1.7.24", "\\u001b[2J", "cannot be"),
            ("node1", "node 1", "cannot be"),
            ("node1", "\\u001b[2J", "cannot be"),
            ("\"images\":", "\"imported\":{\"x\":1},\"images\":", "cannot be"),
            ("\"images\":", "\"images\":[],\"images\":", "none that"),
            ("\"layers\":{", &format!("\"layers\":{{\"{tar}\":[],"), "none that"),
            (
                "\"layers\":{",
                &format!(
                    "\"layers\":{{\"{other}\":[{{\"mediaType\":\"{layer}\",\"digest\":\"{blob}\",\"size\":4}}],"
                ),
                "for another one as well",
            ),
            (
                &format!("\"layers\":[\"{tar}\"]"),
                &format!("\"layers\":[{}\"{tar}\"]", format!("\"{tar}\",").repeat(512)),
                "more than 512",
            ),
        ] {
            let error = changed(from, to).unwrap_err();
            assert!(error.contains(reason), "{to}: {error}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
        for bytes in [&b""[..], b"{", b"[]", b"null", &b"[".repeat(100_000), &[0xff; 64]] {
            assert!(Inventory::parse(bytes).unwrap_err().contains("none that"));
        }
        assert!(Inventory::parse(&vec![b' '; MAX_BYTES as usize + 1]).unwrap_err().contains("16 MiB"));
    }
}
