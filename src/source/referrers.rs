//! What refers to an image, brought along: signatures, attestations, SBOMs.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{FoundReferrer, Resolved, Source};
use crate::error::{Error, Result, Side};
use crate::image::{
    Descriptor, Digest, Document, MAX_INDEX_DEPTH, MAX_MANIFEST, MediaKind, OCI_CONFIG, Reference, kind,
};

/// Most referrers of one image that are carried.
const MAX_REFERRERS: usize = 1000;

/// A referrer, resolved: everything about it but its blobs' bytes. It is carried untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedReferrer {
    /// The index or manifest that it is about.
    pub subject: Digest,
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// What it is, as far as its manifest tells.
    pub artifact_type: Option<String>,
    /// The name by which it is looked for; `None` for one that names its subject itself.
    pub name: Option<Reference>,
    /// Its manifests and indexes, its own first.
    pub documents: Vec<Descriptor>,
    /// What they list.
    pub blobs: Vec<Descriptor>,
}

/// Finds everything that refers to the image or to a platform of it that is carried; an error for
/// each that has to be left, or each place that could not be looked into.
///
/// One level: what refers to a referrer is not asked for. A list may hold what is no referrer: what
/// belongs to the image anyway, and manifests that do not name it as their subject where the list is
/// no proof. That is passed over.
pub fn referrers(source: &dyn Source, image: &Resolved) -> Vec<Result<ResolvedReferrer>> {
    let platforms = image.platforms.iter().map(|platform| &platform.manifest);
    let subjects: Vec<&Descriptor> = std::iter::once(&image.original).chain(platforms).collect();
    let own: BTreeSet<Digest> =
        subjects.iter().copied().chain(&image.indexes).map(|document| document.digest).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for subject in subjects {
        if !seen.insert(subject.digest) {
            continue;
        }
        for referrer in source.referrers(&image.image, subject) {
            if found.len() == MAX_REFERRERS {
                let reason =
                    format!("more than {MAX_REFERRERS} signatures and the like; the others are left");
                found.push(Err(Error::invalid(Side::Source, &image.image, reason)));
                return found;
            }
            match referrer {
                Ok(referrer) if own.contains(&referrer.descriptor.digest) => {}
                Ok(referrer) => found.extend(read(source, image, subject, referrer).transpose()),
                Err(error) => found.push(Err(error)),
            }
        }
    }
    found
}

/// `None` for what turns out to be no referrer of `subject`.
fn read(
    source: &dyn Source,
    image: &Resolved,
    subject: &Descriptor,
    found: FoundReferrer,
) -> Result<Option<ResolvedReferrer>> {
    let descriptor = &found.descriptor;
    if !matches!(kind(&descriptor.media_type), MediaKind::Index | MediaKind::Manifest) {
        let reason = format!(
            "of media type {:.100}, neither a manifest nor an index",
            descriptor.media_type.escape_debug().to_string()
        );
        let what = format!("{}: {} for {}", source.name(), descriptor.digest, image.image);
        return Err(Error::invalid(Side::Source, what, reason));
    }
    let name = found.tag.and_then(|tag| format!("{}:{tag}", image.name.repository()).parse().ok());
    let mut referrer = ResolvedReferrer {
        subject: subject.digest,
        descriptor: descriptor.clone(),
        artifact_type: found.artifact_type,
        name,
        documents: Vec::new(),
        blobs: Vec::new(),
    };
    let own = referrer.visit(source, &image.image, descriptor, 0)?;
    if found.unproven && named_subject(&own) != Some(subject.digest) {
        return Ok(None);
    }
    if referrer.artifact_type.is_none() {
        referrer.artifact_type = artifact_type(&own);
    }
    // It is printed, and part of index.json.
    let legal = |text: &String| text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic());
    referrer.artifact_type = referrer.artifact_type.filter(legal);
    Ok(Some(referrer))
}

/// What a manifest or index says that it is about (OCI image-spec, `subject`).
fn named_subject(document: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    struct About {
        subject: Option<Descriptor>,
    }
    let about: About = serde_json::from_slice(document).ok()?;
    about.subject.map(|subject| subject.digest)
}

impl ResolvedReferrer {
    /// Notes a document and what it lists; its bytes.
    fn visit(
        &mut self,
        source: &dyn Source,
        image: &Reference,
        blob: &Descriptor,
        depth: usize,
    ) -> Result<Vec<u8>> {
        let invalid = |reason: String| {
            Error::invalid(Side::Source, format!("{}: {} for {image}", source.name(), blob.digest), reason)
        };
        let bytes = super::read(source, image, blob, MAX_MANIFEST)?;
        let document = Document::parse(&blob.media_type, &bytes).map_err(invalid)?;
        self.documents.push(blob.clone());
        match document {
            Document::Manifest(manifest) => {
                let layers = manifest.layers.into_iter().map(|layer| layer.descriptor);
                self.blobs.extend(std::iter::once(manifest.config).chain(layers));
                Ok(bytes)
            }
            Document::Index(_) if depth == MAX_INDEX_DEPTH => {
                Err(invalid(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
            }
            Document::Index(index) => {
                for child in &index.manifests {
                    if matches!(kind(&child.descriptor.media_type), MediaKind::Index | MediaKind::Manifest) {
                        self.visit(source, image, &child.descriptor, depth + 1)?;
                    } else {
                        self.blobs.push(child.descriptor.clone());
                    }
                }
                Ok(bytes)
            }
        }
    }
}

/// The type of an artifact: as its manifest says, else by its config (OCI image-spec, manifest.md),
/// else by its first layer, as cosign's signatures have it, which look like images.
fn artifact_type(manifest: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        artifact_type: Option<String>,
        config: Option<Descriptor>,
        #[serde(default)]
        layers: Vec<Descriptor>,
    }
    let artifact: Artifact = serde_json::from_slice(manifest).ok()?;
    let config =
        artifact.config.map(|config| config.media_type.to_string()).filter(|config| config != OCI_CONFIG);
    let layer = || artifact.layers.into_iter().next().map(|layer| layer.media_type.to_string());
    artifact.artifact_type.or(config).or_else(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_most_telling_one() {
        let of = |own: &str, config: &str| {
            let digest = Digest::of(b"");
            let text = format!(
                r#"{{{own}"config":{{"mediaType":"{config}","digest":"{digest}","size":0}},
                   "layers":[{{"mediaType":"layer/type","digest":"{digest}","size":0}}]}}"#
            );
            artifact_type(text.as_bytes()).unwrap()
        };
        assert_eq!(of(r#""artifactType":"own/type","#, "config/type"), "own/type");
        assert_eq!(of("", "config/type"), "config/type");
        assert_eq!(of("", OCI_CONFIG), "layer/type");
    }
}
