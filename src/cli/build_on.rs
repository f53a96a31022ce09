//! Asking whether a command that writes may build on what is on a medium.

use std::path::{Path, PathBuf};

use super::output::Output;
use super::trust::{TrustArgs, by_hand};
use crate::error::Result;
use crate::medium::Medium;
use crate::trust::{Builder, Distrust, Foundation, SigningKey};

/// Whose commits a command builds on that writes to a medium.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct BuildArgs {
    /// Build only on a commit that the signing key, or somebody in this file (OpenSSH's format), signed [default: as the configuration says]
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Where the newest commit is signed by nobody trusted: go on from the newest that is, and drop what came after
    #[arg(long, hide_short_help = true, conflicts_with = "accept_unsigned")]
    start_from_trusted: bool,
    /// Where the newest commit is signed by nobody trusted: go on from it all the same; this is logged
    #[arg(long, hide_short_help = true)]
    accept_unsigned: bool,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, hide_short_help = true, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
}

impl BuildArgs {
    /// Asks about the newest commit of `medium`, which is locked; or only looks, where nothing is to be written.
    ///
    /// Errors: nobody trusted signed it, and neither way out was typed.
    pub(super) fn ask(
        &self,
        medium: &mut Medium,
        key: Option<&SigningKey>,
        dry_run: bool,
        output: &Output,
    ) -> Result<()> {
        let admission = self.trust().admission()?;
        let builder = Builder { policy: admission.policy_to_build()?, key };
        let Foundation::Untrusted(distrust) = builder.foundation(medium)? else { return Ok(()) };
        match distrust.trusted {
            Some(trusted) if self.start_from_trusted => {
                output.complain(format_args!("warning: {}", dropped(&distrust, trusted)));
                show(&distrust, output);
                if dry_run { Ok(()) } else { medium.start_from(trusted) }
            }
            _ if self.accept_unsigned => {
                let path = medium.path().to_owned();
                by_hand(
                    &path,
                    &format!("as commit {} although {}", distrust.sequence, distrust.reason),
                    output,
                );
                show(&distrust, output);
                Ok(())
            }
            trusted => {
                match trusted {
                    Some(trusted) => {
                        output.complain(format_args!("Not in commit {trusted}, the newest that is trusted:"))
                    }
                    None => output.complain(format_args!("Not in any commit that is trusted:")),
                }
                show(&distrust, output);
                Err(distrust.error(medium))
            }
        }
    }

    /// Asks of a medium that is a source what an import asks, where the configuration requires signatures.
    pub(super) fn ask_source(&self, path: &Path, output: &Output) -> Result<()> {
        let trust = TrustArgs::configured(self.config.clone());
        if trust.admission()?.config.trust.is_required() {
            trust.open_to_look(path, output)?;
        }
        Ok(())
    }

    fn trust(&self) -> TrustArgs {
        TrustArgs::by_signers(self.allowed_signers.clone(), self.config.clone())
    }
}

fn dropped(distrust: &Distrust, trusted: u64) -> String {
    let Distrust { sequence, reason, .. } = distrust;
    format!("commit {sequence} is dropped, since {reason}; it goes on from commit {trusted}")
}

/// Lists what differs from the newest trusted commit.
pub(super) fn show(distrust: &Distrust, output: &Output) {
    distrust.changes.iter().for_each(|line| output.complain(format_args!("    {line}")));
}
