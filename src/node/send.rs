//! Sending one blob, from where an earlier attempt stopped.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::PREFIX;
use super::rebuild::disproved;
use crate::containerd::{Client, Committed, ContentIngest, Opened, Resource};
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Hasher};
use crate::layer::{self, Meter, Most, Scratch, scratch_directory};
use crate::limits::BLOB;
use crate::medium::Medium;
use crate::plan::import::Send;
use crate::progress::{Event, Run};
use crate::record::Delta;

/// Bytes in one message: faster than less, and no slower than more (measured on 1.6 and 2.x).
const CHUNK: usize = 1 << 20;
/// How often a blob is begun in all, when containerd held other bytes under its name.
const ATTEMPTS: usize = 2;
/// How long containerd may take to close a stream that has ended.
const CLOSING: Duration = Duration::from_secs(5);
/// How long another client may write the same blob without getting on, in times of the patience
/// with containerd.
const STALLED: u32 = 2;

/// Sends a blob, from the medium or as it was `rebuilt` with a delta, and labels it; returns how many bytes went over
/// the socket.
///
/// What containerd has of it already is compared by its hash, and thrown away if it differs. The bytes
/// of the medium are hashed as they are sent; containerd hashes all of them before they become visible.
pub(super) fn send(
    client: &Client,
    medium: &Medium,
    send: &Send,
    rebuilt: Option<(&Scratch, &Delta)>,
    labels: &HashMap<String, String>,
    run: Run<'_>,
) -> Result<u64> {
    let blob = &send.blob;
    let usual = format!("{PREFIX}{}", blob.digest);
    let mut reference = usual.clone();
    let mut attempts = 0;
    let mut other = OtherWriter::default();
    loop {
        run.check()?;
        let ingest = match client.open_ingest(&reference, blob)? {
            Opened::Ingest(ingest) => ingest,
            Opened::Present => return keep(client, blob, labels).map(|()| 0),
            Opened::Locked => {
                if other.gets_on(client, &reference, blob, run)? {
                    continue;
                }
                // A containerd that fails to note a new ingest, since the disk below its database is full, keeps
                // the lock that it took for it until it is restarted (seen on 1.6.20 and 1.7.24). Another name
                // has a lock of its own.
                if other.offset.is_none() && reference == usual {
                    reference = format!("{usual}-{}", crate::unique::id());
                    other = OtherWriter::default();
                    continue;
                }
                return Err(Error::Refused {
                    side: Side::Node,
                    action: format!("writing blob {}", blob.digest),
                    reason: format!("another client holds ingest {reference} and writes nothing to it"),
                });
            }
        };
        let reader: Box<dyn Read + '_> = match (&send.bytes, rebuilt) {
            (Some(bytes), _) => Box::new(Verified::new(bytes.as_slice(), blob, Side::Medium)),
            (None, Some((tar, _))) => {
                // In a file that only we can reach; containerd hashes it.
                Box::new(tar.reader().map_err(Error::io(Side::Node, "read", scratch_directory()))?)
            }
            (None, None) => Box::new(medium.open_blob(blob)?),
        };
        let fuse = send.tar.filter(|_| rebuilt.is_none()).map(|tar| RatioGuard {
            medium,
            blob,
            tar,
            run,
            meter: Meter::new(tar),
        });
        match stream(ingest, reader, blob, labels, fuse, run) {
            Ok(Some((sent, Committed::New))) => return Ok(sent),
            Ok(Some((sent, Committed::Present))) => return keep(client, blob, labels).map(|()| sent),
            Ok(None | Some((_, Committed::Mismatch))) => {
                abort(client, &reference)?;
                other = OtherWriter::default();
                if let Some((tar, delta)) = rebuilt {
                    let found = tar.digest().map_err(Error::io(Side::Node, "read", scratch_directory()))?;
                    if found != blob.digest {
                        return Err(disproved(delta, found));
                    }
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(Error::Refused {
                        side: Side::Node,
                        action: format!("writing blob {}", blob.digest),
                        reason: "what containerd has of it is not what was sent, each time".into(),
                    });
                }
            }
            Err(error) => {
                // Nothing of a damaged blob stays; after any other failure the next run goes on here.
                // That it is damaged is what the person has to know, whatever becomes of the rest.
                if error.is_damage() {
                    let _ = abort(client, &reference);
                }
                return Err(error);
            }
        }
    }
}

