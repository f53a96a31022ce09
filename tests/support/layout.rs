//! Writes made-up images down as OCI layouts, OCI archives and Docker archives.
//!
//! ```ignore
//! let layout = layout().with(image("app:1").layer(files([("etc/app", "1")])));
//! layout.write_dir(&path);
//! assert_eq!(exported, layout.find("app:1").manifests[0].diff_ids);
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};

pub(crate) use super::image::*;

const INDEX: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYER: [&str; 2] =
    ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];

/// Images as they are stored: blobs, and the entries of `index.json`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// Every blob that is there, by the digest it is listed under.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    entries: Vec<Value>,
    stored: Vec<Stored>,
    pub(super) images: Vec<Image>,
}

/// An image or index that a layout lists, and what it comes to.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its full names.
    pub(crate) names: Vec<String>,
    /// What the layout lists.
    pub(crate) descriptor: Descriptor,
    /// Its manifests, attestations left out, absent ones with them.
    pub(crate) manifests: Vec<StoredManifest>,
}

/// A manifest, and what its image consists of.
#[derive(Clone, Debug)]
pub(crate) struct StoredManifest {
    pub(crate) platform: String,
    pub(crate) descriptor: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    /// The true digests of the layers' tars, even where the config lies.
    pub(crate) diff_ids: Vec<Digest>,
}

/// Begins an empty layout.
pub(crate) fn layout() -> Layout {
    Layout::default()
}

impl Layout {
    /// Adds an image or an index.
    pub(crate) fn with(mut self, entry: impl Into<Entry>) -> Self {
        let entry = entry.into();
        let mut manifests = Vec::new();
        let child = self.store(&entry, &mut manifests);
        let label = match &entry {
            Entry::Image(image) => &image.label,
            Entry::Index(index) => &index.label,
        };
        self.entries.extend(labelled(&child, label));
        let descriptor = serde_json::from_value(child).unwrap();
        self.stored.push(Stored { names: label.names.clone(), descriptor, manifests });
        if let Entry::Image(image) = entry {
            self.images.push(image);
        }
        self
    }

    /// The image of this full name.
    pub(crate) fn find(&self, name: &str) -> &Stored {
        self.stored.iter().find(|stored| stored.names.iter().any(|n| n == name)).expect("such an image")
    }

    /// Everything that was added, in its order.
    pub(crate) fn stored(&self) -> &[Stored] {
        &self.stored
    }

    /// Leaves a blob out.
    pub(crate) fn without(mut self, digest: Digest) -> Self {
        self.blobs.remove(&digest).expect("such a blob");
        self
    }

    /// Changes one bit of a blob.
    pub(crate) fn flip(mut self, digest: Digest) -> Self {
        let bytes = self.blobs.get_mut(&digest).expect("such a blob");
        *bytes = damaged(std::mem::take(bytes), Defect::Flipped).unwrap();
        self
    }

    /// The bytes of `index.json`.
    pub(crate) fn index_json(&self) -> Vec<u8> {
        to_bytes(&json!({ "schemaVersion": 2, "mediaType": INDEX[0], "manifests": self.entries }))
    }

    /// Every file of the layout, in the order of their names.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> =
            self.blobs.iter().map(|(digest, bytes)| (blob_path(*digest), bytes.clone())).collect();
        files.insert("index.json".into(), self.index_json());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    /// Writes the layout into a directory, which is made.
    pub(crate) fn write_dir(&self, dir: &Path) {
        write_files(dir, self.files());
    }

    /// The layout in one tar, as `skopeo copy oci-archive:` and `ctr images export` write it.
    pub(crate) fn oci_archive(&self) -> Vec<u8> {
        tar_of(self.files())
    }

