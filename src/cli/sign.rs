//! `pannier sign`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use serde_json::json;

use super::build_on;
use super::output::Output;
use super::trust::TrustArgs;
use crate::error::{Error, Result};
use crate::medium::Medium;
use crate::trust::{Builder, Foundation, SigningKey};

/// Sign a medium as it is with an SSH key
///
/// Signs the bytes of the newest commit record, which names the digest of everything else. The
/// signature lies beside the record; several people can sign. An export makes a new record, which
/// is to be signed anew. What changed since the last commit that this key or an allowed signer signed is
/// listed, and asked about on a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier sign /media/stick --key ~/.ssh/id_ed25519
  pannier sign /media/stick --key ~/.ssh/id_ed25519 --yes")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// An SSH key: private, public (its private one is in an agent, in hardware or beside it) or a certificate
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// Whose commits are not asked about again, in OpenSSH's format [default: as the configuration says]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Sign without asking
    #[arg(long, short)]
    yes: bool,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let key = SigningKey::read(&args.key)?;
    let mut medium = Medium::open(&args.medium)?;
    let _lock = output.lock(&mut medium)?;
    consent(args, &medium, &key, output)?;
    add(&medium, &key, output)
}

/// Shows what the signature would vouch for that nobody trusted has vouched for, and asks.
fn consent(args: &Args, medium: &Medium, key: &SigningKey, output: &Output) -> Result<()> {
    let trust = TrustArgs::by_signers(args.allowed_signers.clone(), args.config.clone());
    let builder = Builder { policy: trust.admission()?.policy_to_build()?, key: Some(key) };
    medium.committed()?;
    let Foundation::Untrusted(distrust) = builder.compare(medium)? else { return Ok(()) };
    match distrust.trusted {
        None => output.complain(format_args!(
            "No commit here was signed with this key, or by an allowed signer: this signature is the first, over"
        )),
        Some(trusted) if distrust.changes.is_empty() => {
            output.say(format_args!("Nothing changed for a node since commit {trusted}, which is trusted."));
            return Ok(());
        }
        Some(trusted) => output.complain(format_args!("Since commit {trusted}, the newest that is trusted:")),
    }
    build_on::show(&distrust, output);
    if args.yes || confirmed(distrust.sequence, output) {
        return Ok(());
    }
    let reason =
        format!("commit {} was not signed: look at what is listed, and say --yes", distrust.sequence);
    Err(Error::Untrusted { what: medium.path().display().to_string(), reason })
}

/// Whether somebody at the terminal says yes.
fn confirmed(sequence: u64, output: &Output) -> bool {
    let input = std::io::stdin();
    if !output.talks() || !input.is_terminal() {
        return false;
    }
    output.complain(format_args!("Sign commit {sequence}? [y/N]"));
    let mut answer = String::new();
    input.lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Adds a signature to the newest record, unless the key has signed it before, and says so.
fn add(medium: &Medium, key: &SigningKey, output: &Output) -> Result<()> {
    let sign = |bytes: &[u8], signatures: &[Vec<u8>]| {
        if key.has_signed(bytes, signatures) { Ok(None) } else { key.sign(bytes).map(Some) }
    };
    let (sequence, signed) = medium.sign(sign)?;
    let fingerprint = key.fingerprint();
    if output.json() {
        let event =
            json!({ "event": "signed", "sequence": sequence, "fingerprint": fingerprint, "changed": signed });
        return output.document(&event);
    }
    let already = if signed { "" } else { "already " };
    output.say(format_args!("Commit {sequence} is {already}signed with {fingerprint}."));
    Ok(())
}

/// The key of a command that may commit a medium anew.
#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// Sign the commit record afterwards, with a key as `pannier sign` takes it
    #[arg(long, value_name = "KEY")]
    sign_key: Option<PathBuf>,
}

impl SignArgs {
    /// Reads the key, before anything is done.
    pub(super) fn key(&self) -> Result<Option<SigningKey>> {
        self.sign_key.as_deref().map(SigningKey::read).transpose()
    }
}

/// Signs the newest record with the key, if one was given; otherwise tells if there was a signature before
/// and is none now.
pub(super) fn renew(
    medium: &Medium,
    key: Option<&SigningKey>,
    was_signed: bool,
    output: &Output,
) -> Result<()> {
    if let Some(key) = key {
        return add(medium, key, output);
    }
    if was_signed && !medium.has_signature()? {
        output.complain("warning: the commit before was signed, the newest one is not; `pannier sign` does");
    }
    Ok(())
}
