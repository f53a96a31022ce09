//! Carries images from a source onto a medium, leaving out what is already there.
//!
//! [`prepare`] reads names, manifests and configs and makes the plan; nothing is written by it.
//! [`carry_out`] moves the layers, then writes the documents that name them, brings all of it to the
//! device, reads it back, and only then writes the commit record, and `index.json` after it.

mod carry;
mod delta;
mod documents;
mod files;
mod held;
mod lane;
mod referrers;
mod resolve;
mod targets;
mod volumes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::Platform;
use crate::layer::Zstd;
use crate::medium::{Filesystem, IndexWritten, Lock, Medium};
use crate::plan::{ExportPlan, ExportedImage, ExportedLayer, MediumState, next_record};
use crate::progress::{Event, Phase, Run};
use crate::readback;
use crate::record::{Blob, LaneName, Level, Record, Timestamp, Volume};
use crate::recovery;
use crate::source::{ImageRequest, LocalFiles, Platforms, Resolved, Source};
use crate::trust::SigningKey;

use carry::Carried;
use documents::write_documents;
use held::held;
pub use targets::Targets;
pub use volumes::{Destinations, Spread, VolumePlan, spread};

/// How an export is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which platforms of each image.
    pub platforms: Platforms,
    /// How layers are recompressed; `None` keeps every original blob.
    pub compression: Option<Zstd>,
    /// Whether everything is read back before the commit.
    pub verify: bool,
    /// What has to be proven by that; without it there is no commit.
    pub require: Option<Level>,
    /// Whether the other images are carried when one fails.
    pub keep_going: bool,
    /// Whether signatures, attestations and SBOMs come along.
    pub referrers: Referrers,
    /// What the nodes hold that the medium is for: it is left out.
    pub targets: Option<Arc<Targets>>,
    /// Whether layers are carried as deltas against what the targets hold.
    pub deltas: bool,
    /// How much parity is made of the blobs, in percent; `None` for as much as there was before.
    pub recovery: Option<u32>,
    /// Files that are carried beside the images.
    pub files: Arc<LocalFiles>,
    /// Whether the source's own files come along.
    pub source_files: bool,
    /// Which of several media it goes to, where a set is spread over them.
    pub volume: Option<Volume>,
    /// Bytes after which a blob goes on in another file; `None` for one file each.
    pub split: Option<u64>,
    /// The lane that the medium travels in from now on, or none; `None` for the same as before.
    pub lane: Option<Option<LaneName>>,
    /// From when on no node takes the medium, or never; `None` for the same as before.
    pub expires: Option<Option<Timestamp>>,
    /// The key that signs the commit record.
    pub sign_key: Option<SigningKey>,
    /// The text of a README, if it and the carried file `pannier` are to be at the medium's root as well.
    pub at_root: Option<Vec<u8>>,
}

impl Default for Options {
    /// As `pannier export` does it where nothing else is said: this machine's platform, recompressed, read back.
    fn default() -> Self {
        Self {
            platforms: Platforms::Only(vec![Platform::host()]),
            compression: Some(Zstd::default()),
            verify: true,
            require: None,
            keep_going: false,
            referrers: Referrers::default(),
            targets: None,
            deltas: true,
            recovery: None,
            files: Arc::default(),
            source_files: false,
            volume: None,
            split: None,
            lane: None,
            expires: None,
            sign_key: None,
            at_root: None,
        }
    }
}

/// What becomes of signatures, attestations and SBOMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referrers {
    /// They are not looked for.
    Left,
    /// They come along; one that cannot be had is left with a warning.
    #[default]
    Carried,
    /// They come along; one that cannot be had fails its image.
    Required,
}

/// An export, ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// The images.
    pub images: Vec<Resolved>,
    /// Names of images that cannot be carried, and why. Empty unless the export keeps going.
    pub failed: Vec<(String, Arc<Error>)>,
    /// What will be done.
    pub plan: ExportPlan,
    /// Where the medium is, or will be.
    pub filesystem: Filesystem,
}

/// What an export did.
#[derive(Debug)]
pub struct Summary {
    /// The sequence of the commit; the old one when nothing changed.
    pub sequence: u64,
    /// Whether anything changed.
    pub changed: bool,
    /// Images that are on the medium now, of those asked for.
    pub images: usize,
    /// Layers that were written, and their bytes on the medium.
    pub written: (usize, u64),
    /// Bytes that those layers had at the source.
    pub read: u64,
    /// Files that were written, and their bytes.
    pub files: (usize, u64),
    /// How many of the layers as deltas.
    pub deltas: usize,
    /// Layers that were there already, and their bytes on the medium.
    pub reused: (usize, u64),
    /// Bytes that were read back and hashed before the commit; `None` when that was not asked for.
    pub verified: Option<u64>,
    /// What that proves.
    pub level: Level,
    /// Why it is not more: a sentence.
    pub limit: Option<&'static str>,
    /// Bytes of recovery data that were written.
    pub recovery: u64,
    /// Whether the commit record was signed.
    pub signed: bool,
    /// Names of images that were not carried, and why.
    pub failed: Vec<(String, Arc<Error>)>,
}

