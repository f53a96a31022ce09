//! Pushing: blobs in chunks that go on where they were cut, mounts, manifests (OCI distribution-spec, Push).

use std::time::Duration;

use bytes::Bytes;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::endpoint::{Ask, Endpoint, Need, Upload};
use super::manifest::accept;
use super::retry::{Again, Failure};
use super::{Inner, Registry};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Reference};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The slowest link that an upload is meant for, in bytes a second: a chunk may take as long as this makes it.
const SLOWEST: u64 = 32 << 10;

/// An upload that a registry has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where it goes on; the registry gives a new one with each answer.
    url: Url,
    /// Bytes that the registry has.
    pub offset: u64,
}

impl Session {
    /// Its place, to go on in another run.
    pub fn location(&self) -> &str {
        self.url.as_str()
    }
}

/// What came of asking for an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Began {
    /// The registry has taken the blob from another repository: there is nothing to send.
    Mounted,
    /// The bytes are to be sent.
    Open(Session),
}

/// What came of writing a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whether the registry has noted which manifest it refers to: it has the referrers API.
    pub subject_noted: bool,
}

impl Registry {
    /// The digest that a tag points at; `None` where there is no such tag.
    pub fn tag(&self, image: &Reference) -> Result<Option<Digest>> {
        let Some(tag) = image.tag() else { return Ok(None) };
        self.head(image, format!("manifests/{tag}"), accept()).map(|found| found.flatten())
    }

    /// Whether the repository of `image` has this manifest.
    pub fn has_manifest(&self, image: &Reference, digest: Digest) -> Result<bool> {
        Ok(self.head(image, format!("manifests/{digest}"), accept())?.is_some())
    }

    /// Whether the repository of `image` has this blob.
    pub fn has_blob(&self, image: &Reference, digest: Digest) -> Result<bool> {
        Ok(self.head(image, format!("blobs/{digest}"), HeaderMap::new())?.is_some())
    }

    /// `None` for what is not there; else the digest that the registry tells, if it tells one.
    fn head(&self, image: &Reference, path: String, headers: HeaderMap) -> Result<Option<Option<Digest>>> {
        let ask = Ask { method: Method::HEAD, repository: image.path(), path, headers };
        let inner = &self.inner;
        let answer =
            inner.run(image.registry(), Need::Resolve, |endpoint| endpoint.send(&inner.credentials, &ask));
        match answer {
            Ok(response) => Ok(Some(text(&response, CONTENT_DIGEST).and_then(|digest| digest.parse().ok()))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins the upload of a blob, or has the registry take it from the repository `from`.
    pub fn begin(&self, image: &Reference, digest: Digest, from: Option<&str>) -> Result<Began> {
        let mount = from.map(|from| format!("?mount={digest}&from={from}")).unwrap_or_default();
        let path = format!("blobs/uploads/{mount}");
        self.inner.to(image, |endpoint| {
            let response = self.inner.write(
                endpoint,
                image,
                Method::POST,
                endpoint.url(image.path(), &path)?,
                HeaderMap::new(),
                Bytes::new(),
            )?;
            match response.status() {
                StatusCode::CREATED => Ok(Began::Mounted),
                StatusCode::ACCEPTED => {
                    Ok(Began::Open(Session { url: location(endpoint, &response)?, offset: 0 }))
                }
                _ => Err(endpoint.refused(&asked(image, &path), response)),
            }
        })
    }

    /// Goes on with an upload of an earlier run; `None` where the registry has given it up.
    pub fn resume(&self, image: &Reference, location: &str) -> Result<Option<Session>> {
        let Ok(url) = Url::parse(location) else { return Ok(None) };
        self.inner.to(image, |endpoint| self.inner.progress(endpoint, image, &url))
    }

    /// Sends the next bytes of an upload, once. After an error that may mend, [`Registry::resume`] tells what of them
    /// arrived.
    ///
    /// `Ok(None)`: the registry has given the upload up, or has another part of it than was thought.
    pub fn send(&self, image: &Reference, session: &Session, chunk: Bytes) -> Result<Option<Session>, Error> {
        let (from, length) = (session.offset, chunk.len() as u64);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Ok(range) = HeaderValue::try_from(format!("{from}-{}", (from + length).saturating_sub(1))) {
            headers.insert(CONTENT_RANGE, range);
        }
        let once = |endpoint: &Endpoint| {
            let url = session.url.clone();
            let response =
                self.inner.write(endpoint, image, Method::PATCH, url, headers.clone(), chunk.clone())?;
            match response.status() {
                StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                    let url = location(endpoint, &response)?;
                    Ok(Some(Session { url, offset: received(&response).unwrap_or(from + length) }))
                }
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
                _ => Err(endpoint.refused(&asked(image, "blobs/uploads/"), response)),
            }
        };
        self.inner.attempt(image.registry(), Need::Resolve, once).map_err(|failure| failure.error)
    }

    /// Ends an upload of which everything was sent; `false` where the registry has given it up.
    pub fn finish(&self, image: &Reference, session: &Session, digest: Digest) -> Result<bool> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let put = |endpoint: &Endpoint| {
            let response =
                self.inner.write(endpoint, image, Method::PUT, url.clone(), headers.clone(), Bytes::new())?;
            match response.status() {
                StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(endpoint.refused(&asked(image, "blobs/uploads/"), response)),
            }
        };
        self.inner.attempt(image.registry(), Need::Resolve, put).map_err(|failure| failure.error)
    }

    /// Writes a manifest or an index, under a tag or by its digest.
    pub fn put_manifest(
        &self,
        image: &Reference,
        name: &str,
        document: &Descriptor,
        bytes: &[u8],
    ) -> Result<Written> {
        let path = format!("manifests/{name}");
        let mut headers = HeaderMap::new();
        if let Ok(media_type) = HeaderValue::try_from(document.media_type.as_str()) {
            headers.insert(CONTENT_TYPE, media_type);
        }
        let body = Bytes::copy_from_slice(bytes);
        self.inner.to(image, |endpoint| {
            let url = endpoint.url(image.path(), &path)?;
            let response =
                self.inner.write(endpoint, image, Method::PUT, url, headers.clone(), body.clone())?;
            match response.status() {
                StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                    Ok(Written { subject_noted: response.headers().contains_key(SUBJECT) })
                }
                _ => Err(endpoint.refused(&asked(image, &path), response)),
            }
        })
    }

