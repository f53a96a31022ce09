//! Whether what is listed resolves: the record's own consistency, the chain from each original
//! digest down to the diff_ids, and the entries of other tools.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, Severity};
use crate::error::Result;
use crate::image::graph::{self, Given, Step};
use crate::image::{
    Descriptor, Digest, Document, ImageConfig, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST, Manifest,
    MediaKind, kind,
};
use crate::medium::{ForeignEntry, Medium};
use crate::record::{Delta, Image, ImagePlatform, Layer, Record};

/// Checks everything that the record says about its images, without reading layers.
pub(super) fn check_record(medium: &Medium, record: &Record, report: &mut Report) {
    let listed: BTreeMap<Digest, u64> = record.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    let mut names = BTreeSet::new();
    for image in &record.images {
        let label = label(image);
        for name in &image.names {
            if !names.insert(name) {
                report.add(
                    "record-name",
                    Severity::Error,
                    name,
                    "stands for two images in the commit record",
                );
            }
        }
        let mut fault = |id, detail: String| report.add(id, Severity::Error, &label, detail);
        let checker = Checker { medium, record, listed: &listed };
        for blob in [&image.original, &image.carried] {
            if let Err(detail) = checker.listed(blob) {
                fault("record-blob", detail);
            }
        }
        for blob in image.referrers.iter().flat_map(|r| std::iter::once(&r.descriptor).chain(&r.blobs)) {
            if let Err(detail) = checker.listed(blob) {
                fault("record-blob", detail);
            }
        }
        for platform in &image.platforms {
            if let Err(detail) = checker.platform(image, platform) {
                fault("image-chain", detail);
            }
        }
        if let Err(detail) = checker.carried_root(image) {
            fault("image-carried", detail);
        }
        let left_out = record.left_out(image);
        if left_out > 0 {
            let detail = format!("{left_out} of its layers were left out, for nodes that hold them");
            report.add("left-out", Severity::Note, &label, detail);
        }
    }
    files(record, &listed, report);
    for layer in &record.layers {
        for encoding in &layer.encodings {
            if listed.get(&encoding.digest) != Some(&encoding.size) {
                let detail = format!("an encoding of layer {} that is not among the blobs", layer.diff_id);
                report.add("record-blob", Severity::Error, encoding.digest, detail);
            }
        }
    }
}

/// Checks the list of files beside the images against the blobs and the manifest.
fn files(record: &Record, listed: &BTreeMap<Digest, u64>, report: &mut Report) {
    for file in &record.files {
        if listed.get(&file.digest) != Some(&file.size) {
            let detail = format!("{} is not among the blobs with its size", file.digest);
            report.add("record-file", Severity::Error, &file.name, detail);
        }
    }
    for file in record.root.iter().filter(|file| listed.get(&file.digest) != Some(&file.size)) {
        let detail = format!("{} is not among the blobs with its size", file.digest);
        report.add("record-file", Severity::Error, file.name.as_str(), detail);
    }
    let documents = record.files_documents();
    let derived = documents.first().map(|manifest| (Digest::of(manifest), manifest.len() as u64));
    if derived != record.files_manifest.as_ref().map(|manifest| (manifest.digest, manifest.size)) {
        let detail = "the manifest that lists the files for other tools is not the one of these files";
        report.add("record-file", Severity::Error, "files", detail);
    }
}

/// The names of the images, and of the files, that need the blob `digest`.
pub(crate) fn needed_by(record: &Record, digest: &Digest) -> Vec<String> {
    let files = record.files.iter().filter(|file| file.digest == *digest);
    let files = files.map(|file| format!("file {}", file.name));
    let root = record.root.iter().filter(|file| file.digest == *digest);
    let files = files.chain(root.map(|file| format!("{} at the root", file.name.as_str())));
    needing(record, digest).into_iter().map(label).chain(files).collect()
}

