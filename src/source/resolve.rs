//! From names to what has to be carried: walks indexes, manifests and configs, and proves each.

use std::collections::BTreeSet;

use super::oci_layout::refuse_ambiguous;
use super::{Listed, Offer, ResolvedReferrer, Source, find};
use crate::error::{Error, Result, Side};
use crate::image::{
    Child, Descriptor, Digest, Document, ImageConfig, LayerType, Listed as Blobs, MAX_CONFIG,
    MAX_INDEX_DEPTH, MAX_MANIFEST, Manifest, MediaKind, Platform, Reference, kind,
};

use crate::limits::{NODES, PLATFORMS};

/// An image that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// Its name at the source.
    pub image: Reference,
    /// The name it is carried under.
    pub name: Reference,
    /// Its index or manifest, where the source's listing has said so already.
    pub descriptor: Option<Descriptor>,
}

/// Which platforms of an image are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// These, each of which must be there.
    Only(Vec<Platform>),
    /// Every one that the source holds.
    All,
}

/// An image, resolved: what it consists of. Documents that can be read again at no cost are named only.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its name at the source.
    pub image: Reference,
    /// The name it is carried under.
    pub name: Reference,
    /// The index or manifest that the name stood for.
    pub original: Descriptor,
    /// The indexes on the way to the manifests; the original first.
    pub indexes: Vec<Descriptor>,
    /// The platforms, in the order of the index.
    pub platforms: Vec<ResolvedPlatform>,
    /// Platforms that an index lists and the source does not hold, where all were asked for.
    pub absent: Vec<Platform>,
    /// What refers to it, where that is carried.
    pub referrers: Vec<ResolvedReferrer>,
    /// What the person has to know of it: sentences.
    pub warnings: Vec<String>,
}

/// One platform of a resolved image.
#[derive(Clone, Debug)]
pub struct ResolvedPlatform {
    /// The platform, as the index or else the config says.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Descriptor,
    /// The config, as the manifest lists it.
    pub config: Descriptor,
    /// The bytes of the config, where the source would have to fetch them again.
    pub config_bytes: Option<Vec<u8>>,
    /// The layers, bottom first.
    pub layers: Vec<ResolvedLayer>,
}

/// One layer of a resolved image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedLayer {
    /// What identifies it.
    pub diff_id: Digest,
    /// The blob that the manifest lists.
    pub listed: Descriptor,
    /// The blobs that the source can deliver.
    pub offers: Vec<Offer>,
}

/// Resolves one image. Reads its index, manifests and configs, and asks whether the layers are there.
///
/// Errors: the name or a platform that was asked for is absent, a blob is absent or damaged, a
/// document is ambiguous, a layer is of a kind whose content cannot be checked.
pub fn resolve(source: &dyn Source, wanted: &ImageRequest, platforms: &Platforms) -> Result<Resolved> {
    let image = &wanted.image;
    let original = match &wanted.descriptor {
        Some(descriptor) => descriptor.clone(),
        None => source.resolve(image)?,
    };
    let mut walk = Walk::over(source, image, &original, platforms)?;
    let instead = walk.instead();
    if let Some((platforms, text)) = &instead {
        walk = Walk::over(source, image, &original, platforms)?;
        walk.warnings.push(text.clone());
    }
    walk.require_platforms()?;
    let name = true_name(source, wanted, &mut walk.warnings)?;
    walk.found.shrink_to_fit();
    walk.indexes.shrink_to_fit();
    Ok(Resolved {
        image: image.clone(),
        name,
        original,
        indexes: walk.indexes,
        platforms: walk.found,
        absent: walk.absent,
        referrers: Vec::new(),
        warnings: walk.warnings,
    })
}

