//! Sending one blob: in chunks, going on where it was cut.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Work;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Reference};
use crate::progress::Event;
use crate::source::registry::{Began, Session};

/// Bytes of a chunk: what is lost at most where a connection is cut.
const CHUNK: u64 = 4 << 20;
/// The first wait before another try, and the longest.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// How a try to send a blob ended.
enum Tried {
    Done,
    /// The registry has given the upload up.
    Lost,
}

impl Work<'_> {
    /// Sends a blob to the repository of `target`, unless it is there or can be had from another one.
    pub(super) fn blob(&self, blob: &Descriptor, target: &Reference) -> Result<()> {
        let item = blob.digest.short();
        let (here, elsewhere) = self.place(&blob.digest, target.repository());
        if here {
            return Ok(());
        }
        if self.registry.has_blob(target, blob.digest)? {
            self.found(blob.digest, target.repository());
            self.run.report(Event::Skipped { item: &item, bytes: blob.size });
            return Ok(());
        }
        let from = elsewhere.and_then(|name| name.split_once('/').map(|(_, path)| path.to_owned()));
        self.run.report(Event::Started { item: &item, bytes: blob.size });
        self.upload(blob, target, from.as_deref(), &item)?;
        self.found(blob.digest, target.repository());
        self.run.report(Event::Finished { item: &item });
        Ok(())
    }

    fn upload(&self, blob: &Descriptor, target: &Reference, from: Option<&str>, item: &str) -> Result<()> {
        let noted = self.sessions.find(target, blob);
        let mut session = match noted {
            Some(location) => self.registry.resume(target, &location)?,
            None => None,
        };
        let (mut failed, mut lost, mut best) = (0, 0, 0);
        loop {
            let open = match session.take().filter(|session| session.offset <= blob.size) {
                Some(open) => open,
                None => match self.registry.begin(target, blob.digest, from)? {
                    Began::Mounted => {
                        self.mounted.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    Began::Open(open) => open,
                },
            };
            let mut place = open;
            let error = match self.send(blob, target, &mut place, item) {
                Ok(Tried::Done) => {
                    self.sessions.forget(target, blob);
                    self.blobs.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(Tried::Lost) => {
                    self.sessions.forget(target, blob);
                    lost += 1;
                    if lost > self.retries {
                        return Err(self.given_up(target));
                    }
                    // Some registries tell after a chunk that failed how much of it they have; others begin anew.
                    session =
                        self.registry.resume(target, place.location())?.filter(|found| found.offset > 0);
                    continue;
                }
                Err(error @ Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            if place.offset > best {
                (best, failed) = (place.offset, 0);
            }
            if failed >= self.retries {
                return Err(error);
            }
            self.wait(failed)?;
            failed += 1;
            session = self.registry.resume(target, place.location())?;
        }
    }

    /// Sends from where the session is to the end, and ends it. `session` is where it got to.
    fn send(
        &self,
        blob: &Descriptor,
        target: &Reference,
        session: &mut Session,
        item: &str,
    ) -> Result<Tried> {
        let damaged =
            |source| Error::from_io(Side::Medium, "read", self.medium.blob_path(&blob.digest), source);
        let mut reader = self.medium.open_blob(blob)?;
        // What is there is read again, so that the whole is proven before its last chunk is sent.
        let skipped = std::io::copy(&mut (&mut reader).take(session.offset), &mut std::io::sink());
        skipped.map_err(damaged)?;
        while session.offset < blob.size {
            self.run.check()?;
            let length = CHUNK.min(blob.size - session.offset);
            let mut chunk = vec![0; length as usize];
            reader.read_exact(&mut chunk).map_err(damaged)?;
            if session.offset + length == blob.size {
                // The end of the stream is where it is proven.
                reader.read(&mut [0]).map_err(damaged)?;
            }
            self.sessions.note(target, blob, session.location());
            self.sent.fetch_add(length, Ordering::Relaxed);
            let next = self.registry.send(target, session, Bytes::from(chunk))?;
            let Some(next) = next else { return Ok(Tried::Lost) };
            if next.offset != session.offset + length {
                // It has another part of the chunk than all of it: what it has is asked, and sent from there.
                *session = next;
                return Ok(Tried::Lost);
            }
            self.run.report(Event::Advanced { item, bytes: length });
            *session = next;
        }
        if blob.size == 0 {
            reader.read(&mut [0]).map_err(damaged)?;
        }
        match self.registry.finish(target, session, blob.digest)? {
            true => Ok(Tried::Done),
            false => Ok(Tried::Lost),
        }
    }

    fn wait(&self, failed: u32) -> Result<()> {
        let pause = WAITS[0].saturating_mul(1 << failed.min(10)).min(WAITS[1]);
        let end = Instant::now() + pause;
        while Instant::now() < end {
            self.run.check()?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn given_up(&self, target: &Reference) -> Error {
        Error::Refused {
            side: Side::Registry,
            action: format!("an upload to {}", target.repository()),
            reason: "the registry gives it up again and again".into(),
        }
    }
}
