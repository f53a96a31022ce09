//! Names for the OCI side of an archive of Docker 25 or later, which lists its images twice.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Listed;
use super::archive::Archive;
use super::oci_layout::{Files, blob_path, refuse_ambiguous};
use crate::image::{Descriptor, Digest, Document, MAX_INDEX_DEPTH, MAX_MANIFEST, Reference};

/// An entry of `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    /// The path of the image's config.
    pub(super) config: String,
    /// Its tags, with `<none>:<none>` among them.
    repo_tags: Option<Vec<String>>,
    /// The paths of its layers.
    pub(super) layers: Option<Vec<String>>,
}

impl Saved {
    /// Its names in full; what is no name, such as `<none>:<none>`, is left out.
    pub(super) fn names(&self) -> Vec<Reference> {
        self.repo_tags.iter().flatten().filter_map(|tag| tag.parse().ok()).collect()
    }

    /// The digest of its config, where the config's path tells it.
    pub(super) fn config_digest(&self) -> Option<Digest> {
        let file = self.config.rsplit('/').next()?;
        let hex = file.strip_suffix(".json").unwrap_or(file);
        Digest::from_hex(hex.strip_prefix("sha256:").unwrap_or(hex)).ok()
    }
}

/// What `index.json` lists, with the names that only `manifest.json` gives.
///
/// `None` if the OCI side lacks one of the images: then `manifest.json` alone is to be believed.
pub(super) fn complete(archive: &Archive, listed: &[Listed], saved: &[Saved]) -> Option<Vec<Listed>> {
    let mut configs = Vec::with_capacity(listed.len());
    for entry in listed {
        archive.find(&blob_path(entry.descriptor.digest))?;
        let mut found = Found::default();
        found.collect(archive, &entry.descriptor, MAX_INDEX_DEPTH);
        configs.push(found.configs);
    }
    let mut all = listed.to_vec();
    for image in saved {
        let config = image.config_digest()?;
        let holder = &listed[configs.iter().position(|found| found.contains(&config))?];
        for name in image.names() {
            if !all.iter().any(|entry| entry.name.as_ref() == Some(&name)) {
                all.push(Listed { name: Some(name), tag: None, descriptor: holder.descriptor.clone() });
            }
        }
    }
    refuse_ambiguous(&all).ok()?;
    Some(all)
}

/// The configs of the manifests that are there below an index.
#[derive(Default)]
struct Found {
    seen: BTreeSet<Digest>,
    configs: BTreeSet<Digest>,
}

impl Found {
    fn collect(&mut self, archive: &Archive, descriptor: &Descriptor, depth: usize) {
        if !self.seen.insert(descriptor.digest) {
            return;
        }
        let Ok(Some(bytes)) = archive.read(&blob_path(descriptor.digest), MAX_MANIFEST) else { return };
        match Document::parse(&descriptor.media_type, &bytes) {
            Ok(Document::Manifest(manifest)) => {
                self.configs.insert(manifest.config.digest);
            }
            Ok(Document::Index(index)) if depth > 0 => {
                for child in &index.manifests {
                    self.collect(archive, &child.descriptor, depth - 1);
                }
            }
            _ => {}
        }
    }
}
