//! Gets back what is damaged or missing on a medium, and nothing else.
//!
//! [`prepare`] reads everything, as `verify` does, asks the source what it has of the damaged blobs,
//! and makes the plan; nothing is written by it. [`carry_out`] makes each damaged file again under a
//! fresh name, brings it to the device, reads it back, and only then lets it take the place of the
//! damaged one: at no moment is the medium worse than before.
//!
//! What the recovery data on the medium give back is not asked of a source; what the source gives back
//! may let the recovery data give back the rest.

mod blobs;
mod files;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::medium::{Filesystem, IndexState, Lock, Medium, Rejected};
use crate::plan::repair::{Offered, RepairPlan, described, reencoded};
use crate::progress::{Event, Run};
use crate::readback::{self, Fault};
use crate::record::{Delta, Record, RootFile};
use crate::recovery::{self, Assessment};
use crate::source::Source;
use crate::verify::graph;

pub use files::{restorable_records, restore_records};

/// How a repair is done.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The renames that were given to the export, so that images are found under their old names.
    pub renames: Vec<(String, String)>,
}

/// A repair, ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// The damaged and missing blobs, and what is wrong with each.
    pub damaged: BTreeMap<Digest, Error>,
    /// What will be done about them.
    pub plan: RepairPlan,
    /// What is wrong with `index.json`.
    pub index: Option<String>,
    /// What is wrong with `oci-layout`.
    pub layout: Option<&'static str>,
    /// The files at the root that are damaged or missing, and what is wrong with each.
    pub root: Vec<(RootFile, &'static str)>,
    /// Commit records that cannot be used.
    pub records: Vec<Rejected>,
    /// Bytes of blobs that were read.
    pub bytes: u64,
    /// The sequence of the newest record that can be used.
    pub sequence: Option<u64>,
    /// What the recovery data on the medium can do, and what is wrong with them.
    recovery: Assessment,
    /// The records of which the recovery data lack a whole copy.
    uncopied: Vec<u64>,
}

/// Something that was repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The blob or file.
    pub subject: String,
    /// How, in a few words.
    pub how: String,
}

/// Something that could not be repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The blob or file.
    pub subject: String,
    /// Why: a sentence.
    pub reason: String,
    /// The images that it concerns.
    pub images: Vec<String>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// What is whole again.
    pub repaired: Vec<Repaired>,
    /// What is still damaged or missing.
    pub lost: Vec<Lost>,
    /// The sequence of the commit that the repair had to make; `None` where the old one stands.
    pub commit: Option<u64>,
}

impl Prepared {
    /// Whether there is nothing to repair.
    pub fn is_nothing(&self) -> bool {
        let files = self.index.is_none() && self.layout.is_none() && self.records.is_empty();
        let files = files && self.root.is_empty();
        self.damaged.is_empty() && files && self.recovery.files.is_empty() && self.uncopied.is_empty()
    }

    /// The files of recovery data that are damaged or missing.
    pub fn recovery_files(&self) -> impl Iterator<Item = &str> {
        self.recovery.files.keys().map(String::as_str)
    }

    /// The damaged deltas: only an export makes them again.
    pub fn deltas(&self) -> impl Iterator<Item = &Digest> {
        let planned: BTreeSet<Digest> = self.plan.steps.iter().map(|step| step.blob.digest).collect();
        self.damaged.keys().filter(move |digest| !planned.contains(digest))
    }

    /// The damaged record that is newer than every one that can be used.
    pub fn newer(&self) -> Option<&Rejected> {
        self.records.iter().find(|rejected| Some(rejected.sequence) > self.sequence)
    }
}

impl Summary {
    fn repaired(&mut self, subject: impl ToString, how: impl ToString) {
        self.repaired.push(Repaired { subject: subject.to_string(), how: how.to_string() });
    }

    fn lost(&mut self, subject: impl ToString, reason: impl ToString, images: Vec<String>) {
        let (subject, reason) = (subject.to_string(), reason.to_string());
        self.lost.push(Lost { subject, reason, images });
    }
}

/// Examines the medium and plans its repair from `source`, if there is one. Nothing is written.
///
/// Errors: the source cannot be reached; an interruption.
pub fn prepare(
    medium: &Medium,
    source: Option<&dyn Source>,
    options: &Options,
    run: Run<'_>,
) -> Result<Prepared> {
    let empty;
    let record = match medium.record() {
        Some(record) => record,
        None => {
            empty = Record::empty(String::new());
            &empty
        }
    };
    let records = medium.rejected().to_vec();
    let newer = records.iter().any(|rejected| rejected.sequence > record.sequence);
    let blobs: Vec<Descriptor> = record.blobs.iter().map(|blob| described(record, blob)).collect();
    let deltas = record.deltas.iter().map(Delta::descriptor);
    let damaged = damaged(medium, &blobs.iter().cloned().chain(deltas).collect::<Vec<_>>(), run)?;
    let listed = record.blobs.iter().map(|blob| blob.digest);
    let digests: BTreeSet<Digest> = listed.filter(|digest| damaged.contains_key(digest)).collect();
    let recovery = recovery::assess(medium, record, &digests, run)?;
    let rest: BTreeSet<Digest> = digests.difference(&recovery.recoverable).copied().collect();
    let mut offered = match source {
        Some(source) if !rest.is_empty() => survey::survey(source, record, &rest, options, run)?,
        _ => Offered::default(),
    };
    offered.recoverable = recovery.recoverable.clone();
    let root = root_faults(medium, record)?;
    let whole = record.root.iter().filter(|file| !root.iter().any(|(damaged, _)| damaged == *file));
    offered.at_root = whole.map(|file| (file.digest, *file)).collect();
    Ok(Prepared {
        plan: RepairPlan::new(record, &digests, &offered),
        damaged,
        index: index_fault(medium, newer)?,
        layout: medium.layout_fault()?,
        root,
        records,
        bytes: blobs.iter().map(|blob| blob.size).sum(),
        sequence: medium.record().map(|record| record.sequence),
        uncopied: recovery::uncopied(medium)?,
        recovery,
    })
}

