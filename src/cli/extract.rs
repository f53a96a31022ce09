//! `pannier extract`.

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use super::trust::TrustArgs;
use super::{signals, text};
use crate::error::{Error, Result};
use crate::extract::{Extracted, extract, select};
use crate::medium::Destination;
use crate::progress::Run;
use crate::record::FileName;

/// Write files that a medium carries beside its images into a directory
///
/// Each is hashed while it is copied, and gets its name when all of it is there and right. A file that is
/// there already with the same bytes is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier extract /media/stick k8s.snap k8s.assert -o /root/snaps
  pannier extract /media/stick --all -o /root/snaps")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// The files to write
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// Every file on the medium
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// The directory to write them into; it is made if it is not there
    #[arg(long, short = 'o', value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Replace what has a file's name and other bytes
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let names: Result<Vec<FileName>, _> = args.names.iter().map(|name| name.parse()).collect();
    let names = names.map_err(|error| Error::Usage(error.to_string()))?;
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let medium = args.trust.open(&args.medium, output)?;
    let files = select(&medium, &names)?;
    let to = Destination::create(&args.output)?;
    let extracted = extract(&medium, &files, &to, args.force, run)?;
    args.trust.remember(&medium)?;
    let of = |state| extracted.iter().filter(|became| **became == state).count();
    if output.json() {
        let files: Vec<_> = files
            .iter()
            .zip(&extracted)
            .map(|(file, became)| {
                let became = match became {
                    Extracted::Written => "written",
                    Extracted::Unchanged => "unchanged",
                    Extracted::Replaced => "replaced",
                };
                json!({ "name": file.name, "digest": file.digest, "size": file.size, "verdict": became })
            })
            .collect();
        return output.document(&json!({ "event": "summary", "files": files }));
    }
    output.say(format_args!(
        "{} written to {}, hashed; {} there already.",
        text::count(of(Extracted::Written) + of(Extracted::Replaced), "file"),
        args.output.display(),
        of(Extracted::Unchanged),
    ));
    Ok(())
}
