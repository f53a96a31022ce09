//! Whether deltas lead where the record says.

use std::collections::BTreeSet;

use super::{Report, Severity};
use crate::error::Result;
use crate::image::{Descriptor, Digest};
use crate::layer::{Scratch, delta, scratch_directory};
use crate::medium::Medium;
use crate::progress::{Event, Phase, Run};
use crate::record::{Delta, Layer, Record};

/// Findings about what the record says of its deltas.
pub(super) fn check_record(record: &Record, report: &mut Report) {
    for delta in &record.deltas {
        let fault = match record.layer(&delta.diff_id) {
            None => Some("leads to a layer that the commit record does not have"),
            Some(layer) => delta.refused(layer.size),
        };
        if let Some(fault) = fault {
            report.add("record-delta", Severity::Error, delta.digest, fault);
        }
    }
}

/// Applies every delta whose base is on the medium, as far as the bytes of both are whole; notes how
/// many could not be tried for want of their base.
pub(super) fn apply(
    medium: &Medium,
    record: &Record,
    whole: &BTreeSet<Digest>,
    report: &mut Report,
    run: Run<'_>,
) -> Result<()> {
    let tried: Vec<(&Delta, &Layer, &Descriptor)> = record
        .deltas
        .iter()
        .filter(|delta| whole.contains(&delta.digest))
        .filter_map(|delta| {
            let base = record.layer(&delta.base)?.encodings.iter().find(|b| whole.contains(&b.digest))?;
            let layer = record.layer(&delta.diff_id).filter(|layer| delta.refused(layer.size).is_none())?;
            Some((delta, layer, base))
        })
        .collect();
    let bytes = tried.iter().map(|(_, layer, _)| layer.size).sum();
    run.report(Event::Phase { phase: Phase::Decoding, bytes, items: tried.len() });
    for (delta, layer, base) in &tried {
        run.check()?;
        if let Err(fault) = apply_one(medium, delta, layer, base) {
            run.check()?;
            report.add("delta-diff-id", Severity::Error, delta.digest, fault);
        }
        run.report(Event::Advanced { item: &delta.digest.short(), bytes: layer.size });
    }
    run.report(Event::PhaseEnded { phase: Phase::Decoding });
    let untried = record.deltas.len() - tried.len();
    if untried > 0 {
        let detail = format!(
            "{untried} of {} start from layers that are not here; they were hashed, not applied",
            record.deltas.len()
        );
        report.add("delta-base", Severity::Note, ".pannier/deltas", detail);
    }
    Ok(())
}

fn apply_one(medium: &Medium, delta: &Delta, layer: &Layer, base: &Descriptor) -> Result<(), String> {
    let directory = scratch_directory();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let base = medium.open_blob(base).map_err(|error| text(&error))?;
    let (base, decoded) = Scratch::tar(&directory, base, delta.base_size)
        .map_err(|error| format!("its base {} cannot be used: {error}", delta.base))?;
    if decoded.diff_id != delta.base {
        return Err(format!("its base decodes to {}, not to {}", decoded.diff_id, delta.base));
    }
    let patch = medium.open_blob(&delta.descriptor()).map_err(|error| text(&error))?;
    let tar = delta::apply(&directory, &base, patch, layer.size);
    match tar.and_then(|tar| tar.digest()).map_err(|error| text(&error))? {
        found if found == layer.diff_id => Ok(()),
        found => Err(format!("it leads to {found}, not to {}", layer.diff_id)),
    }
}

/// Files among the deltas that nothing refers to.
pub(super) fn strays(medium: &Medium, known: &BTreeSet<Digest>, report: &mut Report) -> Result<()> {
    let names = medium.delta_names()?;
    let stray = |name: &&String| !Digest::from_hex(name).is_ok_and(|digest| known.contains(&digest));
    let unused = names.iter().filter(stray).count();
    if unused > 0 {
        let files = if unused == 1 { "1 file".to_owned() } else { format!("{unused} files") };
        let detail = format!("{files} that the commit record does not refer to");
        report.add("delta-unused", Severity::Note, ".pannier/deltas", detail);
    }
    Ok(())
}
