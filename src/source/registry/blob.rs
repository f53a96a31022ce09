//! Reading a blob across cuts, stalls and restarts of the connection.

use std::io::{self, Read};
use std::sync::Arc;

use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::Inner;
use super::endpoint::{Ask, Need};
use super::retry::{Again, Attempts, Failure};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Reference};

/// A connection that brought this many bytes was worth it: failures are counted anew.
const PROGRESS: u64 = 64 << 10;
/// How much is thrown away at a time where a server cannot start in the middle.
const SKIP: usize = 64 << 10;

/// The bytes of a blob, unverified, from an offset on.
///
/// After a cut it goes on where it was, by `Range`. There is no `If-Range`: the name of a blob is
/// its digest, so two validators mean two servers, not two contents, and would only cost a restart.
/// A server without ranges sends everything again, and what was delivered before is thrown away.
pub(super) struct RegistryBlob {
    registry: Arc<Inner>,
    image: Reference,
    blob: Descriptor,
    position: u64,
    body: Option<Body>,
    attempts: Attempts,
    since_failure: u64,
}

struct Body {
    response: Response,
    host: String,
    /// Bytes that were delivered before and come again.
    skip: u64,
}

impl RegistryBlob {
    /// Opens the blob at `offset`; fails when the registry does not have it.
    pub(super) fn open(
        registry: Arc<Inner>,
        image: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Self> {
        let attempts = Attempts::new(registry.policy.clone());
        let mut reader = Self {
            registry,
            image: image.clone(),
            blob: blob.clone(),
            position: offset,
            body: None,
            attempts,
            since_failure: 0,
        };
        if offset < blob.size || blob.size == 0 {
            reader.connect()?;
        }
        Ok(reader)
    }

    fn connect(&mut self) -> Result<()> {
        loop {
            match self.request() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(failure) => self.attempts.wait(failure)?,
            }
        }
    }

    fn request(&self) -> Result<Body, Failure> {
        let mut headers = HeaderMap::new();
        if self.position > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.position))
        {
            headers.insert(RANGE, range);
        }
        let ask = Ask {
            method: Method::GET,
            repository: self.image.path(),
            path: format!("blobs/{}", self.blob.digest),
            headers,
        };
        self.registry.attempt(self.image.registry(), Need::Pull, |endpoint| {
            let response = endpoint.send(&self.registry.credentials, &ask)?;
            let start = self.check(&response)?;
            Ok(Body { response, host: endpoint.name().to_owned(), skip: self.position - start })
        })
    }

    /// Where the answer starts; an error when it cannot be the blob.
    fn check(&self, response: &Response) -> Result<u64, Failure> {
        let (start, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                range.and_then(content_range).ok_or_else(|| self.invalid("a range that cannot be read"))?
            }
            _ => (0, response.content_length()),
        };
        if start > self.position {
            return Err(self.invalid("another range than was asked for"));
        }
        match total {
            Some(found) if found != self.blob.size => Err(Failure::last(Error::SizeMismatch {
                side: Side::Source,
                what: format!("blob {} of {}", self.blob.digest, self.image),
                expected: self.blob.size,
                found,
            })),
            _ => Ok(start),
        }
    }

    fn invalid(&self, reason: &str) -> Failure {
        let what = format!("blob {} of {}", self.blob.digest, self.image);
        Failure::last(Error::invalid(Side::Source, what, format!("the registry answered with {reason}")))
    }

    /// One read from the connection that is open; `None` when it is over.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let mut scratch = [0; SKIP];
        while body.skip > 0 {
            let most = SKIP.min(usize::try_from(body.skip).unwrap_or(SKIP));
            match body.response.read(&mut scratch[..most])? {
                0 => return Ok(None),
                n => body.skip -= n as u64,
            }
        }
        Ok(Some(body.response.read(buffer)?).filter(|n| *n > 0))
    }
}

impl Read for RegistryBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.registry.policy.stop.check()?;
            if self.body.is_none() {
                if self.position >= self.blob.size {
                    return Ok(0);
                }
                self.connect()?;
            }
            let failed = match self.receive(buffer) {
                Ok(Some(n)) => {
                    self.position += n as u64;
                    self.since_failure += n as u64;
                    return Ok(n);
                }
                Ok(None) if self.position >= self.blob.size => {
                    self.body = None;
                    return Ok(0);
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if self.since_failure >= PROGRESS {
                self.attempts.progressed();
            }
            self.since_failure = 0;
            let host = self.body.take().map(|body| body.host).unwrap_or_default();
            self.attempts.wait(self.cut(host, failed))?;
        }
    }
}

impl RegistryBlob {
    fn cut(&self, host: String, error: Option<io::Error>) -> Failure {
        let (digest, size, position) = (self.blob.digest, self.blob.size, self.position);
        let stalled = error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        let how = if stalled { "stalled" } else { "was cut" };
        let source = format!("the connection {how} at byte {position} of {size} of blob {digest}");
        let error = Error::Unreachable { side: Side::Source, address: host, source: source.into() };
        Failure { error, again: Again::Soon }
    }
}

/// The start and the whole size in `bytes 5-9/10` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "items 5-9/10", "bytes 5-9", "bytes -9/10", "bytes 5-9/x"] {
            assert_eq!(content_range(bad), None, "{bad:?}");
        }
    }
}
