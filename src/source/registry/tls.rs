//! HTTP clients with their TLS settings: whom to trust, and who we are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::{Certificate, Identity, redirect};

use crate::error::{Error, Result, Side};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Whom a client trusts beside the system's roots, and what it shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Files with CA certificates (PEM), trusted beside the system's.
    pub(super) ca: Vec<PathBuf>,
    /// Accepts any certificate.
    pub(super) anyone: bool,
    /// A client certificate and its key (PEM); one file may hold both.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Makes a client for one host, silent connections of which end after `stall`.
///
/// HTTP/1.1 only: every blob has a connection of its own, so a slow medium holds up that one by
/// TCP alone, and a cut costs one blob. Redirects are left to the caller, which knows what must not
/// be sent along. A loopback host is never asked through a proxy, as in Go's programs.
pub(super) fn client(trust: &Trust, plain: bool, loopback: bool, stall: Duration) -> Result<Client> {
    // reqwest takes the process's provider; when another is set already, it serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("pannier/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .http1_only()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(stall);
    if loopback {
        builder = builder.no_proxy();
    }
    if plain {
        // No roots are looked for: a system without any can still speak plain HTTP.
        builder = builder.tls_certs_only([]);
    } else if trust.anyone {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else {
        let mut certificates = Vec::new();
        for path in &trust.ca {
            let found = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|_| usage(path, "is not a file of PEM certificates"))?;
            if found.is_empty() {
                return Err(usage(path, "has no PEM certificate in it"));
            }
            certificates.extend(found);
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some((certificate, key)) = &trust.identity {
        let mut pem = read(certificate)?;
        if key != certificate {
            pem.push(b'\n');
            pem.extend(read(key)?);
        }
        let identity = Identity::from_pem(&pem)
            .map_err(|_| usage(certificate, "and its key are not a PEM certificate and key"))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| Error::Unreachable {
        side: Side::Source,
        address: "the network".into(),
        source: Box::new(error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(Side::Source, "read", path))
}

fn usage(path: &Path, what: &str) -> Error {
    Error::Usage(format!("{} {what}", path.display()))
}
