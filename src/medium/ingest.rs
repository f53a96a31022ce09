//! Blobs on their way to the medium.
//!
//! A blob is written in `.pannier/ingest` and moved to `blobs/` when it is whole. What is left there
//! by a run that was cut off is used again by the next one, but only for what its bytes prove to be.
//!
//! Names: `<digest>` for a blob whose digest is known beforehand; `<diff_id>.0` while a layer is
//! recompressed; `.001` and so on behind that for further files of a blob that goes in parts. An empty file `<diff_id>.<digest>.<level>.<window>` notes which blob a layer was
//! encoded to, since the record that says so is written only at the end.

use std::io::{self, Write};

use super::writer::Writer;
use super::{Medium, blob_name, durable};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};

const DIRECTORY: &str = ".pannier/ingest";

/// A note that an earlier run finished a layer: which layer, how, and the blob it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finished {
    /// The layer.
    pub diff_id: Digest,
    /// The blob.
    pub digest: Digest,
    /// The zstd level that was asked for.
    pub level: u32,
    /// The base-2 logarithm of the window that was asked for.
    pub window: u32,
}

/// A blob that is being written. Dropped without [`Ingest::commit`], it stays for the next run.
#[derive(Debug)]
pub struct Ingest<'m> {
    medium: &'m Medium,
    writer: Writer<'m>,
}

impl Medium {
    /// Starts a blob whose digest is not known yet: the recompressed layer `diff_id`.
    pub fn ingest_layer(&self, diff_id: &Digest) -> Result<Ingest<'_>> {
        let name = format!("{DIRECTORY}/{}.0", diff_id.hex());
        let file = durable::create(&self.root, &name)?;
        Ok(Ingest { medium: self, writer: Writer::new(self, name, file, self.most_in_a_file()) })
    }

    /// Starts or goes on with the blob `blob`. What is there already has to be read first, with
    /// [`Ingest::read_left_over`].
    pub fn ingest_blob(&self, blob: &Descriptor) -> Result<Ingest<'_>> {
        let name = format!("{DIRECTORY}/{}", blob.digest.hex());
        let file = durable::reopen(&self.root, &name)?;
        let mut ingest =
            Ingest { medium: self, writer: Writer::new(self, name, file, self.most_in_a_file()) };
        if ingest.left_over()? > blob.size {
            ingest.restart()?;
        }
        Ok(ingest)
    }

    /// Writes a small blob whose bytes are at hand; nothing is done if they are there.
    ///
    /// True if it was written.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<bool> {
        let digest = Digest::of(bytes);
        self.place(&digest, bytes, &blob_name(&digest))
    }

    /// Writes `bytes` in the ingest area and gives them their name `to`, unless that has them; true if
    /// it had not.
    pub(super) fn place(&self, digest: &Digest, bytes: &[u8], to: &str) -> Result<bool> {
        let there = self.root.read(to, bytes.len() as u64);
        if matches!(there, Ok(Some(there)) if there == bytes) {
            return Ok(false);
        }
        let name = format!("{DIRECTORY}/{}", digest.hex());
        let mut file = durable::create(&self.root, &name)?;
        file.write_all(bytes).map_err(|source| self.root.error("write", &name, source))?;
        drop(file);
        durable::publish(&self.root, &name, to)?;
        Ok(true)
    }

    /// Notes that a layer was encoded to a blob. Called before the blob gets its final name, so that
    /// a finished blob is never there without its note.
    fn note(&self, finished: &Finished) -> Result<()> {
        durable::create(&self.root, &format!("{DIRECTORY}/{}", note_name(finished))).map(drop)
    }

    /// The notes that earlier runs left.
    pub fn finished(&self) -> Result<Vec<Finished>> {
        Ok(self.root.list(DIRECTORY)?.iter().filter_map(|name| parse_note(name)).collect())
    }

    /// Removes what is left in the ingest area: after a commit, everything of ours there is worthless. What has
    /// no name that we give stays.
    ///
    /// True if there was something.
    pub fn clear_ingest(&self) -> Result<bool> {
        let mut names = self.root.list(DIRECTORY)?;
        names.retain(|name| is_ours(name));
        for name in &names {
            durable::remove(&self.root, &format!("{DIRECTORY}/{name}"))?;
        }
        Ok(!names.is_empty())
    }

    /// Makes room on a medium that is full: removes the unfinished blobs. Notes of finished ones stay.
    pub fn clear_unfinished(&self) -> Result<()> {
        let names = self.root.list(DIRECTORY)?;
        for name in names.iter().filter(|name| parse_note(name).is_none()) {
            durable::remove(&self.root, &format!("{DIRECTORY}/{name}"))?;
        }
        Ok(())
    }

    /// Removes a blob that is known to be damaged or that nothing needs.
    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        durable::remove(&self.root, &blob_name(digest))?;
        self.remove_parts(digest, 0)
    }
}

