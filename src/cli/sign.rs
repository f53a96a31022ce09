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
    /// An OpenSSH private key without a passphrase
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
    let sequence = medium.sign(|bytes| key.sign(bytes))?;
    let fingerprint = key.fingerprint();
    if output.json() {
        return output
            .document(&json!({ "event": "signed", "sequence": sequence, "fingerprint": fingerprint }));
    }
    output.say(format_args!("Commit {sequence} signed with {fingerprint}."));
    Ok(())
}
