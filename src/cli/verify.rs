//! `pannier verify`.

use std::path::PathBuf;

use super::failure::{Ended, Failure};
use super::output::Output;
use super::trust::TrustArgs;
use super::{signals, text};
use crate::error::{Error, Result};
use crate::progress::Run;
use crate::record::Level;
use crate::verify::{Finding, Report, Severity, verify_at};

/// Read everything on a medium back and report whatever is damaged or missing
///
/// Compares every blob with its size and digest, the commit record with its checksum, index.json with
/// the record, and follows every image from its original digest to its layers. Everything is looked
/// at, whatever is found. Exit status 4 if something is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier verify --deep /media/stick")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Decode each layer as well and compare what comes out with its diff_id
    #[arg(long)]
    deep: bool,
    /// Fail unless reading it proves that much: V0+, V1 (from the device), V2 (with 1 GiB of other bytes between) or V3
    /// (after the medium was plugged in again)
    #[arg(long, value_name = "LEVEL")]
    require_verify: Option<Level>,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let medium = args.trust.open_to_look(&args.medium, output)?;
    let reporter = output.reporter();
    let report =
        verify_at(&medium, args.deep, args.require_verify, Run { reporter: &*reporter, stop: &stop })?;
    if output.json() {
        output.document(&report)?;
    } else {
        print(&report, args, output)?;
    }
    if report.errors() > 0 {
        return Err(Failure::Findings { errors: report.errors() });
    }
    let reached = report.level.unwrap_or(Level::Written);
    match args.require_verify.filter(|required| *required > reached) {
        None => Ok(()),
        Some(required) => {
            let reason = report.limit.unwrap_or("its blobs come to less than 1 GiB").to_owned();
            Err(Error::Unproven { reached, required, reason }.into())
        }
    }
}

fn print(report: &Report, args: &Args, output: &Output) -> Result<()> {
    let mut lines = String::new();
    report.findings.iter().for_each(|finding| lines.push_str(&describe(finding)));
    output.data(&lines)?;
    if report.errors() == 0 {
        let depth = if report.deep { ", every layer that is there decoded" } else { "" };
        output.say(format_args!(
            "{} is whole: {}{}, {} in {} read and hashed{depth} ({}).",
            args.medium.display(),
            text::count(report.images, "image"),
            text::and_count(report.files, "file"),
            text::size(report.bytes),
            text::count(report.blobs, "blob"),
            report.level.unwrap_or(Level::Written),
        ));
    }
    Ok(())
}

/// A finding, and the images that it concerns.
pub(super) fn describe(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let (subject, detail) = (finding.subject.escape_debug(), finding.detail.escape_debug());
    let mut lines = format!("{severity} {}: {subject}: {detail}\n", finding.id);
    for image in &finding.images {
        lines.push_str(&format!("    needed by {image}\n"));
    }
    lines
}
