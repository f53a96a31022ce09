//! Images that another tool wrote, read as those of a medium: a layout or an archive, without an export first.
//!
//! Everything that a commit record says is found out and proven here, from the bytes alone: a layer is decoded
//! and compared with its diff_id before anything is sent of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MAX_CONFIG, MAX_MANIFEST, OCI_MANIFEST, Platform};
use crate::layer::{self, Most};
use crate::medium::{Medium, Place};
use crate::plan::import::runs_on;
use crate::plan::{ExportedImage, ExportedLayer, carried_manifest, next_record};
use crate::progress::{Event, Phase, Run, Watched};
use crate::record::{Blob, ImagePlatform, Record, Role};
use crate::source::{self, ImageRequest, Platforms, Resolved, ResolvedLayer, Source};

/// Reads `wanted` of a layout or archive at `path` for a node's platform, proves it, and gives it out as a medium
/// to import from. Nothing is written anywhere.
///
/// Errors: an image that is absent, damaged, or for other platforms only; a layer that is not what the
/// config says.
pub fn adopt(
    source: Box<dyn Source>,
    path: &Path,
    wanted: &[ImageRequest],
    platform: &Platform,
    run: Run<'_>,
) -> Result<Medium> {
    run.report(Event::Phase { phase: Phase::Resolving, bytes: 0, items: wanted.len() });
    let mut images = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        run.check()?;
        let image = resolve(&*source, wanted, platform)?;
        image.warnings.iter().for_each(|text| run.report(Event::Warning(text)));
        images.push(image);
    }
    run.report(Event::PhaseEnded { phase: Phase::Resolving });
    let layers = checked(&*source, &images, run)?;
    let mut made = Made::default();
    let mut exported = Vec::with_capacity(images.len());
    for image in &images {
        exported.push(made.image(&*source, image)?);
    }
    let documents: Vec<Blob> = made.blobs.values().cloned().collect();
    // The same path is the same medium to a later import, which may take away what it brought.
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut id = Digest::of(absolute.as_os_str().as_encoded_bytes()).hex();
    id.truncate(32);
    let (record, indexes) = next_record(Record::empty(id), 1, &exported, &layers, &documents);
    for index in indexes {
        made.bytes.insert(Digest::of(&index), index);
    }
    let (source, bytes): (Arc<dyn Source>, _) = (source.into(), made.bytes);
    Medium::adopt(path, record, move |digest| match bytes.get(digest) {
        Some(bytes) => in_memory(bytes).map(Some),
        None => source.place(digest),
    })
}

/// The first of the platforms that the node runs which the image is there for.
fn resolve(source: &dyn Source, wanted: &ImageRequest, platform: &Platform) -> Result<Resolved> {
    let mut first = None;
    for platform in runs_on(platform) {
        match source::resolve(source, wanted, &Platforms::Only(vec![platform])) {
            Err(error @ Error::NotFound { .. }) => {
                first.get_or_insert(error);
            }
            other => return other,
        }
    }
    Err(first.unwrap_or_else(|| Error::not_found(Side::Source, &wanted.image)))
}

/// Decodes every layer once, and compares it with its diff_id.
fn checked(source: &dyn Source, images: &[Resolved], run: Run<'_>) -> Result<Vec<ExportedLayer>> {
    let mut layers: BTreeMap<(Digest, Digest), (&Resolved, &ResolvedLayer)> = BTreeMap::new();
    for image in images {
        for layer in image.platforms.iter().flat_map(|platform| &platform.layers) {
            layers.entry((layer.diff_id, layer.listed.digest)).or_insert((image, layer));
        }
    }
    let bytes = layers.values().map(|(_, layer)| layer.listed.size).sum();
    run.report(Event::Phase { phase: Phase::Decoding, bytes, items: layers.len() });
    let mut checked = Vec::with_capacity(layers.len());
    for (image, layer) in layers.into_values() {
        run.check()?;
        let item = format!("{} {}", layer.listed.digest.short(), image.image);
        run.report(Event::Started { item: &item, bytes: layer.listed.size });
        let reader = Watched::new(source::open(source, &image.image, &layer.listed)?, &item, run);
        let what = format!("layer {} of {}", layer.listed.digest, image.image);
        let decoded = match layer::check(reader, Most::Ratio) {
            Ok(decoded) => decoded,
            Err(error) => {
                // A decoder gives up where the damage is; the digest says whether it is damage.
                io::copy(&mut source::open(source, &image.image, &layer.listed)?, &mut io::sink())
                    .map_err(|error| Error::from_io(Side::Source, "read", what.clone().into(), error))?;
                return Err(Error::from_io(Side::Source, "decode", what.into(), error));
            }
        };
        if decoded.diff_id != layer.diff_id {
            return Err(Error::DigestMismatch {
                side: Side::Source,
                what,
                expected: layer.diff_id,
                found: decoded.diff_id,
            });
        }
        run.report(Event::Finished { item: &item });
        checked.push(ExportedLayer {
            diff_id: layer.diff_id,
            size: decoded.size,
            originals: vec![layer.listed.clone()],
            encoding: layer.listed.as_oci_layer(),
            delta: None,
            elsewhere: Vec::new(),
        });
    }
    run.report(Event::PhaseEnded { phase: Phase::Decoding });
    Ok(checked)
}

/// Documents, and those that are made here or read from no file.
#[derive(Default)]
struct Made {
    blobs: BTreeMap<Digest, Blob>,
    bytes: HashMap<Digest, Vec<u8>>,
}

impl Made {
    fn add(&mut self, bytes: Vec<u8>, role: Role) {
        let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64, role };
        self.bytes.insert(blob.digest, bytes);
        self.blobs.entry(blob.digest).or_insert(blob);
    }

    fn image(&mut self, source: &dyn Source, image: &Resolved) -> Result<ExportedImage> {
        let read = |document: &Descriptor, most| source::read(source, &image.image, document, most);
        let mut platforms = Vec::with_capacity(image.platforms.len());
        for platform in &image.platforms {
            let manifest = read(&platform.manifest, MAX_MANIFEST)?;
            let layers: Vec<Descriptor> =
                platform.layers.iter().map(|layer| layer.listed.as_oci_layer()).collect();
            let carried = carried_manifest(&platform.manifest, &manifest, &layers).map_err(|reason| {
                Error::invalid(Side::Source, format!("manifest {}", platform.manifest.digest), reason)
            })?;
            let descriptor = match Digest::of(&carried) == platform.manifest.digest {
                true => platform.manifest.clone(),
                false => Descriptor::of(OCI_MANIFEST, &carried),
            };
            self.add(carried, Role::Manifest);
            self.add(manifest, Role::OriginalManifest);
            self.add(read(&platform.config, MAX_CONFIG)?, Role::Config);
            platforms.push(ImagePlatform {
                platform: platform.platform.clone(),
                original: platform.manifest.clone(),
                carried: descriptor,
                config: platform.config.clone(),
                diff_ids: platform.layers.iter().map(|layer| layer.diff_id).collect(),
            });
        }
        for index in &image.indexes {
            self.add(read(index, MAX_MANIFEST)?, Role::OriginalIndex);
        }
        let (name, original) = (image.name.clone(), image.original.clone());
        Ok(ExportedImage { name, original, platforms, referrers: Vec::new() })
    }
}

/// A small document as a file that is nowhere but in memory.
fn in_memory(bytes: &[u8]) -> Result<Place> {
    let failed = |error| Error::from_io(Side::Source, "keep", "a document".into(), error);
    let file = memfd_create("document", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(failed)?;
    Ok(Place { file, offset: 0, size: bytes.len() as u64 })
}
