//! Images in a registry, over the OCI distribution API.
//!
//! A client of our own over `reqwest`, and not `oci-client`: what this needs most, going on within
//! a blob, waiting as the registry asks, `hosts.toml`, settings for one host and not the others, and
//! limits on what is read, would all have to be built around that crate.
//!
//! `transport` sends one request and keeps secrets at home, `auth` answers challenges with what
//! `credentials` finds, `endpoint` is a host with both, `retry` decides on repetition, and `blob`
//! goes on after a cut.

mod auth;
mod blob;
mod credentials;
mod endpoint;
mod failure;
mod hosts;
mod manifest;
mod referrers;
mod retry;
mod tags;
mod tls;
mod transport;
mod upload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::blob::RegistryBlob;
use self::credentials::Credentials;
use self::endpoint::{Endpoint, Need};
use self::retry::{Again, Failure, Policy};
use super::{FoundReferrer, Listed, Source};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MediaKind, Reference, kind};
use crate::progress::Stop;

pub use self::credentials::Login;
pub use self::retry::Notice;
pub use self::upload::{Began, Session, Written};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a failed request is repeated, where that can help.
    pub retries: u32,
    /// How long a connection may be silent.
    pub stall: Duration,
    /// Files with CA certificates (PEM), trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Registries that may be spoken to without proof of who they are, or in plain HTTP.
    pub insecure: BTreeSet<String>,
    /// A directory of containerd's `hosts.toml` files.
    pub hosts_dir: Option<PathBuf>,
    /// Logins given by hand, by registry.
    pub logins: BTreeMap<String, Login>,
    /// Ends waiting and reading.
    pub stop: Stop,
    /// Who is told of longer waits.
    pub notice: Notice,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retries: 5,
            stall: Duration::from_secs(30),
            ca_files: Vec::new(),
            insecure: BTreeSet::new(),
            hosts_dir: None,
            logins: BTreeMap::new(),
            stop: Stop::default(),
            notice: Notice::default(),
        }
    }
}

