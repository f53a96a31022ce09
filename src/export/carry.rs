//! Moves the layers of a plan, several at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use super::Options;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, Digest};
use crate::layer::{self, Decoded, Most, Zstd};
use crate::medium::{Ingest, Medium};
use crate::plan::{ExportPlan, ExportedImage, ExportedLayer, LayerStep, Pick, Verdict};
use crate::progress::{Event, Phase, Run, Watched};
use crate::source::{self, Resolved, Source};

/// Layers that are worked on at a time, at most.
pub(super) const MAX_AT_ONCE: usize = 3;

/// The layers that were carried, and those that could not be.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// By diff_id and the digest that manifests list.
    layers: BTreeMap<(Digest, Digest), ExportedLayer>,
    /// By diff_id.
    failed: BTreeMap<Digest, Arc<Error>>,
    /// What ended the whole export.
    end: Option<Error>,
}

/// Carries the plan's layers.
///
/// The first failure ends it, unless the export keeps going. Parts of blobs that are on the medium by
/// then stay for the next run.
pub(super) fn layers(
    source: &dyn Source,
    medium: &Medium,
    plan: &ExportPlan,
    options: &Options,
    run: Run<'_>,
) -> Result<Carried> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let keep_parts_from = plan.keep_parts_from;
    let workers = layer::workers();
    let work = Work { source, medium, options, run, workers, keep_parts_from, large_delta: Mutex::default() };
    let (bytes, items) = (plan.bytes_to_read(), plan.layers.iter().filter(|step| step.bytes() > 0).count());
    run.report(Event::Phase { phase: Phase::Carrying, bytes, items });
    let queue: Mutex<VecDeque<&LayerStep>> = Mutex::new(plan.layers.iter().collect());
    // A function of its own, so that the lock is let go of before the work begins.
    let next = || lock(&queue).pop_front();
    let done = Mutex::new(Carried::default());
    std::thread::scope(|scope| {
        for _ in 0..cores.clamp(1, MAX_AT_ONCE) {
            scope.spawn(|| {
                while let Some(step) = next() {
                    match work.carry(step) {
                        Ok(layer) => lock(&done).insert(step, &layer),
                        Err(error) if options.keep_going && !error.is_fatal() => {
                            lock(&done).failed.insert(step.diff_id, error.into());
                        }
                        Err(error) => {
                            lock(&queue).clear();
                            lock(&done).end.get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    run.report(Event::PhaseEnded { phase: Phase::Carrying });
    run.check()?;
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match done.end.take() {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

/// A thread that panicked while it held the lock has ended the scope; what it left is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Carried {
    fn insert(&mut self, step: &LayerStep, layer: &ExportedLayer) {
        for listed in &step.listed {
            self.layers.insert((step.diff_id, listed.digest), layer.clone());
        }
    }

    /// The blob that stands for the layer which a manifest lists as `listed`.
    pub(super) fn encoding(&self, diff_id: &Digest, listed: &Digest) -> Option<Descriptor> {
        self.layers.get(&(*diff_id, *listed)).map(|layer| layer.encoding.clone())
    }

    /// What became of a step.
    pub(super) fn step(&self, step: &LayerStep) -> Option<&ExportedLayer> {
        self.layers.get(&(step.diff_id, step.listed.first()?.digest))
    }

    /// Why `image` cannot be committed; `None` if all its layers are there.
    pub(super) fn failure_of(&self, image: &Resolved) -> Option<Arc<Error>> {
        let layers = image.platforms.iter().flat_map(|platform| &platform.layers);
        let missing = layers
            .filter(|layer| !self.layers.contains_key(&(layer.diff_id, layer.listed.digest)))
            .map(|layer| layer.diff_id)
            .next()?;
        Some(match self.failed.get(&missing) {
            Some(error) => error.clone(),
            None => Error::not_found(Side::Source, format!("layer {missing}")).into(),
        })
    }

    /// The layers of `images`, each once.
    pub(super) fn of(&self, images: &[ExportedImage]) -> Vec<ExportedLayer> {
        let needed: BTreeSet<Digest> = images
            .iter()
            .flat_map(|image| &image.platforms)
            .flat_map(|p| p.diff_ids.iter().copied())
            .collect();
        let mut layers: Vec<ExportedLayer> = Vec::new();
        for ((diff_id, _), layer) in &self.layers {
            if needed.contains(diff_id) && !layers.contains(layer) {
                layers.push(layer.clone());
            }
        }
        layers
    }
}

pub(super) struct Work<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) medium: &'a Medium,
    pub(super) options: &'a Options,
    pub(super) run: Run<'a>,
    workers: u32,
    keep_parts_from: Option<u64>,
    /// Held by whoever makes a large delta.
    pub(super) large_delta: Mutex<()>,
}

impl Work<'_> {
    fn carry(&self, step: &LayerStep) -> Result<ExportedLayer> {
        self.run.check()?;
        let (mut delta, mut elsewhere) = (None, Vec::new());
        let (encoding, size, read_from) = match &step.verdict {
            Verdict::Present(layer, encoding) => (encoding.clone(), layer.size, None),
            Verdict::Finished(encoding, size) => (encoding.clone(), *size, None),
            Verdict::Copy(pick) => {
                let (encoding, size) = self.reported(pick, |item| self.copy(step, pick, item, None))?;
                (encoding, size, Some(&pick.blob))
            }
            Verdict::Recompress(pick) => {
                let zstd = self.options.compression.unwrap_or_default();
                let (encoding, size) = self.reported(pick, |item| self.recompress(step, pick, item, zstd))?;
                (encoding, size, Some(&pick.blob))
            }
            Verdict::Delta(wanted) => {
                let (encoding, size, made) =
                    self.reported(&wanted.pick, |item| self.delta(step, wanted, item))?;
                delta = made;
                (encoding, size, Some(&wanted.pick.blob))
            }
            Verdict::DeltaThere(layer, there) => {
                delta = Some(there.clone());
                (there.result(layer.size), layer.size, None)
            }
            Verdict::LeftOut(base) => {
                let none = || Error::not_found(Side::Source, "a blob of a layer that is to be left out");
                let listed = step.listed.first().ok_or_else(none)?;
                elsewhere = base.blobs.clone();
                (listed.as_oci_layer(), base.size.unwrap_or(0), None)
            }
        };
        let mut originals: Vec<Descriptor> = step.listed.clone();
        originals.sort_by_key(|listed| Some(listed) != read_from);
        Ok(ExportedLayer { diff_id: step.diff_id, size, originals, encoding, delta, elsewhere })
    }

    fn reported<T>(&self, pick: &Pick, work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        let item = format!("{} {}", pick.blob.digest.short(), pick.image);
        self.run.report(Event::Started { item: &item, bytes: pick.blob.size });
        let result = work(&item);
        self.run.report(Event::Finished { item: &item });
        result
    }

    /// Whether the original is written to the medium as it is read, so that a run that is cut off goes on.
    pub(super) fn keeps_part(&self, pick: &Pick) -> bool {
        self.keep_parts_from.is_some_and(|least| pick.blob.size >= least)
    }

    /// Decodes a layer and encodes it anew; carries the original where that is not smaller.
    pub(super) fn recompress(
        &self,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        zstd: Zstd,
    ) -> Result<(Descriptor, u64)> {
        let smaller = if self.keeps_part(pick) {
            self.recompress_keeping(step, pick, item, zstd)?
        } else {
            let original = source::open(self.source, &pick.image, &pick.blob)?;
            self.recompress_from(original, step, pick, item, zstd)?
        };
        match smaller {
            Some(layer) => Ok(layer),
            None => self.copy(step, pick, item, Some(zstd)),
        }
    }

    /// Writes the original beside what it becomes, and goes on where an earlier run was cut off.
    fn recompress_keeping(
        &self,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        zstd: Zstd,
    ) -> Result<Option<(Descriptor, u64)>> {
        let mut part = self.medium.ingest_blob(&pick.blob)?;
        let resumed = part.left_over()? > 0;
        let attempt = |part: &mut Ingest<'_>| {
            let through = StagedRead::new(self.source, pick, part);
            let original = Verified::new(through, &pick.blob, Side::Source);
            self.recompress_from(original, step, pick, item, zstd)
        };
        let mut result = attempt(&mut part);
        if resumed && result.as_ref().is_err_and(Error::is_damage) {
            part.restart()?;
            result = attempt(&mut part);
        }
        // An original that is carried after all is copied from the part, without fetching it again.
        if !matches!(&result, Ok(None) | Err(_)) || result.as_ref().is_err_and(Error::is_damage) {
            part.discard()?;
        }
        result
    }

    /// `None` where the recompressed layer is not smaller.
    pub(super) fn recompress_from(
        &self,
        original: impl Read,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        zstd: Zstd,
    ) -> Result<Option<(Descriptor, u64)>> {
        let mut ingest = self.medium.ingest_layer(&step.diff_id)?;
        let mut original = Watched::new(original, item, self.run);
        let decoded = layer::recompress(&mut original, &mut ingest, zstd, self.workers)
            .map_err(|error| self.blame(error, &mut original, pick))?;
        self.require_diff_id(step, pick, &decoded)?;
        if ingest.offset() >= pick.blob.size && decoded.compression != Compression::Zstd {
            ingest.discard()?;
            return Ok(None);
        }
        let note = Some((step.diff_id, zstd.level, zstd.window));
        let (digest, size) = ingest.commit(None, note)?;
        let media_type = Compression::Zstd.oci_layer_type().into();
        Ok(Some((Descriptor { media_type, digest, size }, decoded.size)))
    }

    /// Carries a layer as it is, going on where an earlier run was cut off; decodes it on the way.
    pub(super) fn copy(
        &self,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        tried: Option<Zstd>,
    ) -> Result<(Descriptor, u64)> {
        let ingest = self.medium.ingest_blob(&pick.blob)?;
        let resumed = ingest.left_over()? > 0;
        match self.copy_from(ingest, step, pick, item, tried) {
            Err(error) if resumed && error.is_damage() => {
                // What was left of the earlier run may itself be damaged: once more, from the start.
                let mut ingest = self.medium.ingest_blob(&pick.blob)?;
                ingest.restart()?;
                self.copy_from(ingest, step, pick, item, tried)
            }
            other => other,
        }
    }

    fn copy_from(
        &self,
        mut ingest: Ingest<'_>,
        step: &LayerStep,
        pick: &Pick,
        item: &str,
        tried: Option<Zstd>,
    ) -> Result<(Descriptor, u64)> {
        let through = StagedRead::new(self.source, pick, &mut ingest);
        let mut original = Watched::new(Verified::new(through, &pick.blob, Side::Source), item, self.run);
        let decoded = layer::check(&mut original, Most::Ratio)
            .map_err(|error| self.blame(error, &mut original, pick))?;
        drop(original);
        self.require_diff_id(step, pick, &decoded)?;
        let (level, window) = tried.map_or((0, 0), |zstd| (zstd.level, zstd.window));
        ingest.commit(Some(&pick.blob), Some((step.diff_id, level, window)))?;
        let media_type = decoded.compression.oci_layer_type().into();
        Ok((Descriptor { media_type, ..pick.blob.clone() }, decoded.size))
    }

    /// A stream that does not decode: is the source lying about the blob, or is the blob no layer?
    pub(super) fn blame(&self, error: io::Error, original: &mut impl Read, pick: &Pick) -> Error {
        let what = format!("{}: layer {} of {}", self.source.name(), pick.blob.digest, pick.image);
        match Error::from_io(Side::Source, "read", what.clone().into(), error) {
            Error::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::Other
                ) =>
            {
                let rest = io::copy(original, &mut io::sink());
                match rest.map_err(|error| Error::from_io(Side::Source, "read", what.clone().into(), error)) {
                    Err(proof) if proof.is_damage() => proof,
                    _ => Error::invalid(Side::Source, what, format!("does not decode: {source}")),
                }
            }
            other => other,
        }
    }

    pub(super) fn require_diff_id(&self, step: &LayerStep, pick: &Pick, decoded: &Decoded) -> Result<()> {
        if decoded.diff_id == step.diff_id {
            return Ok(());
        }
        let what =
            format!("{}: layer {} of {}, uncompressed,", self.source.name(), pick.blob.digest, pick.image);
        Err(Error::DigestMismatch {
            side: Side::Source,
            what,
            expected: step.diff_id,
            found: decoded.diff_id,
        })
    }
}

/// Yields a blob: first what an earlier run left of it on the medium, then the rest from where it comes
/// from, which goes onto the medium as it passes.
pub(super) struct StagedRead<'a, 'm> {
    open: Box<dyn Fn(u64) -> Result<Box<dyn Read + Send>> + 'a>,
    size: u64,
    ingest: &'a mut Ingest<'m>,
    from: Option<Box<dyn Read + Send>>,
}

impl<'a, 'm> StagedRead<'a, 'm> {
    /// The blob `pick` of `source`.
    pub(super) fn new(source: &'a dyn Source, pick: &'a Pick, ingest: &'a mut Ingest<'m>) -> Self {
        let open = |offset| source.open_unverified(&pick.image, &pick.blob, offset);
        Self::opened_by(open, pick.blob.size, ingest)
    }

    /// A blob of `size` bytes that `open` opens at an offset.
    pub(super) fn opened_by(
        open: impl Fn(u64) -> Result<Box<dyn Read + Send>> + 'a,
        size: u64,
        ingest: &'a mut Ingest<'m>,
    ) -> Self {
        Self { open: Box::new(open), size, ingest, from: None }
    }
}

impl Read for StagedRead<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = match &mut self.from {
            Some(from) => from,
            None => {
                let n = self.ingest.read_left_over(buffer)?;
                if n > 0 {
                    return Ok(n);
                }
                let offset = self.ingest.offset();
                if offset == self.size {
                    return Ok(0);
                }
                self.from.insert((self.open)(offset)?)
            }
        };
        let n = from.read(buffer)?;
        self.ingest.write_all(&buffer[..n])?;
        Ok(n)
    }
}