/// The images that need the blob `digest`.
pub(crate) fn needing<'a>(record: &'a Record, digest: &Digest) -> Vec<&'a Image> {
    let layers: BTreeSet<Digest> = record
        .layers
        .iter()
        .filter(|layer| {
            layer.encodings.iter().any(|encoding| encoding.digest == *digest)
                || record.deltas_to(layer.diff_id).any(|delta| delta.digest == *digest)
        })
        .map(|layer| layer.diff_id)
        .collect();
    let needs = |image: &&Image| {
        image.original.digest == *digest
            || image.carried.digest == *digest
            || image.referrers.iter().any(|referrer| {
                referrer.descriptor.digest == *digest
                    || referrer.blobs.iter().any(|blob| blob.digest == *digest)
            })
            || image.platforms.iter().any(|platform| {
                [&platform.original, &platform.carried, &platform.config].iter().any(|d| d.digest == *digest)
                    || platform.diff_ids.iter().any(|diff_id| layers.contains(diff_id))
            })
    };
    record.images.iter().filter(needs).collect()
}

/// An image's names, in one line.
fn label(image: &Image) -> String {
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

struct Checker<'a> {
    medium: &'a Medium,
    record: &'a Record,
    listed: &'a BTreeMap<Digest, u64>,
}

impl Checker<'_> {
    fn listed(&self, blob: &Descriptor) -> Result<(), String> {
        match self.listed.get(&blob.digest) {
            Some(size) if *size == blob.size => Ok(()),
            Some(size) => Err(format!("{} is listed with {size} and with {} bytes", blob.digest, blob.size)),
            None => Err(format!("{} is not among the record's blobs", blob.digest)),
        }
    }

    /// A document that cannot be read is a finding about its blob, made where all blobs are read.
    fn document(&self, blob: &Descriptor) -> Result<Option<Document>, String> {
        self.listed(blob)?;
        let Ok(bytes) = self.medium.read_blob(blob, MAX_MANIFEST) else { return Ok(None) };
        Document::parse(&blob.media_type, &bytes)
            .map(Some)
            .map_err(|reason| format!("{}: {reason}", blob.digest))
    }

    fn manifest(&self, blob: &Descriptor) -> Result<Option<Manifest>, String> {
        match self.document(blob)? {
            Some(Document::Manifest(manifest)) => Ok(Some(manifest)),
            Some(Document::Index(_)) => {
                Err(format!("{} is an index where a manifest should be", blob.digest))
            }
            None => Ok(None),
        }
    }

    /// Original index -> original manifest -> config -> diff_ids, and the carried manifest beside it.
    fn platform(&self, image: &Image, platform: &ImagePlatform) -> Result<(), String> {
        let given = self.given(image, platform)?;
        self.listed(&platform.config)?;
        for manifest in [&platform.original, &platform.carried] {
            let Some(document) = self.manifest(manifest)? else { continue };
            if document.config.digest != platform.config.digest {
                return Err(format!("manifest {} names another config", manifest.digest));
            }
            if document.layers.len() != platform.diff_ids.len() {
                return Err(format!("manifest {} has another number of layers", manifest.digest));
            }
            if manifest.digest == platform.carried.digest {
                self.encodings(&document, platform)?;
            }
        }
        let Ok(bytes) = self.medium.read_blob(&platform.config, MAX_CONFIG) else { return Ok(()) };
        let config =
            ImageConfig::parse(&bytes).map_err(|reason| format!("{}: {reason}", platform.config.digest))?;
        // One that names no platform was exported for whoever asked.
        if let Some(own) = config.platform.as_ref().filter(|_| given == Given::ByConfig)
            && *own != platform.platform
        {
            return Err(format!(
                "config {} is for {own}, and the record says {}",
                platform.config.digest, platform.platform
            ));
        }
        if config.diff_ids() != platform.diff_ids {
            return Err(format!("config {} lists other layers than the record", platform.config.digest));
        }
        Ok(())
    }

    /// Every layer of a carried manifest must be an encoding of the diff_id in its place.
    fn encodings(&self, carried: &Manifest, platform: &ImagePlatform) -> Result<(), String> {
        for (layer, diff_id) in carried.layers.iter().zip(&platform.diff_ids) {
            let known = self.record.layer(diff_id).is_some_and(|known| {
                known.encodings.iter().any(|encoding| encoding.digest == layer.descriptor.digest)
            });
            let rebuilt = |delta: &Delta| layer.descriptor.digest == delta.diff_id;
            let left_out = |known: &Layer| known.was_left_out(&layer.descriptor.digest);
            if !known
                && (self.record.deltas_to(*diff_id).any(rebuilt)
                    || self.record.layer(diff_id).is_some_and(left_out))
            {
                continue;
            }
            if !known {
                return Err(format!(
                    "{} is not listed as an encoding of layer {diff_id}",
                    layer.descriptor.digest
                ));
            }
            self.listed(&layer.descriptor)?;
        }
        Ok(())
    }

    /// Who says that the manifest of `platform` is the one that the original has for it.
    fn given(&self, image: &Image, platform: &ImagePlatform) -> Result<Given, String> {
        let (from, to) = (&image.original, &platform.original.digest);
        let given = graph::given(from, &platform.platform, to, |document, depth| {
            // Nested indexes that were not carried lead to platforms that were not carried.
            if depth > 0 && !self.listed.contains_key(&document.digest) {
                return Ok(Step::DeadEnd);
            }
            match self.document(document) {
                // One that cannot be read is a finding of its own.
                Ok(None) => Ok(Step::Leads),
                Ok(Some(Document::Index(index))) => Ok(Step::Index(index)),
                Ok(Some(Document::Manifest(_))) => Ok(Step::DeadEnd),
                Err(_) if depth > 0 => Ok(Step::DeadEnd),
                Err(reason) => Err(reason),
            }
        })?;
        match given {
            Given::Not => {
                let wanted = &platform.platform;
                Err(format!("original {} does not give manifest {to} for {wanted}", from.digest))
            }
            given => Ok(given),
        }
    }

    /// What `index.json` points at must be the platform's manifest, or an index of all of them.
    fn carried_root(&self, image: &Image) -> Result<(), String> {
        if matches!(&image.platforms[..], [one] if one.carried == image.carried) {
            return Ok(());
        }
        match self.document(&image.carried)? {
            None => Ok(()),
            Some(Document::Index(index)) => {
                let has = |platform: &&ImagePlatform| {
                    index.manifests.iter().any(|child| {
                        let same = child.platform.as_ref().is_none_or(|listed| *listed == platform.platform);
                        child.descriptor == platform.carried && same
                    })
                };
                match image.platforms.iter().find(|platform| !has(platform)) {
                    None => Ok(()),
                    Some(platform) => {
                        Err(format!("{} does not list {}", image.carried.digest, platform.platform))
                    }
                }
            }
            Some(Document::Manifest(_)) => Err(format!("{} is not of this image", image.carried.digest)),
        }
    }
}

