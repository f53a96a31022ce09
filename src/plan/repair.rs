//! What a repair has to do: for each damaged blob the ways to get it back, best first.

use std::collections::{BTreeMap, BTreeSet};

use super::carried::{carried_manifest, carried_root, index_of};
use super::export::Pick;
use crate::image::{Descriptor, Digest, Document, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Reference};
use crate::layer::Zstd;
use crate::record::{Blob, CarriedFile, Image, ImagePlatform, Layer, Record, Role, RootFile};

/// What a plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// Blobs that the source holds as they are, and through which image.
    pub blobs: BTreeMap<Digest, Pick>,
    /// Layers that the source holds in some encoding, by diff_id, best first.
    pub layers: BTreeMap<Digest, Vec<Pick>>,
    /// Files at the root of the medium that are whole; each is a copy of a blob.
    pub at_root: BTreeMap<Digest, RootFile>,
    /// Files that the source holds as they are.
    pub files: BTreeMap<Digest, CarriedFile>,
    /// Blobs that the medium's recovery data bring back.
    pub recoverable: BTreeSet<Digest>,
}

/// A way to get a blob back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// From the recovery data on the medium.
    Recover,
    /// As it is, from the source.
    Fetch(Pick),
    /// Made again from another encoding of the layer on the medium.
    Reencode(Digest, Descriptor, Zstd),
    /// Made again from the source's encoding of the layer.
    Encode(Digest, Pick, Zstd),
    /// Made again from what it is derived from: a carried manifest or index, the list of files.
    Derive,
    /// From its copy at the root of the medium.
    AtRoot(RootFile),
    /// As it is, from the source's files.
    File(CarriedFile),
}

/// A damaged blob and what is to be done about it.
#[derive(Clone, Debug)]
pub struct RepairStep {
    /// The blob.
    pub blob: Descriptor,
    /// What it is.
    pub role: Role,
    /// The ways to get it back, in the order in which they are tried. Empty if there is none.
    pub remedies: Vec<Remedy>,
}

/// What a repair will do: layers, configs and originals first, then what is derived from them.
#[derive(Clone, Debug, Default)]
pub struct RepairPlan {
    /// The damaged blobs.
    pub steps: Vec<RepairStep>,
}

impl RepairPlan {
    /// Plans the repair of `damaged` blobs of `record`.
    pub fn new(record: &Record, damaged: &BTreeSet<Digest>, offered: &Offered) -> Self {
        let blobs = record.blobs.iter().filter(|blob| damaged.contains(&blob.digest));
        let mut steps: Vec<RepairStep> = blobs
            .map(|blob| RepairStep {
                blob: described(record, blob),
                role: blob.role,
                remedies: remedies(record, blob, damaged, offered),
            })
            .collect();
        let order = |step: &RepairStep| match step.role {
            Role::Manifest => 1,
            Role::Index => 2,
            _ => 0,
        };
        steps.sort_by_key(|step| (order(step), step.blob.digest));
        Self { steps }
    }

    /// Blobs for which there is no way.
    pub fn hopeless(&self) -> impl Iterator<Item = &RepairStep> {
        self.steps.iter().filter(|step| step.remedies.is_empty())
    }
}

fn remedies(record: &Record, blob: &Blob, damaged: &BTreeSet<Digest>, offered: &Offered) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    if offered.recoverable.contains(&blob.digest) {
        remedies.push(Remedy::Recover);
    }
    if let Some(file) = offered.at_root.get(&blob.digest) {
        remedies.push(Remedy::AtRoot(*file));
    }
    if let Some(pick) = offered.blobs.get(&blob.digest) {
        remedies.push(Remedy::Fetch(pick.clone()));
    }
    if let Some(file) = offered.files.get(&blob.digest) {
        remedies.push(Remedy::File(file.clone()));
    }
    if is_derived(record, &blob.digest) {
        remedies.push(Remedy::Derive);
    }
    for layer in record.layers.iter().filter(|layer| has(&layer.encodings, &blob.digest)) {
        let zstd = settings(record, &blob.digest);
        let others = layer.encodings.iter().filter(|encoding| !damaged.contains(&encoding.digest));
        remedies.extend(others.map(|other| Remedy::Reencode(layer.diff_id, other.clone(), zstd)));
        let picks = offered.layers.get(&layer.diff_id).into_iter().flatten();
        remedies.extend(picks.map(|pick| Remedy::Encode(layer.diff_id, pick.clone(), zstd)));
    }
    remedies
}

fn has(list: &[Descriptor], digest: &Digest) -> bool {
    list.iter().any(|descriptor| descriptor.digest == *digest)
}

/// How a layer was recompressed: the usual way, unless the record says otherwise.
fn settings(record: &Record, digest: &Digest) -> Zstd {
    let noted = record.encoded.iter().find(|encoded| encoded.digest == *digest);
    noted.map_or(Zstd::default(), |noted| Zstd { level: noted.level, window: noted.window })
}

