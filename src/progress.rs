//! Progress: what happens, told to whoever wants to know; and when to stop.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A stage of the work, in the order a person sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Names are resolved, manifests and configs read.
    Resolving,
    /// Blobs go to the medium.
    Carrying,
    /// Written data is brought to the device.
    Syncing,
    /// Blobs are read back and hashed.
    Verifying,
    /// Parity is made of the blobs.
    Protecting,
    /// Damaged blobs are made again from parity.
    Recovering,
    /// Layers are decoded, to be compared with their diff_ids.
    Decoding,
    /// Blobs go into containerd.
    Sending,
    /// containerd unpacks layers.
    Unpacking,
}

/// How the items of [`Phase::Unpacking`] begin: the same layer is sent and unpacked.
pub const UNPACK_ITEM: &str = "unpack ";

impl Phase {
    /// Whether `item` is worked on in this stage: sending and unpacking go on at the same time.
    pub fn takes(self, item: &str) -> bool {
        (self == Self::Unpacking) == item.starts_with(UNPACK_ITEM)
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins; `bytes` and `items` are what it will come to.
    Phase {
        /// Which stage.
        phase: Phase,
        /// Bytes to be read or sent in it.
        bytes: u64,
        /// Blobs or images it works on.
        items: usize,
    },
    /// Work on one blob or image begins.
    Started {
        /// The same text is given with every event about it.
        item: &'a str,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Some more of it is done.
    Advanced {
        /// The item.
        item: &'a str,
        /// Bytes since the last event about it.
        bytes: u64,
    },
    /// It is done.
    Finished {
        /// The item.
        item: &'a str,
    },
    /// It needs no work, since it is there.
    Skipped {
        /// The item.
        item: &'a str,
        /// Bytes that were not moved.
        bytes: u64,
    },
    /// The stage is over.
    PhaseEnded {
        /// Which stage.
        phase: Phase,
    },
    /// Something a person should know, though the work goes on.
    Warning(&'a str),
}

/// Told of everything that happens. Called from several threads at a time.
pub trait Reporter: Sync {
    /// Takes one event; must return quickly.
    fn report(&self, event: Event<'_>);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Event<'_>) {}
}

/// A request to stop at the next safe point; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// The flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    /// Whether someone asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error when someone asked.
    pub fn check(&self) -> Result<()> {
        if self.requested() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What every long operation is given: where to report, and when to stop.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Told of what happens.
    pub reporter: &'a dyn Reporter,
    /// Checked between chunks.
    pub stop: &'a Stop,
}

impl Run<'_> {
    /// Reports one event.
    pub fn report(&self, event: Event<'_>) {
        self.reporter.report(event);
    }

    /// An error when someone asked to stop.
    pub fn check(&self) -> Result<()> {
        self.stop.check()
    }
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("stop", self.stop).finish_non_exhaustive()
    }
}

/// Reports what is read through it, and ends the reading when someone asks to stop.
#[derive(Debug)]
pub struct Watched<'a, R> {
    inner: Stoppable<'a, R>,
    item: &'a str,
}

impl<'a, R: Read> Watched<'a, R> {
    /// Reads from `inner`, which is reported as `item`.
    pub fn new(inner: R, item: &'a str, run: Run<'a>) -> Self {
        Self { inner: Stoppable(inner, run), item }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.inner.1.report(Event::Advanced { item: self.item, bytes: n as u64 });
        Ok(n)
    }
}

/// Ends the reading when someone asks to stop.
#[derive(Debug)]
pub struct Stoppable<'a, R>(pub R, pub Run<'a>);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.read(buffer)
    }
}