/// Throws an ingest away. Our own stream has ended by then, but containerd may still be closing it,
/// and a file that it writes meanwhile makes the removal fail: that is tried again.
pub(super) fn abort(client: &Client, reference: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match client.abort(reference) {
            Err(Error::Refused { .. }) if begun.elapsed() < CLOSING => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Sends from where the ingest stands. `None` when what is there is not the beginning of the blob.
fn stream(
    mut ingest: Box<ContentIngest>,
    mut reader: Box<dyn Read + '_>,
    blob: &Descriptor,
    labels: &HashMap<String, String>,
    mut fuse: Option<RatioGuard<'_>>,
    run: Run<'_>,
) -> Result<Option<(u64, Committed)>> {
    let fail = |error| Error::from_io(Side::Medium, "read", blob.digest.to_string().into(), error);
    let (item, start) = (blob.digest.to_string(), ingest.offset());
    if start > blob.size {
        return Ok(None);
    }
    if start == blob.size && ingest.digest() == Some(blob.digest) {
        // Complete, or there already in another namespace: nothing to read.
        run.report(Event::Skipped { item: &item, bytes: start });
        return Ok(Some((0, ingest.commit(labels.clone())?)));
    }
    // One byte more than a small blob: the end is met as it is filled.
    let mut buffer = vec![0; blob.size.saturating_add(1).min(CHUNK as u64) as usize];
    let mut hasher = Hasher::default();
    while hasher.count() < start {
        run.check()?;
        let most = CHUNK.min((start - hasher.count()) as usize);
        match reader.read(&mut buffer[..most]).map_err(fail)? {
            0 => return Ok(None),
            n => {
                hasher.update(&buffer[..n]);
                RatioGuard::pass(&mut fuse, &buffer[..n])?;
            }
        }
    }
    if ingest.digest() != Some(hasher.finish()) {
        return Ok(None);
    }
    if start > 0 {
        run.report(Event::Skipped { item: &item, bytes: start });
    }
    loop {
        run.check()?;
        let n = fill(&mut *reader, &mut buffer).map_err(fail)?;
        if n == 0 {
            break;
        }
        RatioGuard::pass(&mut fuse, &buffer[..n])?;
        if !ingest.write(buffer[..n].to_vec())? {
            return Ok(None);
        }
        run.report(Event::Advanced { item: &item, bytes: n as u64 });
    }
    let sent = ingest.offset() - start;
    Ok(Some((sent, ingest.commit(labels.clone())?)))
}

/// Keeps a decompression bomb from containerd, which would unpack all of it.
struct RatioGuard<'a> {
    medium: &'a Medium,
    blob: &'a Descriptor,
    tar: u64,
    run: Run<'a>,
    meter: Meter,
}

impl RatioGuard<'_> {
    /// Lets the next bytes pass. What might be more than the record says is decoded, once, before it goes on:
    /// an error unless it is no longer than that.
    fn pass(fuse: &mut Option<Self>, bytes: &[u8]) -> Result<()> {
        match fuse.as_mut().map(|fuse| fuse.meter.take(bytes)) {
            None | Some(true) => Ok(()),
            Some(false) => fuse.take().map_or(Ok(()), |fuse| fuse.decode()),
        }
    }

    fn decode(&self) -> Result<()> {
        let (mut found, expected) = (0, self.tar);
        let what = || format!("the content of layer {}", self.blob.digest);
        let count = |bytes: &[u8]| {
            self.run.check()?;
            found += bytes.len() as u64;
            if found > expected {
                return Err(Error::SizeMismatch { side: Side::Medium, what: what(), expected, found }.into());
            }
            Ok(())
        };
        let decoded = layer::decode(self.medium.open_blob(self.blob)?, Most::Bytes(BLOB), count);
        match decoded.map_err(io::Error::downcast::<Error>) {
            Ok(_) => Ok(()),
            Err(Ok(own)) => Err(own),
            Err(Err(error)) => {
                Err(Error::invalid(Side::Medium, what(), format!("it does not decode: {error}")))
            }
        }
    }
}

/// Reads until the buffer is full or the end is reached, which proves the bytes.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A blob that somebody else committed: neither labelled nor held by our lease so far.
fn keep(client: &Client, blob: &Descriptor, labels: &HashMap<String, String>) -> Result<()> {
    client.hold_here(&Resource::blob(blob.digest))?;
    client.label_blob(blob.digest, labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// How far another client is with an ingest that it holds open.
struct OtherWriter {
    /// What was there of it when it was last looked for.
    offset: Option<u64>,
    since: Instant,
}

impl Default for OtherWriter {
    fn default() -> Self {
        Self { offset: None, since: Instant::now() }
    }
}

impl OtherWriter {
    /// Waits while the other gets on, without opening the ingest: each try to open a locked one
    /// holds containerd's database for half a second (1.6, 1.7). Returns when it may be free, after
    /// two seconds at most; false when it is time to give up.
    fn gets_on(&mut self, client: &Client, reference: &str, blob: &Descriptor, run: Run<'_>) -> Result<bool> {
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(250));
            run.check()?;
            let offset = client.partial(reference)?;
            if offset != self.offset {
                *self = Self { offset, ..Self::default() };
            }
            if client.blob(blob.digest)?.is_some() {
                return Ok(true);
            }
            // It may be free.
            if offset.is_none() {
                break;
            }
        }
        // One that is locked and not there is just being opened or closed.
        let most = if self.offset.is_some() { STALLED * client.patience() } else { CLOSING };
        Ok(self.since.elapsed() < most)
    }
}
