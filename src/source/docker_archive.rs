//! `docker-archive:FILE`: what `docker save` and `podman save` write, plain or compressed.
//!
//! The old form has `manifest.json`, configs and layers; its manifests are made up here. The new form
//! (Docker 25) is an OCI layout as well, which is preferred: its manifests are the true ones.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use oci_spec::image::{self as oci, DescriptorBuilder, ImageManifestBuilder};

use super::archive::Archive;
use super::docker_names::Saved;
use super::oci_layout::{Files, OciLayout, not_listed, refuse_ambiguous};
use super::tar_index::Extent;
use super::{Listed, Source, docker_names, find};
use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{
    Compression, Descriptor, Digest, HashingReader, ImageConfig, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST,
    OCI_CONFIG, OCI_MANIFEST, Reference,
};
use crate::medium::Place;
use crate::progress::Stop;

/// Opens the archive `path`.
pub(super) fn open(path: &Path, stop: &Stop) -> Result<Box<dyn Source>> {
    let archive = Archive::open(path, stop)?;
    let name = format!("docker-archive:{}", path.display());
    let Some(text) = archive.read("manifest.json", MAX_MANIFEST)? else {
        return Err(without_manifest(&archive, path));
    };
    let what = format!("manifest.json of {name}");
    let saved: Vec<Saved> = json::read(&text, Keys::Own)
        .map_err(|error| Error::invalid(Side::Source, &what, format!("not a list of images: {error}")))?;
    if let Ok(layout) = OciLayout::open(name.clone(), archive.clone())
        && let Some(listed) = docker_names::complete(&archive, layout.listed(), &saved)
    {
        return Ok(Box::new(layout.relisted(listed)));
    }
    let images: Vec<Image> = saved.into_iter().map(Image::new).collect();
    let by_config: Vec<Listed> = images.iter().flat_map(Image::listed_by_config).collect();
    refuse_ambiguous(&by_config).map_err(|reason| Error::invalid(Side::Source, &what, reason))?;
    Ok(Box::new(DockerArchive { name, archive, images, blobs: Mutex::default() }))
}

fn without_manifest(archive: &Archive, path: &Path) -> Error {
    let path = path.display();
    if archive.find("index.json").is_some() {
        return Error::Usage(format!(
            "{path} has no manifest.json, but an index.json: it looks like oci-archive:{path}"
        ));
    }
    let reason =
        "it has no manifest.json, so `docker save` (1.10 or later) or `podman save` did not write it";
    Error::invalid(Side::Source, path, reason)
}

/// An archive of the old form.
#[derive(Debug)]
struct DockerArchive {
    name: String,
    archive: Archive,
    images: Vec<Image>,
    /// Where the blobs are that the made-up manifests name, and the manifests themselves.
    blobs: Mutex<HashMap<Digest, Bytes>>,
}

#[derive(Debug)]
struct Image {
    names: Vec<Reference>,
    saved: Saved,
    /// Its made-up manifest. Made when it is asked for, since compressed layers are hashed for it.
    manifest: OnceLock<Descriptor>,
}

#[derive(Clone, Debug)]
enum Bytes {
    Memory(Arc<[u8]>),
    File(Extent),
}

impl Image {
    fn new(saved: Saved) -> Self {
        Self { names: saved.names(), saved, manifest: OnceLock::new() }
    }

    /// Its names beside the path of its config, which tells images apart before their manifests are made.
    fn listed_by_config(&self) -> Vec<Listed> {
        self.listed(&Descriptor::of(OCI_CONFIG, self.saved.config.as_bytes()))
    }

    fn listed(&self, descriptor: &Descriptor) -> Vec<Listed> {
        let entry = |name| Listed { name, tag: None, descriptor: descriptor.clone() };
        match self.names.as_slice() {
            [] => vec![entry(None)],
            names => names.iter().cloned().map(Some).map(entry).collect(),
        }
    }
}

impl DockerArchive {
    fn manifest(&self, image: &Image) -> Result<Descriptor> {
        if let Some(made) = image.manifest.get() {
            return Ok(made.clone());
        }
        let made = self.make_manifest(image)?;
        Ok(image.manifest.get_or_init(|| made).clone())
    }