/// The name that an image is carried under: of `repo:tag@digest` the tag, while that names the digest.
///
/// Where the tag was moved or is gone, the digest alone is a true name, and the one that kubelet asks for.
fn true_name(source: &dyn Source, wanted: &ImageRequest, warnings: &mut Vec<String>) -> Result<Reference> {
    let (Some(digest), Some(pinned), Some(tag)) =
        (wanted.image.digest(), wanted.name.digest(), wanted.image.tag())
    else {
        return Ok(wanted.name.clone());
    };
    let tagged = wanted.name.without_redundant_digest();
    // An entry that has no name in a layout gets the one that it is asked for by.
    let nameless = |listed: &Listed| listed.name.is_none() && listed.descriptor.digest == digest;
    if !source.is_remote() && source.list()?.iter().any(nameless) {
        return Ok(tagged);
    }
    let found = match source.tagged(&wanted.image) {
        Ok(Some(found)) if found == digest => return Ok(tagged),
        Ok(Some(found)) => format!("its tag {tag} names {found} now"),
        Ok(None) => format!("its tag {tag} is not there any more"),
        Err(error @ Error::Interrupted) => return Err(error),
        Err(error) => format!("what its tag {tag} names cannot be found out: {error}"),
    };
    let name = wanted.name.with_digest(pinned);
    warnings.push(format!("{}: {found}; the digest is what is carried, as {name}", wanted.image));
    Ok(name)
}

/// The images of a source that can list, each under the name it has there.
///
/// `unnamed` is the name for an image that has none; without it such an image is an error, since a
/// pod could never name it.
pub fn everything(source: &dyn Source, unnamed: Option<&Reference>) -> Result<Vec<ImageRequest>> {
    let listed = source.list()?;
    let nameless: BTreeSet<Digest> =
        listed.iter().filter(|entry| entry.name.is_none()).map(|entry| entry.descriptor.digest).collect();
    if nameless.len() > usize::from(unnamed.is_some()) {
        let what = format!("{}: {} images have no full name", source.name(), nameless.len());
        let tags: Vec<&str> = listed.iter().filter_map(|entry| entry.tag.as_deref()).collect();
        let advice = match tags.as_slice() {
            [] | [_] => "name one with --as REF".to_owned(),
            [first, ..] => format!(
                "it has the bare tags {}; export one at a time, such as {first} --as {}",
                tags.join(", "),
                example(first)
            ),
        };
        return Err(Error::invalid(Side::Source, what, advice));
    }
    refuse_ambiguous(&listed).map_err(|reason| {
        Error::invalid(Side::Source, source.name(), format!("{reason}: name the one that is wanted"))
    })?;
    let name = |entry: Listed| {
        let name = entry.name.or_else(|| unnamed.cloned())?;
        Some(ImageRequest { image: name.clone(), name, descriptor: Some(entry.descriptor) })
    };
    Ok(listed.into_iter().filter_map(name).collect())
}

/// The image that has the bare tag `tag` at a source that can list, to be carried as `name`; `None`
/// where there is none.
///
/// An error when several have it, or no name is given for it.
pub fn tagged(source: &dyn Source, tag: &str, name: Option<&Reference>) -> Result<Option<ImageRequest>> {
    let listed = source.list()?;
    let mut found = listed.iter().filter(|entry| entry.tag.as_deref() == Some(tag));
    let Some(entry) = found.next() else { return Ok(None) };
    if let Some(other) = found.find(|other| other.descriptor.digest != entry.descriptor.digest) {
        let (one, other) = (entry.descriptor.digest, other.descriptor.digest);
        let reason = format!("{tag} is the tag of two images, {one} and {other}");
        return Err(Error::invalid(Side::Source, source.name(), reason));
    }
    let Some(name) = name else {
        return Err(Error::Usage(format!(
            "{tag} in {} has no full name: give it one, such as --as {}",
            source.name(),
            example(tag)
        )));
    };
    let descriptor = Some(entry.descriptor.clone());
    Ok(Some(ImageRequest { image: name.clone(), name: name.clone(), descriptor }))
}

/// What the full name could be of an image with this bare tag.
fn example(tag: &str) -> String {
    let versioned = tag.starts_with(|c: char| c.is_ascii_digit()) || tag.starts_with('v') || tag == "latest";
    if versioned { format!("docker.io/team/app:{tag}") } else { format!("docker.io/library/{tag}:1") }
}

