//! The state of a medium after an export.

use std::collections::{BTreeMap, BTreeSet};

use super::carried::carried_root;
use crate::image::{Descriptor, Digest, Reference};
use crate::record::{Blob, Delta, Image, ImagePlatform, Layer, Record, Referrer, Role};

/// An image that was exported.
#[derive(Clone, Debug)]
pub struct ExportedImage {
    /// The name it is carried under.
    pub name: Reference,
    /// The index or manifest that the source had under its name.
    pub original: Descriptor,
    /// The platforms that were exported.
    pub platforms: Vec<ImagePlatform>,
    /// What refers to it.
    pub referrers: Vec<Referrer>,
}

/// A layer that was exported or found to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedLayer {
    /// The layer.
    pub diff_id: Digest,
    /// The tar's size in bytes.
    pub size: u64,
    /// The blobs that manifests list for it; the first is the one it was read from.
    pub originals: Vec<Descriptor>,
    /// The layer as the carried manifest lists it: the blob on the medium, or the tar that a delta leads to.
    pub encoding: Descriptor,
    /// The delta, where that is what is carried.
    pub delta: Option<Delta>,
    /// Blobs by which the targets hold it, where it is left out for that; else empty.
    pub elsewhere: Vec<Descriptor>,
}

impl ExportedLayer {
    /// Bytes that it takes on the medium.
    pub fn bytes(&self) -> u64 {
        match &self.delta {
            Some(delta) => delta.size,
            None if self.is_whole() => self.encoding.size,
            None => 0,
        }
    }

    /// Whether a blob of it is on the medium.
    pub fn is_whole(&self) -> bool {
        self.delta.is_none() && self.elsewhere.is_empty()
    }
}

/// The state after `images` were exported to a medium in the state `previous`, and the bytes of the
/// carried indexes that it names.
///
/// A name moves to the new image; other platforms of the same original extend it. Layers and blobs
/// that no image needs any more stay listed until they are pruned: a later export may want them.
/// `sequence`, `created` and `previous` of the result are the caller's to fill in.
pub fn next_record(
    previous: Record,
    sequence: u64,
    images: &[ExportedImage],
    layers: &[ExportedLayer],
    documents: &[Blob],
) -> (Record, Vec<Vec<u8>>) {
    let mut next = previous;
    next.sequence = sequence;
    let mut indexes = Vec::new();
    for image in images {
        place(&mut next, image, sequence);
    }
    next.images.retain(|image| !image.names.is_empty());
    for image in next.images.iter_mut().filter(|image| image.sequence == sequence) {
        let (carried, index) = carried_root(&image.platforms);
        image.carried = carried;
        indexes.extend(index);
    }
    next.images.sort_by(|a, b| a.names.cmp(&b.names));
    merge_layers(&mut next.layers, layers);
    merge_deltas(&mut next, layers, images);
    let encodings = layers.iter().filter(|layer| layer.is_whole()).map(|layer| Blob {
        digest: layer.encoding.digest,
        size: layer.encoding.size,
        role: Role::Layer,
    });
    let index_blobs = indexes.iter().map(|bytes| Blob {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        role: Role::Index,
    });
    let mut blobs: BTreeMap<Digest, Blob> = next.blobs.drain(..).map(|blob| (blob.digest, blob)).collect();
    for blob in encodings.chain(index_blobs).chain(documents.iter().cloned()) {
        blobs.entry(blob.digest).or_insert(blob);
    }
    next.blobs = blobs.into_values().collect();
    next.name_features();
    (next, indexes)
}

/// Puts one exported image in its place among those that are there.
fn place(next: &mut Record, image: &ExportedImage, sequence: u64) {
    for other in &mut next.images {
        if other.original.digest != image.original.digest {
            other.names.remove(&image.name);
        }
    }
    let there = next.images.iter_mut().find(|there| there.original.digest == image.original.digest);
    let Some(there) = there else {
        next.images.push(Image {
            names: [image.name.clone()].into(),
            original: image.original.clone(),
            carried: image.original.clone(),
            platforms: image.platforms.clone(),
            sequence,
            referrers: image.referrers.clone(),
        });
        return;
    };
    there.names.insert(image.name.clone());
    there.sequence = sequence;
    for referrer in &image.referrers {
        if !there.referrers.contains(referrer) {
            there.referrers.push(referrer.clone());
        }
    }
    for platform in &image.platforms {
        match there.platforms.iter_mut().find(|p| p.original.digest == platform.original.digest) {
            Some(known) => *known = platform.clone(),
            None => there.platforms.push(platform.clone()),
        }
    }
}

