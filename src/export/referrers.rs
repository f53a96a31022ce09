//! Carries what refers to images: signatures, attestations and SBOMs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use super::carry::StagedRead;
use super::resolve::left_out;
use super::{Options, Referrers};
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::medium::Medium;
use crate::plan::ExportPlan;
use crate::progress::{Event, Run, Watched};
use crate::source::{Resolved, Source};

/// Carries the blobs of what refers to the images, untouched.
///
/// Returns what could not be carried, by digest. Where all of it is required, the first ends the export
/// unless it keeps going.
pub(super) fn carry(
    source: &dyn Source,
    medium: &Medium,
    plan: &ExportPlan,
    options: &Options,
    run: Run<'_>,
) -> Result<BTreeMap<Digest, Arc<Error>>> {
    let strict = options.referrers == Referrers::Required;
    let mut failed = BTreeMap::new();
    for step in plan.referrers.iter().filter(|step| !step.present) {
        run.check()?;
        let pick = &step.pick;
        let item = format!("{} {}", pick.blob.digest.short(), pick.image);
        run.report(Event::Started { item: &item, bytes: pick.blob.size });
        let open = |offset| source.open_unverified(&pick.image, &pick.blob, offset);
        match copy_blob(medium, &pick.blob, open, &item, run) {
            Ok(()) => {}
            Err(error) if !error.is_fatal() && (options.keep_going || !strict) => {
                failed.insert(pick.blob.digest, error.into());
            }
            Err(error) => return Err(error),
        }
        run.report(Event::Finished { item: &item });
    }
    Ok(failed)
}

/// Takes the referrers off an image of which a blob could not be carried; why the image cannot be
/// carried, where it has to have them all.
pub(super) fn without_failed(
    image: &mut Resolved,
    failed: &BTreeMap<Digest, Arc<Error>>,
    options: &Options,
    run: Run<'_>,
) -> Option<Arc<Error>> {
    let mut first = None;
    let name = image.name.clone();
    image.referrers.retain(|referrer| {
        let Some(error) = referrer.blobs.iter().find_map(|blob| failed.get(&blob.digest)) else {
            return true;
        };
        if options.referrers == Referrers::Required {
            first.get_or_insert_with(|| error.clone());
        } else {
            run.report(Event::Warning(&left_out(&name, error)));
        }
        false
    });
    first
}

/// Carries a blob as it is, going on where an earlier run was cut off; `open` opens it at an offset.
pub(super) fn copy_blob(
    medium: &Medium,
    blob: &Descriptor,
    open: impl Fn(u64) -> Result<Box<dyn Read + Send>>,
    item: &str,
    run: Run<'_>,
) -> Result<()> {
    let mut ingest = medium.ingest_blob(blob)?;
    let mut resumed = ingest.left_over()? > 0;
    loop {
        let through = StagedRead::opened_by(&open, blob.size, &mut ingest);
        let mut reader = Watched::new(Verified::new(through, blob, Side::Source), item, run);
        let copied = io::copy(&mut reader, &mut io::sink());
        drop(reader);
        match copied.map_err(|error| Error::from_io(Side::Source, "read", item.into(), error)) {
            Ok(_) => return ingest.commit(Some(blob), None).map(drop),
            // What was left of the earlier run may itself be damaged: once more, from the start.
            Err(error) if resumed && error.is_damage() => {
                ingest.restart()?;
                resumed = false;
            }
            Err(error) if error.is_damage() => {
                ingest.discard()?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
}
