//! What a client asks for, as a value: read from a method, a path, a query and a few headers.
//!
//! The paths are those of the OCI distribution specification. Nothing here reads a file or a clock, and no
//! part of a request becomes a path: a digest is decoded, a name is only ever looked up.

use super::answer::{Code, Refusal};
use super::name::{Name, is_tag};
use super::range::Asked as AskedRange;
use crate::image::Digest;

/// Longest path and query that are read, in bytes.
pub const MAX_TARGET: usize = 4096;
/// Most entries of one page of a listing.
pub const MAX_PAGE: usize = 10_000;

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether only the headers are wanted.
    pub head: bool,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `/v2/`: whether this is a registry.
    Ping,
    /// `/healthz`: whether it works.
    Health,
    /// `/metrics`.
    Metrics,
    /// `/`: the page for people.
    Page,
    /// A manifest or an index.
    Manifest {
        /// The repository.
        name: Name,
        /// Which one.
        reference: Reference,
    },
    /// A blob, or a part of it.
    Blob {
        /// The repository.
        name: Name,
        /// The blob.
        digest: Digest,
        /// The part.
        range: AskedRange,
    },
    /// What refers to a manifest.
    Referrers {
        /// The repository.
        name: Name,
        /// The manifest.
        digest: Digest,
        /// Only those of this type.
        artifact_type: Option<String>,
    },
    /// The tags of a repository.
    Tags {
        /// The repository.
        name: Name,
        /// The part of the list.
        page: Page,
    },
    /// All repositories.
    Catalog(Page),
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By a tag.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Most entries.
    pub n: Option<usize>,
    /// Only those after this one.
    pub last: Option<String>,
}

/// Reads a request. `target` is the path with the query, as it was sent; `range` is the `Range` header.
///
/// Errors: a [`Refusal`] with the status and the error code that the distribution specification has for it.
pub fn parse(method: &str, target: &str, range: Option<&str>) -> Result<Request, Refusal> {
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refusal::new(405, Code::Unsupported, "this registry is read-only: GET and HEAD")),
    };
    if target.len() > MAX_TARGET {
        return Err(Refusal::new(414, Code::Unsupported, "the path is longer than 4096 bytes"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(path, false).ok_or_else(|| not_found("the path cannot be read"))?;
    let query = Query::read(query).ok_or_else(|| not_found("the query cannot be read"))?;
    let wanted = match path.as_str() {
        "/" => Wanted::Page,
        "/healthz" => Wanted::Health,
        "/metrics" => Wanted::Metrics,
        "/v2" | "/v2/" => Wanted::Ping,
        "/v2/_catalog" => Wanted::Catalog(query.page()?),
        other => match other.strip_prefix("/v2/") {
            Some(rest) => below(rest, query, range)?,
            None => return Err(not_found("there is nothing here; the registry is below /v2/")),
        },
    };
    Ok(Request { head, wanted })
}

/// Reads what comes after `/v2/`: the name has slashes of its own, so it is read from the right.
fn below(path: &str, query: Query, range: Option<&str>) -> Result<Wanted, Refusal> {
    let unknown = || not_found("no such path; see the OCI distribution specification");
    let name = |text: &str| Name::new(query.ns.as_deref(), text);
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return Ok(Wanted::Tags { name: name(repository)?, page: query.page()? });
    }
    let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
    let (repository, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
    let name = name(repository)?;
    let digest = || {
        last.parse::<Digest>().map_err(|_| {
            Refusal::new(400, Code::DigestInvalid, "a digest is sha256: and 64 lower-case hex digits")
        })
    };
    match kind {
        "manifests" if last.contains(':') => {
            Ok(Wanted::Manifest { name, reference: Reference::Digest(digest()?) })
        }
        "manifests" if is_tag(last) => {
            Ok(Wanted::Manifest { name, reference: Reference::Tag(last.to_owned()) })
        }
        "manifests" => Err(Refusal::new(404, Code::ManifestUnknown, "this is neither a tag nor a digest")),
        "blobs" => Ok(Wanted::Blob { name, digest: digest()?, range: AskedRange::read(range) }),
        "referrers" => Ok(Wanted::Referrers { name, digest: digest()?, artifact_type: query.artifact_type }),
        _ => Err(unknown()),
    }
}

fn not_found(message: &str) -> Refusal {
    Refusal::new(404, Code::NameUnknown, message)
}

/// The parameters that are understood; others are passed over, as registries do.
#[derive(Default)]
struct Query {
    ns: Option<String>,
    n: Option<String>,
    last: Option<String>,
    artifact_type: Option<String>,
}

impl Query {
    /// `None` where a parameter cannot be decoded, or one that counts is there twice.
    fn read(text: &str) -> Option<Self> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match key {
                "ns" => &mut query.ns,
                "n" => &mut query.n,
                "last" => &mut query.last,
                "artifactType" => &mut query.artifact_type,
                _ => continue,
            };
            if place.replace(decode(value, true)?).is_some() {
                return None;
            }
        }
        Some(query)
    }

    fn page(self) -> Result<Page, Refusal> {
        let n = match self.n {
            None => None,
            Some(text) => Some(text.parse::<usize>().map(|n| n.min(MAX_PAGE)).map_err(|_| {
                Refusal::new(400, Code::PaginationNumberInvalid, "n is not a number of entries")
            })?),
        };
        Ok(Page { n, last: self.last })
    }
}

