//! Makes damaged blobs again, each in the first way that succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::{Prepared, Summary, images, started};
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, Digest, MAX_MANIFEST};
use crate::layer::{self, Zstd};
use crate::medium::Medium;
use crate::plan::repair::{Remedy, RepairStep, derive};
use crate::progress::{Event, Phase, Run, Watched};
use crate::source::{self, Source};

/// What was made.
#[derive(Debug, Default)]
pub(super) struct RepairedBlobs {
    /// Blobs whose bytes could not be made again, and the other encoding of the layer that is there now.
    pub(super) replaced: BTreeMap<Digest, Descriptor>,
}

/// How one attempt ended.
enum Attempt {
    Repaired(String),
    /// The layer is right, its encoded bytes are not those that are missing.
    Other(Descriptor),
}

/// Repairs the blobs of the plan but those that recovery data gave back; `failed` are those with which
/// that did not go well.
///
/// An error of the medium or an interruption ends it; all else is noted in `summary`, blob by blob.
pub(super) fn repair(
    medium: &Medium,
    source: Option<&dyn Source>,
    prepared: &Prepared,
    failed: &BTreeMap<Digest, Error>,
    summary: &mut Summary,
    run: Run<'_>,
) -> Result<RepairedBlobs> {
    let recovered = |step: &&RepairStep| {
        prepared.recovery.recoverable.contains(&step.blob.digest) && !failed.contains_key(&step.blob.digest)
    };
    let steps: Vec<&RepairStep> = prepared.plan.steps.iter().filter(|step| !recovered(step)).collect();
    let bytes = steps.iter().map(|step| step.blob.size).sum();
    run.report(Event::Phase { phase: Phase::Carrying, bytes, items: steps.len() });
    let mut made = RepairedBlobs::default();
    let work = Work { medium, source, run };
    for step in steps {
        run.check()?;
        let item = step.blob.digest.short();
        started(run, &item, &step.blob);
        let mut reasons: BTreeSet<String> =
            failed.get(&step.blob.digest).map(Error::with_cause).into_iter().collect();
        let mut other = None;
        let mut repaired = None;
        for remedy in step.remedies.iter().filter(|remedy| **remedy != Remedy::Recover) {
            match work.attempt(step, remedy, &item) {
                Ok(Attempt::Repaired(how)) => {
                    repaired = Some(how);
                    break;
                }
                Ok(Attempt::Other(blob)) => {
                    other.get_or_insert(blob);
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    reasons.insert(error.with_cause());
                }
            }
        }
        run.report(Event::Finished { item: &item });
        match (repaired, other) {
            (Some(how), _) => summary.repaired(step.blob.digest, how),
            (None, Some(blob)) => {
                made.replaced.insert(step.blob.digest, blob);
            }
            (None, None) => {
                let what = prepared.damaged.get(&step.blob.digest).map(Error::with_cause).unwrap_or_default();
                let reasons: Vec<String> = reasons.into_iter().collect();
                let reason = match (&reasons[..], source) {
                    ([], Some(source)) => format!("{what}; {} does not have it", source.name()),
                    ([], None) => what,
                    (reasons, _) => reasons.join("; "),
                };
                let images = medium.record().map(|record| images(record, &step.blob.digest));
                summary.lost(step.blob.digest, reason, images.unwrap_or_default());
            }
        }
    }
    run.report(Event::PhaseEnded { phase: Phase::Carrying });
    Ok(made)
}

struct Work<'a> {
    medium: &'a Medium,
    source: Option<&'a dyn Source>,
    run: Run<'a>,
}

