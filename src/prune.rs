//! Takes images off a medium, and deletes what nothing on it needs any more.
//!
//! [`prepare`] plans it; nothing is written by it. [`carry_out`] writes the new state first, twice, so
//! that there is one to fall back to; then it removes the records that name what is to go, and deletes
//! only then. Killed at any moment, nothing that a record or `index.json` names is missing, and the
//! same prune goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result, Side};
use crate::image::{Digest, Index, MAX_MANIFEST, MediaKind, kind};
use crate::medium::{Filesystem, ForeignEntry, IndexState, Lock, Medium};
use crate::plan::prune::{BesideRecord, Pruning, Selection};
use crate::progress::{Event, Phase, Run};
use crate::record::{Record, Role};
use crate::recovery;
use crate::verify::{Finding, Severity, verify};

/// Most documents of other tools that are followed.
const MAX_FOREIGN: usize = 100_000;
/// Commit records that are left to fall back to, with the newest.
const RECORDS: usize = 2;

/// What a prune did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The sequence of the newest commit.
    pub sequence: u64,
    /// Bytes of recovery data that were written.
    pub recovery: u64,
}

/// Completes what a run that was cut off after its commit left to do, as an export does.
pub fn finish_earlier_run(medium: &Medium) -> Result<()> {
    medium.make_directories()?;
    let readable = matches!(medium.index_state()?, IndexState::Present { .. });
    // A newer record that is damaged, or an index.json that is, are for a repair.
    if readable && medium.rejected().is_empty() {
        medium.write_index()?;
        recovery::finish(medium)?;
    }
    Ok(())
}

/// Plans a prune of `medium`. Nothing is written, and no blob but small documents is read.
///
/// Errors: a name that is not on the medium; `index.json` is missing or damaged, so that nobody knows
/// what belongs to other tools.
pub fn prepare(medium: &Medium, selection: &Selection) -> Result<Pruning> {
    let record = medium.committed()?;
    let foreign = match medium.index_state()? {
        IndexState::Present { foreign, .. } => foreign,
        IndexState::Missing | IndexState::Damaged(_) => {
            let reason =
                "missing or damaged: nobody knows what other tools need; `pannier repair` makes it again";
            return Err(Error::invalid(Side::Medium, medium.path().join("index.json").display(), reason));
        }
    };
    let mut around = BesideRecord {
        foreign: leads_to(medium, &foreign)?,
        blobs: medium.blob_files()?,
        deltas: medium.delta_files()?,
        ..BesideRecord::default()
    };
    for (_, older) in medium.records()?.into_iter().filter(|(sequence, _)| *sequence != record.sequence) {
        around.before.extend(older.iter().flat_map(Record::named));
    }
    for blob in record.blobs.iter().filter(|b| matches!(b.role, Role::Index | Role::OriginalIndex)) {
        // One that cannot be read is found by [`require_whole`], unless it goes itself.
        let bytes = medium.small_blob(&blob.digest, MAX_MANIFEST)?.unwrap_or_default();
        if let Ok(index) = Index::parse(&bytes) {
            let children = index.manifests.iter().map(|child| child.descriptor.digest).collect();
            around.lists.insert(blob.digest, children);
        }
    }
    Pruning::new(record, &around, selection)
        .map_err(|name| Error::not_found(Side::Medium, format!("{name} on {}", medium.path().display())))
}

/// Everything that other tools' entries lead to, and rather too much: whatever looks like a digest in a
/// document counts.
///
/// An error where a document cannot be followed.
fn leads_to(medium: &Medium, entries: &[ForeignEntry]) -> Result<BTreeSet<Digest>> {
    let mut open: Vec<(Digest, bool)> = entries
        .iter()
        .map(|entry| (entry.entry.descriptor.digest, is_document(&entry.entry.descriptor.media_type)))
        .collect();
    let mut found = BTreeSet::new();
    while let Some((digest, must)) = open.pop() {
        if !found.insert(digest) {
            continue;
        }
        let there = medium.blob_size(&digest)?;
        let parsed = medium.small_blob(&digest, MAX_MANIFEST)?.filter(|bytes| bytes.first() == Some(&b'{'));
        match parsed.map(|bytes| serde_json::from_slice::<Value>(&bytes)) {
            Some(Ok(document)) => collect(&document, &mut open),
            _ if must && there.is_some() => {
                let reason = "an entry of another tool leads to it, and it cannot be followed";
                return Err(Error::invalid(Side::Medium, format!("blob {digest}"), reason));
            }
            _ => {}
        }
        if found.len() > MAX_FOREIGN {
            let reason = format!("entries of other tools lead to more than {MAX_FOREIGN} blobs");
            return Err(Error::invalid(Side::Medium, "index.json", reason));
        }
    }
    Ok(found)
}

