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
    let (sequence, signed) =
        medium.sign(
            |bytes, signatures| {
                if key.has_signed(bytes, signatures) { Ok(None) } else { key.sign(bytes).map(Some) }
            },
        )?;
    let fingerprint = key.fingerprint();
    if output.json() {
        return output
            .document(&json!({ "event": "signed", "sequence": sequence, "fingerprint": fingerprint, "changed": signed }));
    }
    let already = if signed { "" } else { "already " };
    output.say(format_args!("Commit {sequence} is {already}signed with {fingerprint}."));
    Ok(())
}
