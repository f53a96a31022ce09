//! From a request to its answer: read, log in, look up, open.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Builder;
use hyper::{Request, Response, StatusCode};

use super::super::answer::{Answer, Code, Refusal, answer};
use super::super::page;
use super::super::proof::Proven;
use super::super::range::{Asked, Part};
use super::super::request::{self, Wanted};
use super::body::{Log, Outgoing};
use super::{Access, Shared};
use crate::content;
use crate::error::Error;
use crate::image::{Descriptor, Digest, MAX_MANIFEST};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// Longest text of a client that is logged, in characters.
const MAX_LOGGED: usize = 300;

/// What goes out: a head, and where its body comes from.
struct Reply {
    head: Builder,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    Proven(Box<Proven>, u64),
    /// For `HEAD`: the length that a body would have.
    None(u64),
}

/// Answers one request.
pub(super) async fn respond(
    shared: Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let shorten = |text: &str| text.chars().take(MAX_LOGGED).collect::<String>();
    let agent = text(request.headers(), header::USER_AGENT).unwrap_or_default();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let access = Access {
        peer,
        user: None,
        method: shorten(request.method().as_str()),
        target: shorten(target),
        status: 0,
        sent: 0,
        took: Default::default(),
        agent: shorten(agent),
        cut: None,
    };
    let mut log = Log::new(shared.clone(), access);
    // A body that nobody reads would be taken for the next request by whoever counts differently.
    let close = !request.body().is_end_stream();
    let reply = match decide(&shared, &request, &mut log).await {
        Ok(reply) => reply,
        Err(refusal) => refuse(&refusal),
    };
    let (mut head, content) = (reply.head, reply.content);
    if close {
        head = head.header(header::CONNECTION, "close");
    }
    // A head that HTTP cannot carry is none of ours; should there be one, it is no answer.
    let mut response = head.body(()).unwrap_or_else(|_| {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    log.status(response.status().as_u16());
    let length = match &content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Proven(_, length) | Content::None(length) => *length,
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    let nothing = request.method() == hyper::Method::HEAD;
    response.map(|()| match content {
        Content::Bytes(bytes) if !nothing => Outgoing::bytes(bytes, log),
        Content::Proven(proven, length) if !nothing => Outgoing::proven(*proven, length, log),
        _ => Outgoing::bytes(Bytes::new(), log),
    })
}

async fn decide(shared: &Arc<Shared>, request: &Request<Incoming>, log: &mut Log) -> Result<Reply, Refusal> {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    // `If-Range` with another validator than the digest asks for everything (RFC 9110, section 13.1.5).
    let same = text(request.headers(), header::IF_RANGE)
        .is_none_or(|tag| target.contains(tag.trim_matches('"')) && tag.len() > 2);
    let range = text(request.headers(), header::RANGE).filter(|_| same);
    let asked = request::parse(request.method().as_str(), target, range);
    let is_health = matches!(&asked, Ok(request) if request.wanted == Wanted::Health);
    if !is_health {
        let user = admit(shared, request.headers()).await?;
        log.user(user);
    }
    let asked = asked?;
    let shared = shared.clone();
    // Everything from here on may wait for a medium or a containerd.
    let looked_up = tokio::task::spawn_blocking(move || look_up(&shared, &asked));
    looked_up
        .await
        .unwrap_or_else(|_| Err(Refusal::new(500, Code::Unknown, "the request could not be answered")))
}

/// Who asks, where logins are wanted.
async fn admit(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    if shared.logins.is_none() {
        return Ok(None);
    }
    let denied = || Refusal::new(401, Code::Unauthorized, "a user and a password are wanted");
    let login = text(headers, header::AUTHORIZATION).ok_or_else(denied)?.to_owned();
    if let Some(user) = shared.logins.as_ref().and_then(|logins| logins.known(&login)) {
        return Ok(Some(user));
    }
    let permit = shared.checks.acquire().await;
    let checking = shared.clone();
    let checked =
        tokio::task::spawn_blocking(move || checking.logins.as_ref().and_then(|logins| logins.check(&login)));
    let user = checked.await.ok().flatten();
    drop(permit);
    user.map(Some).ok_or_else(denied)
}

fn look_up(shared: &Shared, request: &request::Request) -> Result<Reply, Refusal> {
    let shelf = shared.stock.shelf().map_err(|error| trouble(&error))?;
    let head = request.head;
    match answer(&shelf, request)? {
        Answer::Ping => Ok(plain("application/json", "{}")),
        Answer::Health => Ok(plain("text/plain; charset=utf-8", "ok\n")),
        Answer::Metrics => Ok(plain("text/plain; version=0.0.4", shared.metrics.text())),
        Answer::Page => {
            let overview = shared.stock.overview().map_err(|error| trouble(&error))?;
            let reply = plain("text/html; charset=utf-8", page::html(&overview));
            Ok(Reply { head: reply.head.header(header::CONTENT_SECURITY_POLICY, POLICY), ..reply })
        }
        Answer::Listing { media_type, body, next, filtered } => {
            let Reply { mut head, content } = plain(media_type, body);
            if let Some(next) = next {
                head = head.header(header::LINK, format!("<{next}>; rel=\"next\""));
            }
            if filtered {
                head = head.header(FILTERS, "artifactType");
            }
            Ok(Reply { head, content })
        }
        Answer::Content { digest, manifest, range } => {
            let unknown = |reason: Option<&str>| {
                let code = if manifest { Code::ManifestUnknown } else { Code::BlobUnknown };
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                Refusal::new(404, code, format!("{digest} is not here{reason}"))
            };
            let found = match shared.stock.find(&digest, manifest) {
                Ok(Some(found)) if !manifest || !found.media_type.is_empty() => found,
                Ok(_) => return Err(unknown(shelf.why_absent(&digest))),
                Err(Error::NotFound { .. }) => {
                    return Err(unknown(Some("it is listed, but its file is gone")));
                }
                Err(error) => return Err(trouble(&error)),
            };
            if manifest { document(shared, &found, head) } else { blob(shared, &found, range, head) }
        }
    }
}

/// A manifest or an index: read and proven before the first byte is sent.
fn document(shared: &Shared, found: &Descriptor, head_only: bool) -> Result<Reply, Refusal> {
    let head =
        described(StatusCode::OK, found.digest).header(header::CONTENT_TYPE, found.media_type.as_str());
    if head_only {
        return Ok(Reply { head, content: Content::None(found.size) });
    }
    let bytes = shared
        .stock
        .open(found, 0)
        .and_then(|reader| content::read_all(reader, found, shared.stock.side(), MAX_MANIFEST))
        .map_err(|error| damage(shared, &error))?;
    Ok(Reply { head, content: Content::Bytes(bytes.into()) })
}

fn blob(shared: &Shared, found: &Descriptor, range: Asked, head_only: bool) -> Result<Reply, Refusal> {
    const TYPE: &str = "application/octet-stream";
    let size = found.size;
    // A range is for GET alone (RFC 9110, section 14.2).
    let part = if head_only { Part::All } else { range.of(size) };
    let head = |status| {
        described(status, found.digest)
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::CONTENT_TYPE, TYPE)
    };
    let (head, part) = match part {
        Part::All => (head(StatusCode::OK), 0..size),
        Part::Some(from, to) => {
            let range = format!("bytes {from}-{}/{size}", to - 1);
            (head(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range), from..to)
        }
        Part::Outside => {
            let message = format!("the blob has {size} bytes");
            let Reply { head, content } = refuse(&Refusal::new(416, Code::Unsupported, message));
            return Ok(Reply {
                head: head.header(header::CONTENT_RANGE, format!("bytes */{size}")),
                content,
            });
        }
    };
    let length = part.end - part.start;
    if head_only {
        return Ok(Reply { head, content: Content::None(length) });
    }
    let proven = Proven::open(&shared.proofs, found, part, shared.stock.side(), |offset| {
        shared.stock.open(found, offset)
    });
    let proven = proven.map_err(|error| damage(shared, &error))?;
    Ok(Reply { head, content: Content::Proven(Box::new(proven), length) })
}

fn described(status: StatusCode, digest: Digest) -> Builder {
    let digest = digest.to_string();
    base(status).header(header::ETAG, format!("\"{digest}\"")).header(CONTENT_DIGEST, digest)
}

fn base(status: StatusCode) -> Builder {
    Response::builder()
        .status(status)
        .header(API_VERSION, "registry/2.0")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn plain(media_type: &str, body: impl Into<Bytes>) -> Reply {
    let head = base(StatusCode::OK).header(header::CONTENT_TYPE, media_type);
    Reply { head, content: Content::Bytes(body.into()) }
}

fn refuse(refusal: &Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = base(status).header(header::CONTENT_TYPE, "application/json");
    match status {
        StatusCode::UNAUTHORIZED => {
            head = head.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"pannier\""));
        }
        StatusCode::METHOD_NOT_ALLOWED => head = head.header(header::ALLOW, "GET, HEAD"),
        _ => {}
    }
    Reply { head, content: Content::Bytes(refusal.body().into()) }
}

/// An error of the medium or the containerd, as the client is told of it: containerd then asks the next host.
fn trouble(error: &Error) -> Refusal {
    let status = if matches!(error, Error::NotFound { .. }) { 404 } else { 503 };
    Refusal::new(status, Code::Unknown, error.to_string())
}

fn damage(shared: &Shared, error: &Error) -> Refusal {
    if error.is_damage() {
        shared.metrics.damaged();
    }
    trouble(error)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