/// The one image of a source that can list, whatever names it has there, to be carried as `name`.
///
/// An error when there is none, or several.
pub fn only(source: &dyn Source, name: Reference) -> Result<ImageRequest> {
    let mut listed = source.list()?;
    let images: BTreeSet<Digest> = listed.iter().map(|entry| entry.descriptor.digest).collect();
    match (listed.pop(), images.len()) {
        (Some(entry), 1) => {
            let image = entry.name.unwrap_or_else(|| name.clone());
            Ok(ImageRequest { image, name, descriptor: Some(entry.descriptor) })
        }
        (_, count) => {
            let reason = format!("it has {count} images: name the one that is to be carried as {name}");
            Err(Error::invalid(Side::Source, source.name(), reason))
        }
    }
}

/// Finds `image` in a listing, with an error that says what is there instead.
pub(crate) fn find_or_explain(source: &str, listed: &[Listed], image: &Reference) -> Result<Descriptor> {
    if let Some(entry) = find(listed, image) {
        return Ok(entry.descriptor.clone());
    }
    let names: Vec<String> =
        listed.iter().filter_map(|entry| entry.name.as_ref()).map(ToString::to_string).collect();
    let has = match names.len() {
        0 => "it names no image; use --all with --as REF".to_owned(),
        1..=10 => format!("it has {}", names.join(", ")),
        n => format!("it has {n} other images, among them {}", names[..5].join(", ")),
    };
    Err(Error::not_found(Side::Source, format!("{source}: {image} ({has})")))
}

struct Walk<'a> {
    source: &'a dyn Source,
    image: &'a Reference,
    platforms: &'a Platforms,
    indexes: Vec<Descriptor>,
    found: Vec<ResolvedPlatform>,
    absent: Vec<Platform>,
    listed: BTreeSet<Platform>,
    /// What is there and cannot be carried, where all that can is wanted, and why.
    refused: Vec<(Platform, Error)>,
    warnings: Vec<String>,
    blobs: Blobs,
    visited: BTreeSet<(Digest, Option<Platform>)>,
}

impl<'a> Walk<'a> {
    fn over(
        source: &'a dyn Source,
        image: &'a Reference,
        original: &Descriptor,
        platforms: &'a Platforms,
    ) -> Result<Self> {
        let mut walk = Self {
            source,
            image,
            platforms,
            indexes: Vec::new(),
            found: Vec::new(),
            absent: Vec::new(),
            listed: BTreeSet::new(),
            refused: Vec::new(),
            warnings: Vec::new(),
            blobs: Blobs::default(),
            visited: BTreeSet::new(),
        };
        let (platform, annotations, urls) = Default::default();
        walk.visit(&Child { descriptor: original.clone(), platform, annotations, urls }, 0)?;
        Ok(walk)
    }

    /// The platforms to ask for instead, and what is said about it, where one is missing and is there for
    /// more recent processors alone: some distributions build for x86-64-v2 and nothing below.
    fn instead(&self) -> Option<(Platforms, String)> {
        let Platforms::Only(asked) = self.platforms else { return None };
        let missing = asked.iter().find(|asked| {
            asked.architecture == "amd64"
                && asked.variant.is_none()
                && !self.found.iter().any(|found| asked.asks_for(&found.platform))
        })?;
        let is_above = |other: &&Platform| {
            let plain = Platform { variant: None, ..(*other).clone() };
            let levels = ["v2", "v3", "v4"];
            let known = other.variant.as_deref().is_some_and(|variant| levels.contains(&variant));
            known && missing.asks_for(&plain) && !self.absent.contains(other)
        };
        // In their order, so that the lowest comes first.
        let above = self.listed.iter().find(is_above)?;
        let instead = asked.iter().map(|asked| if asked == missing { above.clone() } else { asked.clone() });
        let text = format!(
            "{}: it is not there for {missing}; {above} is taken, which not every such processor runs",
            self.image
        );
        Some((Platforms::Only(instead.collect()), text))
    }

