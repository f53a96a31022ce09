//! What the entries of a layout's `index.json` are: images, and what refers to them.
//!
//! Tools list more than images there. `oras backup` lists an image's platforms and its SBOM beside it,
//! `cosign save` and Hauler list signatures under the image's own name, and a mirror has cosign's tags.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::oci_layout::{Files, blob_path};
use super::{FoundReferrer, Listed};
use crate::image::{
    Child, Descriptor, Digest, Document, MAX_INDEX_DEPTH, MAX_MANIFEST, MediaKind, Reference, kind,
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What cosign says of an entry, such as `dev.cosignproject.cosign/sigs`; Hauler took it over.
const KIND: &str = "kind";

/// The entries of a layout, told apart.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The images.
    pub(super) images: Vec<Listed>,
    /// What refers to an image, with the digest it refers to.
    pub(super) referrers: Vec<(Digest, FoundReferrer)>,
}

/// Tells the entries of a layout apart.
pub(super) fn sort(files: &impl Files, entries: &[Child]) -> Entries {
    let is_document =
        |entry: &&Child| matches!(kind(&entry.descriptor.media_type), MediaKind::Index | MediaKind::Manifest);
    let entries: Vec<&Child> = entries.iter().filter(is_document).collect();
    let mut sorted = Entries::default();
    let mut below = BTreeSet::new();
    let mut images = Vec::new();
    for entry in &entries {
        if let Some(found) = by_kind(entry, &entries).or_else(|| by_tag(entry)) {
            sorted.referrers.push(found);
        } else if let Some(subject) = fallback_of(entry) {
            let children = children(files, &entry.descriptor);
            let found = children.into_iter().map(|child| (subject, found(&child, None, true)));
            sorted.referrers.extend(found);
        } else if let Some(subject) = subject_of_unnamed(files, entry) {
            sorted.referrers.push((subject, found(&entry.descriptor, None, false)));
        } else {
            collect(files, &entry.descriptor, MAX_INDEX_DEPTH, &mut below);
            images.push(*entry);
        }
    }
    for entry in images {
        let (name, tag) = (full_name(&entry.annotations), bare_tag(&entry.annotations));
        let unnamed = name.is_none() && tag.is_none();
        if unnamed && (below.contains(&entry.descriptor.digest) || is_artifact(files, entry)) {
            continue;
        }
        sorted.images.push(Listed { name, tag, descriptor: entry.descriptor.clone() });
    }
    sorted
}

fn found(descriptor: &Descriptor, tag: Option<String>, unproven: bool) -> FoundReferrer {
    FoundReferrer { descriptor: descriptor.clone(), artifact_type: None, tag, unproven }
}

/// What `cosign save` and Hauler wrote beside an image, under its name.
fn by_kind(entry: &Child, entries: &[&Child]) -> Option<(Digest, FoundReferrer)> {
    let word = |entry: &Child| {
        let kind = entry.annotations.get(KIND)?;
        Some(kind.rsplit('/').next().unwrap_or_default().to_owned())
    };
    let suffix = match word(entry)?.as_str() {
        "sigs" => "sig",
        "atts" => "att",
        "sboms" => "sbom",
        _ => return None,
    };
    let name = full_name(&entry.annotations);
    let is_image = |other: &&&Child| {
        matches!(word(other).as_deref(), None | Some("image" | "imageIndex"))
            && full_name(&other.annotations) == name
    };
    // A store of one image names none of its entries.
    let image = entries.iter().find(is_image)?.descriptor.digest;
    let tag = format!("sha256-{}.{suffix}", image.hex());
    Some((image, found(&entry.descriptor, Some(tag), false)))
}

/// What is listed under a tag of cosign's: `sha256-HEX.sig`.
fn by_tag(entry: &Child) -> Option<(Digest, FoundReferrer)> {
    let tag = tag(entry)?;
    let (stem, suffix) = tag.split_once('.')?;
    let subject = subject_of(stem).filter(|_| matches!(suffix, "sig" | "att" | "sbom"))?;
    Some((subject, found(&entry.descriptor, Some(tag.clone()), false)))
}

/// The subject of an index under the tag that stands in for the referrers API (OCI distribution-spec).
fn fallback_of(entry: &Child) -> Option<Digest> {
    let subject = subject_of(&tag(entry)?)?;
    let is_index = kind(&entry.descriptor.media_type) == MediaKind::Index;
    (is_index && subject != entry.descriptor.digest).then_some(subject)
}

fn subject_of(tag: &str) -> Option<Digest> {
    Digest::from_hex(tag.strip_prefix("sha256-")?).ok()
}

