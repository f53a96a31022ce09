//! `pannier inventory`.

use std::path::{Path, PathBuf};

use super::node::NodeArgs;
use super::output::Output;
use super::{signals, text};
use crate::error::{Error, Result, Side};
use crate::inventory::signature_of;
use crate::medium::now;
use crate::node::take_inventory;
use crate::progress::Run;
use crate::trust::{INVENTORY_NAMESPACE, SigningKey};

/// Write down what this node holds, so that the next medium need not carry it
///
/// Take the file to where the medium is filled: `pannier export --have FILE` leaves out what the node
/// has. Layers are not read; `pannier images --check` does that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier inventory -o node1.json
  pannier inventory -o node1.json --sign-key /etc/ssh/ssh_host_ed25519_key
  pannier export ... --have node1.json --have node2.json")]
pub(super) struct Args {
    /// Where to write it [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it with this SSH key, as `pannier sign` takes them; the signature goes to FILE.sig
    #[arg(long, value_name = "KEY", requires = "output")]
    sign_key: Option<PathBuf>,
    /// What the node runs, such as linux/arm64 [default: asked from it]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let key = args.sign_key.as_deref().map(SigningKey::read).transpose()?;
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let node = args.node.survey(args.platform.as_deref(), &stop, output)?;
    let held = take_inventory(&node, now(), Run { reporter: &*reporter, stop: &stop })?;
    let bytes =
        held.to_bytes().map_err(|error| Error::invalid(Side::Node, "its inventory", error.to_string()))?;
    match &args.output {
        Some(path) => {
            let write = |path: &Path, bytes: &[u8]| {
                std::fs::write(path, bytes).map_err(Error::io(Side::Node, "write", path))
            };
            let signature = key.as_ref().map(|key| key.sign_in(INVENTORY_NAMESPACE, &bytes)).transpose()?;
            write(path, &bytes)?;
            if let (Some(key), Some(signature)) = (&key, signature) {
                write(&signature_of(path), &signature)?;
                output.say(format_args!("Signed with {}.", key.fingerprint()));
            }
        }
        None => output.file(&bytes)?,
    }
    if !held.only_unpacked.is_empty() {
        output.say(format_args!(
            "{} besides, of which layers are only unpacked: new images can stand on them, no delta can start from them.",
            text::count(held.only_unpacked.len(), "image"),
        ));
    }
    output.say(format_args!(
        "{}, {} of {} ({}), {}.",
        text::count(held.images.len(), "image"),
        text::count(held.layers.len(), "layer"),
        held.platform,
        held.containerd,
        text::size(bytes.len() as u64),
    ));
    Ok(())
}