    /// The bytes of what a tag names; `None` where there is no such tag.
    pub fn read_tag(&self, image: &Reference, tag: &str) -> Result<Option<Vec<u8>>> {
        match self.inner.fetch(image, Need::Resolve, tag) {
            Ok(found) => self.inner.document(image, found.digest).map(|bytes| Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// Asks, and asks again where that can help.
    fn to<T>(&self, image: &Reference, ask: impl FnMut(&Endpoint) -> Result<T, Failure>) -> Result<T> {
        self.run(image.registry(), Need::Resolve, ask)
    }

    fn write(
        &self,
        endpoint: &Endpoint,
        image: &Reference,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let patience = self.options.stall + Duration::from_secs(body.len() as u64 / SLOWEST);
        let action = format!("pushing to {}", image.repository());
        let upload =
            Upload { method, repository: image.path(), url, headers, body, patience, action: &action };
        endpoint.upload(&self.credentials, &upload)
    }

    /// What the registry has of an upload.
    fn progress(
        &self,
        endpoint: &Endpoint,
        image: &Reference,
        url: &Url,
    ) -> Result<Option<Session>, Failure> {
        let response =
            self.write(endpoint, image, Method::GET, url.clone(), HeaderMap::new(), Bytes::new())?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let offset = received(&response).unwrap_or(0);
                // Without a new place, the old one goes on being right.
                let url = location(endpoint, &response).unwrap_or_else(|_| url.clone());
                Ok(Some(Session { url, offset }))
            }
            status if status.is_client_error() => Ok(None),
            _ => Err(endpoint.refused(&asked(image, "blobs/uploads/"), response)),
        }
    }
}

/// For messages only.
fn asked<'a>(image: &'a Reference, path: &str) -> Ask<'a> {
    Ask { method: Method::PUT, repository: image.path(), path: path.to_owned(), headers: HeaderMap::new() }
}

fn text(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Where the registry wants the next request of an upload.
fn location(endpoint: &Endpoint, response: &Response) -> Result<Url, Failure> {
    let found = text(response, LOCATION).and_then(|place| response.url().join(place).ok());
    found.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| Failure {
        error: Error::Refused {
            side: Side::Source,
            action: format!("an upload to {}", endpoint.name()),
            reason: "it does not say where the upload goes on".into(),
        },
        again: Again::Never,
    })
}

/// How many bytes the registry says it has: `Range: 0-99`, or `bytes=0-99`. `0-0` is what registries say of
/// none.
fn received(response: &Response) -> Option<u64> {
    parse_received(text(response, RANGE)?)
}

fn parse_received(range: &str) -> Option<u64> {
    let range = range.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    match range.split_once('-')? {
        ("0", "0" | "-1" | "") => Some(0),
        ("0", last) => last.parse::<u64>().ok()?.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read_as_registries_write_it() {
        for (text, expected) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("0--1", Some(0)),
            ("5-99", None),
            ("0-x", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(parse_received(text), expected, "{text}");
        }
    }
}
