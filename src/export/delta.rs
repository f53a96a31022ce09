//! Carries layers as what differs from a layer that the targets hold.

use std::io::{self, Read};

use super::carry::{StagedRead, Work, lock};
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::Descriptor;
use crate::layer::{Scratch, delta, scratch_directory};
use crate::medium::Ingest;
use crate::plan::{At, Base, DeltaStep, LayerStep, Pick};
use crate::progress::{Event, Stoppable, Watched};
use crate::record::Delta;
use crate::source;

/// Bytes of a tar above which deltas are made one after the other. Three at a time of 2 GiB, of 464 MiB of
/// memory each, would take the export beyond 1 GiB.
const LARGE: u64 = 128 << 20;

impl Work<'_> {
    /// Makes the delta of a layer; carries the layer whole where no base is at hand or none helps.
    ///
    /// Returns how the carried manifest lists it, the tar's size, and the delta.
    pub(super) fn delta(
        &self,
        step: &LayerStep,
        wanted: &DeltaStep,
        item: &str,
    ) -> Result<(Descriptor, u64, Option<Delta>)> {
        let pick = &wanted.pick;
        let mut part = match self.keeps_part(pick) {
            true => Some(self.medium.ingest_blob(&pick.blob)?),
            false => None,
        };
        let Some(tar) = self.tar(step, pick, item, part.as_mut())? else {
            drop(part);
            let (encoding, size) = self.whole(step, wanted, item, None)?;
            return Ok((encoding, size, None));
        };
        for base in &wanted.bases {
            let from = self.base(base);
            let large = from.as_ref().is_ok_and(|from| from.len().max(tar.len()) > LARGE);
            // Until the patch is written: it is held in memory.
            let _one = large.then(|| lock(&self.large_delta));
            self.run.check()?;
            let made = match from {
                Ok(from) => delta::make(&from, &tar, wanted.limit)
                    .map(|made| Some((from.len(), made?)))
                    .map_err(|error| error.to_string()),
                Err(reason) => Err(reason),
            };
            self.run.check()?;
            match made {
                Ok(Some((base_size, made))) => {
                    let patch = self.medium.write_delta(&made.bytes)?;
                    let delta = Delta {
                        diff_id: step.diff_id,
                        base: base.diff_id,
                        base_size,
                        base_blobs: base.blobs.clone(),
                        digest: patch.digest,
                        size: patch.size,
                        window: made.window,
                    };
                    if let Some(part) = part {
                        part.discard()?;
                    }
                    return Ok((delta.result(tar.len()), tar.len(), Some(delta)));
                }
                Ok(None) => {}
                // That the source might have the older image still was no more than a guess.
                Err(_) if base.at.iter().all(|at| matches!(at, At::Source(_))) => {}
                Err(reason) => self.note(pick, &format!("no delta against layer {}: {reason}", base.diff_id)),
            }
        }
        drop(part);
        let (encoding, size) = self.whole(step, wanted, "", Some(&tar))?;
        Ok((encoding, size, None))
    }

    /// The layer's tar in a file of ours; `None` where that has no place, or is too large for a delta.
    fn tar(
        &self,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        part: Option<&mut Ingest<'_>>,
    ) -> Result<Option<Scratch>> {
        let Some(part) = part else {
            let original = source::open(self.source, &pick.image, &pick.blob)?;
            return self.tar_from(original, step, pick, item);
        };
        let resumed = part.left_over()? > 0;
        let attempt = |part: &mut Ingest<'_>| {
            let through = StagedRead::new(self.source, pick, part);
            self.tar_from(Verified::new(through, &pick.blob, Side::Source), step, pick, item)
        };
        match attempt(part) {
            Err(error) if resumed && error.is_damage() => {
                // What was left of the earlier run may itself be damaged: once more, from the start.
                part.restart()?;
                attempt(part)
            }
            other => other,
        }
    }

    fn tar_from(
        &self,
        original: impl Read,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
    ) -> Result<Option<Scratch>> {
        let mut original = Watched::new(original, item, self.run);
        match Scratch::tar(&scratch_directory(), &mut original, crate::limits::DELTA_TAR) {
            Ok((tar, decoded)) => {
                self.require_diff_id(step, pick, &decoded)?;
                Ok(Some(tar))
            }
            // The scratch file's: a source's errors come wrapped, and would come again.
            Err(error) if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::FileTooLarge => {
                self.note(
                    pick,
                    &format!("carried whole, no delta: {}: {error}", scratch_directory().display()),
                );
                Ok(None)
            }
            Err(error) => Err(self.blame(error, &mut original, pick)),
        }
    }

    /// The tar of a base, from wherever it can be had; else why not.
    fn base(&self, base: &Base) -> Result<Scratch, String> {
        let mut reasons = Vec::new();
        for at in &base.at {
            let reader: Result<Box<dyn Read>> = match at {
                At::Medium(blob) => self.medium.open_blob(blob).map(|blob| Box::new(blob) as _),
                At::Other(number, blob) => self.have(*number, blob),
                At::Source(pick) => {
                    source::open(self.source, &pick.image, &pick.blob).map(|blob| Box::new(blob) as _)
                }
            };
            let tar = reader.map_err(|error| error.to_string()).and_then(|reader| {
                let reader = Stoppable(reader, self.run);
                Scratch::tar(&scratch_directory(), reader, crate::limits::DELTA_TAR)
                    .map_err(|error| error.to_string())
            });
            match tar {
                Ok((tar, decoded)) if decoded.diff_id == base.diff_id => return Ok(tar),
                Ok(_) => reasons.push("a blob that should be it decodes to something else".to_owned()),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    fn have(&self, number: usize, blob: &Descriptor) -> Result<Box<dyn Read>> {
        let medium = self.options.targets.as_ref().and_then(|targets| targets.media.get(number));
        let medium = medium.ok_or_else(|| Error::not_found(Side::Source, format!("blob {}", blob.digest)))?;
        Ok(Box::new(medium.open_blob(blob)?))
    }

    /// Carries the layer as if there were no deltas; from its tar, where that is at hand.
    fn whole(
        &self,
        step: &LayerStep,
        wanted: &DeltaStep,
        item: &str,
        tar: Option<&Scratch>,
    ) -> Result<(Descriptor, u64)> {
        let (pick, zstd) = (&wanted.pick, self.options.compression.unwrap_or_default());
        match (wanted.recompress, tar) {
            (false, _) => self.copy(step, pick, item, None),
            (true, None) => self.recompress(step, pick, item, zstd),
            (true, Some(tar)) => {
                let reader = tar.reader().map_err(Error::io(Side::Source, "read", scratch_directory()))?;
                match self.recompress_from(reader, step, pick, item, zstd)? {
                    Some(layer) => Ok(layer),
                    None => self.copy(step, pick, item, Some(zstd)),
                }
            }
        }
    }

    fn note(&self, pick: &Pick, reason: &str) {
        let text = format!("layer {} of {}: {reason}", pick.blob.digest.short(), pick.image);
        self.run.report(Event::Warning(&text));
    }
}
