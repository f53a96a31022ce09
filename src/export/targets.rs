//! What the nodes hold that a medium is for, as far as an export makes use of it.

use std::path::Path;

use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::medium::{Medium, Record};
use crate::plan::{At, Base, BaseImage, Bases, Held, Pick};

/// What every target holds, and the media it may be read from.
#[derive(Debug, Default)]
pub struct Targets {
    /// What they hold.
    pub bases: Bases,
    /// Media that were named, by the number that [`At::Other`] gives.
    pub media: Vec<Medium>,
}

impl Targets {
    /// Adds what nodes hold that imported the medium at `path`: all of it.
    pub fn add_medium(&mut self, path: &Path) -> Result<()> {
        let medium = Medium::open(path)?;
        let Some(record) = medium.record() else {
            let reason = "no export has been committed to it, so no node can have imported it";
            return Err(Error::invalid(Side::Medium, path.display(), reason));
        };
        let number = self.media.len();
        for image in &record.images {
            for platform in &image.platforms {
                self.bases.images.push(BaseImage {
                    names: image.names.clone(),
                    platform: platform.platform.clone(),
                    layers: platform.diff_ids.clone(),
                });
                for diff_id in &platform.diff_ids {
                    let from = image.names.iter().next().map(|name| name.with_digest(image.original.digest));
                    let base = base(record, *diff_id, number, from.as_ref());
                    self.bases.layers.entry(*diff_id).or_insert(base);
                }
            }
        }
        self.media.push(medium);
        Ok(())
    }

    /// What they hold, with what of it is on the medium that is written to.
    pub(super) fn bases(&self, held: &Held) -> Bases {
        let mut bases = self.bases.clone();
        for (diff_id, base) in &mut bases.layers {
            if let Some(blob) = held.layers.get(diff_id).and_then(|layer| layer.encodings.first()) {
                base.at.insert(0, At::Medium(blob.clone()));
            }
        }
        bases
    }
}

fn base(record: &Record, diff_id: Digest, number: usize, image: Option<&crate::image::Reference>) -> Base {
    let Some(layer) = record.layer(&diff_id) else {
        return Base { diff_id, size: None, blobs: Vec::new(), at: Vec::new() };
    };
    let there = layer.encodings.iter().map(|blob| At::Other(number, blob.clone()));
    let at_source = image.into_iter().flat_map(|image| {
        layer.originals.iter().map(|blob| At::Source(Pick { image: image.clone(), blob: blob.clone() }))
    });
    let blobs = layer.originals.iter().chain(&layer.encodings).cloned().collect();
    Base { diff_id, size: Some(layer.size), blobs, at: there.chain(at_source).collect() }
}
