//! A medium into a registry: only what is missing there, children before parents, tags last.
//!
//! | file | what is in it |
//! |---|---|
//! | [`plan`] | what goes where, as a value; pure |
//! | [`prepare`], [`carry_out`] | what the registry has already; sending the rest |
//! | `blob` | one blob, in chunks that go on where they were cut |
//! | `sessions` | where uploads go on in another run |
//! | `referrers` | signatures and SBOMs, after what they are about |

mod blob;
pub mod plan;
mod referrers;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MAX_MANIFEST, Reference};
use crate::progress::{Event, Phase, Run};
use crate::serve::documents::Documents;
use crate::source::registry::Registry;
use crate::trust::Admitted;
use plan::{Existing, Failed, Name, Planned, Target};
use sessions::Sessions;

/// Blobs that are sent at a time.
const AT_ONCE: usize = 3;

/// How a medium is pushed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub target: Target,
    /// Only these images; all of them where there is none.
    pub images: Vec<Reference>,
    /// What becomes of a tag that is there and points elsewhere.
    pub existing: Existing,
    /// Whether an image that cannot arrive under upstream's digest is an error.
    pub require_original: bool,
    /// Whether the others are pushed where one fails.
    pub keep_going: bool,
    /// How often what failed and may succeed later is tried again.
    pub retries: u32,
    /// Where unfinished uploads are noted; no error where it cannot be written.
    pub state: Option<PathBuf>,
}

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is written.
    New,
    /// It is there already, and points at the same.
    Same,
    /// It points elsewhere, and stays as it is.
    Kept,
    /// It points elsewhere, and is overwritten.
    Overwritten,
}

/// A planned image, and what the registry has under its names.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The image.
    pub image: Planned,
    /// What becomes of each of its names.
    pub fates: Vec<Fate>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Summary {
    /// The images that are in the registry now.
    pub images: usize,
    /// Names that were written.
    pub written: usize,
    /// Names that were there already.
    pub same: usize,
    /// Names that stayed as they were, and point elsewhere.
    pub kept: usize,
    /// Blobs that were sent.
    pub blobs: usize,
    /// Bytes of them, those that were sent again among them.
    pub sent: u64,
    /// Blobs that the registry took from another of its repositories.
    pub mounted: usize,
    /// Signatures, attestations and SBOMs that were sent.
    pub referrers: usize,
    /// The images that failed, and why.
    pub failed: Failed,
}

/// Plans the push of a medium, and asks the registry what its names point at. Nothing is sent.
///
/// Errors, before anything is sent: an image that is not complete (unless others are to be pushed all the same),
/// a tag that points elsewhere where that is to be an error.
pub fn prepare(
    medium: &Admitted,
    registry: &Registry,
    options: &Options,
    run: Run<'_>,
) -> Result<(Vec<Prepared>, Failed)> {
    let record = medium.committed()?;
    let mut documents = Documents::default();
    documents.note(record);
    for (digest, reason) in documents.read(record, |blob| medium.read_blob(blob, MAX_MANIFEST)) {
        run.report(Event::Warning(&format!("{digest} cannot be read: {reason}")));
    }
    let (planned, mut failed) = plan::plan(record, &documents, options)?;
    if let Some((_, error)) = failed.first()
        && !options.keep_going
    {
        return Err(plan::again(error));
    }
    let mut prepared = Vec::new();
    for image in planned {
        run.check()?;
        match fates(registry, &image, options) {
            Ok(fates) => prepared.push(Prepared { image, fates }),
            Err(error) if options.keep_going && !error.is_fatal() => {
                failed.push((image.title(), Arc::new(as_registry(error))));
            }
            Err(error) => return Err(as_registry(error)),
        }
    }
    Ok((prepared, failed))
}

fn fates(registry: &Registry, image: &Planned, options: &Options) -> Result<Vec<Fate>> {
    let mut fates = Vec::new();
    for name in &image.names {
        let there = match name.target.tag() {
            Some(_) => registry.tag(&name.target)?,
            None => registry.has_manifest(&name.target, image.root.digest)?.then_some(image.root.digest),
        };
        fates.push(plan::fate(name, there, image.root.digest, options.existing)?);
    }
    Ok(fates)
}

