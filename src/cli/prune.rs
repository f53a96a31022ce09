//! `pannier prune`.

use std::path::PathBuf;

use serde_json::json;

use super::build_on::BuildArgs;
use super::failure::{Ended, Failure};
use super::node::references;
use super::output::Output;
use super::sign::{self, SignArgs};
use super::{signals, text, verify};
use crate::error::Result;
use crate::medium::Medium;
use crate::plan::prune::{Pruning, Selection};
use crate::progress::Run;
use crate::prune::{Summary, carry_out, damage, finish_earlier_run, prepare};
use crate::record::FileName;
use crate::recovery::Percent;

/// Take images off a medium, and delete what nothing on it needs any more
///
/// With none of --image, --file and --keep only what no image needs is deleted: layers of images that lost their
/// names to newer ones. What other tools put on the medium stays. Everything is read first, and nothing is
/// done while something is damaged. When it is cut off, the same command goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier prune /media/stick --image nginx:1.22 --dry-run
  pannier prune /media/stick --keep 2")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Names to drop; an image goes with its last name
    #[arg(long, value_name = "REF", num_args = 1..)]
    image: Vec<String>,
    /// Files beside the images to drop
    #[arg(long, value_name = "NAME", num_args = 1..)]
    file: Vec<FileName>,
    /// Drop images that were last exported before the Nth newest export
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Delete blobs as well that nothing refers to, such as what another tool left half done
    #[arg(long)]
    unreferenced: bool,
    /// Go on if all that is damaged is deleted by it
    #[arg(long)]
    drop_damaged: bool,
    /// How much recovery data there is to be afterwards, such as 10%, or none [default: as before]
    #[arg(long, value_name = "PERCENT")]
    recovery: Option<Percent>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    build_on: BuildArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let selection = Selection {
        names: references(&args.image)?.into_iter().collect(),
        files: args.file.iter().cloned().collect(),
        keep: args.keep.map(|keep| keep as usize),
        unreferenced: args.unreferenced,
    };
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let key = args.sign.key()?;
    let mut medium = Medium::open(&args.medium)?;
    if args.dry_run {
        args.build_on.ask(&mut medium, key.as_ref(), true, output)?;
        let plan = prepare(&medium, &selection)?;
        return Ok(describe(&plan, args, output)?);
    }
    let lock = output.lock(&mut medium)?;
    args.build_on.ask(&mut medium, key.as_ref(), false, output)?;
    if let Some(key) = key.clone() {
        medium.sign_commits(move |bytes| key.sign(bytes));
    }
    // Whoever reads now has to end first; it is no use to read everything before that is known.
    drop(medium.shut_out_readers()?);
    finish_earlier_run(&medium)?;
    let plan = prepare(&medium, &selection)?;
    announce(&plan, args, output);
    let was_signed = medium.has_signature()?;
    if plan.is_nothing() {
        sign::renew(&medium, key.as_ref(), was_signed, output)?;
        return Ok(conclude(&plan, None, args, output)?);
    }
    let damaged = damage(&medium, &plan, args.drop_damaged, run)?;
    if !damaged.is_empty() {
        if output.json() {
            output.document(&json!({ "event": "damaged", "findings": damaged }))?;
        } else {
            damaged.iter().for_each(|finding| output.complain(verify::describe(finding).trim_end()));
        }
        return Err(Failure::Findings { errors: damaged.len() });
    }
    let readers = medium.shut_out_readers()?;
    if !readers.is_certain() {
        output.complain("warning: it cannot be seen whether another pannier reads from it");
    }
    let summary = carry_out(&mut medium, &lock, &plan, args.recovery.map(|percent| percent.0), run)?;
    sign::renew(&medium, key.as_ref(), was_signed, output)?;
    conclude(&plan, Some(&summary), args, output)?;
    Ok(())
}

fn announce(plan: &Pruning, args: &Args, output: &Output) {
    for name in &plan.already {
        output.say(format_args!("{name} is not on {} any more.", args.medium.display()));
    }
    if plan.strays > 0 {
        output.say(format_args!(
            "{} that nothing refers to may be another tool's; --unreferenced deletes them as well.",
            text::count(plan.strays, "blob")
        ));
    }
}

/// Prints the plan of a dry run.
fn describe(plan: &Pruning, args: &Args, output: &Output) -> Result<()> {
    if output.json() {
        return output.document(&document(plan));
    }
    let mut lines = String::new();
    for name in &plan.names {
        lines.push_str(&format!("drop    {name}\n"));
    }
    for name in &plan.files {
        lines.push_str(&format!("drop    file {name}\n"));
    }
    for (what, files) in [("blob", &plan.blobs), ("delta", &plan.deltas)] {
        for (digest, size) in files {
            lines.push_str(&format!("delete  {what} {digest} {}\n", text::size(*size)));
        }
    }
    output.data(&lines)?;
    announce(plan, args, output);
    output.say(format_args!("{} would become free. Nothing was changed.", text::size(plan.bytes())));
    Ok(())
}

fn document(plan: &Pruning) -> serde_json::Value {
    json!({
        "names": plan.names,
        "files": plan.files,
        "images": plan.images,
        "blobs": plan.blobs.keys().collect::<Vec<_>>(),
        "deltas": plan.deltas.keys().collect::<Vec<_>>(),
        "bytes": plan.bytes(),
        "unreferenced": plan.strays,
    })
}

/// Says what was done.
fn conclude(plan: &Pruning, summary: Option<&Summary>, args: &Args, output: &Output) -> Result<()> {
    if output.json() {
        let mut document = document(plan);
        document["event"] = "summary".into();
        document["commit"] = json!(summary.map(|summary| summary.sequence));
        document["bytesRecovery"] = json!(summary.map_or(0, |summary| summary.recovery));
        return output.document(&document);
    }
    let medium = args.medium.display();
    let Some(summary) = summary else {
        output.say(format_args!("{medium} has nothing to prune."));
        return Ok(());
    };
    output.say(format_args!(
        "{} and {} taken off {medium}, {} deleted, {} free. It is commit {} now: sign it again if it was signed. Unmount it before you pull it out.",
        text::count(plan.images, "image"),
        text::count(plan.files.len(), "file"),
        text::count(plan.blobs.len() + plan.deltas.len(), "blob"),
        text::size(plan.bytes()),
        summary.sequence,
    ));
    Ok(())
}