    fn add(&mut self, bytes: Vec<u8>, media_type: &str, there: bool) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        if there {
            self.blobs.insert(descriptor.digest, bytes);
        }
        descriptor
    }

    fn store(&mut self, entry: &Entry, manifests: &mut Vec<StoredManifest>) -> Value {
        match entry {
            Entry::Image(image) => {
                let stored = self.store_image(image);
                let child = listed(&stored.descriptor, &image.platform);
                manifests.push(stored);
                child
            }
            Entry::Index(index) => {
                let mut children: Vec<Value> = Vec::new();
                for entry in &index.entries {
                    children.push(self.store(entry, manifests));
                }
                if index.attestations {
                    for stored in manifests.clone() {
                        if self.blobs.contains_key(&stored.descriptor.digest) {
                            children.push(self.store_attestation(&stored));
                        }
                    }
                }
                let media_type = INDEX[usize::from(index.docker)];
                let document = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children });
                json!(self.add(to_bytes(&document), media_type, true))
            }
        }
    }

    fn store_image(&mut self, image: &Image) -> StoredManifest {
        let types = usize::from(image.docker);
        let mut children = Vec::new();
        let mut layers = Vec::new();
        for layer in &image.layers {
            let bytes = layer.encoded();
            let media_type = layer.media_type.clone().unwrap_or_else(|| layer_type(layer.encoding, types));
            let descriptor = Descriptor::of(&media_type, &bytes);
            let stored = match layer.defect {
                None => Some(bytes),
                Some(defect) => damaged(bytes, defect),
            };
            if let (Some(stored), false) = (stored, image.absent) {
                self.blobs.insert(descriptor.digest, stored);
            }
            let mut child = json!(descriptor);
            if !layer.annotations.is_empty() {
                child["annotations"] = layer.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            }
            if !layer.urls.is_empty() {
                child["urls"] = json!(layer.urls);
            }
            children.push(child);
            layers.push(descriptor);
        }
        let there = !image.absent;
        let config = self.add(config_json(image), CONFIG[types], there && !image.config_absent);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST[types], "config": config, "layers": children,
        });
        let descriptor = self.add(to_bytes(&manifest), MANIFEST[types], there);
        let diff_ids = image.layers.iter().map(Layer::diff_id).collect();
        StoredManifest { platform: image.platform.clone(), descriptor, config, layers, diff_ids }
    }

    fn store_attestation(&mut self, subject: &StoredManifest) -> Value {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": [{
            "name": "_", "digest": { "sha256": subject.descriptor.digest.hex() } }] });
        let layer = self.add(to_bytes(&statement), "application/vnd.in-toto+json", true);
        let config = json!({ "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] } });
        let config = self.add(to_bytes(&config), CONFIG[0], true);
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST[0], "config": config, "layers": [layer] });
        let descriptor = self.add(to_bytes(&manifest), MANIFEST[0], true);
        let mut child = listed(&descriptor, "unknown/unknown");
        child["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject.descriptor.digest,
        });
        child
    }
}

/// The image's config; the same image gives the same config in every form it is written in.
pub(super) fn config_json(image: &Image) -> Vec<u8> {
    let diff_ids: Vec<Digest> = (image.layers.iter().enumerate())
        .map(|(i, layer)| if image.lying == Some(i) { Digest::of(b"a lie") } else { layer.diff_id() })
        .collect();
    let history: Vec<Value> = (0..diff_ids.len())
        .map(|i| json!({ "created": "2024-01-01T00:00:00Z", "created_by": format!("layer {i}") }))
        .collect();
    let mut config = platform_json(&image.platform);
    config["created"] = json!("2024-01-01T00:00:00Z");
    config["config"] = json!({ "Env": [image.env], "Cmd": ["/bin/app"] });
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    config["history"] = json!(history);
    to_bytes(&config)
}

pub(super) fn damaged(mut bytes: Vec<u8>, defect: Defect) -> Option<Vec<u8>> {
    match defect {
        Defect::Missing => return None,
        Defect::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
        Defect::Truncated => bytes.truncate(bytes.len() / 2),
        Defect::Grown => bytes.push(0),
    }
    Some(bytes)
}

fn layer_type(encoding: Encoding, types: usize) -> String {
    let suffix = match (encoding, types) {
        (Encoding::Plain, _) => "",
        (Encoding::Gzip(..), 0) => "+gzip",
        (Encoding::Gzip(..), _) => ".gzip",
        (Encoding::Zstd(..), 0) => "+zstd",
        (Encoding::Zstd(..), _) => ".zstd",
    };
    format!("{}{suffix}", LAYER[types])
}

fn platform_json(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut value = json!({ "os": parts.next().unwrap(), "architecture": parts.next().unwrap() });
    if let Some(variant) = parts.next() {
        value["variant"] = json!(variant);
    }
    value
}

fn listed(descriptor: &Descriptor, platform: &str) -> Value {
    let mut child = json!(descriptor);
    child["platform"] = platform_json(platform);
    child
}

/// One entry for each name, or one alone for what has none.
fn labelled(child: &Value, label: &Label) -> Vec<Value> {
    const REF_NAME: &str = "org.opencontainers.image.ref.name";
    let mut nameless = child.clone();
    if let Some(name) = &label.ref_name {
        nameless["annotations"] = json!({ REF_NAME: name });
    }
    let named = label.names.iter().map(|name| {
        let mut entry = child.clone();
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({ "io.containerd.image.name": name, REF_NAME: tag });
        entry
    });
    if label.names.is_empty() { vec![nameless] } else { named.collect() }
}

/// Where a layout keeps a blob.
pub(crate) fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The document in one line, keys in the order of their names.
pub(crate) fn to_bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}

/// Writes files below a directory, which is made with those between.
pub(crate) fn write_files(dir: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) {
    fs::create_dir_all(dir).unwrap();
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
