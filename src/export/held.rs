//! What a medium holds, proven as far as the plan counts on it.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::image::{Descriptor, Digest};
use crate::layer::{self, Most};
use crate::medium::Medium;
use crate::plan::MediumState;
use crate::progress::{Run, Watched};
use crate::record::{Image, Record, Role};
use crate::source::Resolved;

/// What the medium holds: committed layers whose file is there, and what a cut-off run finished.
pub(super) fn held(medium: &Medium, images: &[Resolved], run: Run<'_>) -> Result<MediumState> {
    let mut held = MediumState::default();
    if let Some(record) = medium.record() {
        held.images = whole_images(medium, record)?;
        let referred = images.iter().flat_map(|image| &image.referrers).flat_map(|referrer| &referrer.blobs);
        let referred: BTreeSet<Digest> = referred.map(|blob| blob.digest).collect();
        for blob in record.blobs.iter().filter(|blob| referred.contains(&blob.digest)) {
            if medium.blob_size(&blob.digest)? == Some(blob.size) {
                held.blobs.insert(blob.digest);
            }
        }
        for delta in &record.deltas {
            if let Some(layer) = record.layer(&delta.diff_id)
                && medium.has_delta(delta)?
            {
                held.deltas.push((layer.clone(), delta.clone()));
            }
        }
        for layer in &record.layers {
            let mut layer = layer.clone();
            let mut there = Vec::new();
            for encoding in std::mem::take(&mut layer.encodings) {
                // A file of another size is not the blob; it is carried again.
                if medium.blob_size(&encoding.digest)? == Some(encoding.size) {
                    there.push(encoding);
                }
            }
            layer.encodings = there;
            if !layer.encodings.is_empty() {
                held.layers.insert(layer.diff_id, layer);
            }
        }
    }
    for note in medium.finished()? {
        run.check()?;
        let Some(size) = medium.blob_size(&note.digest)? else { continue };
        let blob = Descriptor { media_type: Default::default(), digest: note.digest, size };
        // Whatever the note says, the bytes have to prove it.
        let Ok(decoded) = layer::check(Watched::new(medium.open_blob(&blob)?, "", run), Most::Ratio) else {
            run.check()?;
            continue;
        };
        if decoded.diff_id == note.diff_id {
            let media_type = decoded.compression.oci_layer_type().into();
            held.finished.push((note, Descriptor { media_type, ..blob }, decoded.size));
        }
    }
    Ok(held)
}

/// The images whose manifests, indexes and configs are there; the others are carried again.
fn whole_images(medium: &Medium, record: &Record) -> Result<Vec<Image>> {
    let mut lost = BTreeSet::new();
    for blob in record.blobs.iter().filter(|blob| !matches!(blob.role, Role::Layer | Role::File)) {
        if medium.blob_size(&blob.digest)? != Some(blob.size) {
            lost.insert(blob.digest);
        }
    }
    let names = |image: &Image, digest: &Digest| {
        let platforms = image.platforms.iter().flat_map(|p| [&p.original, &p.carried, &p.config]);
        platforms.chain([&image.original, &image.carried]).any(|document| document.digest == *digest)
    };
    // An index within an index: the record does not say whose.
    let nobodys = lost.iter().any(|digest| !record.images.iter().any(|image| names(image, digest)));
    let whole = |image: &&Image| !nobodys && !lost.iter().any(|digest| names(image, digest));
    Ok(record.images.iter().filter(whole).cloned().collect())
}