    fn visit(&mut self, child: &Child, depth: usize) -> Result<()> {
        let descriptor = &child.descriptor;
        let bytes = super::read(self.source, self.image, descriptor, MAX_MANIFEST)?;
        let document = Document::parse(&descriptor.media_type, &bytes)
            .map_err(|reason| self.invalid(descriptor, reason))?;
        match document {
            Document::Manifest(manifest) => self.platform(child, manifest),
            Document::Index(_) if depth == MAX_INDEX_DEPTH => {
                Err(self.invalid(descriptor, format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
            }
            Document::Index(index) => {
                self.indexes.push(descriptor.clone());
                index.manifests.iter().try_for_each(|child| self.entry(child, depth))
            }
        }
    }

    /// Follows an index's entry if it is for a platform that is asked for.
    fn entry(&mut self, child: &Child, depth: usize) -> Result<()> {
        if !matches!(kind(&child.descriptor.media_type), MediaKind::Index | MediaKind::Manifest) {
            return Ok(());
        }
        self.note(&child.descriptor)?;
        // One manifest may be listed for several platforms; the same again leads nowhere new.
        if !self.visited.insert((child.descriptor.digest, child.platform.clone())) {
            return Ok(());
        }
        if self.visited.len() > NODES || self.found.len() > PLATFORMS {
            let reason = format!("more than {NODES} documents or {PLATFORMS} platforms");
            return Err(self.invalid(&child.descriptor, reason));
        }
        if let Some(platform) = &child.platform {
            // Attestations are listed for the platform unknown/unknown.
            if !platform.is_known() {
                return Ok(());
            }
            self.listed.insert(platform.clone());
            let repeated = self.found.iter().any(|found| found.platform == *platform);
            if repeated || !self.platforms.include(platform) {
                return Ok(());
            }
        }
        if !self.source.holds(self.image, &child.descriptor)? {
            // The other platforms of a pulled image are normally absent.
            self.absent.extend(child.platform.clone());
            return Ok(());
        }
        self.visit(child, depth + 1)
    }

    fn platform(&mut self, child: &Child, manifest: Manifest) -> Result<()> {
        if kind(&manifest.config.media_type) != MediaKind::Config {
            let reason = format!("an artifact ({}), not an image", manifest.config.media_type.escape_debug());
            // Beside an image's platforms an index may list artifacts; by its own name it was asked for.
            return if self.indexes.is_empty() {
                Err(self.invalid(&child.descriptor, reason))
            } else {
                Ok(())
            };
        }
        self.note(&manifest.config)?;
        manifest.layers.iter().try_for_each(|layer| self.note(&layer.descriptor))?;
        self.require(&manifest.config)?;
        let config_bytes = super::read(self.source, self.image, &manifest.config, MAX_CONFIG)?;
        let config =
            ImageConfig::parse(&config_bytes).map_err(|reason| self.invalid(&manifest.config, reason))?;
        let platform = match child.platform.clone().or_else(|| config.platform.clone()) {
            Some(platform) => platform,
            None => self.assumed(),
        };
        self.listed.insert(platform.clone());
        // Of several for one platform in an index the first counts, as in containerd.
        let repeated = self.found.iter().any(|found| found.platform == platform);
        if repeated || !self.platforms.include(&platform) {
            return Ok(());
        }
        let foreign = manifest.layers.iter().find_map(|layer| Some((layer, uncarriable(layer)?)));
        if let Some((layer, reason)) = foreign {
            let error = self.invalid(&layer.descriptor, reason.to_owned());
            // Where everything is wanted that is there, one that cannot be passed on does not cost the others.
            if *self.platforms == Platforms::All {
                self.refused.push((platform, error));
                return Ok(());
            }
            return Err(error);
        }
        if manifest.layers.len() != config.diff_ids().len() {
            let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids().len());
            let reason = format!("it lists {layers} layers, its config {diff_ids} diff_ids");
            return Err(self.invalid(&child.descriptor, reason));
        }
        let layers = manifest.layers.iter().zip(config.diff_ids());
        let layers = layers.map(|(layer, diff_id)| self.layer(layer, *diff_id)).collect::<Result<_>>()?;
        self.found.push(ResolvedPlatform {
            platform,
            manifest: child.descriptor.clone(),
            config: manifest.config,
            config_bytes: self.source.is_remote().then_some(config_bytes),
            layers,
        });
        Ok(())
    }

    fn layer(&self, layer: &Child, diff_id: Digest) -> Result<ResolvedLayer> {
        let listed = layer.descriptor.clone();
        let offers = self.source.offers(diff_id, &listed);
        for offer in &offers {
            self.require(&offer.descriptor)?;
        }
        Ok(ResolvedLayer { diff_id, listed, offers })
    }

    /// The platform of an image that names none: the one that is asked for.
    fn assumed(&mut self) -> Platform {
        let platform = match self.platforms {
            Platforms::Only(asked) => asked.first().cloned().unwrap_or_else(Platform::host),
            Platforms::All => Platform::host(),
        };
        self.warnings
            .push(format!("{}: it names no platform, and is taken to be for {platform}", self.image));
        platform
    }

    fn note(&mut self, blob: &Descriptor) -> Result<()> {
        self.blobs.note(blob).map(|_| ()).map_err(|reason| self.invalid(blob, reason))
    }

    fn require(&self, blob: &Descriptor) -> Result<()> {
        if self.source.holds(self.image, blob)? { Ok(()) } else { Err(self.source.absent(self.image, blob)) }
    }

    /// Every platform that was asked for by name must have been found.
    fn require_platforms(&mut self) -> Result<()> {
        if self.found.is_empty() && !self.refused.is_empty() {
            return Err(self.refused.swap_remove(0).1);
        }
        for (platform, error) in &self.refused {
            self.warnings.push(format!("{}: carried without {platform}: {error}", self.image));
        }
        let has = |platform: &Platform| self.found.iter().any(|found| platform.asks_for(&found.platform));
        let missing = match self.platforms {
            Platforms::Only(only) => only.iter().find(|platform| !has(platform)).map(ToString::to_string),
            Platforms::All => self.found.is_empty().then(|| "any platform".to_owned()),
        };
        let Some(missing) = missing else { return Ok(()) };
        let join = |platforms: Vec<String>| {
            if platforms.is_empty() { "none".to_owned() } else { platforms.join(", ") }
        };
        let held =
            join(self.listed.iter().filter(|p| !self.absent.contains(p)).map(ToString::to_string).collect());
        let absent = self.absent.iter().map(ToString::to_string).collect::<Vec<_>>();
        let absent = if absent.is_empty() {
            String::new()
        } else {
            format!("; listed, but not held: {}", absent.join(", "))
        };
        let what = format!("{}: {} for {missing} (it holds: {held}{absent})", self.source.name(), self.image);
        Err(Error::not_found(Side::Source, what))
    }

    fn invalid(&self, blob: &Descriptor, reason: String) -> Error {
        Error::invalid(
            Side::Source,
            format!("{}: {} of {}", self.source.name(), blob.digest, self.image),
            reason,
        )
    }
}

impl Platforms {
    fn include(&self, platform: &Platform) -> bool {
        match self {
            Self::All => platform.is_known(),
            Self::Only(only) => only.iter().any(|asked| asked.asks_for(platform)),
        }
    }
}

/// Why a layer cannot be carried, if it cannot.
fn uncarriable(layer: &Child) -> Option<&'static str> {
    match kind(&layer.descriptor.media_type) {
        MediaKind::Layer(LayerType::Tar(_)) => None,
        MediaKind::Layer(LayerType::Foreign) => {
            Some("a foreign layer: its publisher does not allow it to be passed on")
        }
        _ => Some("a layer of an unknown or encrypted type: its content could not be checked"),
    }
}
