//! `pannier files`.

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use super::text;
use crate::error::Result;
use crate::extract::{select, size};
use crate::medium::Medium;
use crate::record::CarriedFile;

/// List the files that a medium carries beside its images
///
/// They were put there by `export --file`; `pannier extract` gets them back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier files /media/stick")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Print the digests as well
    #[arg(long)]
    digests: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let medium = Medium::open(&args.medium)?;
    let files: Vec<CarriedFile> = select(&medium, &[])?.into_iter().cloned().collect();
    if output.json() {
        return output.document(&json!({ "files": files }));
    }
    if files.is_empty() {
        output.say(format_args!("{} carries no files; `pannier list` lists images.", args.medium.display()));
        return Ok(());
    }
    output.data(&table(&files, args.digests || output.verbose()))?;
    let count = text::count(files.len(), "file");
    output.say(format_args!("{count} in {}.", text::size(size(&files))));
    Ok(())
}

/// A table of files.
pub(super) fn table(files: &[CarriedFile], digests: bool) -> String {
    let names = files.iter().map(|file| file.name.as_str().len());
    let width = names.max().unwrap_or(0).max(4);
    let mut table = format!("{:width$}  {:>8}\n", "FILE", "SIZE");
    for file in files {
        let program = if file.executable { "  program" } else { "" };
        let name = file.name.as_str();
        table.push_str(&format!("{name:width$}  {:>8}{program}\n", text::size(file.size)));
        if digests {
            table.push_str(&format!("    {}\n", file.digest));
        }
    }
    table
}
