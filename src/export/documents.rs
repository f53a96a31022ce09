//! The documents of an image, as the source has them and as they are carried.

use std::collections::BTreeMap;

use super::carry::Carried;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MAX_CONFIG, MAX_MANIFEST, OCI_MANIFEST};
use crate::medium::Medium;
use crate::plan::{ExportedImage, carried_manifest};
use crate::record::{Blob, ImagePlatform, Referrer, Role};
use crate::source::{self, Resolved, ResolvedPlatform, Source};

/// Writes the documents of one image, each after what it names, and returns its place in the record.
///
/// Those of a source that is at hand are read again for it: with many images they would take more than all else.
pub(super) fn write_documents(
    source: &dyn Source,
    medium: &Medium,
    image: &Resolved,
    carried: &Carried,
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Result<ExportedImage> {
    let mut write = |bytes: &[u8], role: Role| -> Result<()> {
        medium.write_blob(bytes)?;
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64, role };
        // A manifest that is carried as it was is both; what lists layers counts.
        let entry = blobs.entry(blob.digest).or_insert_with(|| blob.clone());
        entry.role = entry.role.min(role);
        Ok(())
    };
    let read = |document: &Descriptor| source::read(source, &image.image, document, MAX_MANIFEST);
    let mut platforms = Vec::with_capacity(image.platforms.len());
    for platform in &image.platforms {
        let manifest = read(&platform.manifest)?;
        let (descriptor, bytes) = carried_document(platform, &manifest, carried)?;
        match &platform.config_bytes {
            Some(config) => write(config, Role::Config)?,
            None => write(&source::read(source, &image.image, &platform.config, MAX_CONFIG)?, Role::Config)?,
        }
        write(&manifest, Role::OriginalManifest)?;
        write(&bytes, Role::Manifest)?;
        platforms.push(ImagePlatform {
            platform: platform.platform.clone(),
            original: platform.manifest.clone(),
            carried: descriptor,
            config: platform.config.clone(),
            diff_ids: platform.layers.iter().map(|layer| layer.diff_id).collect(),
        });
    }
    for index in &image.indexes {
        write(&read(index)?, Role::OriginalIndex)?;
    }
    let mut referrers = Vec::new();
    for referrer in &image.referrers {
        for document in &referrer.documents {
            write(&read(document)?, Role::Referrer)?;
        }
        let below = referrer.documents.iter().skip(1);
        referrers.push(Referrer {
            subject: referrer.subject,
            descriptor: referrer.descriptor.clone(),
            artifact_type: referrer.artifact_type.clone(),
            name: referrer.name.clone(),
            blobs: below.chain(&referrer.blobs).cloned().collect(),
        });
    }
    for blob in image.referrers.iter().flat_map(|referrer| &referrer.blobs) {
        let Descriptor { digest, size, .. } = *blob;
        blobs.entry(digest).or_insert(Blob { digest, size, role: Role::Referrer });
    }
    Ok(ExportedImage { name: image.name.clone(), original: image.original.clone(), platforms, referrers })
}

fn carried_document(
    platform: &ResolvedPlatform,
    manifest: &[u8],
    carried: &Carried,
) -> Result<(Descriptor, Vec<u8>)> {
    let original = &platform.manifest;
    let invalid =
        |reason: String| Error::invalid(Side::Source, format!("manifest {}", original.digest), reason);
    let layers = platform
        .layers
        .iter()
        .map(|layer| carried.encoding(&layer.diff_id, &layer.listed.digest))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| invalid("one of its layers was not planned".into()))?;
    let bytes = carried_manifest(original, manifest, &layers).map_err(invalid)?;
    if Digest::of(&bytes) == original.digest {
        return Ok((original.clone(), bytes));
    }
    Ok((Descriptor::of(OCI_MANIFEST, &bytes), bytes))
}
