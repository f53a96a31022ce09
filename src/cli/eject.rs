//! `pannier eject`.

use std::path::PathBuf;

use serde_json::json;

use super::failure::{Ended, Failure};
use super::output::Output;
use super::{signals, text, verify};
use crate::eject::{mount_of, unmount};
use crate::medium::Medium;
use crate::progress::Run;
use crate::record::Level;
use crate::verify::Severity;

/// Make a medium safe to pull out
///
/// Brings everything to the device, reads it back unless the newest export did, and unmounts it. Only then it
/// is safe to remove. Says who uses it where it cannot be unmounted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier eject /media/stick")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Do not read it back, whether the newest export did or not
    #[arg(long)]
    no_verify: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let mount = mount_of(&args.medium)?;
    let mut medium = Medium::open(&args.medium)?;
    let lock = output.lock(&mut medium)?;
    let readers = medium.shut_out_readers()?;
    medium.sync()?;
    let mut level = medium.record().and_then(|record| record.verified);
    if level.is_none_or(|level| level == Level::Written) && !args.no_verify {
        let report = crate::verify::verify(&medium, false, run)?;
        for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            output.complain(verify::describe(finding).trim_end());
        }
        match report.errors() {
            0 => level = report.level,
            errors => return Err(Failure::Findings { errors }),
        }
    }
    run.check()?;
    let commit = medium.record().map(|record| record.sequence);
    let images = medium.record().map_or(0, |record| record.images.len());
    drop((medium, lock, readers));
    unmount(&mount)?;
    if output.json() {
        let (mount, device) = (&mount.point, &mount.source);
        return Ok(output.document(&json!({ "event": "ejected", "mount": mount, "device": device,
            "commit": commit, "verification": level }))?);
    }
    let verified = level.map_or("not verified".to_owned(), |level| format!("verified ({level})"));
    output.say(format_args!(
        "Safe to remove: {} is unmounted. Commit {}, {}, {verified}.",
        mount.point.display(),
        commit.map_or("none".to_owned(), |commit| commit.to_string()),
        text::count(images, "image"),
    ));
    Ok(())
}
