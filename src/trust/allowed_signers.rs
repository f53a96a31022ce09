//! The file of signers that count, in OpenSSH's format (ssh-keygen(1), ALLOWED SIGNERS).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::certificate;
use super::signature::{self, NAMESPACE};
use crate::error::{Error, Result, Side};
use crate::limits::ALLOWED_SIGNERS as MAX_FILE;
use crate::patterns::list_matches;
use crate::record::Timestamp;

/// The signers that a machine believes.
#[derive(Clone, Debug)]
pub struct AllowedSigners(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    principals: String,
    key: PublicKey,
    /// A certificate authority's own key signs certificates, not media.
    authority: bool,
    namespaces: Option<String>,
    after: Option<OffsetDateTime>,
    before: Option<OffsetDateTime>,
}

/// Whose signature was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// The key's fingerprint, as ssh-keygen shows it.
    pub fingerprint: String,
    /// Who that is: the names that the allowed signers file gives the key, or those that it lets the
    /// key's certificate give it.
    pub names: BTreeSet<String>,
    /// The fingerprint of the authority that certified the key, if one did.
    pub authority: Option<String>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(|name| name.escape_debug().to_string()).collect();
        write!(f, "{} ({}", names.join(","), self.fingerprint)?;
        match &self.authority {
            Some(authority) => write!(f, ", certified by {authority})"),
            None => f.write_str(")"),
        }
    }
}

