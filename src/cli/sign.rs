//! `pannier sign`, and opening a medium whose signature counts.

use std::path::{Path, PathBuf};

use serde_json::json;
use time::OffsetDateTime;

use super::output::Output;
use crate::error::Result;
use crate::medium::Medium;
use crate::trust::{AllowedSigners, SigningKey};

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
    let medium = Medium::open(path)?;
    let _lock = medium.lock()?;
    // Again, under the lock: an export may just have ended.
    let sequence = Medium::open(path)?.sign(|bytes| key.sign(bytes))?;
    let fingerprint = key.fingerprint();
    if output.json() {
        return output
            .document(&json!({ "event": "signed", "sequence": sequence, "fingerprint": fingerprint }));
    }
    output.say(format_args!("Commit {sequence} signed with {fingerprint}."));
    Ok(())
}

/// Opens a medium; with a file of allowed signers only if one of them signed it.
pub(super) fn open(path: &Path, allowed: Option<&Path>, output: &Output) -> Result<Medium> {
    let Some(allowed) = allowed else { return Medium::open(path) };
    let allowed = AllowedSigners::read(allowed)?;
    Medium::open_signed(path, |bytes, signatures| {
        for signer in allowed.check(bytes, signatures, OffsetDateTime::now_utc())? {
            output.say(format_args!("Signed by {signer}."));
        }
        Ok(())
    })
}
