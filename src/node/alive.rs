//! Whether an import runs, told by containerd: for as long as it does, it holds an ingest open that nobody writes to.
//!
//! A process id says nothing to whoever is in another PID namespace, such as the next pod. containerd closes the
//! ingest when the connection ends, however that came; its lock tells everybody.

use crate::containerd::{Client, ContentIngest, Opened};
use crate::error::Result;
use crate::image::{Descriptor, Digest};

/// The prefix of such ingests; the id of the lease follows.
pub(super) const PREFIX: &str = "pannier-alive-";

/// The sign that the import with this lease runs; gone when it is dropped, or its process.
#[derive(Debug)]
pub(super) struct Alive {
    lease: String,
    ingest: Option<Box<ContentIngest>>,
}

impl Alive {
    /// Gives the sign through `client`.
    pub(super) fn show(client: &Client, lease: &str) -> Result<Self> {
        let mut alive = Self { lease: lease.to_owned(), ingest: None };
        alive.keep_up(client)?;
        Ok(alive)
    }

    /// Gives it again where containerd was away meanwhile.
    pub(super) fn keep_up(&mut self, client: &Client) -> Result<()> {
        if self.ingest.as_ref().is_none_or(|ingest| ingest.is_closed())
            && let Opened::Ingest(ingest) = client.open_ingest(&reference(&self.lease), &sign(&self.lease))?
        {
            self.ingest = Some(ingest);
        }
        Ok(())
    }

    /// Takes it away.
    pub(super) fn end(mut self, client: &Client) -> Result<()> {
        self.ingest = None;
        forget(client, &self.lease)
    }
}

/// Whether the import with this lease runs; `None` where it never gave the sign.
pub(super) fn is_alive(client: &Client, lease: &str) -> Result<Option<bool>> {
    if client.partial(&reference(lease))?.is_none() {
        return Ok(None);
    }
    Ok(Some(matches!(client.open_ingest(&reference(lease), &sign(lease))?, Opened::Locked)))
}

/// Throws away what the sign leaves behind.
pub(super) fn forget(client: &Client, lease: &str) -> Result<()> {
    super::send::abort(client, &reference(lease))
}

fn reference(lease: &str) -> String {
    format!("{PREFIX}{lease}")
}

/// A blob that nobody has.
fn sign(lease: &str) -> Descriptor {
    Descriptor { media_type: Default::default(), digest: Digest::of(reference(lease).as_bytes()), size: 1 }
}