/// Resolves what is wanted and plans the export to the medium at `path`, which may not exist yet.
///
/// Nothing is written. Errors: those of resolving an image (collected instead when the export keeps
/// going); not enough space, or a filesystem that cannot hold so large a file.
pub fn prepare(
    source: &dyn Source,
    medium: Option<&Medium>,
    path: &Path,
    wanted: &[ImageRequest],
    options: &Options,
    run: Run<'_>,
) -> Result<Prepared> {
    let (images, failed) = resolve::wanted(source, wanted, options, run)?;
    plan(source, medium, path, images, failed, options, run)
}

/// Plans the export of `images`, of which some `failed`.
fn plan(
    source: &dyn Source,
    medium: Option<&Medium>,
    path: &Path,
    images: Vec<Resolved>,
    failed: Vec<(String, Arc<Error>)>,
    options: &Options,
    run: Run<'_>,
) -> Result<Prepared> {
    let held = match medium {
        Some(medium) => held(medium, &images, run)?,
        None => MediumState::default(),
    };
    let mut plan = ExportPlan::new(&images, &held, options.compression);
    if let Some(targets) = &options.targets {
        let bases = targets.bases(&held);
        plan.leave_out(&images, &bases);
        // Who wants every original blob wants no delta in its place.
        if options.deltas && options.compression.is_some() {
            plan.use_deltas(&images, &bases, &held.deltas);
            if targets.only_unpacked() > 0 {
                let text = "a node of --have has images of which layers are only unpacked, since its containerd discards them: no delta \
                            starts from those, new layers of such images are carried whole";
                run.report(Event::Warning(text));
            }
        }
    }
    files::plan(source, medium, path, options, &mut plan, run)?;
    plan.renews_volume = options.volume.is_some()
        && options.volume.as_ref()
            != medium.and_then(Medium::record).and_then(|record| record.volume.as_ref());
    plan.renews_lane = lane::differs(medium.and_then(Medium::record), options);
    let mut filesystem = Filesystem::of(path)?;
    if options.split.is_some() {
        filesystem.largest_file = None;
    }
    plan.protect(medium.and_then(Medium::record), options.recovery, &filesystem);
    plan.require_space(&filesystem, path)?;
    if source.is_remote() {
        plan.keep_parts(&filesystem, carry::MAX_AT_ONCE);
    }
    Ok(Prepared { images, failed, plan, filesystem })
}

/// Carries out a plan and commits the new state of the medium.
///
/// At every moment of it the medium's newest record and `index.json` name only what is there. What
/// was finished before an interruption is used by the next export of the same images. On a medium that
/// turns out to be full nothing unfinished stays: an export of less may fit.
pub fn carry_out(
    source: &dyn Source,
    medium: &mut Medium,
    lock: &Lock,
    prepared: Prepared,
    options: &Options,
    run: Run<'_>,
) -> Result<Summary> {
    lock.require_on(medium)?;
    let result = carry_out_planned(source, medium, prepared, options, run);
    if result.as_ref().is_err_and(Error::is_medium_full) {
        // The error that led here is the one to tell.
        let _ = medium.clear_unfinished();
    }
    result
}

