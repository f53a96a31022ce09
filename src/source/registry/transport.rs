//! One request and its redirects, with nothing secret sent to a host it is not meant for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Method, Url};

use super::failure;
use super::retry::{Failure, Notice};
use super::tls::{self, Trust};
use crate::error::{Error, Result, Side};

/// Most redirects that are followed for one request.
const MAX_REDIRECTS: usize = 10;

/// The way to one host, and to those it sends us to.
#[derive(Debug)]
pub(super) struct Transport {
    origin: Url,
    own: Client,
    others: Client,
    /// Headers for this host alone, from `hosts.toml`.
    headers: HeaderMap,
    /// Whether plain HTTP and unproved certificates were allowed for this host by name.
    insecure: bool,
    answered: AtomicBool,
    /// Told once of what the person should know.
    notice: Notice,
    downgraded: AtomicBool,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A blob: its digest proves it, whoever sends it.
    Blob,
    /// Anything else.
    Other,
}

impl Transport {
    /// Prepares connections to the host of `origin`.
    pub(super) fn new(
        origin: &Url,
        trust: &Trust,
        headers: HeaderMap,
        stall: Duration,
        notice: Notice,
    ) -> Result<Self> {
        let plain = origin.scheme() == "http";
        let own = tls::client(trust, plain, is_loopback(origin), stall)?;
        // A storage or token server beside an unproved registry is proved all the same.
        let elsewhere = Trust { anyone: false, identity: None, ca: trust.ca.clone() };
        let others = match tls::client(&elsewhere, false, is_loopback(origin), stall) {
            Ok(client) => client,
            // Without any root certificates, only plain HTTP can work.
            Err(_) if plain || trust.anyone => tls::client(&elsewhere, true, is_loopback(origin), stall)?,
            Err(error) => return Err(error),
        };
        Ok(Self {
            origin: origin.clone(),
            own,
            others,
            headers,
            insecure: plain || trust.anyone,
            answered: AtomicBool::new(false),
            notice,
            downgraded: AtomicBool::new(false),
        })
    }

    /// Whether a login or token may be sent to `url`: by TLS, or where this host itself has none.
    pub(super) fn may_hold_secrets(&self, url: &Url) -> bool {
        url.scheme() == "https" || self.insecure
    }

    /// Whether the host has given any answer yet.
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Sends a request to the host itself.
    pub(super) fn send(
        &self,
        method: &Method,
        url: Url,
        mut headers: HeaderMap,
    ) -> Result<Response, Failure> {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let secret: Vec<_> = self.headers.keys().cloned().collect();
        let kind = if is_blob(&url) { Kind::Blob } else { Kind::Other };
        self.follow(method, url, headers, &secret, None, kind)
    }

    /// Sends a request with a body, or one that must not be repeated elsewhere: no redirect is followed.
    ///
    /// A login goes along only to the host itself. `patience` is how long the answer may take, the sending of
    /// the body with it.
    pub(super) fn send_body(
        &self,
        method: &Method,
        url: Url,
        mut headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response, Failure> {
        let home = url.origin() == self.origin.origin();
        if home {
            headers.extend(self.headers.clone());
        } else {
            headers.remove(AUTHORIZATION);
        }
        if url.scheme() == "http" && !self.insecure {
            return Err(self.astray(&host_and_port(&url), "it wants an upload over plain http"));
        }
        let client = if home { &self.own } else { &self.others };
        let request = client.request(method.clone(), url.clone()).headers(headers).body(body);
        let answer = request.timeout(patience).send();
        let response = answer
            .map_err(|error| failure::unanswered(&host_and_port(&url), &url, self.answered(), error))?;
        if home {
            self.answered.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }

    /// Sends a request to a server that the host named for it, such as its token server.
    pub(super) fn send_elsewhere(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<Response, Failure> {
        self.follow(&method, url, headers, &[], body, Kind::Other)
    }

    /// Sends a request on to where an earlier one was redirected.
    pub(super) fn send_on(&self, method: &Method, url: Url, headers: HeaderMap) -> Result<Response, Failure> {
        let kind = if is_blob(&url) { Kind::Blob } else { Kind::Other };
        self.follow(method, url, headers, &[], None, kind)
    }

    fn follow(
        &self,
        method: &Method,
        mut url: Url,
        mut headers: HeaderMap,
        secret: &[reqwest::header::HeaderName],
        body: Option<String>,
        kind: Kind,
    ) -> Result<Response, Failure> {
        for _ in 0..=MAX_REDIRECTS {
            let home = url.origin() == self.origin.origin();
            let client = if home { &self.own } else { &self.others };
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let host = host_and_port(&url);
            let response =
                request.send().map_err(|error| failure::unanswered(&host, &url, self.answered(), error))?;
            if home {
                self.answered.store(true, Ordering::Relaxed);
            }
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| url.join(text).ok())
                .filter(|next| next.scheme() == "https" || next.scheme() == "http")
                .ok_or_else(|| self.astray(&host, "it redirects to nowhere"))?;
            if body.is_some() {
                return Err(self.astray(&host, "its token server redirects, and a token is not sent on"));
            }
            if url.scheme() == "https" && next.scheme() == "http" && !self.insecure {
                if kind == Kind::Other {
                    let reason = "it redirects from https to plain http; --insecure REGISTRY allows that";
                    return Err(self.astray(&host, reason));
                }
                if !self.downgraded.swap(true, Ordering::Relaxed) {
                    self.notice.tell(&format!(
                        "{host} has its layers at {} by plain HTTP: they are proved by their digests, but anybody \
                         on the way can read them",
                        host_and_port(&next)
                    ));
                }
            }
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
                secret.iter().for_each(|name| {
                    headers.remove(name);
                });
            }
            url = next;
        }
        Err(self.astray(&host_and_port(&self.origin), "it redirects too often"))
    }

    fn astray(&self, host: &str, reason: &str) -> Failure {
        Failure::last(Error::Refused {
            side: Side::Source,
            action: format!("a request to {host}"),
            reason: reason.to_owned(),
        })
    }
}

/// Whether this is where registries have a blob (OCI distribution-spec).
fn is_blob(url: &Url) -> bool {
    url.path().contains("/blobs/sha256:")
}

/// The host as references name it.
pub(super) fn host_and_port(url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
