//! Manifests and indexes: what a tag names now, and the bytes of a digest.

use std::io::Read;
use std::sync::{Arc, PoisonError};

use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use super::Inner;
use super::endpoint::{Ask, Endpoint, Need};
use super::retry::{Again, Failure};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Document, MAX_MANIFEST, MediaKind, Reference, kind};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Everything that is understood: a registry gives what it has only to those who accept it.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// The same in one line: there are servers that look at the first line only.
const ACCEPT_ALL: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The header that asks for manifests and indexes.
pub(super) fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPT_ALL))])
}

impl Inner {
    /// Asks for what `image` names: its digest, where it has one, whatever the tag beside it names.
    pub(super) fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        let (need, name) = match (image.tag(), image.digest()) {
            (_, Some(digest)) => (Need::Pull, digest.to_string()),
            (Some(tag), None) => (Need::Resolve, tag.to_owned()),
            (None, None) => (Need::Resolve, "latest".to_owned()),
        };
        self.fetch(image, need, &name)
    }

    /// The digest that the tag of `image` names; `None` where there is no such tag.
    ///
    /// By `HEAD`, which costs nothing of a rate limit, where the registry tells the digest in its answer.
    pub(super) fn tagged(&self, image: &Reference) -> Result<Option<Digest>> {
        let tag = image.tag().unwrap_or("latest");
        let path = format!("manifests/{tag}");
        let ask = Ask { method: Method::HEAD, repository: image.path(), path, headers: accept() };
        let told = self.run(image.registry(), Need::Resolve, |endpoint| {
            Ok(header(&endpoint.send(&self.credentials, &ask)?, CONTENT_DIGEST))
        });
        let found = match told {
            Ok(told) => match told.parse() {
                Ok(digest) => Ok(digest),
                Err(_) => self.fetch(image, Need::Resolve, tag).map(|descriptor| descriptor.digest),
            },
            Err(error) => Err(error),
        };
        match found {
            Ok(digest) => Ok(Some(digest)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of the manifest or index with this digest.
    pub(super) fn document(&self, image: &Reference, digest: Digest) -> Result<Arc<[u8]>> {
        let known =
            |digest| self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(bytes) = known(digest) {
            return Ok(bytes);
        }
        let fetched = self.fetch(image, Need::Pull, &digest.to_string())?;
        known(fetched.digest).ok_or_else(|| Error::not_found(Side::Source, digest))
    }

    /// Whether the repository has this tag. Costs less than asking for it: Docker Hub's rate limit
    /// does not count `HEAD`. Registries refuse a tag that is not there to those who may not list what is.
    pub(super) fn has_tag(&self, image: &Reference, tag: &str) -> Result<bool> {
        let path = format!("manifests/{tag}");
        let ask = Ask { method: Method::HEAD, repository: image.path(), path, headers: accept() };
        self.run(image.registry(), Need::Pull, |endpoint| {
            let response = endpoint.send_for_any(&self.credentials, &ask)?;
            match response.status() {
                status if status.is_success() => Ok(true),
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(false),
                _ => Err(endpoint.refused(&ask, response)),
            }
        })
    }

    /// Fetches a manifest or index by tag or digest, checks it, and keeps its bytes.
    pub(super) fn fetch(&self, image: &Reference, need: Need, name: &str) -> Result<Descriptor> {
        let ask = Ask {
            method: Method::GET,
            repository: image.path(),
            path: format!("manifests/{name}"),
            headers: accept(),
        };
        let (descriptor, bytes) = self.run(image.registry(), need, |endpoint| {
            let response = endpoint.send(&self.credentials, &ask)?;
            let (media_type, announced) =
                (header(&response, CONTENT_TYPE), header(&response, CONTENT_DIGEST));
            let what = format!("{}/{} of {}", image.path(), ask.path, endpoint.name());
            let bytes = body(endpoint, &what, response)?;
            let media_type = check(&what, &media_type, &bytes)?;
            let descriptor = Descriptor::of(&media_type, &bytes);
            // What was asked for by digest must be it; what a registry says of itself, too.
            for expected in [name.parse::<Digest>(), announced.parse()].into_iter().flatten() {
                if expected != descriptor.digest {
                    let (side, found) = (Side::Source, descriptor.digest);
                    return Err(Error::DigestMismatch { side, what, expected, found }.into());
                }
            }
            Ok((descriptor, bytes))
        })?;
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(descriptor.digest, bytes.into());
        Ok(descriptor)
    }
}

fn header(response: &Response, name: HeaderName) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// The whole body of an answer, which must not be larger than a manifest may be.
pub(super) fn body(endpoint: &Endpoint, what: &str, response: Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    response.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(|_| Failure {
        error: Error::Unreachable {
            side: Side::Source,
            address: endpoint.name().to_owned(),
            source: "the connection was cut or stalled within a manifest".into(),
        },
        again: Again::Soon,
    })?;
    if bytes.len() as u64 > MAX_MANIFEST {
        let reason = format!("larger than the {MAX_MANIFEST} bytes that a manifest may have");
        return Err(Error::invalid(Side::Source, what, reason).into());
    }
    Ok(bytes)
}

/// The media type of a document that can be carried; a reason when it cannot.
fn check(what: &str, media_type: &str, bytes: &[u8]) -> Result<String, Error> {
    let refuse = |reason: String| Error::invalid(Side::Source, what, reason);
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media_type.contains("distribution.manifest.v1+") {
        return Err(refuse(
            "a Docker schema 1 manifest, which containerd does not run either; push the image again \
             with a current tool"
                .into(),
        ));
    }
    let media_type = match media_type.as_str() {
        known if matches!(kind(known), MediaKind::Index | MediaKind::Manifest) => known.to_owned(),
        // From a file server, or a registry that does not care: the document says itself what it is.
        other => match own_type(bytes) {
            Some(own) => own,
            None if other == "text/html" => {
                return Err(refuse(
                    "a web page and no manifest; is this a registry, or does a proxy want a login?".into(),
                ));
            }
            None => {
                let typed = if other.is_empty() { "without a type" } else { other };
                return Err(refuse(format!(
                    "neither a manifest nor an index, by its media type ({typed:.100}) or its content"
                )));
            }
        },
    };
    Document::parse(&media_type, bytes).map_err(refuse)?;
    Ok(media_type)
}

fn own_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    match typed.media_type {
        Some(own) => matches!(kind(&own), MediaKind::Index | MediaKind::Manifest).then_some(own),
        None => ACCEPTED[..2].iter().find(|t| Document::parse(t, bytes).is_ok()).map(|t| (*t).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

    fn reason(media_type: &str, bytes: &[u8]) -> String {
        check("x", media_type, bytes).unwrap_err().to_string()
    }

    #[test]
    fn the_media_type_is_the_servers_or_the_documents() {
        assert_eq!(check("x", ACCEPTED[0], INDEX).unwrap(), ACCEPTED[0]);
        assert_eq!(check("x", &format!("{}; charset=utf-8", ACCEPTED[0]), INDEX).unwrap(), ACCEPTED[0]);
        assert_eq!(check("x", "application/json", INDEX).unwrap(), ACCEPTED[0]);
        for store in ["binary/octet-stream", "application/x-octet-stream", "text/json", "application/xml"] {
            assert_eq!(check("x", store, INDEX).unwrap(), ACCEPTED[0], "{store}");
        }
        assert_eq!(check("x", &ACCEPTED[0].to_uppercase(), INDEX).unwrap(), ACCEPTED[0]);
        assert_eq!(accept()[ACCEPT], ACCEPTED.join(", "));
        let docker = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, ACCEPTED[2]);
        assert_eq!(check("x", "", docker.as_bytes()).unwrap(), ACCEPTED[2]);
    }

    #[test]
    fn what_is_no_manifest_says_what_it_is() {
        let v1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(reason(v1, br#"{"fsLayers":[]}"#).contains("schema 1"));
        assert!(reason("application/json", br#"{"schemaVersion":1,"fsLayers":[]}"#).contains("neither"));
        assert!(reason("text/html", b"<html>").contains("web page"));
        assert!(reason("application/vnd.x", b"{}").contains("application/vnd.x"));
        assert!(reason(ACCEPTED[1], INDEX).contains("manifests"));
    }
}
