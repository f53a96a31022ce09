//! Who may ask: a file as `htpasswd -B` writes it, and basic authentication (RFC 7617).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::image::Digest;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Logins that are remembered as good, so that not every request costs a check.
const REMEMBERED: usize = 1024;
/// Checked where a user is not known, so that the time does not tell. The hash of random bytes that nobody kept.
const NOBODY: &str = "$2y$10$nb5guT3mgKZ4NFjQgHlqoezLQerC28YX3NOUyXd9S5mbTFXmWMxY2";

/// Users and the bcrypt hashes of their passwords.
pub struct Logins {
    users: HashMap<String, String>,
    good: Mutex<HashSet<Digest>>,
}

impl Logins {
    /// Reads a file of `USER:HASH` lines.
    ///
    /// Errors: [`Error::Usage`] for a hash that is not bcrypt: nothing weaker is taken, as in docker-registry.
    pub fn read(path: &Path) -> Result<Self> {
        let refuse = |reason: &str| Error::Usage(format!("{}: {reason}", path.display()));
        let size = fs::metadata(path).map_err(|error| refuse(&error.to_string()))?.len();
        if size > MAX_FILE {
            return Err(refuse("larger than a file of logins may be"));
        }
        let text = fs::read_to_string(path).map_err(|error| refuse(&error.to_string()))?;
        Self::parse(&text).map_err(|reason| refuse(&reason))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bcrypt = |hash: &str| {
                ["$2y$", "$2b$", "$2a$"].iter().any(|kind| hash.starts_with(kind)) && hash.len() == 60
            };
            match line.split_once(':') {
                Some((user, hash)) if !user.is_empty() && bcrypt(hash) => {
                    users.insert(user.to_owned(), hash.to_owned());
                }
                _ => {
                    return Err(format!("line {} is no bcrypt login; `htpasswd -B` writes them", number + 1));
                }
            }
        }
        match users.is_empty() {
            true => Err("there is no login in it, so nobody could ask".into()),
            false => Ok(Self { users, good: Mutex::default() }),
        }
    }

    /// The user of an `Authorization` header that was found to be good before.
    pub fn known(&self, header: &str) -> Option<String> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.contains(&Digest::of(header.as_bytes())).then(|| decode(header).map(|(user, _)| user)).flatten()
    }

    /// The user of an `Authorization` header, if the password is theirs. Takes a tenth of a second.
    pub fn check(&self, header: &str) -> Option<String> {
        let (user, password) = decode(header)?;
        let hash = self.users.get(&user).map_or(NOBODY, String::as_str);
        let right = bcrypt::verify(&password, hash).unwrap_or(false) && self.users.contains_key(&user);
        if right {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if good.len() >= REMEMBERED {
                good.clear();
            }
            good.insert(Digest::of(header.as_bytes()));
        }
        right.then_some(user)
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

fn decode(header: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, login) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = STANDARD.decode(login.trim()).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(login[..colon].to_vec()).ok()?, login[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -Bbn -C 4 me secret`.
    const LINE: &str = "me:HASH";

    fn header(login: &str) -> String {
        format!("Basic {}", STANDARD.encode(login))
    }

    #[test]
    fn a_login_is_checked_once_and_then_known() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let logins = Logins::parse(&format!("# who\n\n{}\n", LINE.replace("HASH", &hash))).unwrap();
        let right = header("me:secret");
        assert_eq!(logins.known(&right), None);
        assert_eq!(logins.check(&right).as_deref(), Some("me"));
        assert_eq!(logins.known(&right).as_deref(), Some("me"));
        for wrong in ["me:", "me:Secret", "you:secret", ":secret", "me"] {
            assert_eq!(logins.check(&header(wrong)), None, "{wrong}");
            assert_eq!(logins.known(&header(wrong)), None);
        }
        for text in ["", "Basic", "Basic !!", "Bearer bWU6c2VjcmV0"] {
            assert_eq!(logins.check(text), None, "{text}");
        }
    }

    #[test]
    fn only_bcrypt_is_taken() {
        for text in ["", "# nobody", "me:secret", "me:$apr1$x$y", "me:{SHA}x", ":$2y$05$x"] {
            assert!(Logins::parse(text).is_err(), "{text}");
        }
    }
}
