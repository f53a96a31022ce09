//! `completions` and `man`: what packagers need.

use std::path::PathBuf;

use clap_complete::Shell;

use super::output::Output;
use crate::error::{Error, Result, Side};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier completions bash > /etc/bash_completion.d/pannier")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

/// Write the manual pages
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory that they are written to
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(args: &Args, mut command: clap::Command, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pannier", &mut script);
    output.file(&script)
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(command, &args.out))
        .map_err(|source| Error::from_io(Side::Here, "write", args.out.clone(), source))
}