impl Work<'_> {
    fn attempt(&self, step: &RepairStep, remedy: &Remedy, item: &str) -> Result<Attempt> {
        match (remedy, self.source) {
            (Remedy::Fetch(pick), Some(source)) => {
                let from = format!("fetched from {}", source.name());
                self.fetch(step, source::open(source, &pick.image, &pick.blob)?, &from, item)
            }
            (Remedy::File(file), Some(source)) => {
                let bytes = Verified::new(source.open_file(file, 0)?, &file.blob(), Side::Source);
                self.fetch(step, bytes, &format!("fetched from {}", source.name()), item)
            }
            (Remedy::AtRoot(file), _) => {
                let from = format!("copied from {}", file.name.as_str());
                self.fetch(step, self.medium.open_root_file(file)?, &from, item)
            }
            (Remedy::Encode(diff_id, pick, zstd), Some(source)) => {
                let blob = source::open(source, &pick.image, &pick.blob)?;
                self.encode(step, diff_id, blob, *zstd, item, &source.name())
            }
            (Remedy::Reencode(diff_id, other, zstd), _) => {
                let blob: Verified<_> = self.medium.open_blob(other)?;
                self.encode(step, diff_id, blob, *zstd, item, "another encoding on the medium")
            }
            (Remedy::Derive, _) => self.derive(step),
            (Remedy::Fetch(_) | Remedy::File(_) | Remedy::Encode(..), None) | (Remedy::Recover, _) => {
                Err(Error::not_found(Side::Source, step.blob.digest))
            }
        }
    }

    /// Copies what is read, which proves itself at its end.
    fn fetch(&self, step: &RepairStep, blob: impl Read, how: &str, item: &str) -> Result<Attempt> {
        let mut replacement = self.medium.replace_blob(&step.blob.digest)?;
        let copied = io::copy(&mut Watched::new(blob, item, self.run), &mut replacement);
        if let Err(error) = copied {
            replacement.discard()?;
            return Err(Error::from_io(Side::Source, "read", item.into(), error));
        }
        replacement.commit(&step.blob)?;
        Ok(Attempt::Repaired(how.to_owned()))
    }

    /// Decodes the layer and encodes it as it was.
    fn encode(
        &self,
        step: &RepairStep,
        diff_id: &Digest,
        blob: impl Read,
        zstd: Zstd,
        item: &str,
        from: &str,
    ) -> Result<Attempt> {
        let mut replacement = self.medium.replace_blob(&step.blob.digest)?;
        let mut blob = Watched::new(blob, item, self.run);
        let decoded = match layer::recompress(&mut blob, &mut replacement, zstd, layer::workers()) {
            Ok(decoded) => decoded,
            Err(error) => {
                replacement.discard()?;
                // A blob that does not decode may be another than it is listed as: its end tells.
                let at_end = io::copy(&mut blob, &mut io::sink()).err();
                let told =
                    |error| Error::from_io(Side::Source, "read", format!("layer {diff_id}").into(), error);
                return Err(at_end.map(told).filter(Error::is_damage).unwrap_or_else(|| told(error)));
            }
        };
        if decoded.diff_id != *diff_id {
            replacement.discard()?;
            let what = format!("{from}: layer {diff_id}, uncompressed,");
            let (expected, found) = (*diff_id, decoded.diff_id);
            return Err(Error::DigestMismatch { side: Side::Source, what, expected, found });
        }
        if replacement.written() == (step.blob.digest, step.blob.size) {
            replacement.commit(&step.blob)?;
            return Ok(Attempt::Repaired(format!("encoded again from {from}")));
        }
        let (digest, size) = replacement.commit_as_other()?;
        let media_type = Compression::Zstd.oci_layer_type().into();
        Ok(Attempt::Other(Descriptor { media_type, digest, size }))
    }

    /// Makes a carried manifest or index again.
    fn derive(&self, step: &RepairStep) -> Result<Attempt> {
        let Some(record) = self.medium.record() else {
            return Err(Error::not_found(Side::Medium, "a commit record"));
        };
        let read = |blob: &Descriptor| self.medium.read_blob(blob, MAX_MANIFEST).ok();
        let Some(bytes) = derive(record, &step.blob.digest, read) else {
            let what = format!("manifest {}", step.blob.digest);
            let reason = "cannot be made again from what is on the medium";
            return Err(Error::invalid(Side::Medium, what, reason));
        };
        let mut replacement = self.medium.replace_blob(&step.blob.digest)?;
        replacement.write_bytes(&bytes)?;
        replacement.commit(&step.blob)?;
        Ok(Attempt::Repaired("derived from what else is on the medium".into()))
    }
}