/// Whether a document was made at the export, and can be made again.
fn is_derived(record: &Record, digest: &Digest) -> bool {
    record.images.iter().any(|image| {
        let manifest = |platform: &ImagePlatform| {
            platform.carried.digest == *digest && platform.original.digest != *digest
        };
        image.platforms.iter().any(manifest)
            || (image.carried.digest == *digest
                && image.carried.media_type == OCI_INDEX
                && image.original.digest != *digest)
    }) || record.files_documents().iter().any(|document| Digest::of(document) == *digest)
}

/// The blob's descriptor, with its media type as far as the record or its role tells.
pub fn described(record: &Record, blob: &Blob) -> Descriptor {
    let images = record.images.iter().flat_map(|image| {
        let platforms = image.platforms.iter().flat_map(|p| [&p.original, &p.carried, &p.config]);
        let referrers = image.referrers.iter().flat_map(|r| std::iter::once(&r.descriptor).chain(&r.blobs));
        [&image.original, &image.carried].into_iter().chain(platforms).chain(referrers)
    });
    let layers = record.layers.iter().flat_map(|layer| layer.encodings.iter().chain(&layer.originals));
    let known = images
        .chain(layers)
        .chain(&record.files_manifest)
        .find(|known| known.digest == blob.digest && !known.media_type.is_empty());
    let media_type = match (known, blob.role) {
        (Some(known), _) => &known.media_type,
        (None, Role::Index | Role::OriginalIndex) => OCI_INDEX,
        (None, Role::Manifest | Role::OriginalManifest) => OCI_MANIFEST,
        (None, Role::Config) => OCI_CONFIG,
        (None, Role::Layer | Role::Referrer | Role::File) => "application/octet-stream",
    };
    Descriptor { media_type: media_type.into(), digest: blob.digest, size: blob.size }
}

/// Whether the blob is as its source had it, so that a registry may hold it.
pub fn is_original(record: &Record, blob: &Blob) -> bool {
    let original = |image: &Image| {
        let platforms = image.platforms.iter();
        image.original.digest == blob.digest || platforms.map(|p| p.original.digest).any(|d| d == blob.digest)
    };
    match blob.role {
        Role::Config | Role::OriginalManifest | Role::OriginalIndex | Role::Referrer => true,
        Role::Manifest | Role::Index => record.images.iter().any(original),
        Role::Layer => record.layers.iter().any(|layer| has(&layer.originals, &blob.digest)),
        Role::File => false,
    }
}

/// Under which name the source has an image that is carried as `name`: `renames` are those that were
/// given to the export.
pub fn name_at_source(name: &Reference, renames: &[(String, String)]) -> Reference {
    let back = renames.iter().rev().find_map(|(from, to)| name.rename(to, from));
    back.unwrap_or_else(|| name.clone())
}

/// Makes the carried document `digest` again. `read` gives the bytes of an original manifest.
///
/// `None` if it is not derived, or if what comes out has another digest.
pub fn derive(
    record: &Record,
    digest: &Digest,
    mut read: impl FnMut(&Descriptor) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let of_files = record.files_documents().into_iter().find(|bytes| Digest::of(bytes) == *digest);
    if of_files.is_some() {
        return of_files;
    }
    for image in &record.images {
        if image.carried.digest == *digest && image.carried.media_type == OCI_INDEX {
            let bytes = index_of(&image.platforms);
            if Digest::of(&bytes) == *digest {
                return Some(bytes);
            }
        }
        for platform in image.platforms.iter().filter(|platform| platform.carried.digest == *digest) {
            let Some(original) = read(&platform.original) else { continue };
            let candidates = encodings(record, platform, &original);
            let bytes = candidates
                .iter()
                .filter_map(|layers| carried_manifest(&platform.original, &original, layers).ok())
                .find(|bytes| Digest::of(bytes) == *digest);
            if bytes.is_some() {
                return bytes;
            }
        }
    }
    None
}

/// The layers that a carried manifest may list. A layer has one encoding as a rule; of several, the
/// manifest lists its own original where it was kept, or else all of one position. A layer that is
/// carried as a delta is listed as its tar, one that was left out as an original.
fn encodings(record: &Record, platform: &ImagePlatform, original: &[u8]) -> Vec<Vec<Descriptor>> {
    let Ok(Document::Manifest(manifest)) = Document::parse(&platform.original.media_type, original) else {
        return Vec::new();
    };
    let listed = manifest.layers.iter().map(|layer| &layer.descriptor);
    let known: Option<Vec<Ways>> = platform
        .diff_ids
        .iter()
        .zip(listed)
        .map(|(diff_id, listed)| record.layer(diff_id).and_then(|layer| Ways::of(record, layer, listed)))
        .collect();
    let Some(known) = known.filter(|known| known.len() == manifest.layers.len()) else { return Vec::new() };
    let mut candidates: Vec<Vec<Descriptor>> = Vec::new();
    // Of one layer there can be an encoding for one image, and a delta to it for another.
    for order in [[0, 1, 2], [1, 0, 2], [2, 0, 1]] {
        let lists: Vec<Vec<&Descriptor>> = known.iter().map(|ways| ways.in_order(order)).collect();
        let most = lists.iter().map(Vec::len).max().unwrap_or(1);
        candidates.extend((0..most).map(|at| {
            let at = |list: &Vec<&Descriptor>| list[at.min(list.len() - 1)].clone();
            lists.iter().map(at).collect::<Vec<_>>()
        }));
    }
    let own = known.iter().zip(&manifest.layers).map(|(ways, listed)| {
        let kept = ways.0[0].iter().find(|encoding| encoding.digest == listed.descriptor.digest);
        kept.unwrap_or(ways.in_order([0, 1, 2])[0]).clone()
    });
    candidates.push(own.collect());
    candidates
}

