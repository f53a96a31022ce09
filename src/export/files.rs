//! Carries files beside the images.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::Options;
use super::referrers::copy_blob;
use crate::error::{Error, Result, Side};
use crate::image::{Digest, MAX_MANIFEST};
use crate::medium::Medium;
use crate::plan::{ExportPlan, FileOrigin, FileStep, FileVerdict, plan_files};
use crate::progress::{Event, Run, Watched};
use crate::record::{CarriedFile, FileName, Record, RootName};
use crate::source::Source;

/// Plans the files: what was named, and what the source has where that was asked for. `path` is where the
/// medium is, or will be.
pub(super) fn plan(
    source: &dyn Source,
    medium: Option<&Medium>,
    path: &Path,
    options: &Options,
    plan: &mut ExportPlan,
    run: Run<'_>,
) -> Result<()> {
    let named = options.files.files();
    let of_source = if options.source_files { source.files() } else { &[] };
    let record = medium.and_then(Medium::record);
    let mut there = BTreeSet::new();
    for file in named.iter().chain(of_source) {
        if let Some(medium) = medium
            && is_there(medium, file, run)?
        {
            there.insert(file.digest);
        }
    }
    plan.files = plan_files(named, of_source, record, &there);
    for document in record.iter().flat_map(|record| record.files_documents()) {
        let size = medium.map(|medium| medium.blob_size(&Digest::of(&document))).transpose()?.flatten();
        plan.renews_file_list |= size != Some(document.len() as u64);
    }
    plan.root = match &options.at_root {
        Some(readme) => root(medium, path, options, readme)?,
        None => None,
    };
    Ok(())
}

/// The bytes to be copied to the root; `None` if the medium has them there.
///
/// An error if something else has the name of one of them.
fn root(medium: Option<&Medium>, to: &Path, options: &Options, readme: &[u8]) -> Result<Option<u64>> {
    let mut wanted = Record::empty(String::new());
    wanted.carry_files(options.files.files());
    let name = program_name()?;
    if !wanted.place_at_root(&name, readme) {
        return Err(Error::not_found(Side::Source, format!("file {name}")));
    }
    for file in &wanted.root {
        let path = to.join(file.name.as_str());
        let taken = match medium {
            Some(medium) => medium.is_taken(file)?,
            None => path.symlink_metadata().is_ok(),
        };
        if taken {
            let reason = "is there and was not put there by an export; move it away";
            return Err(Error::unfit(path.display(), reason));
        }
    }
    let record = medium.and_then(Medium::record);
    let same = record.is_some_and(|record| record.root == wanted.root);
    Ok((!same).then(|| wanted.root.iter().map(|file| file.size).sum()))
}

/// The name under which the program is carried that is copied to the root.
fn program_name() -> Result<FileName> {
    RootName::Program.as_str().parse().map_err(|error| Error::Usage(format!("{error}")))
}

/// Whether the bytes of a file are on the medium: committed and of the right size; or else left by a run
/// that was cut off, and proven.
fn is_there(medium: &Medium, file: &CarriedFile, run: Run<'_>) -> Result<bool> {
    if medium.blob_size(&file.digest)? != Some(file.size) {
        return Ok(false);
    }
    if medium.record().is_some_and(|record| record.blobs.iter().any(|blob| blob.digest == file.digest)) {
        return Ok(true);
    }
    let mut blob = Watched::new(medium.open_blob(&file.blob())?, "", run);
    match io::copy(&mut blob, &mut io::sink()) {
        Ok(_) => Ok(true),
        Err(_) => run.check().map(|()| false),
    }
}

/// Writes the bytes of the plan's files.
pub(super) fn carry(
    source: &dyn Source,
    medium: &Medium,
    plan: &ExportPlan,
    options: &Options,
    run: Run<'_>,
) -> Result<()> {
    for FileStep { file, origin, .. } in plan.files.iter().filter(|step| !step.present) {
        run.check()?;
        let item = format!("{} {}", file.digest.short(), file.name);
        run.report(Event::Started { item: &item, bytes: file.size });
        let from = match origin {
            FileOrigin::Named => &*options.files as &dyn Source,
            FileOrigin::Source => source,
        };
        let copied = copy_blob(medium, &file.blob(), |offset| from.open_file(file, offset), &item, run);
        run.report(Event::Finished { item: &item });
        copied.map_err(|error| match error {
            Error::DigestMismatch { side: Side::Source, expected, found, .. } => {
                let what = format!("file {}", file.name);
                Error::DigestMismatch { side: Side::Source, what, expected, found }
            }
            other => other,
        })?;
    }
    Ok(())
}

/// Puts the plan's files into `record`, and writes the documents that list them.
pub(super) fn place(
    medium: &Medium,
    record: &mut Record,
    plan: &ExportPlan,
    options: &Options,
) -> Result<()> {
    let changed = plan.files.iter().any(|step| step.verdict != FileVerdict::Unchanged || !step.present);
    if !changed && !plan.renews_file_list && plan.root.is_none() {
        return Ok(());
    }
    let files: Vec<CarriedFile> = plan.files.iter().map(|step| step.file.clone()).collect();
    for bytes in record.carry_files(&files) {
        if bytes.len() as u64 > MAX_MANIFEST {
            let reason = format!("{} are too many for one medium", record.files.len());
            return Err(Error::invalid(Side::Source, "files", reason));
        }
        medium.write_blob(&bytes)?;
    }
    if let Some(readme) = &options.at_root {
        medium.write_blob(readme)?;
        record.place_at_root(&program_name()?, readme);
    }
    Ok(())
}

/// How many files are written, and their bytes.
pub(super) fn written(plan: &ExportPlan) -> (usize, u64) {
    let written = plan.files.iter().filter(|step| !step.present);
    written.fold((0, 0), |(count, bytes), step| (count + 1, bytes + step.file.size))
}
