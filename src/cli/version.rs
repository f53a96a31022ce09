//! `pannier version`.

use serde_json::json;

use super::output::Output;
use crate::error::Result;

/// Show the versions of the program, of what it writes, and of zstd
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier version")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, output: &Output) -> Result<()> {
    let number = zstd_safe::version_number();
    let zstd = format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100);
    let (version, medium, inventory) =
        (env!("CARGO_PKG_VERSION"), crate::record::FORMAT, crate::inventory::FORMAT);
    if output.json() {
        return output.document(
            &json!({ "version": version, "medium": medium, "inventory": inventory, "zstd": zstd }),
        );
    }
    output.data(&format!("pannier {version}\nmedium    {medium}\ninventory {inventory}\nzstd      {zstd}\n"))
}