    /// Makes an OCI manifest of what `manifest.json` says; the same archive gives the same manifest.
    ///
    /// A plain layer's descriptor takes its digest from the config's diff_ids, unproven: whoever
    /// reads the layer finds out.
    fn make_manifest(&self, image: &Image) -> Result<Descriptor> {
        let path = &image.saved.config;
        let what = format!("image config {path:?} of {}", self.name);
        let invalid = |reason: String| Error::invalid(Side::Source, &what, reason);
        let extent = self.archive.find(path).ok_or_else(|| Error::not_found(Side::Source, &what))?;
        let bytes = self.archive.read(path, MAX_CONFIG)?.unwrap_or_default();
        let config = Descriptor::of(OCI_CONFIG, &bytes);
        match image.saved.config_digest() {
            Some(expected) if expected != config.digest => {
                return Err(Error::DigestMismatch {
                    side: Side::Source,
                    what,
                    expected,
                    found: config.digest,
                });
            }
            _ => self.keep(&config, Bytes::File(extent)),
        }
        let parsed = ImageConfig::parse(&bytes).map_err(invalid)?;
        let paths = image.saved.layers.as_deref().unwrap_or_default();
        if paths.len() != parsed.diff_ids().len() || paths.len() > MAX_LAYERS {
            return Err(invalid(format!(
                "it has {} diff_ids where manifest.json has {} layers (at most {MAX_LAYERS} are allowed)",
                parsed.diff_ids().len(),
                paths.len()
            )));
        }
        let mut layers = Vec::with_capacity(paths.len());
        for (path, diff_id) in paths.iter().zip(parsed.diff_ids()) {
            layers.push(self.layer(path, *diff_id)?);
        }
        let bytes = manifest_bytes(&config, &layers).map_err(invalid)?;
        let made = Descriptor::of(OCI_MANIFEST, &bytes);
        self.keep(&made, Bytes::Memory(bytes.into()));
        Ok(made)
    }

    fn layer(&self, path: &str, diff_id: Digest) -> Result<Descriptor> {
        let what = || format!("layer {path:?} (diff_id {diff_id}) in {}", self.name);
        let extent = self.archive.find(path).ok_or_else(|| Error::not_found(Side::Source, what()))?;
        let mut start = Vec::new();
        let mut section = self.archive.section(extent, 0);
        (&mut section).take(8).read_to_end(&mut start).map_err(|error| self.archive.read_error(error))?;
        let compression = Compression::detect(&start);
        let digest = match compression {
            Compression::None => diff_id,
            // Some tools put compressed layers in; only reading them tells their digest.
            _ => self.hash(extent)?,
        };
        let media_type = compression.oci_layer_type().into();
        let layer = Descriptor { media_type, digest, size: extent.size };
        self.keep(&layer, Bytes::File(extent));
        Ok(layer)
    }

    fn hash(&self, extent: Extent) -> Result<Digest> {
        let mut reader = HashingReader::new(self.archive.section(extent, 0));
        io::copy(&mut reader, &mut io::sink()).map_err(|error| self.archive.read_error(error))?;
        Ok(reader.finish().0)
    }

    fn keep(&self, blob: &Descriptor, bytes: Bytes) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest, bytes);
    }

    fn bytes(&self, blob: &Digest) -> Option<Bytes> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(blob).cloned()
    }
}

/// The bytes of a manifest, keys in the order of their names.
fn manifest_bytes(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>, String> {
    let described = |blob: &Descriptor| {
        let digest: oci::Digest = blob.digest.to_string().parse()?;
        DescriptorBuilder::default()
            .media_type(blob.media_type.as_str())
            .digest(digest)
            .size(blob.size)
            .build()
    };
    let made = || -> Result<oci::ImageManifest, oci_spec::OciSpecError> {
        ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(OCI_MANIFEST)
            .config(described(config)?)
            .layers(layers.iter().map(described).collect::<Result<Vec<_>, _>>()?)
            .build()
    };
    let made = made().map_err(|error| error.to_string())?;
    let sorted = serde_json::to_value(made).and_then(|value| serde_json::to_vec(&value));
    sorted.map_err(|error| error.to_string())
}

impl Source for DockerArchive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for image in &self.images {
            all.extend(image.listed(&self.manifest(image)?));
        }
        Ok(all)
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        if let Some(named) = self.images.iter().find(|saved| saved.names.contains(image)) {
            return self.manifest(named);
        }
        let listed = self.list()?;
        let found = find(&listed, image).ok_or_else(|| not_listed(&self.name, &listed, image))?;
        Ok(found.descriptor.clone())
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        Ok(self.bytes(&blob.digest).is_some())
    }

    fn place(&self, blob: &Digest) -> Result<Option<Place>> {
        match self.bytes(blob) {
            Some(Bytes::File(extent)) => self.archive.extent(extent).map(Some),
            _ => Ok(None),
        }
    }

    fn open_unverified(
        &self,
        image: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        match self.bytes(&blob.digest) {
            Some(Bytes::File(extent)) => Ok(Box::new(self.archive.section(extent, offset))),
            Some(Bytes::Memory(bytes)) => {
                let mut reader = Cursor::new(bytes);
                reader.set_position(offset);
                Ok(Box::new(reader))
            }
            None => Err(self.absent(image, blob)),
        }
    }
}
