//! The files beside the blobs: commit records, `index.json`, the recovery data themselves.

use std::collections::BTreeSet;

use super::{Prepared, RECOVERED, Repaired, Summary};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::medium::{IndexState, Medium};
use crate::progress::Run;
use crate::recovery::{self, Copy};
use crate::trust;

/// Puts back commit records that are damaged or gone and of which the recovery data hold a copy.
///
/// To be done before anything else, since the newest record says what should be on the medium.
pub fn restore_records(medium: &mut Medium) -> Result<Vec<Repaired>> {
    let mut restored = Vec::new();
    for copy in restorable(medium)? {
        medium.restore_record(copy.sequence, &copy.record_bytes)?;
        let subject = record_name(copy.sequence);
        restored.push(Repaired { subject, how: RECOVERED.into() });
    }
    Ok(restored)
}

/// The commit records that [`restore_records`] would put back.
pub fn restorable_records(medium: &Medium) -> Result<Vec<String>> {
    Ok(restorable(medium)?.into_iter().map(|copy| record_name(copy.sequence)).collect())
}

fn record_name(sequence: u64) -> String {
    format!(".pannier/commits/{sequence:010}.json")
}

/// What recovery data say counts for nothing by itself: whoever had the medium could have written them.
///
/// A copy takes the place of a record that is in `commits/` and damaged, if it is what the signatures beside
/// that record are over, where there are any. A record that is not in `commits/` comes back only if a key
/// signed it that signed the newest one as well.
fn restorable(medium: &Medium) -> Result<Vec<Copy>> {
    let newest = medium.record().map_or(0, |record| record.sequence);
    let keys_of = |sequence: u64, bytes: &[u8]| -> Result<BTreeSet<String>> {
        let signatures = medium.signatures_of(sequence)?;
        Ok(signatures.iter().filter_map(|signature| trust::key_of(signature, bytes)).collect())
    };
    let newest_keys = match medium.record_bytes(newest)? {
        Some(bytes) => keys_of(newest, &bytes)?,
        None => BTreeSet::new(),
    };
    let mut restorable = Vec::new();
    for copy in recovery::copies(medium)? {
        if medium.record().is_some_and(|record| record.medium != copy.record.medium) {
            continue;
        }
        let keys = keys_of(copy.sequence, &copy.record_bytes)?;
        let like_newest = !keys.is_disjoint(&newest_keys);
        let damaged = medium.rejected().iter().any(|rejected| rejected.sequence == copy.sequence);
        let is_right = if damaged {
            let signed = !medium.signatures_of(copy.sequence)?.is_empty();
            let outranks = copy.sequence > newest && !newest_keys.is_empty();
            if outranks { like_newest } else { !signed || !keys.is_empty() }
        } else {
            copy.sequence > newest && like_newest
        };
        if is_right {
            restorable.push(copy);
        }
    }
    Ok(restorable)
}

/// Copies the files at the root anew from their blobs.
pub(super) fn root(medium: &Medium, prepared: &Prepared, summary: &mut Summary) -> Result<()> {
    for (file, fault) in &prepared.root {
        match medium.write_root_file(file) {
            Ok(()) => summary.repaired(file.name.as_str(), "copied from its blob"),
            // Its blob is lost as well.
            Err(error)
                if error.is_damage()
                    || matches!(error, Error::NotFound { .. } | Error::BlobMissing { .. }) =>
            {
                summary.lost(file.name.as_str(), format!("{fault}, and so is its blob"), Vec::new());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes damaged records that a newer one has superseded; says what is true of the others.
pub(super) fn records(medium: &Medium, prepared: &Prepared, summary: &mut Summary) -> Result<()> {
    for rejected in &prepared.records {
        match prepared.sequence {
            Some(newest) if newest > rejected.sequence => {
                medium.remove_record(rejected)?;
                let how = format!("removed: commit {newest} is newer and whole");
                summary.repaired(&rejected.name, how);
            }
            Some(newest) => {
                let reason = format!(
                    "{}; commit {newest} is the newest that is whole, and what came after it is not known. \
                     If an export was cut off, nothing is lost; otherwise export again what is missing in `pannier list`",
                    rejected.reason
                );
                summary.lost(&rejected.name, reason, Vec::new());
            }
            None => {
                let reason = format!("{}; no other commit record is whole: export again", rejected.reason);
                summary.lost(&rejected.name, reason, Vec::new());
            }
        }
    }
    Ok(())
}

/// Makes `index.json` again: as it was written after the commit, where a copy is there and fits the
/// record, and otherwise as the record says.
pub(super) fn index(medium: &Medium, summary: &mut Summary) -> Result<()> {
    let before = medium.index_state()?;
    medium.write_index()?;
    let mut how = "derived from the commit record";
    let lost = matches!(before, IndexState::Missing | IndexState::Damaged(_));
    let sequence = medium.record().map(|record| record.sequence);
    let copy = recovery::copies(medium)?.into_iter().rfind(|copy| Some(copy.sequence) == sequence);
    if let Some(copy) = copy.filter(|copy| lost && Some(&copy.index_bytes) != medium.index_bytes().as_ref()) {
        medium.restore_index(&copy.index_bytes)?;
        how = RECOVERED;
        if !matches!(medium.index_state()?, IndexState::Present { missing, unexpected, .. }
            if missing.is_empty() && unexpected.is_empty())
        {
            medium.write_index()?;
        }
    }
    summary.repaired("index.json", how);
    Ok(())
}

/// Makes again what is damaged of the recovery data themselves.
pub(super) fn renew_recovery(
    medium: &Medium,
    prepared: &Prepared,
    summary: &mut Summary,
    run: Run<'_>,
) -> Result<()> {
    let Some(record) = medium.record() else { return Ok(()) };
    let damaged: BTreeSet<String> = prepared.recovery.files.keys().cloned().collect();
    let name = |file: &str| format!(".pannier/recovery/{file}");
    // After a new commit they are new.
    if !damaged.is_empty() && summary.commit.is_none() {
        let blobs = summary.lost.iter().filter(|lost| lost.subject.parse::<Digest>().is_ok()).count();
        if blobs > 0 {
            for (file, fault) in &prepared.recovery.files {
                let reason = format!("{fault}; it can be made again when every blob is whole");
                summary.lost(name(file), reason, Vec::new());
            }
        } else {
            recovery::renew(medium, record, &damaged, run)?;
            for file in &damaged {
                summary.repaired(name(file), "made again from the blobs");
            }
        }
    }
    if !prepared.uncopied.is_empty() || summary.commit.is_some() {
        recovery::finish(medium)?;
        for sequence in &prepared.uncopied {
            let file = format!("{sequence:010}.record");
            summary.repaired(name(&file), "copied from the commit record");
        }
    }
    Ok(())
}
