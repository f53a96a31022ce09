//! One host that has a registry's content, and the requests that are made of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::blocking::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};

use super::auth::{Access, Auth};
use super::credentials::Credentials;
use super::failure;
use super::hosts::Host;
use super::retry::Failure;
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
    unreachable: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(host: Host, registry: &str, stall: Duration) -> Result<Self> {
        let transport = Transport::new(&host.base, &host.trust, host.headers.clone(), stall)?;
        // Docker Hub is named as people know it, and so is a registry that is asked directly.
        let name = if host.mirror { transport::host_and_port(&host.base) } else { registry.to_owned() };
        Ok(Self {
            host,
            name,
            registry: registry.to_owned(),
            transport,
            auth: Auth::default(),
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
        let mut url = self.host.base.join(&format!("{}/{}", ask.repository, ask.path)).map_err(|_| {
            Error::invalid(Side::Source, self.action(ask), "this repository makes no URL for a registry")
        })?;
        if self.host.mirror {
            url.query_pairs_mut().append_pair("ns", &self.registry);
        }
        let mut authorization = self.auth.header(ask.repository);
        // A first challenge, and a second one where a known token has come of age.
        for _ in 0..3 {
            let mut headers = ask.headers.clone();
            if let Some(value) = &authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = self.transport.send(&ask.method, url.clone(), headers)?;
            // A storage server that was redirected to has nothing to do with the login.
            let own = response.url().origin() == self.host.base.origin();
            if response.status() != StatusCode::UNAUTHORIZED || !own {
                return Ok(response);
            }
            let access = Access { host: &self.name, repository: ask.repository };
            let found = || credentials.find(&self.name, ask.repository);
            let used = authorization.as_ref();
            authorization =
                Some(self.auth.answer(&self.transport, access, response.headers(), used, found)?);
        }
        Err(Failure::last(Error::Refused {
            side: Side::Source,
            action: self.action(ask),
            reason: format!("{}: 401, the login it was given may not pull this", self.name),
        }))
    }

    /// The failure that a status stands for.
    pub(super) fn refused(&self, ask: &Ask<'_>, response: Response) -> Failure {
        failure::refused(&self.name, &self.action(ask), response)
    }

    fn action(&self, ask: &Ask<'_>) -> String {
        format!("{}/{} of {}", ask.repository, ask.path, self.registry)
    }
}