/// The tag of an entry, whether it stands alone or in a full name.
fn tag(entry: &Child) -> Option<String> {
    let full = full_name(&entry.annotations).and_then(|name| name.tag().map(str::to_owned));
    full.or_else(|| bare_tag(&entry.annotations))
}

/// The full name that an entry's annotations give it.
///
/// `org.opencontainers.image.ref.name` is a bare tag as often as a name; containerd and Docker write
/// the name beside it as `io.containerd.image.name`.
pub(super) fn full_name(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    let containerd = annotations.get("io.containerd.image.name");
    let named = annotations.get(REF_NAME);
    [containerd, named].into_iter().flatten().find_map(|text| {
        let bare_tag = !text.contains(['/', ':', '@']);
        if bare_tag { None } else { text.parse().ok() }
    })
}

/// The bare tag of an entry without a full name, if that can be printed.
fn bare_tag(annotations: &BTreeMap<String, String>) -> Option<String> {
    let text = annotations.get(REF_NAME).filter(|_| full_name(annotations).is_none())?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    ((1..=128).contains(&text.len()) && text.bytes().all(legal)).then(|| text.clone())
}

/// What a document says of itself beside its content.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct About {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
}

impl About {
    /// Nothing of a document that is absent or damaged: whoever asks for it finds out.
    fn of(files: &impl Files, document: &Descriptor) -> Self {
        let read = files.read(&blob_path(document.digest), MAX_MANIFEST);
        let Ok(Some(bytes)) = read else { return Self::default() };
        if Digest::of(&bytes) != document.digest {
            return Self::default();
        }
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// What an entry says it is about that is no image of its own: an artifact, or an image that nobody named.
fn subject_of_unnamed(files: &impl Files, entry: &Child) -> Option<Digest> {
    let about = About::of(files, &entry.descriptor);
    let named = tag(entry).is_some() || full_name(&entry.annotations).is_some();
    let subject = about.subject.as_ref()?.digest;
    (!named || about.is_artifact()).then_some(subject)
}

fn is_artifact(files: &impl Files, entry: &Child) -> bool {
    About::of(files, &entry.descriptor).is_artifact()
}

impl About {
    fn is_artifact(&self) -> bool {
        let is_config = |config: &Descriptor| kind(&config.media_type) == MediaKind::Config;
        self.artifact_type.is_some() || self.config.as_ref().is_some_and(|config| !is_config(config))
    }
}

fn children(files: &impl Files, index: &Descriptor) -> Vec<Descriptor> {
    let Ok(Some(bytes)) = files.read(&blob_path(index.digest), MAX_MANIFEST) else { return Vec::new() };
    match Document::parse(&index.media_type, &bytes) {
        Ok(Document::Index(index)) => index.manifests.into_iter().map(|child| child.descriptor).collect(),
        _ => Vec::new(),
    }
}

/// Notes everything below an index.
fn collect(files: &impl Files, document: &Descriptor, depth: usize, below: &mut BTreeSet<Digest>) {
    if depth == 0 || kind(&document.media_type) != MediaKind::Index {
        return;
    }
    for child in children(files, document) {
        if below.insert(child.digest) {
            collect(files, &child, depth - 1, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(annotations: &[(&str, &str)]) -> Option<String> {
        let map = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        full_name(&map).map(|name| name.to_string())
    }

    #[test]
    fn containerds_name_counts_before_the_ref_name_and_a_bare_tag_is_no_name() {
        const CONTAINERD: &str = "io.containerd.image.name";
        assert_eq!(named(&[(CONTAINERD, "quay.io/a/b:1"), (REF_NAME, "c.io/d:2")]).unwrap(), "quay.io/a/b:1");
        assert_eq!(named(&[(CONTAINERD, "NOT A NAME"), (REF_NAME, "c.io/d:2")]).unwrap(), "c.io/d:2");
        assert_eq!(named(&[(REF_NAME, "nginx:1.22")]).unwrap(), "docker.io/library/nginx:1.22");
        assert_eq!(named(&[(REF_NAME, "library/nginx")]).unwrap(), "docker.io/library/nginx:latest");
        for tag in ["latest", "v1", "1.22", "", "../../etc", "a\u{1b}[31m:1"] {
            assert_eq!(named(&[(REF_NAME, tag)]), None, "{tag:?}");
        }
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn a_bare_tag_can_be_printed() {
        let tag = |text: &str| bare_tag(&BTreeMap::from([(REF_NAME.to_owned(), text.to_owned())]));
        assert_eq!(tag("v1.2-RC_1").as_deref(), Some("v1.2-RC_1"));
        for none in ["", "a b", "a\u{1b}[31m", "a/b", "a:1", &"x".repeat(129)] {
            assert_eq!(tag(none), None, "{none:?}");
        }
    }
}
