//! Small real images, written as an OCI layout and pushed with skopeo.

use std::fs;
use std::io::Write;
use std::path::Path;

use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An OCI layout with one image, or one index of images.
pub(crate) struct Layout {
    pub(crate) directory: TempDir,
    /// What `index.json` names.
    pub(crate) root: Descriptor,
    /// The manifests in it, one for each platform.
    pub(crate) manifests: Vec<Descriptor>,
    /// All gzip layers.
    pub(crate) layers: Vec<Descriptor>,
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tar with one file.
pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

impl Layout {
    /// An image for each platform, each of them with one layer for each file.
    pub(crate) fn new(platforms: &[&str], files: &[(&str, Vec<u8>)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        let mut layout =
            Self { root: Descriptor::of(INDEX, b""), manifests: Vec::new(), layers: Vec::new(), directory };
        let mut children = Vec::new();
        for platform in platforms {
            let (os, architecture) = platform.split_once('/').unwrap();
            let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
            for (name, content) in files {
                let tar = tar(name, content);
                diff_ids.push(Digest::of(&tar));
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).unwrap();
                layers.push(layout.blob(GZIP, &encoder.finish().unwrap()));
            }
            let config = json!({"os": os, "architecture": architecture, "config": {"Env": [platform]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids}});
            let config = layout.blob(CONFIG, &serde_json::to_vec(&config).unwrap());
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
            let manifest = layout.blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap());
            let mut child = serde_json::to_value(&manifest).unwrap();
            child["platform"] = json!({"os": os, "architecture": architecture});
            children.push(child);
            layout.manifests.push(manifest);
            layout.layers.extend(layers);
        }
        layout.root = match layout.manifests.as_slice() {
            [single] => single.clone(),
            _ => {
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
                layout.blob(INDEX, &serde_json::to_vec(&index).unwrap())
            }
        };
        layout.list(&[]);
        fs::write(layout.directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layout
    }

    /// Writes a blob beside the image.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        fs::write(self.directory.path().join("blobs/sha256").join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    }

    /// The bytes of a blob.
    pub(crate) fn read(&self, blob: &Descriptor) -> Vec<u8> {
        fs::read(self.directory.path().join("blobs/sha256").join(blob.digest.hex())).unwrap()
    }

    /// Names the image, and further manifests by their tag, in `index.json`.
    pub(crate) fn list(&self, more: &[(&str, &Descriptor)]) {
        let entry = |(tag, descriptor): (&str, &Descriptor)| -> Value {
            let mut entry = serde_json::to_value(descriptor).unwrap();
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
            entry
        };
        let entries: Vec<Value> =
            std::iter::once(("image", &self.root)).chain(more.iter().copied()).map(entry).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        fs::write(self.directory.path().join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Pushes the image as `REGISTRY/NAME:TAG`, keeping its digest.
    pub(crate) fn push(&self, reference: &str, more: &[&str]) {
        self.push_tag("image", reference, more);
    }

    /// Pushes what `index.json` lists as `tag`.
    pub(crate) fn push_tag(&self, tag: &str, reference: &str, more: &[&str]) {
        let from = format!("oci:{}:{tag}", self.path().display());
        let to = format!("docker://{reference}");
        let policy = ["--insecure-policy", "copy", "--all", "--quiet", "--dest-tls-verify=false"];
        let arguments: Vec<&str> = policy.iter().chain(more).copied().chain([from.as_str(), &to]).collect();
        super::registry::run("skopeo", &arguments);
    }
}