impl Ingest<'_> {
    /// How many bytes an earlier run left.
    pub fn left_over(&self) -> Result<u64> {
        self.writer.left_over()
    }

    /// Reads the next of the bytes that an earlier run left; 0 at their end.
    ///
    /// To be read to that end before anything is written: the blob's digest covers them as they are.
    pub fn read_left_over(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.writer.read_there(buffer)
    }

    /// How many bytes are written, or read of what was there.
    pub fn offset(&self) -> u64 {
        self.writer.offset()
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<()> {
        self.writer.restart()
    }

    /// Gives the blob its final name and returns its digest and size.
    ///
    /// `expected` is the digest it must have; bytes that do not have it are thrown away, since going
    /// on from them could never succeed. `note` is written down with the digest first.
    pub fn commit(
        mut self,
        expected: Option<&Descriptor>,
        note: Option<(Digest, u32, u32)>,
    ) -> Result<(Digest, u64)> {
        let (digest, size) = self.writer.written();
        if let Some(expected) = expected.filter(|e| e.digest != digest || e.size != size) {
            let what = format!("blob {} on its way to the medium", expected.digest);
            let expected = expected.digest;
            self.discard()?;
            return Err(Error::DigestMismatch { side: Side::Source, what, expected, found: digest });
        }
        if let Some((diff_id, level, window)) = note {
            self.medium.note(&Finished { diff_id, digest, level, window })?;
        }
        self.writer.write_out();
        self.medium.publish_blob(&digest, &self.writer.close())?;
        Ok((digest, size))
    }

    /// Gives the blob up and removes it.
    pub fn discard(self) -> Result<()> {
        self.writer.names().iter().try_for_each(|name| durable::remove(&self.medium.root, name))
    }
}

impl Write for Ingest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether a name in the ingest area is one of those that Pannier gives.
fn is_ours(name: &str) -> bool {
    let digest = name.get(..64).is_some_and(|start| Digest::from_hex(start).is_ok());
    let rest = name.get(64..).unwrap_or_default();
    let suffix = rest.is_empty() || rest.bytes().all(|b| b == b'.' || b.is_ascii_hexdigit());
    // A file that is longer than one may be goes on as `<name>.001`.
    let numbered =
        name.rsplit_once('.').filter(|(_, n)| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()));
    let name = numbered.map_or(name, |(name, _)| name);
    (digest && suffix) || name == "index.json" || name.ends_with(".new") || name.ends_with(".old")
}

fn note_name(f: &Finished) -> String {
    format!("{}.{}.{}.{}", f.diff_id.hex(), f.digest.hex(), f.level, f.window)
}

fn parse_note(name: &str) -> Option<Finished> {
    let mut parts = name.split('.');
    let finished = Finished {
        diff_id: Digest::from_hex(parts.next()?).ok()?,
        digest: Digest::from_hex(parts.next()?).ok()?,
        level: parts.next()?.parse().ok()?,
        window: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(finished)
}
