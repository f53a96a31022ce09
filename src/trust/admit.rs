//! The gate: a medium is opened as the configuration and a person ask for it, or not at all.
//!
//! What puts content of a medium anywhere takes an [`Admitted`] medium, so that nobody gets past the gate
//! by forgetting it.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::{AllowedSigners, Memory, Policy, Position, Refusal, SignatureVerdict, Signer, remember};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::medium::Medium;
use crate::record::{LaneName, Record};

/// A medium that passed the gate.
#[derive(Debug)]
pub struct Admitted(Medium);

impl Admitted {
    /// A medium of which nothing is asked: for whoever has another gate, or wrote the medium just now.
    pub fn unchecked(medium: Medium) -> Self {
        Self(medium)
    }
}

impl Deref for Admitted {
    type Target = Medium;

    fn deref(&self) -> &Medium {
        &self.0
    }
}

/// What a person allows by hand; each is to be logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// A medium that too few signed whose signatures count.
    pub unsigned: bool,
    /// A medium although a newer one was taken before.
    pub rollback: bool,
    /// A medium although its time is over.
    pub expired: bool,
    /// A medium whose newest commit record is damaged: an older one that is whole counts.
    pub older: bool,
}

/// What the gate tells while it looks at a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody signed the medium whose signature counts.
    SignedBy(Signer),
    /// Too few signed whose signatures count, and this machine does not require it: a sentence.
    NotRequired(String),
    /// The medium is taken only since a person allows it: how, such as `although it expired`. To be logged.
    ByHand(String),
}

/// What is asked of media on this machine.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The machine's configuration.
    pub config: Config,
    /// The file of allowed signers, where a person names another one than the configuration.
    pub allowed_signers: Option<PathBuf>,
    /// The machine's lane, where a person names another one than the configuration.
    pub lane: Option<LaneName>,
    /// What a person allows by hand.
    pub allow: Allowances,
}

impl Admission {
    /// Opens the medium at `path` if it is what is asked for.
    ///
    /// Signatures are checked over the bytes of the newest commit record before anything is parsed; then
    /// its lane, its time, what its signers may bring, and that nothing newer was taken. `tell` is told what a
    /// person should know. Errors: [`Error::Untrusted`], [`Error::NotTaken`], [`Error::Older`], those of
    /// [`Medium::open`].
    pub fn open(&self, path: &Path, tell: impl FnMut(Notice)) -> Result<Admitted> {
        self.admit(path, true, tell)
    }

    /// The same for a command that takes nothing: a machine in no lane may look at a medium of any.
    pub fn open_to_look(&self, path: &Path, tell: impl FnMut(Notice)) -> Result<Admitted> {
        self.admit(path, false, tell)
    }

    /// An error where what other tools wrote at `path` may not be taken: nobody can have signed it, and it is
    /// for no lane.
    pub fn unsigned(&self, path: &Path, mut tell: impl FnMut(Notice)) -> Result<()> {
        let policy = self.policy(true)?;
        let what = path.display().to_string();
        if policy.required {
            let reason =
                "only media are signed; `pannier export --from ... --sign-key KEY` makes one of it".into();
            return Err(Error::Untrusted { what, reason });
        }
        policy.lane(&Record::empty(String::new())).map_err(|refusal| Error::NotTaken { what, refusal })?;
        if self.config.trust.is_required() {
            tell(Notice::ByHand("without a signature".into()));
        }
        Ok(())
    }

    /// Remembers that the medium was taken, so that no older one is. To be called after success only.
    ///
    /// Without a signature nothing is: whoever wrote the medium could have written any sequence.
    pub fn remember(&self, medium: &Admitted) -> Result<()> {
        match (medium.record(), medium.head()) {
            (Some(record), Some(digest)) if medium.is_authentic() => {
                let position = Position::of(record, digest);
                remember(&self.config.state_directory, |memory| memory.note(position))
            }
            _ => Ok(()),
        }
    }

    fn admit(&self, path: &Path, taking: bool, mut tell: impl FnMut(Notice)) -> Result<Admitted> {
        let policy = self.policy(taking)?;
        let mut signers = Vec::new();
        let medium = if policy.allowed.is_none() && !policy.required {
            Medium::open(path)?
        } else {
            Medium::open_signed(path, |bytes, signatures| {
                match policy.signatures(bytes, signatures)? {
                    SignatureVerdict::Signed(found) => signers = found,
                    SignatureVerdict::Unchecked => {}
                    SignatureVerdict::Unsigned(reason) if self.allow.unsigned => {
                        tell(Notice::ByHand(format!("without signatures that count ({reason})")));
                    }
                    SignatureVerdict::Unsigned(reason) => tell(Notice::NotRequired(reason)),
                }
                Ok(!signers.is_empty())
            })?
        };
        match medium.older() {
            Some(older) if taking && !self.allow.older => {
                return Err(Error::Older { path: path.to_owned(), older: Box::new(older) });
            }
            Some(older) if taking => tell(Notice::ByHand(format!("although {older}"))),
            _ => {}
        }
        signers.iter().for_each(|signer| tell(Notice::SignedBy(signer.clone())));
        if let Some((record, digest)) = medium.record().zip(medium.head()) {
            let refuse = |refusal| Error::NotTaken { what: path.display().to_string(), refusal };
            policy.lane(record).map_err(refuse)?;
            if record.expires.is_some() || !signers.is_empty() {
                let memory = Memory::read(&self.config.state_directory)?;
                let position = Position::of(record, digest);
                self.judge(record, &position, &signers, &policy, &memory, tell).map_err(refuse)?;
            }
        }
        Ok(Admitted(medium))
    }

    /// Asks of the record what signatures do not tell.
    fn judge(
        &self,
        record: &Record,
        position: &Position,
        signers: &[Signer],
        policy: &Policy,
        memory: &Memory,
        mut tell: impl FnMut(Notice),
    ) -> Result<(), Refusal> {
        match policy.expiry(record, memory) {
            Err(refusal) if self.allow.expired => tell(Notice::ByHand(format!("although {refusal}"))),
            other => other?,
        }
        if signers.is_empty() {
            return Ok(());
        }
        policy.brings(record, signers)?;
        match policy.order(position, memory) {
            Err(refusal @ (Refusal::Older { .. } | Refusal::Forked(_))) if self.allow.rollback => {
                tell(Notice::ByHand(format!("although {refusal}")));
                Ok(())
            }
            other => other,
        }
    }

    /// What is asked of what a writing command builds on.
    pub fn policy_to_build(&self) -> Result<Policy> {
        self.policy(false)
    }

    fn policy(&self, taking: bool) -> Result<Policy> {
        let trust = &self.config.trust;
        let file = self.allowed_signers.as_deref().or(trust.allowed_signers.as_deref());
        Ok(Policy {
            allowed: file.map(AllowedSigners::read).transpose()?,
            required: !self.allow.unsigned && (self.allowed_signers.is_some() || trust.is_required()),
            threshold: trust.threshold.get(),
            rules: trust.policy.clone(),
            lane: self.lane.clone().or_else(|| trust.lane.clone()),
            needs_lane: taking,
            now: OffsetDateTime::now_utc(),
        })
    }
}
