//! Manifests and indexes: reading them, strictly enough that nothing ambiguous passes.

use serde::Deserialize;

use super::descriptor::null_is_empty;
use super::json::{self, Keys};
use super::media_type::{MediaKind, kind};
use super::{Child, Descriptor, MAX_LAYERS};

/// A manifest: the config and the layers of an image of one platform (OCI image-spec, manifest.md).
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Child>,
}

/// An index: manifests of several platforms, or of an image and what refers to it
/// (OCI image-spec, image-index.md).
#[derive(Clone, Debug)]
pub struct Index {
    /// The entries in their order.
    pub manifests: Vec<Child>,
}

/// What a blob of an index or manifest media type turns out to be.
#[derive(Clone, Debug)]
pub enum Document {
    /// An index.
    Index(Index),
    /// A manifest.
    Manifest(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Child>>,
    manifests: Option<Vec<Child>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads the document that a descriptor of `media_type` names.
    ///
    /// Refused: a document that is both an index and a manifest (CVE-2021-41190), one whose own
    /// `mediaType` is of another kind than the descriptor's, Docker schema 1, more layers than
    /// [`MAX_LAYERS`]. The error is a sentence without the document's bytes.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = json::read(bytes, Keys::Manifest)
            .map_err(|error| format!("not a manifest or an index: {error}"))?;
        if raw.fs_layers.is_some() {
            return Err("a Docker schema 1 manifest, which containerd does not run either".into());
        }
        let said = kind(raw.media_type.as_deref().unwrap_or(media_type));
        if kind(media_type) != said {
            return Err("its own mediaType is of another kind than its descriptor's".into());
        }
        match raw {
            Raw { manifests: Some(manifests), config: None, layers: None, .. }
                if said == MediaKind::Index =>
            {
                Ok(Self::Index(Index { manifests }))
            }
            Raw { manifests: None, config: Some(config), layers, .. } if said == MediaKind::Manifest => {
                let layers = layers.unwrap_or_default();
                if layers.len() > MAX_LAYERS {
                    return Err(format!("{} layers, more than the {MAX_LAYERS} allowed", layers.len()));
                }
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            Raw { manifests: Some(_), .. } => {
                Err("ambiguous: it lists manifests, but is not plainly an index".into())
            }
            _ => Err("neither an index with manifests nor a manifest with a config".into()),
        }
    }
}

impl Manifest {
    /// The layers, without what else is said about each.
    pub fn descriptors(self) -> Vec<Descriptor> {
        let mut layers: Vec<Descriptor> = self.layers.into_iter().map(|layer| layer.descriptor).collect();
        // The list has the place of the one that it was made from, five times what it needs.
        layers.shrink_to_fit();
        layers
    }
}

impl Index {
    /// Reads a layout's `index.json`, whose media type is optional.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Layout {
            #[serde(default, deserialize_with = "null_is_empty")]
            manifests: Vec<Child>,
        }
        let layout: Layout =
            json::read(bytes, Keys::Manifest).map_err(|error| format!("not an index: {error}"))?;
        Ok(Self { manifests: layout.manifests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::image::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};

    fn config() -> String {
        format!(r#"{{"mediaType":"{OCI_CONFIG}","digest":"{}","size":2}}"#, Digest::of(b"{}"))
    }

    #[test]
    fn a_manifest_and_an_index_are_told_apart() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config());
        let parsed = Document::parse(OCI_MANIFEST, manifest.as_bytes()).unwrap();
        assert!(matches!(parsed, Document::Manifest(m) if m.layers.is_empty()));
        let parsed = Document::parse(OCI_INDEX, br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert!(matches!(parsed, Document::Index(_)));
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let both = format!(r#"{{"manifests":[],"config":{},"layers":[]}}"#, config());
        assert!(Document::parse(OCI_INDEX, both.as_bytes()).is_err());
        assert!(Document::parse(OCI_MANIFEST, both.as_bytes()).is_err());
        let other = format!(r#"{{"mediaType":"{OCI_INDEX}","config":{},"layers":[]}}"#, config());
        assert!(Document::parse(OCI_MANIFEST, other.as_bytes()).is_err());
        assert!(Document::parse(OCI_MANIFEST, br#"{"fsLayers":[]}"#).is_err());
        assert!(Document::parse(OCI_MANIFEST, b"[]").is_err());
    }

    #[test]
    fn sizes_are_whole_and_not_negative() {
        for size in ["-1", "1.5", "1e400", "18446744073709551616"] {
            let text = config().replace(":2}", &format!(":{size}}}"));
            let manifest = format!(r#"{{"config":{text},"layers":[]}}"#);
            assert!(Document::parse(OCI_MANIFEST, manifest.as_bytes()).is_err(), "{size}");
        }
    }
}
