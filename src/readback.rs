//! Reads blobs back from the medium and hashes them.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::Descriptor;
use crate::medium::{DRIVE_CACHE, Medium};
use crate::progress::{Event, Phase, Run};
use crate::record::Level;

/// Files that are read at a time, at most.
const MAX_AT_ONCE: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// How often a blob is read that the medium fails to read, in all.
const ATTEMPTS: usize = 3;

/// What reading everything back came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is proven of the blobs that are whole.
    pub level: Level,
    /// Why it is not more: a sentence.
    pub limit: Option<&'static str>,
}

impl Outcome {
    /// An error unless at least `required` is proven.
    pub fn require(&self, required: Option<Level>) -> Result<()> {
        match required.filter(|required| *required > self.level) {
            None => Ok(()),
            Some(required) => {
                let reason = self.limit.unwrap_or("its blobs come to less than 1 GiB").to_owned();
                Err(Error::Unproven { reached: self.level, required, reason })
            }
        }
    }
}

/// What is wrong with a blob.
#[derive(Debug)]
pub enum Fault {
    /// It is missing or wrong, or cannot be read.
    Damaged(Error),
    /// It is right, but the medium failed to read it at first: that error.
    Weak(Error),
}

/// Reads every one of `blobs` and hands what is wrong to `found`.
///
/// Where the system allows it the bytes come from the medium and not from the page cache; the outcome says whether they did. Only an
/// interruption is an error; all blobs are read whatever is found.
pub fn each_damaged(
    medium: &Medium,
    blobs: &[Descriptor],
    run: Run<'_>,
    found: impl Fn(&Descriptor, Fault) + Sync,
) -> Result<Outcome> {
    let bytes = blobs.iter().map(|blob| blob.size).sum();
    run.report(Event::Phase { phase: Phase::Verifying, bytes, items: blobs.len() });
    let (reading, cached) = (medium.prepare_reading(), AtomicBool::new(false));
    let queue: Mutex<VecDeque<&Descriptor>> = Mutex::new(blobs.iter().collect());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores.clamp(1, MAX_AT_ONCE) {
            scope.spawn(|| {
                let mut buffer = vec![0; CHUNK];
                while let Some(blob) = next() {
                    if run.stop.requested() {
                        break;
                    }
                    if let Some(fault) = examine(medium, blob, &mut buffer, &cached, run) {
                        found(blob, fault);
                    }
                }
            });
        }
    });
    run.report(Event::PhaseEnded { phase: Phase::Verifying });
    run.check()?;
    let reading = if cached.into_inner() { reading.from_memory() } else { reading };
    Ok(Outcome { level: reading.level, limit: reading.limit })
}

/// The same; blobs at the start are read once more at the end, so that 1 GiB of others was read before each
/// was read last ([`Level::Drive`]), if there is as much.
pub fn each_damaged_past_drive(
    medium: &Medium,
    blobs: &[Descriptor],
    run: Run<'_>,
    found: impl Fn(&Descriptor, Fault) + Sync,
) -> Result<Outcome> {
    let total: u64 = blobs.iter().map(|blob| blob.size).sum();
    let largest = blobs.iter().map(|blob| blob.size).max().unwrap_or(0);
    if total - largest < DRIVE_CACHE {
        return each_damaged(medium, blobs, run, found);
    }
    let mut before = 0;
    let first = blobs.iter().take_while(|blob| {
        let again = before < DRIVE_CACHE;
        before += blob.size;
        again
    });
    let order: Vec<Descriptor> = blobs.iter().chain(first).cloned().collect();
    let mut outcome = each_damaged(medium, &order, run, found)?;
    if outcome.level == Level::Device {
        outcome.level = Level::Drive;
    }
    Ok(outcome)
}

/// An error if any of `blobs` is not what was written, or cannot be read; a warning for each further one.
pub fn require(medium: &Medium, blobs: &[Descriptor], run: Run<'_>) -> Result<Outcome> {
    require_at(medium, blobs, None, run)
}

/// The same; with the error as well that less is proven than `required`.
pub fn require_at(
    medium: &Medium,
    blobs: &[Descriptor],
    required: Option<Level>,
    run: Run<'_>,
) -> Result<Outcome> {
    let found = Mutex::new(Vec::new());
    let note = |_: &Descriptor, fault| match fault {
        Fault::Damaged(error) => {
            found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(error);
        }
        Fault::Weak(error) => {
            let text = format!("{}; it was read at a further attempt", error.with_cause());
            run.report(Event::Warning(&text));
        }
    };
    let outcome = match required {
        Some(Level::Drive | Level::Replugged) => each_damaged_past_drive(medium, blobs, run, note)?,
        _ => each_damaged(medium, blobs, run, note)?,
    };
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wrong = |error: &Error| {
        error.is_damage() || matches!(error, Error::NotFound { .. } | Error::BlobMissing { .. })
    };
    let damaged = found.iter().filter(|error| wrong(error)).count();
    // Wrong bytes say more than none at all.
    let Some(worst) = found.iter().position(wrong).or(if found.is_empty() { None } else { Some(0) }) else {
        outcome.require(required)?;
        return Ok(outcome);
    };
    let first = found.swap_remove(worst);
    for further in found {
        run.report(Event::Warning(&further.with_cause()));
    }
    Err(if damaged > 0 {
        Error::NotKept { damaged, total: blobs.len(), first: Box::new(first) }
    } else {
        first
    })
}

/// Reads a blob, again if the medium fails to: a sector that wears out is often read at a further attempt.
fn examine(
    medium: &Medium,
    blob: &Descriptor,
    buffer: &mut [u8],
    cached: &AtomicBool,
    run: Run<'_>,
) -> Option<Fault> {
    let (mut first, mut reported) = (None, 0);
    for _ in 0..ATTEMPTS {
        match read(medium, blob, buffer, cached, &mut reported, run) {
            Ok(()) => return first.map(Fault::Weak),
            Err(error @ Error::Io { .. }) if !error.is_filesystem_damage() => {
                first.get_or_insert(error);
            }
            Err(error) => return Some(Fault::Damaged(error)),
        }
    }
    first.map(Fault::Damaged)
}

/// Reads a blob once; progress is reported beyond the first `reported` bytes.
fn read(
    medium: &Medium,
    blob: &Descriptor,
    buffer: &mut [u8],
    cached: &AtomicBool,
    reported: &mut u64,
    run: Run<'_>,
) -> Result<()> {
    let item = blob.digest.short();
    let (file, is_cached) = medium.open_from_device(blob)?;
    cached.fetch_or(is_cached, Ordering::Relaxed);
    let mut reader = Verified::new(file, blob, Side::Medium);
    let mut offset = 0;
    loop {
        run.check()?;
        let n = match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|source| {
                Error::from_io(Side::Medium, "read", medium.blob_path(&blob.digest), source)
            })?,
        };
        if n == 0 {
            return Ok(());
        }
        offset += n as u64;
        if offset > *reported {
            run.report(Event::Advanced { item: &item, bytes: offset - *reported });
            *reported = offset;
        }
    }
}
