//! What went wrong with a request, said so that a person can act on it.

use std::error::Error as StdError;
use std::io;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::blocking::Response;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use time::OffsetDateTime;

use super::retry::{self, Again, Failure};
use super::transport;
use crate::error::{Error, Side};

const NO_TLS: &str = "it does not speak TLS; --insecure REGISTRY allows plain HTTP for that registry";
/// Longest part of a registry's own error message that is shown, in characters.
const MAX_MESSAGE: usize = 200;
/// Longest error document that is read, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// No answer came from `host`: not resolved, refused, no TLS, reset, or silent for too long.
///
/// `answered` tells that the host was heard before: then a failure to connect is one of the network,
/// and is tried again, while a host that never answered is rather misspelt.
pub(super) fn unanswered(host: &str, url: &Url, answered: bool, error: reqwest::Error) -> Failure {
    let proxy = proxy(url).map(|proxy| format!(" (through the proxy {proxy})")).unwrap_or_default();
    // The URL can hold a signature that opens the blob to whoever reads the log.
    let error = error.without_url();
    let reason = tls_reason(&error);
    let again = match &reason {
        Some(_) => Again::Never,
        None if error.is_connect() && !answered => Again::Never,
        None => Again::Soon,
    };
    let source: Box<dyn StdError + Send + Sync> = match reason {
        Some(reason) => format!("{reason}{proxy}").into(),
        None if error.is_timeout() => {
            format!("no answer for too long{proxy}; --stall-timeout sets how long is waited").into()
        }
        None => {
            let advice = if error.is_connect() && !answered {
                "; check the name, the network, and the proxy variables HTTPS_PROXY and NO_PROXY"
            } else {
                ""
            };
            format!("{}{proxy}{advice}", innermost(&error)).into()
        }
    };
    Failure { error: Error::Unreachable { side: Side::Source, address: host.to_owned(), source }, again }
}

/// The proxy that a request for `url` goes through, as the environment has it: host and port alone,
/// since a login may stand beside them. A loopback host is never asked through one.
fn proxy(url: &Url) -> Option<String> {
    if transport::is_loopback(url) {
        return None;
    }
    // The same rules as those of the HTTP client.
    let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
    let (host, port) = (proxy.uri().host()?, proxy.uri().port_u16());
    Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The last cause in the chain: the ones before it only say that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// What is wrong with the TLS of a host, with what to do about it.
fn tls_reason(error: &reqwest::Error) -> Option<String> {
    let mut cause: &dyn StdError = error;
    let tls = loop {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            break tls;
        }
        // `source` of an I/O error skips the very error that it wraps.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| wrapped.to_string() == "tls handshake eof") {
            return Some(NO_TLS.into());
        }
        cause = match wrapped {
            Some(wrapped) => wrapped,
            None => cause.source()?,
        };
    };
    Some(match tls {
        rustls::Error::InvalidCertificate(reason) => format!(
            "its certificate is not accepted ({reason}); give the CA that signed it with --ca-file, or, where \
             nobody could stand in between, --insecure REGISTRY"
        ),
        rustls::Error::InvalidMessage(_) => NO_TLS.into(),
        other => format!("TLS: {other}"),
    })
}

/// A status that is not success.
pub(super) fn refused(host: &str, action: &str, response: Response) -> Failure {
    let status = response.status();
    let after = retry::retry_after(response.headers(), OffsetDateTime::now_utc());
    let said = message(response);
    let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
    let reason = |text: &str| Error::Refused {
        side: Side::Source,
        action: action.to_owned(),
        reason: format!("{host}: {text}{said}"),
    };
    // The registry is there, but of no use now; like one that cannot be reached, it may be later.
    let later = |text: &str| Failure {
        error: Error::Unreachable {
            side: Side::Source,
            address: host.to_owned(),
            source: format!("{text}{said}").into(),
        },
        again: after.map_or(Again::Soon, Again::After),
    };
    match status {
        StatusCode::NOT_FOUND => {
            Failure::last(Error::not_found(Side::Source, format!("{host}: {action}{said}")))
        }
        StatusCode::UNAUTHORIZED => Failure::last(reason(
            "401, a login is needed, or the image does not exist; log in with `docker login` or \
             `podman login`, or give --creds",
        )),
        StatusCode::FORBIDDEN => Failure::last(reason(
            "403, the login may not pull this, or a proxy forbids it, or the image does not exist",
        )),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Failure::last(reason(
            "407, the proxy wants a login; HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT gives one",
        )),
        StatusCode::TOO_MANY_REQUESTS => later(&match after {
            Some(after) => {
                format!("429, its rate limit is reached; it asks to come back in {} s", after.as_secs())
            }
            None => "429, its rate limit is reached; a login often raises it".to_owned(),
        }),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            later(&format!("{status}, the registry or a proxy before it has trouble"))
        }
        other => Failure::last(reason(&other.to_string())),
    }
}

/// The first error a registry names in its answer (distribution-spec, Error Codes), made harmless.
fn message(response: Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    use std::io::Read;
    let mut body = Vec::new();
    if response.take(MAX_ERROR_BODY).read_to_end(&mut body).is_err() {
        return String::new();
    }
    let Ok(Errors { errors }) = serde_json::from_slice(&body) else { return String::new() };
    let Some(Entry { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { format!("{code}: {message}") };
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}
