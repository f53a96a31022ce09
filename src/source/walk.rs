//! The walk over indexes, manifests and configs of one image, each of which is proven.

use std::collections::BTreeSet;

use super::{Platforms, ResolvedLayer, ResolvedPlatform, Source};
use crate::error::{Error, Result, Side};
use crate::image::{
    Child, Descriptor, Digest, Document, ImageConfig, LayerType, Listed as Blobs, MAX_CONFIG,
    MAX_INDEX_DEPTH, MAX_MANIFEST, Manifest, MediaKind, Platform, Reference, kind,
};
use crate::limits::{NODES, PLATFORMS};

/// What is met on the way.
pub(super) struct Walk<'a> {
    source: &'a dyn Source,
    image: &'a Reference,
    platforms: &'a Platforms,
    pub(super) indexes: Vec<Descriptor>,
    pub(super) found: Vec<ResolvedPlatform>,
    pub(super) absent: Vec<Platform>,
    listed: BTreeSet<Platform>,
    /// What is there and cannot be carried, where all that can is wanted, and why.
    refused: Vec<(Platform, Error)>,
    pub(super) warnings: Vec<String>,
    blobs: Blobs,
    visited: BTreeSet<(Digest, Option<Platform>)>,
}

impl<'a> Walk<'a> {
    pub(super) fn over(
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
    pub(super) fn instead(&self) -> Option<(Platforms, String)> {
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
    pub(super) fn require_platforms(&mut self) -> Result<()> {
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