fn merge_layers(there: &mut Vec<Layer>, exported: &[ExportedLayer]) {
    let mut layers: BTreeMap<Digest, Layer> = there.drain(..).map(|layer| (layer.diff_id, layer)).collect();
    for layer in exported {
        let known = layers.entry(layer.diff_id).or_insert_with(|| Layer {
            diff_id: layer.diff_id,
            size: layer.size,
            originals: Vec::new(),
            encodings: Vec::new(),
            elsewhere: Vec::new(),
        });
        if known.size == 0 {
            known.size = layer.size;
        }
        for blob in &layer.elsewhere {
            if !known.elsewhere.contains(blob) {
                known.elsewhere.push(blob.clone());
            }
        }
        for original in &layer.originals {
            if !known.originals.contains(original) {
                known.originals.push(original.clone());
            }
        }
        if layer.is_whole() && !known.encodings.contains(&layer.encoding) {
            known.encodings.push(layer.encoding.clone());
        }
    }
    *there = layers.into_values().collect();
}

/// Adds the new deltas, and drops those to layers that are whole now, unless an image that was not
/// exported again is carried by them. Such layers no longer count as left out either.
fn merge_deltas(next: &mut Record, layers: &[ExportedLayer], images: &[ExportedImage]) {
    let exported = |image: &Image| images.iter().any(|new| new.original.digest == image.original.digest);
    let others = next.images.iter().filter(|image| !exported(image)).flat_map(|image| &image.platforms);
    let needed: BTreeSet<Digest> = others.flat_map(|platform| platform.diff_ids.iter().copied()).collect();
    let whole = |diff_id: &Digest| layers.iter().any(|layer| layer.diff_id == *diff_id && layer.is_whole());
    next.deltas.retain(|delta| needed.contains(&delta.diff_id) || !whole(&delta.diff_id));
    let left_out = next.layers.iter_mut().filter(|layer| whole(&layer.diff_id));
    left_out.filter(|layer| !needed.contains(&layer.diff_id)).for_each(|layer| layer.elsewhere.clear());
    for delta in layers.iter().filter_map(|layer| layer.delta.as_ref()) {
        if !next.deltas.contains(delta) {
            next.deltas.push(delta.clone());
        }
    }
    next.deltas.sort_by_key(|delta| (delta.diff_id, delta.base, delta.digest));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{OCI_INDEX, OCI_MANIFEST};

    fn exported(name: &str, original: &str, platforms: &[&str]) -> ExportedImage {
        let descriptor = |text: &str| Descriptor::of(OCI_MANIFEST, text.as_bytes());
        let platforms = platforms
            .iter()
            .map(|platform| ImagePlatform {
                platform: platform.parse().unwrap(),
                original: descriptor(&format!("{original} {platform}")),
                carried: descriptor(&format!("carried {original} {platform}")),
                config: descriptor("config"),
                diff_ids: Vec::new(),
            })
            .collect();
        ExportedImage {
            name: name.parse().unwrap(),
            original: descriptor(original),
            platforms,
            referrers: Vec::new(),
        }
    }

    fn after(exports: &[ExportedImage]) -> Record {
        let mut record = Record::empty("0".repeat(32));
        for (number, image) in exports.iter().enumerate() {
            record = next_record(record, number as u64 + 1, std::slice::from_ref(image), &[], &[]).0;
        }
        record
    }

    #[test]
    fn a_name_that_is_exported_again_moves() {
        let record = after(&[
            exported("a:1", "old", &["linux/amd64"]),
            exported("a:2", "old", &["linux/amd64"]),
            exported("a:1", "new", &["linux/amd64"]),
        ]);
        let names = |original: &str| {
            let digest = Digest::of(original.as_bytes());
            let image = record.images.iter().find(|image| image.original.digest == digest).unwrap();
            image.names.iter().map(|name| name.tag().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!((names("old"), names("new")), (vec!["2".to_owned()], vec!["1".to_owned()]));
    }

    #[test]
    fn an_image_that_lost_its_last_name_is_gone_and_its_blobs_stay_listed() {
        let first = exported("a:1", "old", &["linux/amd64"]);
        let blob = Blob { digest: Digest::of(b"b"), size: 1, role: Role::Config };
        let record =
            next_record(Record::empty("0".repeat(32)), 1, &[first], &[], std::slice::from_ref(&blob)).0;
        let record = next_record(record, 2, &[exported("a:1", "new", &["linux/amd64"])], &[], &[]).0;
        assert_eq!(record.images.len(), 1);
        assert_eq!(record.blobs, [blob]);
    }

    #[test]
    fn another_platform_of_the_same_original_extends_the_image() {
        let record = after(&[exported("a:1", "o", &["linux/amd64"]), exported("a:1", "o", &["linux/arm64"])]);
        let [image] = &record.images[..] else { panic!("{:?}", record.images) };
        assert_eq!(image.platforms.len(), 2);
        assert_eq!(image.carried.media_type, OCI_INDEX);
        assert_eq!(image.sequence, 2);
    }

    #[test]
    fn one_platform_is_carried_as_its_manifest() {
        let record = after(&[exported("a:1", "o", &["linux/amd64"])]);
        assert_eq!(record.images[0].carried, record.images[0].platforms[0].carried);
    }
}