/// The blobs that other tools' entries refer to, as far as their documents can be read.
pub(super) fn foreign_blobs(
    medium: &Medium,
    entries: &[ForeignEntry],
    report: &mut Report,
) -> Vec<Descriptor> {
    let mut blobs = BTreeMap::new();
    for entry in entries {
        foreign(medium, &entry.entry.descriptor, 0, &mut blobs);
    }
    if !entries.is_empty() {
        let detail = match entries.len() {
            1 => "an entry of another tool; it is kept, and not imported".to_owned(),
            count => format!("{count} entries of other tools; they are kept, and not imported"),
        };
        report.add("index-foreign", Severity::Note, "index.json", detail);
    }
    blobs.into_values().collect()
}

fn foreign(medium: &Medium, blob: &Descriptor, depth: usize, blobs: &mut BTreeMap<Digest, Descriptor>) {
    let is_document = matches!(kind(&blob.media_type), MediaKind::Index | MediaKind::Manifest);
    let listed_child = depth > 0;
    // An index may list platforms that are not there; that is no damage.
    if listed_child && is_document && !matches!(medium.blob_size(&blob.digest), Ok(Some(_))) {
        return;
    }
    if blobs.insert(blob.digest, blob.clone()).is_some() || !is_document || depth > MAX_INDEX_DEPTH {
        return;
    }
    let Ok(bytes) = medium.read_blob(blob, MAX_MANIFEST) else { return };
    match Document::parse(&blob.media_type, &bytes) {
        Ok(Document::Index(index)) => {
            index.manifests.iter().for_each(|child| foreign(medium, &child.descriptor, depth + 1, blobs));
        }
        Ok(Document::Manifest(manifest)) => {
            let layers = manifest.layers.into_iter().filter(|layer| layer.urls.is_empty());
            for child in layers.map(|layer| layer.descriptor).chain([manifest.config]) {
                blobs.insert(child.digest, child);
            }
        }
        Err(_) => {}
    }
}
