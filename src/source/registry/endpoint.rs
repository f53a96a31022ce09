//! One host that has a registry's content, and the requests that are made of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::blocking::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode, Url};

use super::auth::{Access, Auth};
use super::credentials::{Credentials, Found};
use super::failure;
use super::hosts::Host;
use super::retry::{Failure, Notice};
use super::transport::{self, Transport};
use crate::error::{Error, Result, Side};

/// A request below `/v2/REPOSITORY/`.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) repository: &'a str,
    /// `manifests/REFERENCE`, `blobs/DIGEST` or `referrers/DIGEST`.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

/// A request with a body.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) method: Method,
    pub(super) repository: &'a str,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How long the answer may take.
    pub(super) patience: Duration,
    /// What it is for, for messages.
    pub(super) action: &'a str,
}

/// What a host is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To say what a tag names.
    Resolve,
    /// To give bytes for a digest.
    Pull,
}

/// A registry or a mirror of it, with what has been learnt about it.
#[derive(Debug)]
pub(super) struct Endpoint {
    host: Host,
    name: String,
    /// The registry that it stands for, as references name it.
    registry: String,
    transport: Transport,
    auth: Auth,
    /// What registries gave to anybody that this one sends its clients to, by host and repository.
    auth_elsewhere: Auth,
    unreachable: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(host: Host, registry: &str, stall: Duration, notice: &Notice) -> Result<Self> {
        let headers = host.headers.clone();
        let transport = Transport::new(&host.base, &host.trust, headers, stall, notice.clone())?;
        // Docker Hub is named as people know it, and so is a registry that is asked directly.
        let name = if host.mirror { transport::host_and_port(&host.base) } else { registry.to_owned() };
        Ok(Self {
            host,
            name,
            registry: registry.to_owned(),
            transport,
            auth: Auth::default(),
            auth_elsewhere: Auth::default(),
            unreachable: AtomicBool::new(false),
        })
    }

    /// Whether it may be asked for `need`, and was not found to be out of reach.
    pub(super) fn serves(&self, need: Need) -> bool {
        match need {
            Need::Resolve => self.host.resolves,
            Need::Pull => self.host.pulls,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// Remembers that there is no use in asking it again during this run.
    pub(super) fn set_unreachable(&self) {
        self.unreachable.store(true, Ordering::Relaxed);
    }

    /// Whether anything at all answers in this host's protocol.
    pub(super) fn answers(&self) -> bool {
        self.transport.send(&Method::GET, self.host.base.clone(), HeaderMap::new()).is_ok()
    }

    /// Sends the request, logging in when asked to; any status but success is a failure.
    pub(super) fn send(&self, credentials: &Credentials, ask: &Ask<'_>) -> Result<Response, Failure> {
        let response = self.send_for_any(credentials, ask)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(ask, response)) }
    }

    /// Like [`Endpoint::send`], for a caller that looks at the status itself.
    pub(super) fn send_for_any(&self, credentials: &Credentials, ask: &Ask<'_>) -> Result<Response, Failure> {
        let mut url = self.url(ask.repository, &ask.path)?;
        if self.host.mirror {
            url.query_pairs_mut().append_pair("ns", &self.registry);
        }
        let action = self.action(ask);
        let response = self.log_in(credentials, ask.repository, &action, &ask.headers, |headers| {
            self.transport.send(&ask.method, url.clone(), headers)
        })?;
        match response.status() {
            StatusCode::UNAUTHORIZED if !self.is_own(&response) => self.ask_elsewhere(ask, response),
            _ => Ok(response),
        }
    }

    /// Whether this host answered, and not one that it redirects to.
    fn is_own(&self, response: &Response) -> bool {
        response.url().origin() == self.host.base.origin()
    }

    /// The URL of a path below a repository.
    pub(super) fn url(&self, repository: &str, path: &str) -> Result<Url, Failure> {
        self.host.base.join(&format!("{repository}/{path}")).map_err(|_| {
            let reason = "this repository makes no URL for a registry";
            Error::invalid(Side::Source, format!("{repository}/{path} of {}", self.registry), reason).into()
        })
    }

    /// Sends something with a body to a URL that the registry gave, or of its own; looks at no status.
    pub(super) fn upload(&self, credentials: &Credentials, upload: &Upload<'_>) -> Result<Response, Failure> {
        self.log_in(credentials, upload.repository, upload.action, &upload.headers, |headers| {
            let body = upload.body.clone();
            self.transport.send_body(&upload.method, upload.url.clone(), headers, body, upload.patience)
        })
    }

    /// Sends a request with `send`, and logs in when asked to.
    fn log_in(
        &self,
        credentials: &Credentials,
        repository: &str,
        action: &str,
        plain: &HeaderMap,
        send: impl Fn(HeaderMap) -> Result<Response, Failure>,
    ) -> Result<Response, Failure> {
        let mut authorization = self.auth.header(repository);
        // A first challenge, and a second one where a known token has come of age.
        for _ in 0..3 {
            let mut headers = plain.clone();
            if let Some(value) = &authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = send(headers)?;
            // A server that was redirected to has nothing to do with the login.
            if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(&response) {
                return Ok(response);
            }
            let access = Access { host: &self.name, repository, known: repository };
            let found = || credentials.find(&self.name, repository);
            let used = authorization.as_ref();
            authorization =
                Some(self.auth.answer(&self.transport, access, response.headers(), used, found)?);
        }
        Err(Failure::last(Error::Refused {
            side: Side::Source,
            action: action.to_owned(),
            reason: format!("{}: 401, the login it was given may not do this", self.name),
        }))
    }

    /// Answers the challenge of another registry, to which this one has sent the request, with a token
    /// that it gives to anybody.
    fn ask_elsewhere(&self, ask: &Ask<'_>, mut response: Response) -> Result<Response, Failure> {
        let url = response.url().clone();
        let other = transport::host_and_port(&url);
        let known = format!("{other}/{}", ask.repository);
        let host = format!("{other}, to which {} sends its clients", self.name);
        let mut authorization = None;
        // The second time where a known token has come of age.
        for _ in 0..2 {
            let access = Access { host: &host, repository: ask.repository, known: &known };
            let nobody = || Found {
                login: None,
                problem: Some(format!("a login would have to be for {other}: name the image there")),
            };
            let used = authorization.as_ref();
            let value =
                self.auth_elsewhere.answer(&self.transport, access, response.headers(), used, nobody)?;
            let mut headers = ask.headers.clone();
            headers.insert(AUTHORIZATION, value.clone());
            authorization = Some(value);
            response = self.transport.send_on(&ask.method, url.clone(), headers)?;
            if response.status() != StatusCode::UNAUTHORIZED || response.url().origin() != url.origin() {
                break;
            }
        }
        Ok(response)
    }

    /// The failure that a status stands for.
    pub(super) fn refused(&self, ask: &Ask<'_>, response: Response) -> Failure {
        failure::refused(&self.name, &self.action(ask), response)
    }

    fn action(&self, ask: &Ask<'_>) -> String {
        format!("{}/{} of {}", ask.repository, ask.path, self.registry)
    }
}