fn carry_out_planned(
    source: &dyn Source,
    medium: &mut Medium,
    prepared: Prepared,
    options: &Options,
    run: Run<'_>,
) -> Result<Summary> {
    let Prepared { images, mut failed, plan, .. } = prepared;
    let mut summary = Summary {
        sequence: medium.record().map_or(0, |record| record.sequence),
        changed: false,
        images: images.len(),
        written: (0, 0),
        files: (0, 0),
        deltas: 0,
        read: 0,
        reused: (0, 0),
        verified: None,
        level: Level::Written,
        limit: None,
        recovery: 0,
        signed: false,
        failed: Vec::new(),
    };
    if plan.is_nothing() {
        summary.reused = (plan.layers.len(), plan.bytes_held());
        medium.require_same()?;
        summary.signed = lane::sign_as_it_is(medium, options, run)?;
        medium.write_root_files(false)?;
        finish_earlier_run(medium, run)?;
        if let (Some(required), Some(record)) =
            (options.require.filter(|l| *l > Level::Written), medium.record())
        {
            let outcome = readback::require_at(medium, &record.descriptors(), Some(required), run)?;
            (summary.level, summary.limit) = (outcome.level, outcome.limit);
        }
        summary.failed = failed;
        return Ok(summary);
    }

    medium.reserve(plan.bytes_of_record())?;
    let carried = carry::layers(source, medium, &plan, options, run)?;
    let failed_referrers = referrers::carry(source, medium, &plan, options, run)?;
    files::carry(source, medium, &plan, options, run)?;
    summary.files = files::written(&plan);
    summary.count(&plan, &carried);
    let mut exported = Vec::new();
    let mut documents = BTreeMap::new();
    // Each is let go of once its place in the record is known.
    for mut image in images {
        let failure = referrers::without_failed(&mut image, &failed_referrers, options, run);
        if let Some(error) = carried.failure_of(&image).or(failure) {
            failed.push((image.name.to_string(), error));
            continue;
        }
        run.check()?;
        match write_documents(source, medium, &image, &carried, &mut documents) {
            Ok(image) => exported.push(image),
            Err(error) if options.keep_going && !error.is_fatal() => {
                failed.push((image.name.to_string(), error.into()));
            }
            Err(error) => return Err(error),
        }
    }
    summary.images = exported.len();
    summary.failed = failed;
    if exported.is_empty() && plan.files.is_empty() && !plan.renews_file_list && !plan.renews_lane {
        return Ok(summary);
    }

    let layers = carried.of(&exported);
    let documents: Vec<Blob> = documents.into_values().collect();
    let mut record = next_state(medium, &exported, &layers, &documents, options)?;
    files::place(medium, &mut record, &plan, options)?;
    // With every blob in it, those of files as well: it notes which of them are in parts.
    medium.stamp(&mut record)?;
    lane::note_settings(&mut record, &plan, &carried, options.compression);
    if options.volume.is_some() {
        record.volume.clone_from(&options.volume);
    }
    record.note_basis(options.targets.as_ref().map(|targets| targets.rest_on()).unwrap_or_default());
    // With many images these are most of what is held; from here on the record says it all.
    drop((exported, layers, documents, carried, plan));
    summary.recovery = recovery::protect(medium, &mut record, options.recovery, run)?;
    run.report(Event::Phase { phase: Phase::Syncing, bytes: 0, items: 0 });
    medium.require_same()?;
    medium.sync()?;
    run.report(Event::PhaseEnded { phase: Phase::Syncing });
    if options.verify {
        let blobs = record.descriptors();
        let outcome = readback::require_at(medium, &blobs, options.require, run)?;
        (summary.level, summary.limit) = (outcome.level, outcome.limit);
        summary.verified = Some(blobs.iter().map(|blob| blob.size).sum());
        record.verified = Some(outcome.level);
    }
    run.check()?;
    medium.require_same()?;
    medium.release_reserve()?;
    summary.sequence = record.sequence;
    summary.changed = true;
    summary.signed = lane::commit(medium, record, options, run)?;
    medium.write_root_files(true)?;
    finish_earlier_run(medium, run)?;
    Ok(summary)
}

/// What is left to do when the newest record is right: `index.json`, and the ingest area.
fn finish_earlier_run(medium: &Medium, run: Run<'_>) -> Result<()> {
    if let IndexWritten::DamagedKept(kept) = medium.write_index()? {
        let text = format!("index.json could not be read and was made anew; the old one is kept as {kept}");
        run.report(Event::Warning(&text));
    }
    recovery::finish(medium)?;
    medium.clear_ingest().map(drop)
}

/// The record of the new state; the indexes that it needs are written on the way.
fn next_state(
    medium: &Medium,
    images: &[ExportedImage],
    layers: &[ExportedLayer],
    documents: &[Blob],
    options: &Options,
) -> Result<Record> {
    let previous = match medium.record() {
        Some(record) => record.clone(),
        None => Record::empty(crate::unique::id()),
    };
    let (mut record, indexes) = next_record(previous, medium.next_sequence()?, images, layers, documents);
    for bytes in &indexes {
        medium.write_blob(bytes)?;
    }
    lane::apply(&mut record, options);
    Ok(record)
}

impl Summary {
    fn count(&mut self, plan: &ExportPlan, carried: &Carried) {
        for step in &plan.layers {
            let Some(layer) = carried.step(step) else { continue };
            let counter = if step.bytes() == 0 { &mut self.reused } else { &mut self.written };
            counter.0 += 1;
            counter.1 += layer.bytes();
            self.deltas += usize::from(layer.delta.is_some() && step.bytes() > 0);
            self.read += step.bytes();
        }
    }
}
