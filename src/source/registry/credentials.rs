//! Logins, from where Docker and podman keep them.
//!
//! Looked up only when a registry asks for one, and never part of a message, a record or a
//! `Debug` print.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::{Error, Result, Side};

/// The name that Docker files its own registry under.
const DOCKER_HUB: &str = "index.docker.io";
/// Largest file of logins that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// What opens a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password, or an access token used as one.
        password: String,
    },
    /// A refresh token, exchanged for access tokens (Docker's token protocol, OAuth2 part).
    IdentityToken(String),
    /// A bearer token that is sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::IdentityToken(_) => "IdentityToken(..)",
            Self::RegistryToken(_) => "RegistryToken(..)",
        })
    }
}

impl Login {
    /// Reads `USER:PASSWORD`. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Self::Password { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err(Error::Usage("a login is written USER:PASSWORD".into())),
        }
    }
}

/// What was found for a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) login: Option<Login>,
    /// Why a place that should have had a login gave none.
    pub(super) problem: Option<String>,
}

/// The places where logins are looked for.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    given: BTreeMap<String, Login>,
    files: Vec<(PathBuf, ConfigFile)>,
    /// Where there might have been files.
    absent: Vec<PathBuf>,
    /// Answers of helpers: starting one can take seconds, or ask the person for a passphrase.
    answers: Mutex<HashMap<(String, String), Answer>>,
}

/// What a credential helper said: a login, that it has none, or why it could not say.
type Answer = Result<Option<Login>, String>;

/// Docker's `config.json`, of which podman's `auth.json` is a part. Null stands for what is not there, as
/// in all that Go programs write.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: Option<BTreeMap<String, Option<AuthEntry>>>,
    cred_helpers: Option<BTreeMap<String, Option<String>>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl fmt::Debug for AuthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthEntry(..)")
    }
}

impl Credentials {
    /// Takes `given`, by registry, before what the user's files say.
    ///
    /// The files: `$REGISTRY_AUTH_FILE` alone when that is set, as podman has it; else
    /// `$DOCKER_CONFIG/config.json`, podman's `auth.json` (run time, then permanent), and
    /// `~/.docker/config.json`. A file that is named by a variable must be readable.
    pub(super) fn load(given: BTreeMap<String, Login>) -> Result<Self> {
        let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let mut credentials = Self { given, ..Self::default() };
        for (path, must_exist) in places(variable, rustix::process::getuid().as_raw()) {
            match read(&path, must_exist)? {
                Some(file) => credentials.files.push((path, file)),
                None => credentials.absent.push(path),
            }
        }
        Ok(credentials)
    }

    /// The login for a repository: `host` with its port, `path` below it.
    pub(super) fn find(&self, host: &str, path: &str) -> Found {
        let host = canonical(host);
        if let Some((_, login)) = self.given.iter().find(|(name, _)| canonical(name) == host) {
            return Found { login: Some(login.clone()), problem: None };
        }
        let mut problem = None;
        for (file, config) in &self.files {
            match self.find_in(config, host, path) {
                Ok(Some(login)) => return Found { login: Some(login), problem: None },
                Ok(None) => {}
                Err(reason) => {
                    problem.get_or_insert(format!("{}: {reason}", file.display()));
                }
            }
        }
        Found { login: None, problem: Some(problem.unwrap_or_else(|| self.looked_at(host))) }
    }

    /// Where a login for `host` was looked for, for a person who is sure to have one.
    fn looked_at(&self, host: &str) -> String {
        let list = |paths: Vec<String>| paths.join(", ");
        let there = list(self.files.iter().map(|(path, _)| path.display().to_string()).collect());
        let absent = list(self.absent.iter().map(|path| path.display().to_string()).collect());
        match (there.is_empty(), absent.is_empty()) {
            (false, true) => format!("no login for {host} in {there}"),
            (false, false) => format!("no login for {host} in {there}; not there: {absent}"),
            (true, _) => format!("no login for {host}: none of these files is there: {absent}"),
        }
    }