/// Decodes `%XX`, and `+` in a query. `None` for what is no text or has control characters.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if query => b' ',
            other => other,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Result<Wanted, u16> {
        parse("GET", target, None).map(|request| request.wanted).map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_paths_of_the_specification_are_read() {
        let digest = Digest::of(b"x");
        let name = |ns: Option<&str>, path: &str| Name::new(ns, path).unwrap();
        assert_eq!(get("/v2/").unwrap(), Wanted::Ping);
        assert_eq!(get("/").unwrap(), Wanted::Page);
        assert_eq!(
            get("/v2/library/nginx/manifests/1.27?ns=docker.io").unwrap(),
            Wanted::Manifest {
                name: name(Some("docker.io"), "library/nginx"),
                reference: Reference::Tag("1.27".into())
            }
        );
        // A repository may be called as a part of the path is.
        let by_digest =
            Wanted::Manifest { name: name(None, "a/blobs/manifests"), reference: Reference::Digest(digest) };
        assert_eq!(get(&format!("/v2/a/blobs/manifests/manifests/{digest}")).unwrap(), by_digest);
        let escaped = digest.to_string().replace(':', "%3A");
        assert_eq!(get(&format!("/v2/a/blobs/manifests/manifests/{escaped}")).unwrap(), by_digest);
        assert_eq!(
            get(&format!("/v2/a/referrers/{digest}?artifactType=application%2Fspdx%2Bjson&x=y")).unwrap(),
            Wanted::Referrers {
                name: name(None, "a"),
                digest,
                artifact_type: Some("application/spdx+json".into())
            }
        );
        assert_eq!(
            get("/v2/a/tags/list?n=5&last=b").unwrap(),
            Wanted::Tags { name: name(None, "a"), page: Page { n: Some(5), last: Some("b".into()) } }
        );
        assert!(parse("HEAD", "/v2/", None).unwrap().head);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_status() {
        let digest = Digest::of(b"x");
        for (target, status) in [
            ("/v2/a/blobs/sha256:00".to_owned(), 400),
            (format!("/v2/a/blobs/{}", digest.to_string().to_uppercase()), 400),
            ("/v2/a/blobs/..%2f..%2fetc%2fpasswd".to_owned(), 400),
            (format!("/v2/../../etc/blobs/{digest}"), 400),
            (format!("/v2/a//b/blobs/{digest}"), 400),
            (format!("/v2/A/blobs/{digest}"), 400),
            ("/v2/a/manifests/..".to_owned(), 404),
            ("/v2/a/manifests/".to_owned(), 404),
            ("/v2/a/manifests/%00".to_owned(), 404),
            ("/v2/a/manifests/%zz".to_owned(), 404),
            ("/v2/a/manifests/1?ns=a&ns=b".to_owned(), 404),
            ("/v2/a/manifests/1?ns=..".to_owned(), 400),
            ("/v2/a/tags/list?n=-1".to_owned(), 400),
            ("/v2/a/uploads/x".to_owned(), 404),
            ("/etc/passwd".to_owned(), 404),
            (format!("/v2/{}", "a".repeat(5000)), 414),
        ] {
            assert_eq!(get(&target), Err(status), "{target}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"] {
            assert_eq!(parse(method, "/v2/", None).unwrap_err().status, 405);
        }
    }
}