/// Sends what is missing, and writes the names.
pub fn carry_out(
    medium: &Admitted,
    registry: &Registry,
    prepared: &[Prepared],
    options: &Options,
    run: Run<'_>,
) -> Result<Summary> {
    let work = Work {
        medium,
        registry,
        run,
        retries: options.retries,
        sessions: Sessions::new(options.state.clone()),
        known: Mutex::default(),
        sent: AtomicU64::new(0),
        blobs: AtomicUsize::new(0),
        mounted: AtomicUsize::new(0),
    };
    let moving: BTreeMap<Digest, u64> = prepared
        .iter()
        .filter(|one| one.fates.iter().any(|fate| matches!(fate, Fate::New | Fate::Overwritten)))
        .flat_map(|one| &one.image.blobs)
        .map(|blob| (blob.digest, blob.size))
        .collect();
    let bytes = moving.values().sum();
    run.report(Event::Phase { phase: Phase::Sending, bytes, items: moving.len() });
    let mut summary = Summary::default();
    for one in prepared {
        run.check()?;
        match work.image(one, &mut summary).map_err(as_registry) {
            Ok(()) => summary.images += 1,
            Err(error) if options.keep_going && !error.is_fatal() => {
                summary.failed.push((one.image.title(), Arc::new(error)));
            }
            Err(error) => return Err(error),
        }
    }
    run.report(Event::PhaseEnded { phase: Phase::Sending });
    summary.blobs = work.blobs.into_inner();
    summary.sent = work.sent.into_inner();
    summary.mounted = work.mounted.into_inner();
    Ok(summary)
}

/// What all images of a push share.
struct Work<'a> {
    medium: &'a Admitted,
    registry: &'a Registry,
    run: Run<'a>,
    retries: u32,
    sessions: Sessions,
    /// The repositories in which each digest is known to be.
    known: Mutex<BTreeMap<Digest, BTreeSet<String>>>,
    sent: AtomicU64,
    blobs: AtomicUsize,
    mounted: AtomicUsize,
}

impl Work<'_> {
    fn image(&self, one: &Prepared, summary: &mut Summary) -> Result<()> {
        let image = &one.image;
        for (name, fate) in image.names.iter().zip(&one.fates) {
            match fate {
                Fate::Same => summary.same += 1,
                Fate::Kept => summary.kept += 1,
                Fate::New | Fate::Overwritten => {
                    self.name(image, name)?;
                    summary.written += 1;
                }
            }
        }
        let mut done = BTreeSet::new();
        for (name, fate) in image.names.iter().zip(&one.fates) {
            if *fate != Fate::Kept && done.insert(name.target.repository()) {
                summary.referrers += self.referrers(image, &name.target)?;
            }
        }
        Ok(())
    }

    fn name(&self, image: &Planned, name: &Name) -> Result<()> {
        let target = &name.target;
        if !self.registry.has_manifest(target, image.root.digest)? {
            self.blobs(&image.blobs, target)?;
            let children = image.documents.iter().filter(|document| document.digest != image.root.digest);
            children.into_iter().try_for_each(|child| self.document(child, target))?;
        }
        let text = target.tag().map_or_else(|| image.root.digest.to_string(), str::to_owned);
        let bytes = self.medium.read_blob(&image.root, MAX_MANIFEST)?;
        self.registry.put_manifest(target, &text, &image.root, &bytes).map(drop)
    }

    /// Writes a document by its digest, unless it is there.
    fn document(&self, document: &Descriptor, target: &Reference) -> Result<()> {
        self.run.check()?;
        if self.registry.has_manifest(target, document.digest)? {
            return Ok(());
        }
        let bytes = self.medium.read_blob(document, MAX_MANIFEST)?;
        self.registry.put_manifest(target, &document.digest.to_string(), document, &bytes).map(drop)
    }

    /// Sends the blobs that the repository lacks, several at a time.
    fn blobs(&self, blobs: &[Descriptor], target: &Reference) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(blobs.len()) {
                scope.spawn(|| {
                    while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.run.check().and_then(|()| self.blob(blob, target)) {
                            next.store(blobs.len(), Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Whether the blob is known to be in this repository, and one that it may be mounted from.
    fn place(&self, digest: &Digest, repository: &str) -> (bool, Option<String>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(places) = known.get(digest) else { return (false, None) };
        (places.contains(repository), places.first().cloned())
    }

    fn found(&self, digest: Digest, repository: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(digest).or_default().insert(repository.to_owned());
    }
}

/// The registry client says that its errors are the source's, which it is everywhere else.
fn as_registry(error: Error) -> Error {
    const SIDE: Side = Side::Registry;
    match error {
        Error::NotFound { side: Side::Source, what } => Error::NotFound { side: SIDE, what },
        Error::Invalid { side: Side::Source, what, reason } => Error::Invalid { side: SIDE, what, reason },
        Error::Refused { side: Side::Source, action, reason } => {
            Error::Refused { side: SIDE, action, reason }
        }
        Error::Unreachable { side: Side::Source, address, source } => {
            Error::Unreachable { side: SIDE, address, source }
        }
        other => other,
    }
}
