//! Media types: which documents and layers are understood.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// OCI image index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, tar.
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The names that take no memory; the empty one is first.
const USUAL: [&str; 11] = [
    "",
    OCI_INDEX,
    OCI_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_GZIP,
    OCI_ZSTD,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCKER_CONFIG,
    DOCKER_GZIP,
];

/// The name of a media type. The usual ones take no memory of their own: a set has dozens for each image.
#[derive(Clone)]
pub struct MediaType(Name);

#[derive(Clone)]
enum Name {
    /// The place in [`USUAL`].
    Usual(u8),
    /// None of those.
    Other(Arc<str>),
}

impl MediaType {
    /// Its text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Usual(place) => USUAL[usize::from(*place)],
            Name::Other(text) => text,
        }
    }
}

impl Default for MediaType {
    /// The empty one: of a blob that is known by its digest alone.
    fn default() -> Self {
        Self(Name::Usual(0))
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(match USUAL.iter().position(|usual| *usual == text) {
            Some(place) => Name::Usual(place as u8),
            None => Name::Other(text.into()),
        })
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Deref for MediaType {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for MediaType {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MediaType {}

impl PartialEq<str> for MediaType {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MediaType {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for MediaType {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MediaType {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for MediaType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

/// How the bytes of a layer are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// Tells the compression by the first bytes; what is neither gzip nor zstd counts as plain.
    ///
    /// containerd goes by the bytes as well: mislabelled layers are common in the field.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (zstd:chunked puts them last, pzstd first).
            [magic, 0x2a, 0x4d, 0x18, ..] if (0x50..=0x5f).contains(magic) => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer that is compressed so.
    pub fn oci_layer_type(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip => OCI_GZIP,
            Self::Zstd => OCI_ZSTD,
        }
    }
}

/// What kind of layer a media type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerType {
    /// A tar, compressed as the type says.
    Tar(Compression),
    /// Not to be distributed; its bytes may be elsewhere (`urls`), and may be absent.
    Foreign,
    /// Encrypted, or of a kind this tool does not know: nothing about its content can be checked.
    Opaque,
}

/// What a media type names, Docker's and OCI's names taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// A list of manifests.
    Index,
    /// An image of one platform.
    Manifest,
    /// An image's configuration.
    Config,
    /// A layer.
    Layer(LayerType),
    /// Anything else.
    Other,
}

/// Tells what `media_type` names.
pub fn kind(media_type: &str) -> MediaKind {
    use Compression::{Gzip, None, Zstd};
    use LayerType::{Foreign, Opaque, Tar};
    match media_type {
        OCI_INDEX | DOCKER_INDEX => MediaKind::Index,
        OCI_MANIFEST | DOCKER_MANIFEST => MediaKind::Manifest,
        OCI_CONFIG | DOCKER_CONFIG => MediaKind::Config,
        OCI_LAYER | "application/vnd.docker.image.rootfs.diff.tar" => MediaKind::Layer(Tar(None)),
        OCI_GZIP | DOCKER_GZIP => MediaKind::Layer(Tar(Gzip)),
        OCI_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => MediaKind::Layer(Tar(Zstd)),
        other if other.contains("nondistributable") || other.contains("rootfs.foreign") => {
            MediaKind::Layer(Foreign)
        }
        other if other.contains(".layer.") => MediaKind::Layer(Opaque),
        _ => MediaKind::Other,
    }
}

/// Whether `media_type` is one of the OCI specification's own, needing no mapping from Docker's.
pub(crate) fn is_oci(media_type: &str) -> bool {
    !media_type.starts_with("application/vnd.docker.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_and_any_other_are_the_same_text_when_read_and_written() {
        for text in USUAL.into_iter().chain(["application/vnd.in-toto+json", "\u{e9}"]) {
            let name = MediaType::from(text);
            assert_eq!((name.as_str(), name.to_string()), (text, text.to_owned()));
            assert_eq!(serde_json::to_value(&name).unwrap(), serde_json::Value::from(text));
            assert_eq!(serde_json::from_value::<MediaType>(text.into()).unwrap(), name);
            assert_eq!(matches!(name.0, Name::Usual(_)), USUAL.contains(&text));
        }
        assert_eq!(size_of::<MediaType>(), 16);
        let mut names = USUAL.map(MediaType::from);
        names.sort();
        let mut texts = USUAL;
        texts.sort_unstable();
        assert_eq!(names.map(|name| name.to_string()), texts.map(str::to_owned));
    }

    #[test]
    fn docker_and_oci_names_mean_the_same() {
        assert_eq!(kind(DOCKER_INDEX), kind(OCI_INDEX));
        assert_eq!(kind(DOCKER_MANIFEST), kind(OCI_MANIFEST));
        assert_eq!(kind(DOCKER_CONFIG), kind(OCI_CONFIG));
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(kind(compression.oci_layer_type()), MediaKind::Layer(LayerType::Tar(compression)));
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_apart() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        assert_eq!(kind(foreign), MediaKind::Layer(LayerType::Foreign));
        assert_eq!(kind(encrypted), MediaKind::Layer(LayerType::Opaque));
        assert_eq!(kind("application/vnd.in-toto+json"), MediaKind::Other);
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        assert_eq!(Compression::detect(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(Compression::detect(b"./etc"), Compression::None);
        assert_eq!(Compression::detect(b""), Compression::None);
    }
}
