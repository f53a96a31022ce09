//! `pannier sign`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::medium::Medium;
use crate::trust::SigningKey;

/// Sign a medium as it is with an SSH key
///
/// Signs the bytes of the newest commit record, which names the digest of everything else. The
/// signature lies beside the record; several people can sign. An export makes a new record, which
/// is to be signed anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier sign /media/stick --key ~/.ssh/id_ed25519")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// An SSH key: private, public (its private one is in an agent, in hardware or beside it) or a certificate
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let key = SigningKey::read(&args.key)?;
    sign(&args.medium, &key, output)
}

/// Signs the newest record and says so.
fn sign(path: &Path, key: &SigningKey, output: &Output) -> Result<()> {
    let mut medium = Medium::open(path)?;
    let _lock = output.lock(&mut medium)?;
    add(&medium, key, output)
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