fn damaged(medium: &Medium, blobs: &[Descriptor], run: Run<'_>) -> Result<BTreeMap<Digest, Error>> {
    let damaged = std::sync::Mutex::new(BTreeMap::new());
    readback::each_damaged(medium, blobs, run, |blob, fault| {
        // One that is weak is whole as long as it can be read.
        if let Fault::Damaged(error) = fault {
            damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(blob.digest, error);
        }
    })?;
    Ok(damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn root_faults(medium: &Medium, record: &Record) -> Result<Vec<(RootFile, &'static str)>> {
    let mut faults = Vec::new();
    for file in &record.root {
        faults.extend(medium.root_fault(file)?.map(|fault| (*file, fault)));
    }
    Ok(faults)
}

/// What is wrong with `index.json`. While a newer record is damaged, entries that the older one does
/// not have may be that one's: they are left alone.
fn index_fault(medium: &Medium, newer: bool) -> Result<Option<String>> {
    if medium.record().is_none() {
        return Ok(None);
    }
    Ok(match medium.index_state()? {
        IndexState::Missing => Some("is missing".into()),
        IndexState::Damaged(reason) => Some(reason),
        IndexState::Present { missing, unexpected, .. } if !newer => {
            let faults = missing.len() + unexpected.len();
            (faults > 0).then(|| format!("{faults} entries are not as the commit record has them"))
        }
        IndexState::Present { .. } => None,
    })
}

/// Carries out a repair. What cannot be repaired stays as it is and is listed in the summary.
///
/// Errors: the medium cannot be written or has too little space, an interruption. What was repaired by
/// then stays repaired.
pub fn carry_out(
    medium: &mut Medium,
    lock: &Lock,
    source: Option<&dyn Source>,
    prepared: Prepared,
    run: Run<'_>,
) -> Result<Summary> {
    lock.require_on(medium)?;
    require_space(medium, &prepared)?;
    medium.make_directories()?;
    let mut summary = Summary::default();
    if prepared.layout.is_some() {
        medium.rewrite_layout()?;
        summary.repaired("oci-layout", "written anew");
    }
    let failed = recover(medium, &prepared, &mut summary, run)?;
    let mut made = blobs::repair(medium, source, &prepared, &failed, &mut summary, run)?;
    recover_more(medium, &prepared, &mut made, &mut summary, run)?;
    if !made.replaced.is_empty() {
        commit_reencoded(medium, &prepared, &made, &mut summary, run)?;
    }
    for delta in prepared.deltas() {
        let names = medium.record().map(|record| images(record, delta)).unwrap_or_default();
        summary.lost(delta, DELTA, names);
        // An export goes by the length of the file, and would leave a damaged one as it is.
        if prepared.damaged.get(delta).is_some_and(Error::is_damage) {
            medium.remove_delta(delta)?;
        }
    }
    files::root(medium, &prepared, &mut summary)?;
    files::records(medium, &prepared, &mut summary)?;
    if prepared.index.is_some() || summary.commit.is_some() {
        files::index(medium, &mut summary)?;
    }
    files::renew_recovery(medium, &prepared, &mut summary, run)?;
    medium.sync()?;
    Ok(summary)
}

/// Why a delta is lost.
const DELTA: &str =
    "it is a delta, which only an export makes: the same export again, with the same --have, carries it anew";
const RECOVERED: &str = "made again from the recovery data";

/// Makes again what the recovery data give back; returns what failed all the same, and why.
fn recover(
    medium: &Medium,
    prepared: &Prepared,
    summary: &mut Summary,
    run: Run<'_>,
) -> Result<BTreeMap<Digest, Error>> {
    let wanted = &prepared.recovery.recoverable;
    let Some(record) = medium.record().filter(|_| !wanted.is_empty()) else { return Ok(BTreeMap::new()) };
    let failed = recovery::recover(medium, record, &prepared.recovery, wanted, run)?;
    for digest in wanted.iter().filter(|digest| !failed.contains_key(digest)) {
        summary.repaired(digest, RECOVERED);
    }
    Ok(failed)
}

/// Once more for what is still lost: the blocks that the source gave back may be those that lacked.
fn recover_more(
    medium: &Medium,
    prepared: &Prepared,
    made: &mut blobs::RepairedBlobs,
    summary: &mut Summary,
    run: Run<'_>,
) -> Result<()> {
    let Some(record) = medium.record() else { return Ok(()) };
    let digests = summary.lost.iter().filter_map(|lost| lost.subject.parse::<Digest>().ok());
    let left: BTreeSet<Digest> = digests.chain(made.replaced.keys().copied()).collect();
    if left.is_empty() || (summary.repaired.is_empty() && made.replaced.is_empty()) {
        return Ok(());
    }
    let assessment = recovery::assess(medium, record, &left, run)?;
    let wanted = assessment.recoverable.clone();
    if wanted.is_empty() || wanted == prepared.recovery.recoverable {
        return Ok(());
    }
    let failed = recovery::recover(medium, record, &assessment, &wanted, run)?;
    for digest in wanted.iter().filter(|digest| !failed.contains_key(digest)) {
        summary.lost.retain(|lost| lost.subject != digest.to_string());
        summary.repaired(digest, RECOVERED);
        if let Some(other) = made.replaced.remove(digest)
            && record.blobs.iter().all(|blob| blob.digest != other.digest)
        {
            medium.remove_blob(&other.digest)?;
        }
    }
    Ok(())
}

/// The largest repaired file lies beside the damaged one for a while; what is missing comes on top.
fn require_space(medium: &Medium, prepared: &Prepared) -> Result<()> {
    let filesystem = Filesystem::of(medium.path())?;
    let steps = prepared.plan.steps.iter().filter(|step| !step.remedies.is_empty());
    let (mut missing, mut largest) = (0, 0);
    for step in steps {
        let there = medium.blob_size(&step.blob.digest).ok().flatten().unwrap_or(0);
        missing += filesystem.occupied(step.blob.size).saturating_sub(filesystem.occupied(there));
        largest = largest.max(filesystem.occupied(step.blob.size));
    }
    let blocks = prepared.recovery.bad.0 * 4096;
    let recovery = medium.record().and_then(|record| record.recovery.as_ref());
    let recovery = recovery
        .filter(|_| !prepared.recovery.files.is_empty())
        .map_or(0, |recovery| recovery.files.iter().map(|file| filesystem.occupied(file.size)).sum());
    // One after the other: the bad blocks and the blob they belong in, then the recovery data.
    let needed = missing + (largest + blocks).max(recovery);
    if needed > filesystem.free {
        let (path, free) = (medium.path().to_owned(), filesystem.free);
        return Err(Error::NoSpace { side: Side::Medium, path, needed, free });
    }
    Ok(())
}

/// Commits the state in which layers whose bytes are lost for good are carried in other encodings.
fn commit_reencoded(
    medium: &mut Medium,
    prepared: &Prepared,
    made: &blobs::RepairedBlobs,
    summary: &mut Summary,
    run: Run<'_>,
) -> Result<()> {
    let Some(record) = medium.record() else { return Ok(()) };
    let read = |blob: &Descriptor| medium.read_blob(blob, crate::image::MAX_MANIFEST).ok();
    let (mut next, documents) = match reencoded(record, &made.replaced, read) {
        Ok(next) => next,
        Err(reason) => {
            for digest in made.replaced.keys() {
                let reason = format!("made again with other bytes, but {reason}");
                summary.lost(digest, reason, images(record, digest));
            }
            return Ok(());
        }
    };
    for bytes in &documents {
        medium.write_blob(bytes)?;
    }
    // What is lost stays listed: the new record must not say less than the old one did.
    let lost: BTreeSet<String> = summary.lost.iter().map(|lost| lost.subject.clone()).collect();
    let whole = next.blobs.iter().filter(|blob| !lost.contains(&blob.digest.to_string()));
    let whole: Vec<Descriptor> = whole.map(|blob| described(&next, blob)).collect();
    medium.sync()?;
    readback::require(medium, &whole, run)?;
    next.sequence = medium.next_sequence()?;
    medium.stamp(&mut next)?;
    recovery::protect(medium, &mut next, None, run)?;
    summary.commit = Some(next.sequence);
    for (old, new) in &made.replaced {
        let how = format!("encoded anew as {}, since its bytes could not be made again", new.digest);
        summary.repaired(old, how);
        // A manifest that listed it is not needed any more either.
    }
    let listed: BTreeSet<Digest> = next.blobs.iter().map(|blob| blob.digest).collect();
    summary.lost.retain(|lost| {
        let digest = lost.subject.parse::<Digest>();
        digest.map_or(true, |digest| listed.contains(&digest) || !prepared.damaged.contains_key(&digest))
    });
    medium.commit(next)
}

/// The names of the images, and of the files, that need a blob.
fn images(record: &Record, digest: &Digest) -> Vec<String> {
    graph::needed_by(record, digest)
}

/// Tells of one step.
fn started(run: Run<'_>, item: &str, blob: &Descriptor) {
    run.report(Event::Started { item, bytes: blob.size });
}
