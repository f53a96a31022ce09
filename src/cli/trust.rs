//! The options of the gate, and what it tells.

pub(super) mod command;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::output::Output;
use crate::config::Config;
use crate::error::Result;
use crate::record::LaneName;
use crate::trust::{Admission, Admitted, Allowances, Notice};

/// Where syslog or the journal listens.
const LOG: &str = "/dev/log";

/// What is asked of a medium. Every command that takes something from a medium into a node has these.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Go on only if somebody in this file signed the medium
    ///
    /// Go on only if somebody in this file (OpenSSH's format) signed the newest commit record [default: as the configuration says]
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    allowed_signers: Option<PathBuf>,
    /// The lane that this machine is in: a medium for another one is refused [default: the configuration's]
    #[arg(long, value_name = "NAME", help_heading = "Trust", hide_short_help = true)]
    lane: Option<LaneName>,
    /// Take a medium although too few signed it whose signatures count; this is logged
    #[arg(long, conflicts_with = "allowed_signers", help_heading = "Trust", hide_short_help = true)]
    allow_unsigned: bool,
    /// Take a medium although a newer one was taken before; this is logged
    #[arg(long, help_heading = "Trust", hide_short_help = true)]
    allow_rollback: bool,
    /// Take a medium although its time is over; this is logged
    #[arg(long, help_heading = "Trust", hide_short_help = true)]
    allow_expired: bool,
    /// Take an older export, although the record of the newest one is damaged; this is logged
    #[arg(long, help_heading = "Trust")]
    older: bool,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG", help_heading = "Trust", hide_short_help = true)]
    config: Option<PathBuf>,
}

impl TrustArgs {
    /// The configuration that was named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// What the configuration asks for, and no flag changes.
    pub(super) fn configured(config: Option<PathBuf>) -> Self {
        Self::by_signers(None, config)
    }

    /// The same, where a person may name other signers.
    pub(super) fn by_signers(allowed_signers: Option<PathBuf>, config: Option<PathBuf>) -> Self {
        Self {
            allowed_signers,
            lane: None,
            allow_unsigned: false,
            allow_rollback: false,
            allow_expired: false,
            older: false,
            config,
        }
    }

    /// Opens the medium at `path` through the gate; see [`Admission::open`].
    pub(super) fn open(&self, path: &Path, output: &Output) -> Result<Admitted> {
        self.admission()?.open(path, |notice| tell(path, &notice, output))
    }

    /// The same for a command that takes nothing: a machine in no lane may look at a medium of any.
    pub(super) fn open_to_look(&self, path: &Path, output: &Output) -> Result<Admitted> {
        self.admission()?.open_to_look(path, |notice| tell(path, &notice, output))
    }

    /// Asks whether something may be taken that nobody can have signed; see [`Admission::unsigned`].
    pub(super) fn admit_unsigned(&self, path: &Path, output: &Output) -> Result<()> {
        self.admission()?.unsigned(path, |notice| tell(path, &notice, output))
    }

    /// Remembers that the medium was taken, so that no older one is. To be called after success only.
    pub(super) fn remember(&self, medium: &Admitted) -> Result<()> {
        self.admission()?.remember(medium)
    }

    /// What is asked of media, by the flags and the configuration.
    pub(super) fn admission(&self) -> Result<Admission> {
        Ok(Admission {
            config: Config::read(self.config.as_deref())?,
            allowed_signers: self.allowed_signers.clone(),
            lane: self.lane.clone(),
            allow: Allowances {
                unsigned: self.allow_unsigned,
                rollback: self.allow_rollback,
                expired: self.allow_expired,
                older: self.older,
            },
        })
    }
}

/// Tells what the gate says of the medium at `path`, and logs what was allowed by hand.
fn tell(path: &Path, notice: &Notice, output: &Output) {
    match notice {
        Notice::SignedBy(signer) => output.say(format_args!("Signed by {signer}.")),
        Notice::NotRequired(reason) => {
            output.complain(format_args!("warning: {reason}; this machine does not require it"));
        }
        Notice::ByHand(how) => by_hand(path, how, output),
    }
}

/// Tells and logs that the medium at `path` is taken since a person allows it.
pub(super) fn by_hand(path: &Path, how: &str, output: &Output) {
    let text = format!("{} is taken {how}", path.display());
    log(Path::new(LOG), &text);
    output.complain(format_args!("warning: {text}"));
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