impl AllowedSigners {
    /// Reads the file at `path`, which the person at this machine named.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io(Side::Here, "read", path))?;
        Self::parse(&text).map_err(|reason| Error::Usage(format!("{}: {reason}", path.display())))
    }

    /// Reads the file's bytes. A line that is not understood is an error: to skip it could widen what
    /// another line allows.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_FILE {
            return Err("too long for a file of allowed signers".into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        let lines = text.lines().map(str::trim).enumerate();
        let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        entries
            .map(|(at, line)| parse_line(line).map_err(|reason| format!("line {}: {reason}", at + 1)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Who of the signers signed exactly these bytes of a commit record: each key once, in order.
    ///
    /// The error says for the last signature why it does not count; it holds no byte of any.
    pub fn check(
        &self,
        bytes: &[u8],
        signatures: &[Vec<u8>],
        now: OffsetDateTime,
    ) -> Result<Vec<Signer>, String> {
        self.check_in(NAMESPACE, bytes, signatures, now)
    }

    /// The same for what `namespace` says that signatures are for.
    pub fn check_in(
        &self,
        namespace: &str,
        bytes: &[u8],
        signatures: &[Vec<u8>],
        now: OffsetDateTime,
    ) -> Result<Vec<Signer>, String> {
        let mut signers: BTreeMap<String, Signer> = BTreeMap::new();
        let mut refused = "it is not signed".to_owned();
        for signature in signatures {
            match self.check_one(namespace, bytes, signature, now) {
                // Two signatures by one key are one signer, who may have several names.
                Ok(signer) => match signers.get_mut(&signer.fingerprint) {
                    Some(known) => known.names.extend(signer.names),
                    None => drop(signers.insert(signer.fingerprint.clone(), signer)),
                },
                Err(reason) => refused = format!("a signature of it does not count: {reason}"),
            }
        }
        if signers.is_empty() { Err(refused) } else { Ok(signers.into_values().collect()) }
    }

    fn check_one(
        &self,
        namespace: &str,
        bytes: &[u8],
        armoured: &[u8],
        now: OffsetDateTime,
    ) -> Result<Signer, String> {
        let signature = signature::parse(armoured)?;
        let key = signature.public_key();
        let fingerprint = signature::subject(key).fingerprint(HashAlg::Sha256).to_string();
        let mut signer = Signer { fingerprint, names: BTreeSet::new(), authority: None };
        let mut reason = match key.certificate() {
            Some(certificate) => format!(
                "neither the certificate of {} nor its authority {} is among the allowed signers",
                signer.fingerprint,
                certificate.signature_key().fingerprint(HashAlg::Sha256)
            ),
            None => format!("the key {} is not among the allowed signers", signer.fingerprint),
        };
        for entry in &self.0 {
            match entry.names(namespace, key, now) {
                Some(Ok(names)) => {
                    signer.names.extend(names);
                    let authority = entry.authority.then(|| entry.key.fingerprint(HashAlg::Sha256));
                    signer.authority = authority.map(|fingerprint| fingerprint.to_string());
                }
                Some(Err(why)) => reason = format!("the key {} {why}", signer.fingerprint),
                None => {}
            }
        }
        if signer.names.is_empty() {
            return Err(reason);
        }
        signature::verify(namespace, &signature, bytes)
            .map_err(|reason| format!("the one by {} {reason}", signer.fingerprint))?;
        Ok(signer)
    }
}

impl Entry {
    /// Under which names this line lets `key` sign; or why it does not. `None` if the line is about
    /// another key.
    fn names(
        &self,
        namespace: &str,
        key: &KeyData,
        now: OffsetDateTime,
    ) -> Option<Result<Vec<String>, String>> {
        let certificate = key
            .certificate()
            .filter(|certificate| self.authority && certificate.signature_key() == self.key.key_data());
        if certificate.is_none() && key != self.key.key_data() {
            return None;
        }
        let refuse = |why: &str| Some(Err(why.to_owned()));
        // Many a node has a clock that is wrong.
        let outside = |what: &str| Some(Err(format!("{what}: the clock says {}", Timestamp::from(now))));
        if self.namespaces.as_ref().is_some_and(|list| !list_matches(list, namespace)) {
            return Some(Err(format!("is not allowed in the namespace {namespace}")));
        } else if self.after.is_some_and(|after| now < after) {
            return outside("is not valid yet");
        } else if self.before.is_some_and(|before| now >= before) {
            return outside("is no longer valid");
        }
        match certificate {
            Some(certificate) => Some(certificate::check(certificate, now).and_then(|()| {
                let principals = certificate.valid_principals().iter();
                let names: Vec<String> =
                    principals.filter(|name| list_matches(&self.principals, name)).cloned().collect();
                if names.is_empty() {
                    Err("has a certificate for other names than its authority may give".into())
                } else {
                    Ok(names)
                }
            })),
            None if self.authority => refuse("is allowed as a certificate authority only"),
            None => {
                let names = self.principals.split(',').filter(|name| !name.starts_with('!'));
                Some(Ok(names.map(str::to_owned).collect()))
            }
        }
    }
}

fn parse_line(line: &str) -> Result<Entry, String> {
    if line.starts_with('"') {
        return Err("quoted principals are not understood; list them without blanks".into());
    }
    let (principals, rest) = line.split_once([' ', '\t']).ok_or("has no key")?;
    let mut words = words(rest)?.into_iter().peekable();
    let mut entry = Entry {
        principals: principals.to_owned(),
        key: PublicKey::from(ssh_key::public::Ed25519PublicKey([0; 32])),
        authority: false,
        namespaces: None,
        after: None,
        before: None,
    };
    // Options, if there are any, are one word before the key's type.
    let is_key = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
    if let Some(options) = words.next_if(|word| !is_key(word)) {
        for option in split_options(&options) {
            let (name, value) = option.split_once('=').unwrap_or((option.as_str(), ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "cert-authority" => entry.authority = true,
                "namespaces" => entry.namespaces = Some(value.to_owned()),
                "valid-after" => entry.after = Some(parse_time(value)?),
                "valid-before" => entry.before = Some(parse_time(value)?),
                _ => return Err("has an option that is not known".into()),
            }
        }
    }
    let key: Vec<String> = words.take(2).collect();
    entry.key = PublicKey::from_openssh(&key.join(" "))
        .map_err(|error| format!("no public key: {}", error.to_string().escape_debug()))?;
    Ok(entry)
}

/// The words of a line; blanks between quotes do not part them.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        quoted ^= c == '"';
        match words.last_mut() {
            Some(word) if quoted || !c.is_whitespace() => word.push(c),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    if quoted { Err("a quote is not closed".into()) } else { Ok(words) }
}

/// The options of a word; commas between quotes do not part them.
fn split_options(word: &str) -> Vec<String> {
    let (mut options, mut quoted) = (Vec::new(), false);
    let mut option = String::new();
    for c in word.chars() {
        quoted ^= c == '"';
        if c == ',' && !quoted { options.push(std::mem::take(&mut option)) } else { option.push(c) }
    }
    options.push(option);
    options
}

/// A time as `YYYYMMDDZ` or `YYYYMMDDHHMM[SS]Z`. Without the Z it would be a local time, which another
/// machine reads otherwise: refused.
fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = || "valid-after and valid-before take YYYYMMDDZ or YYYYMMDDHHMM[SS]Z, in UTC".to_owned();
    let digits = text.strip_suffix('Z').ok_or_else(wrong)?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| digits.get(from..to).unwrap_or("0").parse::<u16>().unwrap_or(0);
    let small = |from: usize| number(from, from + 2) as u8;
    let date = Month::try_from(small(4))
        .and_then(|month| Date::from_calendar_date(i32::from(number(0, 4)), month, small(6)));
    let time = Time::from_hms(small(8), small(10), small(12));
    match (date, time) {
        (Ok(date), Ok(time)) => Ok(PrimitiveDateTime::new(date, time).assume_utc()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_hold_no_control_characters_of_the_file() {
        // Found by the fuzzer: the library's error quotes the name of the key's type.
        let line =
            b"an@e.org ssh-ed25019 AAAAC3NzaC1lZDI1NTAIAAKA5EwcwtKRaCdX9xM4i4+qBBEdZvSfHsnuXi/bmnSkNhCz ";
        let error = AllowedSigners::parse(line).unwrap_err();
        assert!(!error.contains(char::is_control), "{error:?}");
        let signature = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMTkAAABAS03xdtcWxfJLW1Z7AMW7kpMKz7UGRxwqrRYfCCKe6iZg8X\nKRKwqsKnC9/bydahWC8BMSAcRZm6d1KcUhH+gOBg==\n-----END SSH SIGNATURE-----\n";
        let error = signature::parse(signature).unwrap_err();
        assert!(!error.contains("ed19"), "{error:?}");
    }

    #[test]
    fn times_are_utc_and_real() {
        assert!(parse_time("20260101Z").unwrap() < parse_time("202601010001Z").unwrap());
        for bad in ["20260101", "20261301Z", "2026Z", "", "99999999999999999999Z", "202601012500Z"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error() {
        const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
        assert!(AllowedSigners::parse(format!("ana,bob namespaces=\"a b,c\" {KEY} who").as_bytes()).is_ok());
        for bad in [
            format!("ana {}", KEY.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ")),
            format!("ana touch {KEY}"),
            format!("ana namespaces=\"a {KEY}"),
            format!("\"ana b\" {KEY}"),
            format!("ana {}", &KEY[..40]),
            "ana".into(),
            KEY.into(),
        ] {
            assert!(AllowedSigners::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