/// How manifests list a layer: by its encodings, as what deltas lead to, or by what it was elsewhere.
struct Ways([Vec<Descriptor>; 3]);

impl Ways {
    /// `listed` is how the original manifest has it. `None` if there is no way.
    fn of(record: &Record, layer: &Layer, listed: &Descriptor) -> Option<Self> {
        let rebuilt = record.deltas_to(layer.diff_id).take(1).map(|delta| delta.result(layer.size));
        let mut elsewhere: Vec<Descriptor> = match layer.elsewhere.is_empty() {
            true => Vec::new(),
            false => layer.originals.iter().map(Descriptor::as_oci_layer).collect(),
        };
        elsewhere.sort_by_key(|blob| blob.digest != listed.digest);
        let ways = Self([layer.encodings.clone(), rebuilt.collect(), elsewhere]);
        ways.0.iter().any(|way| !way.is_empty()).then_some(ways)
    }

    fn in_order(&self, order: [usize; 3]) -> Vec<&Descriptor> {
        order.into_iter().flat_map(|way| &self.0[way]).collect()
    }
}

/// The state of a medium in which layers are carried in other encodings than before.
///
/// `replaced` maps the lost encodings to the new ones, `read` gives the bytes of original manifests.
/// Returns the record, whose sequence, time and predecessor are the caller's to fill in, and the
/// documents that it names. The error is a sentence.
pub fn reencoded(
    record: &Record,
    replaced: &BTreeMap<Digest, Descriptor>,
    mut read: impl FnMut(&Descriptor) -> Option<Vec<u8>>,
) -> Result<(Record, Vec<Vec<u8>>), String> {
    let mut next = record.clone();
    let mut gone: BTreeSet<Digest> = replaced.keys().copied().collect();
    let mut documents: Vec<(Role, Vec<u8>)> = Vec::new();
    let mut touched = BTreeSet::new();
    for layer in &mut next.layers {
        for encoding in &mut layer.encodings {
            if let Some(new) = replaced.get(&encoding.digest) {
                *encoding = new.clone();
                touched.insert(layer.diff_id);
            }
        }
        let mut seen = BTreeSet::new();
        layer.encodings.retain(|encoding| seen.insert(encoding.digest));
    }
    let state = next.clone();
    for image in &mut next.images {
        let mut changed = false;
        for platform in &mut image.platforms {
            if !platform.diff_ids.iter().any(|diff_id| touched.contains(diff_id)) {
                continue;
            }
            let what = format!("original manifest {}", platform.original.digest);
            let original = read(&platform.original).ok_or(format!("{what} cannot be read"))?;
            let layers =
                encodings(&state, platform, &original).pop().ok_or(format!("{what} is no manifest"))?;
            let bytes = carried_manifest(&platform.original, &original, &layers)?;
            gone.insert(platform.carried.digest);
            platform.carried = if Digest::of(&bytes) == platform.original.digest {
                platform.original.clone()
            } else {
                Descriptor::of(OCI_MANIFEST, &bytes)
            };
            documents.push((Role::Manifest, bytes));
            changed = true;
        }
        if changed {
            gone.insert(image.carried.digest);
            let (carried, index) = carried_root(&image.platforms);
            image.carried = carried;
            documents.extend(index.map(|bytes| (Role::Index, bytes)));
        }
    }
    let kept: BTreeSet<Digest> = next
        .images
        .iter()
        .flat_map(|image| {
            let platforms = image.platforms.iter().flat_map(|p| [p.original.digest, p.carried.digest]);
            platforms.chain([image.original.digest, image.carried.digest])
        })
        .collect();
    let mut blobs: BTreeMap<Digest, Blob> = next.blobs.drain(..).map(|blob| (blob.digest, blob)).collect();
    blobs.retain(|digest, _| !gone.contains(digest) || kept.contains(digest));
    for layer in replaced.values() {
        let Descriptor { digest, size, .. } = *layer;
        blobs.entry(digest).or_insert(Blob { digest, size, role: Role::Layer });
    }
    for (role, bytes) in &documents {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        blobs.entry(digest).or_insert(Blob { digest, size, role: *role });
    }
    next.blobs = blobs.into_values().collect();
    next.encoded.retain(|encoded| !gone.contains(&encoded.digest));
    Ok((next, documents.into_iter().map(|(_, bytes)| bytes).collect()))
}
