//! Opening a medium as the configuration and the command line ask for it.

pub(super) mod command;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::output::Output;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::medium::Medium;
use crate::record::LaneName;
use crate::trust::{AllowedSigners, Memory, Policy, Position, Refusal, SignatureVerdict, Signer, remember};

/// Where syslog or the journal listens.
const LOG: &str = "/dev/log";

/// What is asked of a medium. Every command that takes something from a medium into a node has these.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Go on only if somebody in this file (OpenSSH's format) signed the newest commit record [default: as the configuration says]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// The lane that this machine is in: a medium for another one is refused [default: the configuration's]
    #[arg(long, value_name = "NAME")]
    lane: Option<LaneName>,
    /// Take a medium although too few signed it whose signatures count; this is logged
    #[arg(long, conflicts_with = "allowed_signers")]
    allow_unsigned: bool,
    /// Take a medium although a newer one was taken before; this is logged
    #[arg(long)]
    allow_rollback: bool,
    /// Take a medium although its time is over; this is logged
    #[arg(long)]
    allow_expired: bool,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
}

impl TrustArgs {
    /// What the configuration asks for, and no flag changes.
    pub(super) fn configured(config: Option<PathBuf>) -> Self {
        Self {
            allowed_signers: None,
            lane: None,
            allow_unsigned: false,
            allow_rollback: false,
            allow_expired: false,
            config,
        }
    }

    /// Opens the medium at `path` if it is what the configuration and the flags ask for.
    ///
    /// Signatures are checked over the bytes of the newest commit record before anything is parsed; then
    /// its lane, its time, what its signers may bring, and that nothing newer was taken.
    /// Errors: [`Error::Untrusted`], [`Error::NotTaken`].
    pub(super) fn open(&self, path: &Path, output: &Output) -> Result<Medium> {
        self.admit(path, true, output)
    }

    /// The same for a command that takes nothing: a machine in no lane may look at a medium of any.
    pub(super) fn open_to_look(&self, path: &Path, output: &Output) -> Result<Medium> {
        self.admit(path, false, output)
    }

    /// Remembers that the medium was taken, so that no older one is. To be called after success only.
    ///
    /// Without a signature nothing is: whoever wrote the medium could have written any sequence.
    pub(super) fn remember(&self, medium: &Medium) -> Result<()> {
        match (medium.record(), medium.head()) {
            (Some(record), Some(digest)) if medium.is_authentic() => {
                let position = Position::of(record, digest);
                let config = Config::read(self.config.as_deref())?;
                remember(&config.state_directory, |memory| memory.note(position))
            }
            _ => Ok(()),
        }
    }

    fn admit(&self, path: &Path, taking: bool, output: &Output) -> Result<Medium> {
        let config = Config::read(self.config.as_deref())?;
        let policy = self.policy(&config, taking)?;
        let mut signers = Vec::new();
        let medium = if policy.allowed.is_none() && !policy.required {
            Medium::open(path)?
        } else {
            Medium::open_signed(path, |bytes, signatures| {
                match policy.signatures(bytes, signatures)? {
                    SignatureVerdict::Signed(found) => signers = found,
                    SignatureVerdict::Unchecked => {}
                    SignatureVerdict::Unsigned(reason) if self.allow_unsigned => {
                        let text = format!("without signatures that count ({reason})");
                        self.allowed(path, &text, output);
                    }
                    SignatureVerdict::Unsigned(reason) => {
                        output.complain(format_args!("warning: {reason}; this machine does not require it"))
                    }
                }
                Ok(!signers.is_empty())
            })?
        };
        for signer in &signers {
            output.say(format_args!("Signed by {signer}."));
        }
        self.judge(&medium, &signers, &policy, &config, output).map(|()| medium)
    }

    /// Asks of the record what signatures do not tell.
    fn judge(
        &self,
        medium: &Medium,
        signers: &[Signer],
        policy: &Policy,
        config: &Config,
        output: &Output,
    ) -> Result<()> {
        let Some((record, digest)) = medium.record().zip(medium.head()) else { return Ok(()) };
        let path = medium.path();
        let refuse = |refusal| Error::NotTaken { what: path.display().to_string(), refusal };
        policy.lane(record).map_err(refuse)?;
        if record.expires.is_none() && signers.is_empty() {
            return Ok(());
        }
        let memory = Memory::read(&config.state_directory)?;
        match policy.expiry(record, &memory) {
            Err(refusal) if self.allow_expired => {
                self.allowed(path, &format!("although {refusal}"), output);
            }
            other => other.map_err(refuse)?,
        }
        if signers.is_empty() {
            return Ok(());
        }
        policy.brings(record, signers).map_err(refuse)?;
        match policy.order(&Position::of(record, digest), &memory) {
            Err(refusal @ (Refusal::Older { .. } | Refusal::Forked(_))) if self.allow_rollback => {
                self.allowed(path, &format!("although {refusal}"), output);
                Ok(())
            }
            other => other.map_err(refuse),
        }
    }

    /// Tells, and logs, what was allowed by hand.
    fn allowed(&self, path: &Path, how: &str, output: &Output) {
        let text = format!("{} is taken {how}", path.display());
        log(Path::new(LOG), &text);
        output.complain(format_args!("warning: {text}"));
    }

    fn policy(&self, config: &Config, taking: bool) -> Result<Policy> {
        let trust = &config.trust;
        let file = self.allowed_signers.as_deref().or(trust.allowed_signers.as_deref());
        Ok(Policy {
            allowed: file.map(AllowedSigners::read).transpose()?,
            required: !self.allow_unsigned && (self.allowed_signers.is_some() || trust.is_required()),
            threshold: trust.threshold.get(),
            rules: trust.policy.clone(),
            lane: self.lane.clone().or_else(|| trust.lane.clone()),
            needs_lane: taking,
            now: OffsetDateTime::now_utc(),
        })
    }
}

/// Leaves a line in the system's log, where there is one: what was allowed by hand can be asked about.
fn log(socket: &Path, text: &str) {
    // Facility authpriv, severity notice (RFC 5424, 6.2.1).
    const PRIORITY: u8 = 10 * 8 + 5;
    let text: String = text.escape_debug().collect();
    let line = format!("<{PRIORITY}>pannier[{}]: {text}", std::process::id());
    // Without a log daemon the warning on standard error has to do.
    let _ = UnixDatagram::unbound().and_then(|sender| sender.send_to(line.as_bytes(), socket));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_by_hand_reaches_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let receiver = UnixDatagram::bind(&socket).unwrap();
        log(&socket, "taken\n<0>forged");
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        let line = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(line.starts_with("<85>pannier[") && line.ends_with("]: taken\\n<0>forged"), "{line}");
        log(&dir.path().join("none"), "nobody listens");
    }
}
