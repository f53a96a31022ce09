//! Carries what refers to images: signatures, attestations and SBOMs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::Options;
use super::carry::Through;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::medium::Medium;
use crate::plan::{ExportPlan, Pick};
use crate::progress::{Event, Run, Watched};
use crate::source::Source;

/// Carries the blobs of what refers to the images, untouched.
///
/// Returns what could not be carried, by digest; the first of it ends the export unless it keeps going.
pub(super) fn carry(
    source: &dyn Source,
    medium: &Medium,
    plan: &ExportPlan,
    options: &Options,
    run: Run<'_>,
) -> Result<BTreeMap<Digest, Arc<Error>>> {
    let mut failed = BTreeMap::new();
    for step in plan.attached.iter().filter(|step| !step.present) {
        run.check()?;
        let pick = &step.pick;
        let item = format!("{} {}", pick.blob.digest.short(), pick.image);
        run.report(Event::Started { item: &item, bytes: pick.blob.size });
        match copy_attached(source, medium, pick, &item, run) {
            Ok(()) => {}
            Err(error) if options.keep_going && !error.is_fatal() => {
                failed.insert(pick.blob.digest, error.into());
            }
            Err(error) => return Err(error),
        }
        run.report(Event::Finished { item: &item });
    }
    Ok(failed)
}

fn copy_attached(source: &dyn Source, medium: &Medium, pick: &Pick, item: &str, run: Run<'_>) -> Result<()> {
    let mut ingest = medium.ingest_blob(&pick.blob)?;
    let through = Through { source, pick, ingest: &mut ingest, from: None };
    let mut blob = Watched::new(Verified::new(through, &pick.blob, Side::Source), item, run);
    let copied = io::copy(&mut blob, &mut io::sink());
    drop(blob);
    match copied.map_err(|error| Error::from_io(Side::Source, "read", item.into(), error)) {
        Ok(_) => ingest.commit(Some(&pick.blob), None).map(drop),
        Err(error) if error.is_damage() => {
            ingest.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}
