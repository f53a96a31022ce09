//! Reads blobs back from the medium and hashes them.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Mutex;

use crate::error::{Error, Result, Side};
use crate::image::Descriptor;
use crate::medium::Medium;
use crate::progress::{Event, Phase, Run};

/// Files that are read at a time, at most.
const MAX_AT_ONCE: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Reads every one of `blobs` and hands each that is not what its descriptor says to `damaged`.
///
/// Where the system allows it the bytes come from the medium and not from the page cache. Only an
/// interruption is an error; all blobs are read whatever is found.
pub fn each_damaged(
    medium: &Medium,
    blobs: &[Descriptor],
    run: Run<'_>,
    damaged: impl Fn(&Descriptor, Error) + Sync,
) -> Result<()> {
    let bytes = blobs.iter().map(|blob| blob.size).sum();
    run.report(Event::Phase { phase: Phase::Verifying, bytes, items: blobs.len() });
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
                    if let Err(error) = read(medium, blob, &mut buffer, run) {
                        damaged(blob, error);
                    }
                }
            });
        }
    });
    run.report(Event::PhaseEnded { phase: Phase::Verifying });
    run.check()
}

/// An error for the first of `blobs` that is damaged, and a warning for each further one.
pub fn require(medium: &Medium, blobs: &[Descriptor], run: Run<'_>) -> Result<()> {
    let found = Mutex::new(Vec::new());
    each_damaged(medium, blobs, run, |_, error| {
        found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(error);
    })?;
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter();
    let Some(first) = found.next() else { return Ok(()) };
    for further in found {
        run.report(Event::Warning(&further.to_string()));
    }
    Err(first)
}

fn read(medium: &Medium, blob: &Descriptor, buffer: &mut [u8], run: Run<'_>) -> Result<()> {
    let item = blob.digest.short();
    let mut reader = medium.open_blob_uncached(blob)?;
    loop {
        run.check()?;
        let n = reader
            .read(buffer)
            .map_err(|source| Error::from_io(Side::Medium, "read", medium.blob_path(&blob.digest), source))?;
        if n == 0 {
            return Ok(());
        }
        run.report(Event::Advanced { item: &item, bytes: n as u64 });
    }
}
