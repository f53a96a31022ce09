//! Which images of the medium, on which platform, and the proof that they are what they claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result, Side};
use crate::image::graph::{self, Given, Step};
use crate::image::{
    Descriptor, Digest, Document, ImageConfig, LayerType, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST,
    Manifest, MediaKind, Platform, Reference, kind,
};
use crate::medium::Medium;
use crate::plan::import::{WantedImage, WantedLayer, entry_taken, runs_on};
use crate::record::{Delta, Image, ImagePlatform, Record};

/// The images with these names, or all; each must be known. A digest must be the original's or the carried one.
pub(super) fn select<'a>(record: &'a Record, names: &[Reference]) -> Result<Vec<&'a Image>> {
    if names.is_empty() {
        return Ok(record.images.iter().collect());
    }
    let mut chosen: Vec<&Image> = Vec::new();
    for name in names {
        match record.images.iter().find(|image| is_named(image, name)) {
            Some(image) if chosen.iter().any(|known| std::ptr::eq(*known, image)) => {}
            Some(image) => chosen.push(image),
            None => {
                return Err(Error::not_found(
                    Side::Medium,
                    format!("image {name}{}", on_which(record, name)),
                ));
            }
        }
    }
    Ok(chosen)
}

/// Where else in the set of media an image is.
fn on_which(record: &Record, name: &Reference) -> String {
    let Some(volume) = &record.volume else { return String::new() };
    match volume.elsewhere.iter().find(|image| image.name == *name) {
        Some(image) => format!(
            ": it is on volume {} of the {} of this set, this is volume {}",
            image.volume, volume.of, volume.number
        ),
        None => String::new(),
    }
}

/// Whether `name` is one of the image's: a tag, or a digest that its source or the medium has it under.
pub fn is_named(image: &Image, name: &Reference) -> bool {
    let Some(digest) = name.digest() else { return image.names.contains(name) };
    let platforms = image.platforms.iter().flat_map(|p| [p.original.digest, p.carried.digest]);
    let mut digests = platforms.chain([image.original.digest, image.carried.digest]);
    let same = |own: &Reference| own.repository() == name.repository();
    image.names.iter().any(same) && digests.any(|known| known == digest)
}

/// An error that lists what the medium has, unless every image is there for the node's platform.
pub(super) fn require_platform(images: &[&Image], node: &Platform) -> Result<()> {
    let missing: Vec<&&Image> = images.iter().filter(|image| best(image, node).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let has = |image: &&&Image| {
        let platforms: BTreeSet<String> = image.platforms.iter().map(|p| p.platform.to_string()).collect();
        format!("{} for {}", label(image), platforms.into_iter().collect::<Vec<_>>().join(", "))
    };
    Err(Error::unfit(
        format_args!("{} of {} images are not for {node}", missing.len(), images.len()),
        format_args!("the medium has {}", missing.iter().map(has).collect::<Vec<_>>().join("; ")),
    ))
}

/// The platform of `image` that suits the node best.
///
/// The last resort is one for more recent processors than containerd is sure of: it names no variant for
/// amd64, whatever the processor is.
fn best<'a>(image: &'a Image, node: &Platform) -> Option<&'a ImagePlatform> {
    let has = |platform: &Platform| image.platforms.iter().find(|p| p.platform == *platform);
    let above = ["v2", "v3", "v4"].into_iter().filter(|_| node.architecture == "amd64");
    let above = above.map(|variant| Platform { variant: Some(variant.into()), ..node.clone() });
    runs_on(node).iter().find_map(has).or_else(|| above.into_iter().find_map(|platform| has(&platform)))
}

