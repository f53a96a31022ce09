//! Answering a registry's challenge: basic authentication and Docker's token protocol.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::credentials::{Found, Login};
use super::failure;
use super::retry::Failure;
use super::transport::Transport;
use crate::error::{Error, Side};

/// Life of a token whose answer does not say (Docker's token protocol: 60 s).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is fetched anew after this time whatever it says, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// Largest answer of a token server that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// What was last proved to a host, by repository.
#[derive(Debug, Default)]
pub(super) struct Auth {
    known: Mutex<HashMap<String, Credential>>,
}

#[derive(Clone, Debug)]
struct Credential {
    header: HeaderValue,
    until: Option<Instant>,
}

/// The repository that access is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'a> {
    /// The host, for messages.
    pub(super) host: &'a str,
    /// The path below the registry.
    pub(super) repository: &'a str,
}

impl Auth {
    /// The header that opened the repository before, while it lasts.
    pub(super) fn header(&self, repository: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(repository)?;
        known.until.is_none_or(|until| Instant::now() < until).then(|| known.header.clone())
    }

    /// Gets a header that answers the challenge in `headers`, sent in reply to one with `used`.
    pub(super) fn answer(
        &self,
        transport: &Transport,
        access: Access<'_>,
        headers: &HeaderMap,
        used: Option<&HeaderValue>,
        found: impl FnOnce() -> Found,
    ) -> Result<HeaderValue, Failure> {
        // Held while the token is fetched: of many threads with the same question, one asks.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(access.repository)
            && Some(&known.header) != used
        {
            return Ok(known.header.clone());
        }
        let challenge = Challenge::find(headers)
            .ok_or_else(|| denied(access, "401, but it does not say how to log in", None))?;
        let Found { login, problem } = found();
        let fresh = match challenge {
            Challenge::Basic => match login {
                Some(Login::Password { user, password }) => {
                    Credential { header: basic(&user, &password)?, until: None }
                }
                Some(_) => {
                    return Err(denied(access, "401, it wants a user and password, not a token", problem));
                }
                None => {
                    let advice = "401, it wants a login; log in with `docker login` or `podman login`, or \
                                  give --creds";
                    return Err(denied(access, advice, problem));
                }
            },
            Challenge::Bearer(challenge) => challenge.token(transport, access, login, problem)?,
        };
        if used == Some(&fresh.header) {
            let advice = "401, the login it was given is not accepted, or may not pull this";
            return Err(denied(access, advice, None));
        }
        known.insert(access.repository.to_owned(), fresh.clone());
        Ok(fresh.header)
    }
}

fn denied(access: Access<'_>, reason: &str, problem: Option<String>) -> Failure {
    let problem = problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
    Failure::last(Error::Refused {
        side: Side::Source,
        action: format!("pulling {}/{}", access.host, access.repository),
        reason: format!("{reason}{problem}"),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer(Bearer),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Bearer {
    realm: String,
    service: String,
    scope: String,
}

impl Challenge {
    /// The challenge that is answered: bearer before basic (RFC 9110, section 11.6.1).
    fn find(headers: &HeaderMap) -> Option<Self> {
        let challenges: Vec<Self> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .collect();
        let bearer = challenges.iter().position(|c| matches!(c, Self::Bearer(_)));
        challenges.into_iter().nth(bearer.unwrap_or(0))
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut bearer = Bearer::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim_matches([',', ' ']).to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value.to_owned(),
                "service" => bearer.service = value.to_owned(),
                "scope" => bearer.scope = value.to_owned(),
                _ => {}
            }
            rest = after;
        }
        (!bearer.realm.is_empty()).then_some(Self::Bearer(bearer))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Bearer {
    fn token(
        self,
        transport: &Transport,
        access: Access<'_>,
        login: Option<Login>,
        problem: Option<String>,
    ) -> Result<Credential, Failure> {
        if let Some(Login::RegistryToken(token)) = login {
            return Ok(Credential { header: bearer(&token)?, until: None });
        }
        let mut url: Url =
            self.realm.parse().map_err(|_| denied(access, "it names a token server that is no URL", None))?;
        if !transport.may_hold_secrets(&url) && login.is_some() {
            return Err(denied(access, "it wants the login sent over plain HTTP", None));
        }
        let scope = if self.scope.is_empty() {
            format!("repository:{}:pull", access.repository)
        } else {
            self.scope.clone()
        };
        let mut headers = HeaderMap::new();
        let response = if let Some(Login::IdentityToken(token)) = &login {
            let form = reqwest::Url::parse_with_params(
                "form:",
                [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("service", &self.service),
                    ("scope", &scope),
                    ("client_id", "pannier"),
                ],
            );
            let form = form.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            transport.send_elsewhere(Method::POST, url.clone(), headers, Some(form))?
        } else {
            if let Some(Login::Password { user, password }) = &login {
                headers.insert(AUTHORIZATION, basic(user, password)?);
                url.query_pairs_mut().append_pair("account", user);
            }
            if !self.service.is_empty() {
                url.query_pairs_mut().append_pair("service", &self.service);
            }
            // Several scopes are several parameters.
            for scope in scope.split(' ') {
                url.query_pairs_mut().append_pair("scope", scope);
            }
            transport.send_elsewhere(Method::GET, url.clone(), headers, None)?
        };
        let server = url.host_str().unwrap_or_default().to_owned();
        if response.status() == StatusCode::UNAUTHORIZED {
            let reason = match login {
                Some(_) => format!("401, the login is not accepted by {server}"),
                None => format!("401 from {server}, a login is needed, or the image does not exist"),
            };
            return Err(denied(access, &reason, problem));
        }
        if !response.status().is_success() {
            let action = format!("getting a token for {}/{}", access.host, access.repository);
            return Err(failure::refused(&server, &action, response));
        }
        let mut body = Vec::new();
        let unreadable = || denied(access, &format!("{server} gave no token that can be read"), None);
        response.take(MAX_ANSWER).read_to_end(&mut body).map_err(|_| unreadable())?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() {
            return Err(unreadable());
        }
        let life = answer.expires_in.map_or(DEFAULT_LIFE, |s| Duration::from_secs(s.min(LONGEST_LIFE)));
        // A little early: a request takes time to arrive.
        Ok(Credential { header: bearer(&token)?, until: Some(Instant::now() + life.mul_f32(0.9)) })
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    secret(format!("Bearer {token}"))
}

fn secret(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Failure::last(Error::Usage("a login has characters that HTTP cannot carry".into())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::find(&headers)
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push",error="insufficient_scope""#;
        let expected = Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: "registry.docker.io".into(),
            scope: "repository:library/nginx:pull,push".into(),
        };
        assert_eq!(challenge(&[hub]), Some(Challenge::Bearer(expected)));
        let loose = "bearer Realm=https://a.io/t, service=a";
        let expected = Bearer { realm: "https://a.io/t".into(), service: "a".into(), scope: String::new() };
        assert_eq!(challenge(&[loose]), Some(Challenge::Bearer(expected)));
        assert_eq!(challenge(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert!(matches!(challenge(&["Basic realm=\"x\"", hub]), Some(Challenge::Bearer(_))));
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        assert_eq!(challenge(&[]), None);
        assert_eq!(challenge(&["Negotiate"]), None);
        assert_eq!(challenge(&["Bearer"]), None);
        assert_eq!(challenge(&["Bearer realm=\"unclosed"]), None);
    }
}
