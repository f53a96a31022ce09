//! Images of a containerd, in any of its namespaces.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use super::{Listed, Source};
use crate::containerd::{Client, ImageRecord, Resource, label};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{
    Descriptor, Digest, Document, ImageConfig, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST, Reference,
    chain_ids,
};
use crate::progress::Stop;

/// How long containerd keeps what an export that died was reading, in hours.
const LEASE_HOURS: i64 = 24;

/// A containerd to export from.
///
/// What is resolved is held by a lease until the value is dropped, so that a garbage collection
/// cannot take it away in the middle of an export.
#[derive(Debug)]
pub struct ContainerdSource {
    client: Client,
    lease: String,
}

impl ContainerdSource {
    /// Connects to the socket at `address`; calls are given up when someone asks to stop.
    pub fn connect(address: &Path, namespace: &str, stop: &Stop) -> Result<Self> {
        let client = Client::connect(address, namespace, Side::Source)?.stopping_with(stop);
        let lease = format!("pannier-export-{}", crate::unique::id());
        let ends = time::OffsetDateTime::now_utc() + time::Duration::hours(LEASE_HOURS);
        let ends = ends.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        client.create_lease(&lease, [(label::GC_EXPIRE.to_owned(), ends)].into())?;
        Ok(Self { client, lease })
    }

    fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        content::read_all(self.client.read_blob(descriptor, 0)?, descriptor, Side::Source, limit)
    }

    /// The config of the manifest, among those that are there, which lists `blob` as a layer, and
    /// the number of layers up to it.
    fn config_above(
        &self,
        from: &Descriptor,
        blob: &Descriptor,
        depth: usize,
    ) -> Option<(Descriptor, usize)> {
        let bytes = self.document(from, MAX_MANIFEST).ok()?;
        match Document::parse(&from.media_type, &bytes).ok()? {
            Document::Manifest(manifest) => {
                let at = manifest.layers.iter().position(|layer| layer.descriptor.digest == blob.digest)?;
                Some((manifest.config, at + 1))
            }
            Document::Index(index) if depth > 0 => {
                index.manifests.iter().find_map(|child| self.config_above(&child.descriptor, blob, depth - 1))
            }
            Document::Index(_) => None,
        }
    }

    /// Whether an import put a document of the source's here by its digest, whose layers are there in other
    /// encodings: another of `records` stands for what the node has of the image.
    fn is_bare(&self, record: &ImageRecord, records: &[ImageRecord]) -> Result<bool> {
        let Some(image) = image_of(record) else { return Ok(false) };
        let keeps_layers = |record: &ImageRecord| {
            let labels = self.client.blob(record.target.digest)?.map(|info| info.labels).unwrap_or_default();
            let layer = format!("{}.l.", label::GC_CONTENT);
            Ok::<_, Error>(labels.keys().any(|key| key.starts_with(&layer)))
        };
        if keeps_layers(record)? {
            return Ok(false);
        }
        for other in records.iter().filter(|other| image_of(other).as_ref() == Some(&image)) {
            if keeps_layers(other)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the layer `blob` of `image` is there unpacked, though its blob is not.
    fn is_unpacked(&self, image: &Reference, blob: &Descriptor) -> Option<bool> {
        let target = self.resolve(image).ok()?;
        let (config, count) = self.config_above(&target, blob, MAX_INDEX_DEPTH)?;
        let parsed = ImageConfig::parse(&self.document(&config, MAX_CONFIG).ok()?).ok()?;
        let chain = *chain_ids(parsed.diff_ids()).get(count - 1)?;
        let labels = self.client.blob(config.digest).ok()??.labels;
        let snapshotters =
            labels.keys().filter_map(|key| key.strip_prefix(label::GC_SNAPSHOT)?.strip_prefix('.'));
        Some(
            snapshotters
                .filter_map(|name| name.split('/').next())
                .any(|name| matches!(self.client.snapshot(name, &chain.to_string()), Ok(Some(_)))),
        )
    }
}

fn has_tag(record: &ImageRecord) -> bool {
    record.name.parse::<Reference>().is_ok_and(|name| name.tag().is_some())
}

/// The image id of what an import named.
fn image_of(record: &ImageRecord) -> Option<String> {
    record.labels.get(label::OF_IMAGE).cloned()
}

impl Source for ContainerdSource {
    fn name(&self) -> String {
        format!("containerd at {}, namespace {}", self.client.address().display(), self.client.namespace())
    }

    /// Records that are made by CRI for image ids are left out, and names by digest where the same
    /// image has a tag.
    fn list(&self) -> Result<Vec<Listed>> {
        let mut records = self.client.list_images()?;
        records.retain(|record| !record.name.starts_with("sha256:"));
        let tagged: Vec<&ImageRecord> = records.iter().filter(|record| has_tag(record)).collect();
        let targets: HashSet<Digest> = tagged.iter().map(|record| record.target.digest).collect();
        let images: HashSet<String> = tagged.iter().filter_map(|record| image_of(record)).collect();
        let mut chosen = Vec::new();
        for record in &records {
            let is_tagged = targets.contains(&record.target.digest)
                || image_of(record).is_some_and(|image| images.contains(&image));
            if has_tag(record) || !(is_tagged || self.is_bare(record, &records)?) {
                let name = record.name.parse().ok();
                chosen.push(Listed { name, tag: None, descriptor: record.target.clone() });
            }
        }
        Ok(chosen)
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        // CRI drops the tag of a name that has a digest too, and so do its records.
        let name = match image.digest() {
            Some(digest) => image.with_digest(digest).to_string(),
            None => image.to_string(),
        };
        let Some(record) = self.client.image(&name)? else {
            // A digest may be asked for that only a tag points at.
            if let Some(entry) = super::find(&self.list()?, image) {
                self.client.hold(&self.lease, &Resource::blob(entry.descriptor.digest))?;
                return Ok(entry.descriptor.clone());
            }
            return Err(Error::not_found(Side::Source, format!("{}: image {image}", self.name())));
        };
        if let Some(asked) = image.digest().filter(|asked| *asked != record.target.digest) {
            return Err(Error::Invalid {
                side: Side::Source,
                what: format!("image {image}"),
                reason: format!(
                    "here the name stands for {}, an image with the same content but other encodings of its layers \
                     than {asked} lists; name it by its tag",
                    record.target.digest
                ),
            });
        }
        self.client.hold(&self.lease, &Resource::blob(record.target.digest))?;
        Ok(record.target)
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        match self.client.blob(blob.digest)? {
            Some(info) if info.size == blob.size => self.client.blob_is_readable(blob),
            _ => Ok(false),
        }
    }

    fn open_unverified(&self, _: &Reference, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.client.read_blob(blob, offset)?))
    }

    fn absent(&self, image: &Reference, blob: &Descriptor) -> Error {
        let what = format!("{}: blob {} of {image}", self.name(), blob.digest);
        let listed = matches!(self.client.blob(blob.digest), Ok(Some(_)));
        if listed {
            let reason = "containerd lists it, but its file is gone or cut short; remove the image there and pull it again";
            return Error::invalid(Side::Source, what, reason);
        }
        match self.is_unpacked(image, blob) {
            Some(true) => Error::invalid(
                Side::Source,
                what,
                "the layer is only unpacked there: containerd discarded it (discard_unpacked_layers), or an import brought it \
                 in another encoding; name the image by its tag, or export it from its registry",
            ),
            _ => Error::not_found(Side::Source, what),
        }
    }
}

impl Drop for ContainerdSource {
    fn drop(&mut self) {
        // If this fails, the lease ends by itself.
        let _ = self.client.delete_lease(&self.lease, false);
    }
}