    fn find_in(&self, config: &ConfigFile, host: &str, path: &str) -> Result<Option<Login>, String> {
        let helpers = config.cred_helpers.iter().flatten();
        let helpers = helpers.filter_map(|(key, helper)| Some((key, helper.as_deref()?)));
        let helper = helpers.into_iter().find(|(key, _)| canonical(key) == host);
        let store = config.creds_store.as_deref().unwrap_or_default();
        let helper = match helper {
            Some((key, helper)) => Some((helper, key.as_str())),
            // Docker asks its store for its own registry under this URL.
            None if host == DOCKER_HUB => Some((store, "https://index.docker.io/v1/")),
            None => Some((store, host)),
        };
        let mut problem = None;
        if let Some((helper, server)) = helper.filter(|(helper, _)| !helper.is_empty()) {
            match self.ask(helper, server) {
                Ok(Some(login)) => return Ok(Some(login)),
                Ok(None) => {}
                Err(reason) => problem = Some(reason),
            }
        }
        // podman files logins for parts of a registry too; the longest name that fits counts.
        let mut name = format!("{host}/{path}");
        loop {
            let entry = config.auths.iter().flatten().find(|(key, _)| canonical(key) == name);
            if let Some((_, Some(entry))) = entry
                && let Some(login) = entry.login()?
            {
                return Ok(Some(login));
            }
            match name.rfind('/') {
                Some(slash) => name.truncate(slash),
                None => return problem.map_or(Ok(None), Err),
            }
        }
    }

    fn ask(&self, helper: &str, server: &str) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (helper.to_owned(), server.to_owned());
        if let Some(answer) = answers.get(&key) {
            return answer.clone();
        }
        let answer = run(helper, server);
        answers.insert(key, answer.clone());
        answer
    }
}

impl AuthEntry {
    fn login(&self) -> Result<Option<Login>, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Login::RegistryToken(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Login::IdentityToken(token)));
        }
        let Some(auth) = given(&self.auth) else {
            let password = self.password.clone().unwrap_or_default();
            return Ok(given(&self.username).map(|user| Login::Password { user, password }));
        };
        let broken = || "an `auth` in it is not the base64 of USER:PASSWORD".to_owned();
        let decoded = STANDARD.decode(auth.trim()).map_err(|_| broken())?;
        let text = String::from_utf8(decoded).map_err(|_| broken())?;
        let (user, password) = text.split_once(':').ok_or_else(broken)?;
        // Old Docker versions padded the password with zeros.
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Login::Password { user: user.to_owned(), password }))
    }
}

/// Brings the spellings of a registry together: with a scheme, with `/v1/`, Docker Hub's aliases.
fn canonical(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    match name {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// The files that may hold logins, and whether one must be there.
///
/// podman and skopeo write to `/run/containers/UID` where no `XDG_RUNTIME_DIR` is set, as for root; the
/// one who exports may have it set and not have had it then, or the other way round (`sudo`).
fn places(variable: impl Fn(&str) -> Option<PathBuf>, user: u32) -> Vec<(PathBuf, bool)> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![(file, true)];
    }
    let home = variable("HOME");
    let configuration = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
    let docker = docker.map(|directory| (directory.join("config.json"), false));
    let run = [PathBuf::from(format!("/run/containers/{user}/auth.json"))];
    let podman = |directory: PathBuf| directory.join("containers/auth.json");
    let runtime = variable("XDG_RUNTIME_DIR").into_iter().map(podman).chain(run);
    let podman = runtime.chain(configuration.map(podman)).map(|path| (path, false));
    if variable("DOCKER_CONFIG").is_some() {
        docker.into_iter().chain(podman).collect()
    } else {
        podman.chain(docker).collect()
    }
}

fn read(path: &Path, must_exist: bool) -> Result<Option<ConfigFile>> {
    use std::io::Read;
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_CONFIG).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(None),
        other => other.map_err(Error::io(Side::Source, "read", path))?,
    };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    // Docker Desktop leaves an empty file, which has no logins.
    if text.trim_ascii().is_empty() {
        return Ok(Some(ConfigFile::default()));
    }
    // serde's message could quote a piece of the file, so only its place is told.
    let parsed: Option<ConfigFile> = serde_json::from_slice(text).map_err(|error| {
        Error::Usage(format!(
            "{} is not a file of logins: it cannot be read at line {}, column {}",
            path.display(),
            error.line(),
            error.column()
        ))
    })?;
    Ok(Some(parsed.unwrap_or_default()))
}

