//! Whether a command that writes may build on what is on a medium.
//!
//! What it signs, nodes believe. So it signs only what it put there itself, on top of a commit record that
//! somebody trusted has signed.

use super::{Policy, SignatureVerdict, SigningKey};
use crate::error::{Error, Result};
use crate::medium::{Medium, SignedRecord};
use crate::record::{Record, changes};

/// Whose commits a writing command builds on.
#[derive(Debug)]
pub struct Builder<'a> {
    /// What the machine asks of media.
    pub policy: Policy,
    /// The key that the command signs with: what it signed before counts as well.
    pub key: Option<&'a SigningKey>,
}

/// What there is to build on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foundation {
    /// Nobody is asked: the command signs nothing, and the machine requires no signatures.
    Unasked,
    /// Nothing is committed yet.
    Empty,
    /// Somebody trusted signed the newest commit.
    Trusted,
    /// Nobody trusted did.
    Untrusted(Distrust),
}

/// A newest commit that nobody trusted signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// Its sequence.
    pub sequence: u64,
    /// Why it does not count: a sentence, free of the medium's bytes.
    pub reason: String,
    /// The newest commit that somebody trusted signed, if one is still there.
    pub trusted: Option<u64>,
    /// What the newest commit has that the trusted one has not, and the other way round, a line each; all of it
    /// where there is no trusted one.
    pub changes: Vec<String>,
}

impl Builder<'_> {
    /// Looks at what is on `medium`. Reads the records and their signatures, and nothing else.
    pub fn foundation(&self, medium: &Medium) -> Result<Foundation> {
        if self.key.is_none() && !self.policy.required {
            return Ok(Foundation::Unasked);
        }
        self.compare(medium)
    }

    /// The same, asked always: for what signs a medium as it is.
    pub fn compare(&self, medium: &Medium) -> Result<Foundation> {
        let mut records = medium.signed_records()?;
        let Some(newest) = records.pop() else { return Ok(Foundation::Empty) };
        // The record that is built on is the one that was parsed when the medium was opened.
        if medium.head() != Some(newest.digest) {
            let reason =
                "the newest commit record is damaged, or was changed while it was read; repair it first";
            return Err(Error::Untrusted {
                what: medium.path().display().to_string(),
                reason: reason.into(),
            });
        }
        let Err(reason) = self.trusts(&newest) else { return Ok(Foundation::Trusted) };
        let trusted = records.iter().rev().find(|record| self.trusts(record).is_ok());
        let nothing = Record::empty(newest.record.medium.clone());
        Ok(Foundation::Untrusted(Distrust {
            sequence: newest.record.sequence,
            reason,
            trusted: trusted.map(|record| record.record.sequence),
            changes: changes(trusted.map_or(&nothing, |record| &record.record), &newest.record),
        }))
    }

    fn trusts(&self, record: &SignedRecord) -> Result<(), String> {
        if self.key.is_some_and(|key| key.has_signed(&record.bytes, &record.signatures)) {
            return Ok(());
        }
        let signers = match (&self.policy.allowed, self.key) {
            (None, Some(_)) => return Err("it is not signed with the key that is to sign".into()),
            _ => self.policy.signatures(&record.bytes, &record.signatures)?,
        };
        match signers {
            SignatureVerdict::Signed(signers) => {
                self.policy.brings(&record.record, &signers).map_err(|refusal| refusal.to_string())
            }
            SignatureVerdict::Unsigned(reason) => Err(reason),
            SignatureVerdict::Unchecked => Err("nobody's signature counts here".into()),
        }
    }
}

impl Distrust {
    /// The error for whoever may not build on it; [`Distrust::changes`] are to be told beside it.
    pub fn error(&self, medium: &Medium) -> Error {
        let Self { sequence, reason, trusted, .. } = self;
        let ways = match trusted {
            Some(trusted) => format!(
                "--start-from-trusted goes on from commit {trusted}, the newest that is trusted, and drops what came after; --accept-unsigned goes on from this one"
            ),
            None => "no older one here is trusted; --accept-unsigned goes on from this one".into(),
        };
        let reason = format!("commit {sequence}: {reason}; {ways}");
        Error::Untrusted { what: medium.path().display().to_string(), reason }
    }
}
