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
    /// What the answer is remembered by.
    pub(super) known: &'a str,
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
        if let Some(known) = known.get(access.known)
            && Some(&known.header) != used
        {
            return Ok(known.header.clone());
        }
        let challenge = Challenge::find(headers)
            .ok_or_else(|| denied(access, "401, but it does not say how to log in", None))?;
        let Found { login, problem } = found();
        let anonymous = login.is_none();
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
            Challenge::Bearer(challenge) => challenge.token(transport, access, login, problem.clone())?,
        };
        if used == Some(&fresh.header) {
            let advice = match anonymous {
                true => "401, a login is needed, or the image does not exist",
                false => "401, the login it was given is not accepted, or may not pull this",
            };
            return Err(denied(access, advice, problem));
        }
        known.insert(access.known.to_owned(), fresh.clone());
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
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Self> = values.flat_map(Self::parse).collect();
        let bearer = challenges.iter().position(|c| matches!(c, Self::Bearer(_)));
        challenges.into_iter().nth(bearer.unwrap_or(0))
    }

    /// The challenges of one line that are understood. There may be several, and commas stand between
    /// them as between the parameters of one: a word without `=` begins the next.
    fn parse(text: &str) -> Vec<Self> {
        let mut found = Vec::new();
        for part in parts(text) {
            let part = part.trim();
            let (scheme, parameter) = match part.split_once(|c: char| c.is_ascii_whitespace()) {
                Some((scheme, rest)) if !scheme.contains('=') && !rest.trim_start().starts_with('=') => {
                    (Some(scheme), rest.trim_start())
                }
                _ if part.contains('=') => (None, part),
                _ => (Some(part), ""),
            };
            if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
                found.push(match scheme.to_ascii_lowercase().as_str() {
                    "basic" => Some(Self::Basic),
                    "bearer" => Some(Self::Bearer(Bearer::default())),
                    _ => None,
                });
            }
            if let Some(Some(Self::Bearer(bearer))) = found.last_mut()
                && let Some((name, value)) = parameter.split_once('=')
            {
                bearer.set(name.trim(), value.trim());
            }
        }
        let answerable = |challenge: &Self| match challenge {
            Self::Basic => true,
            Self::Bearer(bearer) => !bearer.realm.is_empty(),
        };
        found.into_iter().flatten().filter(answerable).collect()
    }
}

/// Splits at commas that are in no quoted string.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        c == ',' && !quoted
    })
}

impl Bearer {
    fn set(&mut self, name: &str, value: &str) {
        let value = match value.strip_prefix('"') {
            // One that is not closed may have been cut short: the rest of it could be another server.
            Some(quoted) => match quoted.strip_suffix('"') {
                Some(whole) => whole,
                None => return,
            },
            None => value,
        };
        let value = value.replace("\\\"", "\"");
        match name.to_ascii_lowercase().as_str() {
            "realm" => self.realm = value,
            "service" => self.service = value,
            "scope" => self.scope = value,
            _ => {}
        }
    }
}

/// What a token server answers. Some write null for what they do not have, or a number as text.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Answer {
    /// How long the token lives; what is no number of seconds says nothing.
    fn life(&self) -> Duration {
        let seconds = match &self.expires_in {
            serde_json::Value::Number(number) => number.as_f64(),
            serde_json::Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds: &f64| *seconds >= 1.0);
        seconds.map_or(DEFAULT_LIFE, |s| Duration::from_secs((s as u64).min(LONGEST_LIFE)))
    }
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
        let life = answer.life();
        let tokens = [answer.token, answer.access_token].into_iter().flatten();
        let token = tokens.into_iter().find(|token| !token.is_empty()).ok_or_else(unreadable)?;
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
    fn several_challenges_may_stand_in_one_line() {
        let bearer = |realm: &str, service: &str| {
            Some(Challenge::Bearer(Bearer {
                realm: realm.into(),
                service: service.into(),
                scope: String::new(),
            }))
        };
        for line in [
            r#"Basic realm="a, b", Bearer realm="https://t/",service="s""#,
            r#"Negotiate, Bearer realm="https://t/", service="s", Basic realm="x""#,
            r#"Bearer realm = "https://t/" , service=s,Basic realm="x""#,
            r#"Digest realm="d", nonce="Bearer realm=x", Bearer service=s,realm=https://t/"#,
        ] {
            assert_eq!(challenge(&[line]), bearer("https://t/", "s"), "{line}");
        }
        assert_eq!(challenge(&[r#"Negotiate abc==, Basic realm="x""#]), Some(Challenge::Basic));
    }

    #[test]
    fn a_token_lives_as_long_as_can_be_read() {
        let life = |text: &str| serde_json::from_str::<Answer>(text).unwrap().life().as_secs();
        assert_eq!(life(r#"{"token":"x","access_token":null,"expires_in":300}"#), 300);
        assert_eq!(life(r#"{"expires_in":300.5}"#), 300);
        assert_eq!(life(r#"{"expires_in":"300"}"#), 300);
        assert_eq!(life(r#"{"expires_in":1e300}"#), LONGEST_LIFE);
        for text in ["{}", r#"{"expires_in":null}"#, r#"{"expires_in":-1}"#, r#"{"expires_in":"soon"}"#] {
            assert_eq!(life(text), 60, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        assert_eq!(challenge(&[]), None);
        assert_eq!(challenge(&["Negotiate"]), None);
        assert_eq!(challenge(&["Bearer"]), None);
        assert_eq!(challenge(&["Bearer realm=\"unclosed"]), None);
    }
}