/// Asks a credential helper (docker-credential-helpers, protocol `get`).
fn run(helper: &str, server: &str) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Stored {
        username: String,
        secret: String,
    }
    if helper.contains('/') {
        return Err(format!("{helper:?} is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |error| format!("the credential helper {program} cannot be run: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // One that exits without reading has an answer all the same.
        let _ = input.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("the credential helper {program} failed ({})", output.status));
    }
    let stored: Stored = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("the credential helper {program} gave no answer that can be read"))?;
    Ok(match stored {
        Stored { secret, .. } if secret.is_empty() => None,
        Stored { username, secret } if username == "<token>" => Some(Login::IdentityToken(secret)),
        Stored { username, secret } => Some(Login::Password { user: username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> Credentials {
        Credentials {
            files: vec![("config.json".into(), serde_json::from_str(text).unwrap())],
            ..Credentials::default()
        }
    }

    fn user(found: Found) -> Option<String> {
        match found.login {
            Some(Login::Password { user, .. }) => Some(user),
            _ => None,
        }
    }

    #[test]
    fn every_spelling_of_a_registry_is_found() {
        let text = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"aHViOng="},
            "quay.io":{"auth":"cXVheTp4"},
            "quay.io/team/app":{"username":"team","password":"x"},
            "http://local:5000/v2/":{"auth":"bG9jYWw6eA=="},
            "empty.io":{}}}"#;
        let credentials = credentials(text);
        let find = |host, path| user(credentials.find(host, path));
        assert_eq!(find("docker.io", "library/nginx").as_deref(), Some("hub"));
        assert_eq!(find("registry-1.docker.io", "library/nginx").as_deref(), Some("hub"));
        assert_eq!(find("quay.io", "other/app").as_deref(), Some("quay"));
        assert_eq!(find("quay.io", "team/app").as_deref(), Some("team"));
        assert_eq!(find("quay.io", "team/apps").as_deref(), Some("quay"));
        assert_eq!(find("local:5000", "a").as_deref(), Some("local"));
        assert_eq!(find("local:5001", "a"), None);
        assert_eq!(find("empty.io", "a"), None);
    }

    #[test]
    fn an_empty_file_has_no_logins_and_null_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let with = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let files = vec![(path.clone(), read(&path, true).unwrap().unwrap())];
            user(Credentials { files, ..Credentials::default() }.find("a.io", "x"))
        };
        for text in [
            "",
            " \n",
            "\u{feff}",
            "null",
            r#"{"auths":null,"credHelpers":null,"credsStore":null}"#,
            r#"{"auths":{"a.io":null},"credHelpers":{"a.io":null}}"#,
            r#"{"auths":{"a.io":{"auth":null,"username":null,"identitytoken":null}}}"#,
        ] {
            assert_eq!(with(text), None, "{text:?}");
        }
        assert_eq!(with("\u{feff}{\"auths\":{\"a.io\":{\"auth\":\"bWU6eA==\"}}}").unwrap(), "me");
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path, true).is_err());
    }

    #[test]
    fn files_are_looked_for_where_docker_and_podman_write_them() {
        let with = |set: &[(&str, &str)], user| {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
            };
            let places = places(variable, user).into_iter();
            places.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(with(&[("REGISTRY_AUTH_FILE", "/x"), ("HOME", "/root")], 0), ["/x"]);
        assert_eq!(
            with(&[("HOME", "/root")], 0),
            [
                "/run/containers/0/auth.json",
                "/root/.config/containers/auth.json",
                "/root/.docker/config.json"
            ]
        );
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7"), ("DOCKER_CONFIG", "/d")], 7),
            [
                "/d/config.json",
                "/run/user/7/containers/auth.json",
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json"
            ]
        );
    }

    #[test]
    fn a_person_is_told_where_a_login_was_looked_for() {
        let mut credentials = credentials(r#"{"auths":{"b.io":{"auth":"bWU6eA=="}}}"#);
        credentials.absent.push("/run/containers/0/auth.json".into());
        let problem = credentials.find("a.io", "x").problem.unwrap();
        assert_eq!(problem, "no login for a.io in config.json; not there: /run/containers/0/auth.json");
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        let credentials = credentials(
            r#"{"auths":{"a.io":{"auth":"dXNlcjp4","identitytoken":"secret"},"b.io":{"registrytoken":"secret"}}}"#,
        );
        assert_eq!(credentials.find("a.io", "x").login, Some(Login::IdentityToken("secret".into())));
        assert_eq!(credentials.find("b.io", "x").login, Some(Login::RegistryToken("secret".into())));
    }

    #[test]
    fn a_login_given_by_hand_comes_first() {
        let mut credentials = credentials(r#"{"auths":{"a.io":{"auth":"ZmlsZTp4"}}}"#);
        credentials.given.insert("a.io".into(), Login::parse("hand:p:w").unwrap());
        let login = credentials.find("a.io", "x").login;
        assert_eq!(login, Some(Login::Password { user: "hand".into(), password: "p:w".into() }));
        assert!(Login::parse("hand").is_err());
    }

    #[test]
    fn what_is_broken_is_named_without_its_content() {
        let credentials = credentials(r#"{"auths":{"a.io":{"auth":"c2VjcmV0"}},"credsStore":"no/such"}"#);
        let found = credentials.find("a.io", "x");
        assert!(found.login.is_none());
        let problem = found.problem.unwrap();
        assert!(problem.starts_with("config.json: ") && !problem.contains("secret"), "{problem}");
        let printed = format!("{:?}", Login::parse("me:topsecret").unwrap());
        assert!(!printed.contains("secret") && !printed.contains("me"), "{printed}");
    }
}
