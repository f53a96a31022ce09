//! Whether a commit record makes sense in itself, before anything is done by it.

use std::collections::BTreeSet;

use super::{Image, Record};
use crate::image::{Descriptor, Digest, Listed, MAX_LAYERS};
use crate::limits::{NODES, RECOVERY_PERCENT as MAX_PERCENT};

impl Record {
    /// Why nothing should be done by this record: a sentence without text of the record's.
    ///
    /// More images, layers, blobs than are handled; one digest with two sizes, or as two kinds of blob; a
    /// layer or a blob twice; a name for two images.
    pub(super) fn unsound(&self) -> Result<(), String> {
        for (count, of) in [
            (self.images.len(), "images"),
            (self.layers.len(), "layers"),
            (self.blobs.len(), "blobs"),
            (self.deltas.len(), "deltas"),
            (self.encoded.len(), "encodings"),
            (self.files.len(), "files"),
            (self.parts.len(), "blobs in parts"),
        ] {
            if count > NODES {
                return Err(format!("it lists {count} {of}, more than the {NODES} allowed"));
            }
        }
        let mut listed = Listed::default();
        for blob in self.images.iter().flat_map(blobs_of) {
            listed.note(blob)?;
        }
        for layer in &self.layers {
            for blob in layer.originals.iter().chain(&layer.encodings).chain(&layer.elsewhere) {
                listed.note(blob)?;
            }
        }
        for delta in &self.deltas {
            listed.note(&delta.descriptor())?;
            delta.base_blobs.iter().try_for_each(|blob| listed.note(blob).map(|_| ()))?;
        }
        for blob in &self.blobs {
            listed.note(&Descriptor {
                media_type: Default::default(),
                digest: blob.digest,
                size: blob.size,
            })?;
        }
        once(self.blobs.iter().map(|blob| &blob.digest), "blob")?;
        once(self.layers.iter().map(|layer| &layer.diff_id), "layer")?;
        let mut names = BTreeSet::new();
        for name in self.images.iter().flat_map(|image| &image.names) {
            if !names.insert(name) {
                return Err(format!("{name} stands for two images"));
            }
        }
        let twice = |image: &Image| {
            let platforms: BTreeSet<_> = image.platforms.iter().map(|own| &own.platform).collect();
            platforms.len() < image.platforms.len()
        };
        if let Some(image) = self.images.iter().find(|image| image.names.is_empty()) {
            return Err(format!("the image {} has no name", image.original.digest));
        }
        if self.images.iter().any(twice) {
            return Err("an image has two manifests for one platform".into());
        }
        let tall =
            |image: &Image| image.platforms.iter().any(|platform| platform.diff_ids.len() > MAX_LAYERS);
        if self.images.iter().any(tall) {
            return Err(format!("an image has more than the {MAX_LAYERS} layers allowed"));
        }
        if self.recovery.as_ref().is_some_and(|recovery| recovery.percent > MAX_PERCENT) {
            return Err(format!("its recovery data are of more than {MAX_PERCENT} %"));
        }
        Ok(())
    }
}

/// Every blob that an image names.
fn blobs_of(image: &Image) -> impl Iterator<Item = &Descriptor> {
    let platforms = image.platforms.iter().flat_map(|p| [&p.original, &p.carried, &p.config]);
    let referrers = image.referrers.iter().flat_map(|r| std::iter::once(&r.descriptor).chain(&r.blobs));
    [&image.original, &image.carried].into_iter().chain(platforms).chain(referrers)
}

fn once<'a>(digests: impl Iterator<Item = &'a Digest>, what: &str) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for digest in digests {
        if !seen.insert(digest) {
            return Err(format!("it lists {what} {digest} twice"));
        }
    }
    Ok(())
}