/// All registries, each of them connected to when an image in it is asked for.
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    policy: Policy,
    credentials: Credentials,
    endpoints: Mutex<HashMap<String, Arc<[Endpoint]>>>,
    /// Manifests and indexes that were read, so that none is asked for twice.
    documents: Mutex<HashMap<Digest, Arc<[u8]>>>,
    /// Registries whose referrers API failed however often it was asked: it is asked once each from then on.
    without_api: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads the files with logins; connects to nothing yet.
    pub fn new(options: Options) -> Result<Self> {
        let policy =
            Policy { retries: options.retries, stop: options.stop.clone(), notice: options.notice.clone() };
        let credentials = Credentials::load(options.logins.clone())?;
        let (endpoints, documents, without_api) = Default::default();
        let inner = Inner { options, policy, credentials, endpoints, documents, without_api };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// The hosts that have `registry`'s content, mirrors first.
    fn endpoints(&self, registry: &str) -> Result<Arc<[Endpoint]>> {
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoints) = known.get(registry) {
            return Ok(endpoints.clone());
        }
        let endpoints: Arc<[Endpoint]> = self.find_endpoints(registry)?.into();
        known.insert(registry.to_owned(), endpoints.clone());
        Ok(endpoints)
    }

    fn find_endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let insecure = self.options.insecure.contains(registry);
        let named = match &self.options.hosts_dir {
            Some(directory) => hosts::load(directory, registry)?,
            None => None,
        };
        if named.is_none() && insecure {
            let mut host = hosts::upstream(registry, "https")?;
            host.trust.anyone = true;
            let endpoint = Endpoint::new(host, registry, self.options.stall, &self.options.notice)?;
            if endpoint.answers() {
                return Ok(vec![endpoint]);
            }
            let host = hosts::upstream(registry, "http")?;
            return Ok(vec![Endpoint::new(host, registry, self.options.stall, &self.options.notice)?]);
        }
        let hosts = match named {
            Some(hosts) => hosts,
            None => vec![hosts::upstream(registry, "https")?],
        };
        let endpoint = |mut host: hosts::Host| {
            host.trust.ca.extend(self.options.ca_files.iter().cloned());
            host.trust.anyone |= insecure && !host.mirror;
            Endpoint::new(host, registry, self.options.stall, &self.options.notice)
        };
        hosts.into_iter().map(endpoint).collect()
    }

    /// Asks one host after the other, once each; the registry itself is the last of them.
    fn attempt<T>(
        &self,
        registry: &str,
        need: Need,
        mut ask: impl FnMut(&Endpoint) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let endpoints = self.endpoints(registry)?;
        let mut mirrored: Option<Failure> = None;
        let mut last = None;
        let serving = endpoints.iter().filter(|endpoint| endpoint.serves(need));
        for endpoint in serving {
            if let Some(failure) = last.take() {
                // The first mirror that answered says more than one that could not be reached.
                mirrored = mirrored.filter(|first| !is_unreachable(first)).or(Some(failure));
            }
            if endpoint.is_unreachable() {
                continue;
            }
            let failure = match ask(endpoint) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if is_unreachable(&failure) && endpoints.len() > 1 && failure.again == Again::Never {
                endpoint.set_unreachable();
            }
            last = Some(failure);
        }
        match (mirrored, last) {
            // Behind an air gap only the mirror can be reached, and what it said is what helps.
            (Some(mirrored), Some(last)) if is_unreachable(&last) => Err(mirrored),
            (_, Some(last)) | (Some(last), None) => Err(last),
            (None, None) => Err(Failure::last(Error::Unreachable {
                side: Side::Source,
                address: registry.to_owned(),
                source: "no host that serves it was reached; see its hosts.toml".into(),
            })),
        }
    }

    /// Asks, and asks again where that can help.
    fn run<T>(
        &self,
        registry: &str,
        need: Need,
        mut ask: impl FnMut(&Endpoint) -> Result<T, Failure>,
    ) -> Result<T> {
        self.policy.run(|| self.attempt(registry, need, &mut ask))
    }
}

fn is_document(blob: &Descriptor) -> bool {
    matches!(kind(&blob.media_type), MediaKind::Index | MediaKind::Manifest)
}

impl Source for Registry {
    fn name(&self) -> String {
        "registry".into()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Err(Error::Usage(
            "a registry does not list its images; name them, or give --list or --manifests".into(),
        ))
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        self.inner.resolve(image)
    }

    fn tags(&self, image: &Reference) -> Result<Vec<String>> {
        self.inner.tags(image)
    }

    fn tagged(&self, image: &Reference) -> Result<Option<Digest>> {
        self.inner.tagged(image)
    }

    /// Blobs are taken to be there when a manifest lists them, as a registry has to see to when it is
    /// pushed: one question for each layer would cost more than the rare disappointment.
    fn holds(&self, image: &Reference, blob: &Descriptor) -> Result<bool> {
        if !is_document(blob) {
            return Ok(true);
        }
        // It is read next, so asking for it and asking whether it is there cost the same.
        match self.inner.document(image, blob.digest) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open_unverified(
        &self,
        image: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        if is_document(blob) {
            let bytes = self.inner.document(image, blob.digest)?;
            let mut cursor = Cursor::new(bytes);
            cursor.set_position(offset);
            return Ok(Box::new(cursor));
        }
        Ok(Box::new(RegistryBlob::open(self.inner.clone(), image, blob, offset)?))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn referrers(&self, image: &Reference, subject: &Descriptor) -> Vec<Result<FoundReferrer>> {
        self.inner.referrers(image, subject)
    }
}
/// Whether nobody answered at all.
fn is_unreachable(failure: &Failure) -> bool {
    matches!(failure.error, Error::Unreachable { .. })
}