fn is_document(media_type: &str) -> bool {
    matches!(kind(media_type), MediaKind::Index | MediaKind::Manifest)
}

fn collect(value: &Value, found: &mut Vec<(Digest, bool)>) {
    match value {
        Value::Object(members) => {
            if let Some(digest) = members.get("digest").and_then(Value::as_str).and_then(|d| d.parse().ok()) {
                let media_type = members.get("mediaType").and_then(Value::as_str).unwrap_or_default();
                found.push((digest, is_document(media_type)));
            }
            members.values().for_each(|value| collect(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// Reads everything on the medium and returns what is damaged of what stays.
///
/// What goes by `plan` counts as well, unless `damaged_may_go`: on a medium that rots, nobody should
/// delete by accident what a repair could still read.
pub fn damage(medium: &Medium, plan: &Pruning, damaged_may_go: bool, run: Run<'_>) -> Result<Vec<Finding>> {
    let deleted = plan.deleted();
    let missing = |digest: &Digest| !plan.next.named().contains(digest);
    let goes = |finding: &Finding| {
        let digest = finding.subject.parse::<Digest>();
        damaged_may_go && digest.is_ok_and(|digest| deleted.contains(&digest) || missing(&digest))
    };
    let findings = verify(medium, false, run)?.findings;
    Ok(findings.into_iter().filter(|f| f.severity == Severity::Error && !goes(f)).collect())
}

/// Carries out a plan. `percent` is how much recovery data there is to be; `None` for as much as before.
///
/// Errors: the medium cannot be written, or has no space for new recovery data beside the old.
pub fn carry_out(
    medium: &mut Medium,
    lock: &Lock,
    plan: &Pruning,
    percent: Option<u32>,
    run: Run<'_>,
) -> Result<Summary> {
    lock.require_on(medium)?;
    let deleted = plan.deleted();
    let mut recovery = 0;
    let mut next = plan.next.clone();
    if plan.changed {
        require_space(&next, percent, medium.path())?;
        for bytes in &plan.documents {
            medium.write_blob(bytes)?;
        }
        next.sequence = medium.next_sequence()?;
        medium.stamp(&mut next)?;
        recovery = recovery::protect(medium, &mut next, percent, run)?;
        medium.sync()?;
        run.check()?;
        medium.commit(next.clone())?;
    }
    // From here on it is not interrupted: what is left takes no time.
    let naming = naming(medium, &deleted)?;
    let others = medium.records()?.len() - naming.len();
    if !naming.is_empty() && others < RECORDS {
        next.sequence = medium.next_sequence()?;
        medium.stamp(&mut next)?;
        medium.commit(next)?;
    }
    medium.write_index()?;
    if !naming.is_empty() {
        medium.remove_records(&naming)?;
    }
    recovery::finish(medium)?;
    run.report(Event::Phase { phase: Phase::Syncing, bytes: 0, items: 0 });
    medium.sync()?;
    for digest in plan.blobs.keys() {
        medium.remove_blob(digest)?;
    }
    for digest in plan.deltas.keys() {
        medium.remove_delta(digest)?;
    }
    medium.sync()?;
    run.report(Event::PhaseEnded { phase: Phase::Syncing });
    Ok(Summary { sequence: medium.record().map_or(0, |record| record.sequence), recovery })
}

/// The sequences of the records that name something which is to go, or that cannot be read.
fn naming(medium: &Medium, deleted: &BTreeSet<Digest>) -> Result<Vec<u64>> {
    let records: BTreeMap<u64, Option<Record>> = medium.records()?.into_iter().collect();
    let names =
        |record: &Option<Record>| record.as_ref().is_none_or(|record| !record.named().is_disjoint(deleted));
    Ok(records.iter().filter(|(_, record)| names(record)).map(|(sequence, _)| *sequence).collect())
}

/// New recovery data are made before the old ones go.
fn require_space(next: &Record, percent: Option<u32>, path: &Path) -> Result<()> {
    let before = next.recovery.as_ref().map_or(0, |recovery| recovery.percent);
    let percent = percent.unwrap_or(before);
    if percent == 0 {
        return Ok(());
    }
    let filesystem = Filesystem::of(path)?;
    let bytes = next.blobs.iter().map(|blob| blob.size).sum();
    let needed = recovery::space(next.blobs.len() as u64, bytes, percent, 1 << 20, &filesystem);
    if needed > filesystem.free {
        let (path, free) = (path.to_owned(), filesystem.free);
        return Err(Error::NoSpace { side: Side::Medium, path, needed, free });
    }
    Ok(())
}
