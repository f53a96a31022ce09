//! Opening a medium as the configuration and the command line ask for it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::output::Output;
use crate::config::Config;
use crate::error::Result;
use crate::medium::Medium;
use crate::trust::{AllowedSigners, Policy, Standing};

/// Where syslog or the journal listens.
const LOG: &str = "/dev/log";

/// What is asked of a medium. Every command that takes something from a medium into a node has these.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Go on only if somebody in this file (OpenSSH's format) signed the newest commit record [default: as the configuration says]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Take a medium although nobody signed it whose signature counts; this is logged
    #[arg(long, conflicts_with = "allowed_signers")]
    allow_unsigned: bool,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
}

impl TrustArgs {
    /// Opens the medium at `path` if it is what the configuration and the flags ask for.
    ///
    /// Signatures are checked over the bytes of the newest commit record before anything is parsed.
    /// Errors: [`crate::Error::Untrusted`].
    pub(super) fn open(&self, path: &Path, output: &Output) -> Result<Medium> {
        let policy = self.policy(&Config::read(self.config.as_deref())?)?;
        if policy.allowed.is_none() && !policy.required {
            return Medium::open(path);
        }
        Medium::open_signed(path, |bytes, signatures| {
            match policy.signatures(bytes, signatures)? {
                Standing::Unchecked => {}
                Standing::Signed(signers) => {
                    for signer in signers {
                        output.say(format_args!("Signed by {signer}."));
                    }
                }
                Standing::Unsigned(reason) if self.allow_unsigned => {
                    let text = format!("taken without a signature that counts: {}: {reason}", path.display());
                    log(Path::new(LOG), &text);
                    output.complain(format_args!("warning: {text}"));
                }
                Standing::Unsigned(reason) => {
                    output.complain(format_args!("warning: {reason}; this machine does not require it"));
                }
            }
            Ok(())
        })
    }

    fn policy(&self, config: &Config) -> Result<Policy> {
        let file = self.allowed_signers.as_deref().or(config.trust.allowed_signers.as_deref());
        Ok(Policy {
            allowed: file.map(AllowedSigners::read).transpose()?,
            required: !self.allow_unsigned && (self.allowed_signers.is_some() || config.trust.is_required()),
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