pub(super) fn label(image: &Image) -> String {
    image.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Reads the documents of `image` for the node's platform and follows the chain that proves it: the
/// original's bytes name the original manifest, that names the config, that names the layers.
///
/// `host` is the platform by which the node's containerd chooses from an index, whatever is imported.
pub(super) fn read(
    medium: &Medium,
    record: &Record,
    image: &Image,
    (node, host): (&Platform, &Platform),
) -> Result<WantedImage> {
    let platform = best(image, node)
        .ok_or_else(|| Error::not_found(Side::Medium, format!("{} for {node}", label(image))))?;
    let proof = Proof { medium, image };
    let original = proof.manifest(&platform.original)?;
    let carried = proof.manifest(&platform.carried)?;
    let given = proof.given(platform)?;
    if given == Given::Not {
        let reason = format!("does not give this manifest for {}", platform.platform);
        return Err(proof.broken(&image.original, &format!("{reason}: {}", platform.original.digest)));
    }
    let config = ImageConfig::parse(&medium.read_blob(&platform.config, MAX_CONFIG)?)
        .map_err(|reason| proof.broken(&platform.config, &reason))?;
    for (descriptor, manifest) in [(&platform.original, &original), (&platform.carried, &carried)] {
        if manifest.config.digest != platform.config.digest {
            return Err(proof.broken(descriptor, "names another config than the commit record"));
        }
        if manifest.layers.len() != config.diff_ids().len() {
            return Err(proof.broken(descriptor, "has another number of layers than its config"));
        }
    }
    // One that names no platform was exported for whoever asked.
    if let Some(own) = config.platform.as_ref().filter(|_| given == Given::ByConfig)
        && *own != platform.platform
    {
        let reason = format!("is for {own}, and the commit record says {}", platform.platform);
        return Err(proof.broken(&platform.config, &reason));
    }
    if config.diff_ids() != platform.diff_ids {
        return Err(proof.broken(&platform.config, "lists other layers than the commit record"));
    }
    let mut layers = Vec::with_capacity(carried.layers.len());
    for (diff_id, child) in config.diff_ids().iter().zip(&carried.layers) {
        if !matches!(kind(&child.descriptor.media_type), MediaKind::Layer(LayerType::Tar(_))) {
            let reason = format!("lists {}, which is no layer by its media type", child.descriptor.digest);
            return Err(proof.broken(&platform.carried, &reason));
        }
        let mut deltas: Vec<Delta> = record.deltas_to(*diff_id).cloned().collect();
        let layer = record.layer(diff_id).filter(|layer| {
            let by_delta = !deltas.is_empty() && child.descriptor == deltas[0].result(layer.size);
            by_delta
                || layer.encodings.iter().any(|encoding| encoding.digest == child.descriptor.digest)
                || layer.was_left_out(&child.descriptor.digest)
        });
        let Some(layer) = layer else {
            let reason =
                format!("lists {}, which no layer of the record is encoded in", child.descriptor.digest);
            return Err(proof.broken(&platform.carried, &reason));
        };
        if layer.encodings.iter().any(|encoding| encoding.digest == child.descriptor.digest) {
            deltas.clear();
        }
        if let Some(reason) = deltas.iter().find_map(|delta| delta.refused(layer.size)) {
            return Err(proof.broken(&child.descriptor, &format!("is refused: {reason}")));
        }
        let left_out = layer.was_left_out(&child.descriptor.digest);
        let blobs = layer.originals.iter().chain(&layer.encodings).chain(&layer.elsewhere);
        let mut others: Vec<Descriptor> =
            blobs.filter(|other| other.digest != child.descriptor.digest).cloned().collect();
        others.shrink_to_fit();
        layers.push(WantedLayer {
            diff_id: *diff_id,
            size: layer.size,
            carried: child.descriptor.clone(),
            others,
            deltas,
            left_out,
        });
    }
    Ok(WantedImage {
        names: image.names.clone(),
        sequence: image.sequence,
        platform: platform.platform.clone(),
        original: image.original.clone(),
        way: proof.way(&platform.original.digest, host)?,
        original_manifest: platform.original.clone(),
        original_layers: original.descriptors(),
        carried_manifest: platform.carried.clone(),
        // The media type as the manifest gives it, which decides how containerd labels it.
        config: Descriptor { media_type: carried.config.media_type, ..platform.config.clone() },
        layers,
    })
}

struct Proof<'a> {
    medium: &'a Medium,
    image: &'a Image,
}

impl Proof<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let bytes = self.medium.read_blob(descriptor, MAX_MANIFEST)?;
        match Document::parse(&descriptor.media_type, &bytes) {
            Ok(Document::Manifest(manifest)) => Ok(manifest),
            Ok(Document::Index(_)) => Err(self.broken(descriptor, "is an index where a manifest should be")),
            Err(reason) => Err(self.broken(descriptor, &reason)),
        }
    }

    /// Who says that the manifest of `platform` is the one that the original has for it.
    fn given(&self, platform: &ImagePlatform) -> Result<Given> {
        let wanted = &platform.original.digest;
        graph::given(&self.image.original, &platform.platform, wanted, |document, depth| {
            // Indexes of which nothing was carried are not on the medium; one that leads there is.
            if depth > 0 && self.medium.blob_size(&document.digest)?.is_none() {
                return Ok(Step::DeadEnd);
            }
            let bytes = self.medium.read_blob(document, MAX_MANIFEST)?;
            match Document::parse(&document.media_type, &bytes) {
                Ok(Document::Index(index)) => Ok(Step::Index(index)),
                Ok(Document::Manifest(_)) => Ok(Step::DeadEnd),
                Err(reason) => Err(self.broken(document, &reason)),
            }
        })
    }

    /// The indexes on the way from the original to the manifest `to` that a containerd of platform `host` takes,
    /// without the original; `None` where it comes to something else.
    fn way(&self, to: &Digest, host: &Platform) -> Result<Option<Vec<Descriptor>>> {
        let (mut at, mut way) = (self.image.original.clone(), Vec::new());
        for depth in 0..=MAX_INDEX_DEPTH {
            if at.digest == *to {
                return Ok(Some(way));
            }
            if self.medium.blob_size(&at.digest)? != Some(at.size) {
                break;
            }
            let bytes = self.medium.read_blob(&at, MAX_MANIFEST)?;
            let Ok(Document::Index(index)) = Document::parse(&at.media_type, &bytes) else { break };
            let Some(next) = entry_taken(&index, host).cloned() else { break };
            if depth > 0 {
                way.push(at);
            }
            at = next;
        }
        Ok(None)
    }

    fn broken(&self, document: &Descriptor, reason: &str) -> Error {
        let what = format!("{}: {}", label(self.image), document.digest);
        Error::Invalid { side: Side::Medium, what, reason: reason.to_owned() }
    }
}

/// What failed of an image, under its names.
pub(super) fn failure(image: &Image, error: Error) -> (String, Arc<Error>) {
    (label(image), Arc::new(error))
}
