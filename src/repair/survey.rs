//! What a source has of the damaged blobs, and of the layers that damaged blobs encode.

use std::collections::BTreeSet;

use super::Options;
use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest, Reference};
use crate::plan::Pick;
use crate::plan::repair::{Offered, described, is_original, name_at_source};
use crate::progress::{Event, Run};
use crate::record::{Image, Record, Role};
use crate::source::{ImageRequest, Platforms, Source, resolve};
use crate::verify::graph;

/// Asks `source` about `damaged` blobs of `record`. What it does not have is no error.
pub(super) fn survey(
    source: &dyn Source,
    record: &Record,
    damaged: &BTreeSet<Digest>,
    options: &Options,
    run: Run<'_>,
) -> Result<Offered> {
    let survey = Survey { source, options, run };
    let mut offered = Offered::default();
    let mut sought = BTreeSet::new();
    if !source.is_remote() {
        // A Docker archive knows its blobs only once its images were looked at. One that cannot list
        // has to do without.
        let _ = source.list();
    }
    let files = source.files().iter().filter(|file| damaged.contains(&file.digest));
    offered.files = files.map(|file| (file.digest, file.clone())).collect();
    for blob in record.blobs.iter().filter(|blob| damaged.contains(&blob.digest)) {
        run.check()?;
        let names = survey.names(record, &blob.digest);
        // A registry that is asked for a blob says only at its download that it lacks it.
        let may_hold = !source.is_remote() || is_original(record, blob);
        if may_hold && let Some(pick) = survey.held(&names, &described(record, blob))? {
            offered.blobs.insert(blob.digest, pick);
        }
        if blob.role != Role::Layer {
            continue;
        }
        let encoded = |layer: &&crate::record::Layer| {
            layer.encodings.iter().any(|encoding| encoding.digest == blob.digest)
        };
        for layer in record.layers.iter().filter(encoded) {
            let picks = offered.layers.entry(layer.diff_id).or_default();
            let offers = layer.originals.first().map(|listed| source.offers(layer.diff_id, listed));
            let offers = offers.into_iter().flatten().map(|offer| offer.descriptor);
            for original in layer.originals.iter().cloned().chain(offers) {
                if let Some(pick) = survey.held(&names, &original)?
                    && !picks.contains(&pick)
                {
                    picks.push(pick);
                }
            }
            sought.insert(layer.diff_id);
        }
    }
    if sought.iter().any(|diff_id| offered.layers.get(diff_id).is_none_or(Vec::is_empty))
        || source.is_remote()
    {
        survey.by_content(record, &sought, &mut offered)?;
    }
    Ok(offered)
}

struct Survey<'a> {
    source: &'a dyn Source,
    options: &'a Options,
    run: Run<'a>,
}

impl Survey<'_> {
    /// The names at the source of the images that need a blob; of all where no image says so itself,
    /// as for an index within an index.
    fn names(&self, record: &Record, digest: &Digest) -> Vec<Reference> {
        let needing = graph::needing(record, digest);
        let images: Vec<&Image> = if needing.is_empty() { record.images.iter().collect() } else { needing };
        let names = images.into_iter().flat_map(|image| &image.names);
        names.map(|name| name_at_source(name, &self.options.renames)).collect()
    }

    /// The first name through which the source has the blob.
    fn held(&self, names: &[Reference], blob: &Descriptor) -> Result<Option<Pick>> {
        for image in names {
            match self.source.holds(image, blob) {
                Ok(true) => return Ok(Some(Pick { image: image.clone(), blob: blob.clone() })),
                Ok(false) => {}
                Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
                Err(error) => self.run.report(Event::Warning(&error.to_string())),
            }
        }
        Ok(None)
    }

    /// Looks for layers in the source's images whatever their encoding: by the names of the images that
    /// need them, or in all that it lists.
    fn by_content(&self, record: &Record, sought: &BTreeSet<Digest>, offered: &mut Offered) -> Result<()> {
        if sought.is_empty() {
            return Ok(());
        }
        let needs =
            |image: &&Image| image.platforms.iter().any(|p| p.diff_ids.iter().any(|d| sought.contains(d)));
        let platforms: BTreeSet<_> =
            record.images.iter().flat_map(|image| &image.platforms).map(|p| p.platform.clone()).collect();
        let only = Platforms::Only(platforms.into_iter().collect());
        for wanted in self.candidates(record.images.iter().filter(needs)) {
            self.run.check()?;
            let resolved = resolve(self.source, &wanted, &Platforms::All)
                .or_else(|_| resolve(self.source, &wanted, &only));
            let resolved = match resolved {
                Ok(resolved) => resolved,
                Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
                // Another image of the source is no concern of ours; one of ours may be gone there.
                Err(_) => continue,
            };
            for layer in resolved.platforms.iter().flat_map(|platform| &platform.layers) {
                if !sought.contains(&layer.diff_id) {
                    continue;
                }
                let picks = offered.layers.entry(layer.diff_id).or_default();
                for offer in &layer.offers {
                    let pick = Pick { image: resolved.image.clone(), blob: offer.descriptor.clone() };
                    if !picks.contains(&pick) {
                        picks.push(pick);
                    }
                }
            }
        }
        Ok(())
    }

    fn candidates<'i>(&self, images: impl Iterator<Item = &'i Image>) -> Vec<ImageRequest> {
        let names: BTreeSet<Reference> = images
            .flat_map(|image| &image.names)
            .map(|name| name_at_source(name, &self.options.renames))
            .collect();
        let wanted = |image: Reference, descriptor| ImageRequest { name: image.clone(), image, descriptor };
        let Ok(listed) = self.source.list() else {
            return names.into_iter().map(|name| wanted(name, None)).collect();
        };
        let Some(any) = names.first().cloned() else { return Vec::new() };
        let all = listed.into_iter().map(|entry| {
            let name = entry.name.unwrap_or_else(|| any.clone());
            wanted(name, Some(entry.descriptor))
        });
        all.collect()
    }
}
