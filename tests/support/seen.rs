//! What a local source turns out to hold when everything in it is read.

use std::path::Path;

use pannier::image::{Digest, Document, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Reference};
use pannier::progress::Stop;
use pannier::source::{self, Source, open_local};
use pannier::{Error, Result, layer};

/// An image whose every blob was read and hashed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) name: Option<String>,
    pub(crate) config: Digest,
    /// The digests of the layers' tars, found by decoding them.
    pub(crate) diff_ids: Vec<Digest>,
}

/// Opens `kind:path`.
pub(crate) fn open(kind: &str, path: &Path) -> Result<Box<dyn Source>> {
    open_local(&format!("{kind}:{}", path.display()).parse()?, &Stop::default())
}

/// Everything that the source lists, in the order of the names; of an index its first image that is there.
pub(crate) fn all(source: &dyn Source) -> Result<Vec<Seen>> {
    let mut images = Vec::new();
    for listed in source.list()? {
        let image = listed.name.clone().unwrap_or_else(|| "unnamed.invalid/image:1".parse().unwrap());
        images.push(look(source, &image, &listed)?);
    }
    images.sort();
    Ok(images)
}

fn look(source: &dyn Source, image: &Reference, listed: &source::Listed) -> Result<Seen> {
    if let Some(name) = &listed.name {
        assert_eq!(source.resolve(name)?, listed.descriptor, "{name} resolves to what is listed");
    }
    let mut at = listed.descriptor.clone();
    loop {
        let bytes = source::read(source, image, &at, MAX_MANIFEST)?;
        let document = Document::parse(&at.media_type, &bytes);
        match document.map_err(|reason| Error::invalid(pannier::Side::Source, at.digest, reason))? {
            Document::Index(index) => {
                let children = index.manifests.into_iter().map(|child| child.descriptor);
                at = children.into_iter().find(|child| source.holds(image, child).unwrap()).expect("a child");
            }
            Document::Manifest(manifest) => {
                let config = source::read(source, image, &manifest.config, MAX_CONFIG)?;
                let config = ImageConfig::parse(&config).expect("a config");
                let mut diff_ids = Vec::new();
                for child in &manifest.layers {
                    assert!(source.holds(image, &child.descriptor)?);
                    let decoded =
                        layer::check(source::open(source, image, &child.descriptor)?, layer::Most::Ratio);
                    let what = || child.descriptor.digest.to_string().into();
                    diff_ids.push(
                        decoded
                            .map_err(|e| Error::from_io(pannier::Side::Source, "read", what(), e))?
                            .diff_id,
                    );
                }
                assert_eq!(diff_ids, config.diff_ids(), "the config says what the layers are");
                let name = listed.name.as_ref().map(Reference::to_string);
                return Ok(Seen { name, config: manifest.config.digest, diff_ids });
            }
        }
    }
}

/// The message of an error with its causes.
pub(crate) fn message(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
