//! `pannier repair`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::build_on::BuildArgs;
use super::export::Rename;
use super::failure::{Ended, Failure};
use super::output::Output;
use super::registry::RegistryArgs;
use super::sign::{self, SignArgs};
use super::source::Access;
use super::{signals, text};
use crate::error::Result;
use crate::medium::Medium;
use crate::plan::repair::{Remedy, RepairStep, name_at_source};
use crate::progress::Run;
use crate::repair::{Options, Prepared, Summary, carry_out, prepare, restorable_records, restore_records};
use crate::source::{LocalFiles, NamedPath, Source, SourceSpec};

/// Get back what is damaged or missing on a medium
///
/// Reads everything, as verify does, and makes again exactly what is damaged or missing: layers and
/// documents from recovery data on the medium (`export --recovery`) or a source, carried manifests and
/// index.json from what is on the medium. Each file is made under a fresh name and read back before it takes the place of the damaged one. Exit status 3 if some of it
/// could not be repaired, 4 if nothing could.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier repair /media/stick --from registry
  pannier repair /media/stick --from medium:/media/other --dry-run
  pannier repair /media/stick")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Where the images are: registry, containerd, oci:DIR, oci-archive:FILE, docker-archive:FILE or medium:DIR
    #[arg(long, value_name = "SOURCE")]
    from: Option<SourceSpec>,
    /// The socket of the containerd that is the source [default: where distributions put it]
    #[arg(long, short, value_name = "SOCKET", env = "CONTAINERD_ADDRESS")]
    address: Option<PathBuf>,
    /// The namespace of the containerd that is the source
    #[arg(long, short, value_name = "NAME", env = "CONTAINERD_NAMESPACE", default_value = "k8s.io")]
    namespace: String,
    /// A file that the medium carries, to take the place of its damaged bytes; may be given several times
    #[arg(long, value_name = "[NAME=]PATH", conflicts_with = "from")]
    file: Vec<NamedPath>,
    /// A rename that was given to the export; may be given several times
    #[arg(long, value_name = "FROM=TO")]
    rename: Vec<Rename>,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    build_on: BuildArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let renames = args.rename.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect();
    let options = Options { renames };
    let key = args.sign.key()?;
    let mut medium = Medium::open(&args.medium)?;
    let mut restored = Vec::new();
    let lock = if args.dry_run { None } else { Some(output.lock(&mut medium)?) };
    if !args.dry_run {
        medium.settle()?;
        medium = Medium::open(&args.medium)?;
        restored = restore_records(&mut medium)?;
    }
    args.build_on.ask(&mut medium, key.as_ref(), args.dry_run, output)?;
    if let Some(key) = key.clone() {
        medium.sign_commits(move |bytes| key.sign(bytes));
    }
    if medium.rejected().is_empty() {
        medium.committed()?;
    }
    let access =
        Access { address: args.address.as_deref(), namespace: &args.namespace, registry: &args.registry };
    let open = |from| access.open(from, || registries(&medium, &options), &stop, &reporter);
    if let Some(SourceSpec::Medium(path)) = &args.from {
        args.build_on.ask_source(path, output)?;
    }
    let source: Option<Box<dyn Source>> = match &args.from {
        _ if !args.file.is_empty() => Some(Box::new(LocalFiles::open(&args.file, run)?)),
        from => from.as_ref().map(open).transpose()?,
    };
    let source = source.as_deref();
    let prepared = prepare(&medium, source, &options, run)?;
    if args.dry_run {
        return Ok(describe(&prepared, &restorable_records(&medium)?, args, output)?);
    }
    let was_signed = medium.has_signature()?;
    let mut summary = Summary::default();
    if let Some(lock) = lock.as_ref().filter(|_| !prepared.is_nothing()) {
        announce(&prepared, output);
        summary = carry_out(&mut medium, lock, source, prepared, run)?;
    }
    summary.repaired.splice(0..0, restored);
    if summary.lost.is_empty() {
        sign::renew(&medium, key.as_ref(), was_signed, output)?;
    }
    conclude(&summary, args, output)
}

/// The registries that the names on the medium are to be asked from.
fn registries(medium: &Medium, options: &Options) -> BTreeSet<String> {
    let images = medium.record().into_iter().flat_map(|record| &record.images);
    let names = images.flat_map(|image| &image.names);
    names.map(|name| name_at_source(name, &options.renames).registry().to_owned()).collect()
}

/// Says before the first byte what was found.
fn announce(prepared: &Prepared, output: &Output) {
    let steps = &prepared.plan.steps;
    let bytes = steps.iter().map(|step| step.blob.size).sum();
    if !steps.is_empty() {
        output.say(format_args!(
            "{} damaged or missing, {}; {} of them cannot be had.",
            text::count(steps.len(), "blob"),
            text::size(bytes),
            prepared.plan.hopeless().count(),
        ));
    }
}

fn remedy(remedy: &Remedy) -> (&'static str, String) {
    match remedy {
        Remedy::Recover => ("recover", "from the recovery data".into()),
        Remedy::Fetch(pick) => ("fetch", format!("from {}", pick.image)),
        Remedy::Reencode(_, other, _) => ("encode", format!("from {} on the medium", other.digest)),
        Remedy::Encode(_, pick, _) => ("encode", format!("from {} of {}", pick.blob.digest, pick.image)),
        Remedy::File(file) => ("fetch", format!("file {}", file.name)),
        Remedy::AtRoot(file) => ("copy", format!("from {}", file.name.as_str())),
        Remedy::Derive => ("derive", "from what else is on the medium".into()),
    }
}

/// Prints the plan of a dry run.
fn describe(prepared: &Prepared, restorable: &[String], args: &Args, output: &Output) -> Result<()> {
    let first = |step: &RepairStep| step.remedies.first().map_or(("lost", String::new()), remedy);
    if output.json() {
        let blobs: Vec<_> = prepared
            .plan
            .steps
            .iter()
            .map(|step| {
                let (verdict, how) = first(step);
                let fault = prepared.damaged.get(&step.blob.digest).map(ToString::to_string);
                json!({ "digest": step.blob.digest, "size": step.blob.size, "role": step.role,
                    "verdict": verdict, "how": how, "fault": fault })
            })
            .collect();
        let records: Vec<_> = prepared.records.iter().map(|rejected| &rejected.name).collect();
        return output.document(&json!({ "blobs": blobs, "index": prepared.index,
            "layout": prepared.layout, "records": records, "restorable": restorable,
            "deltas": prepared.deltas().collect::<Vec<_>>(),
            "root": prepared.root.iter().map(|(file, _)| file.name).collect::<Vec<_>>(),
            "recovery": prepared.recovery_files().collect::<Vec<_>>() }));
    }
    let mut lines = String::new();
    for step in &prepared.plan.steps {
        let (verdict, how) = first(step);
        lines.push_str(&format!("{verdict:8} {} {how}\n", step.blob.digest));
    }
    for delta in prepared.deltas() {
        lines.push_str(&format!("lost     {delta} a delta, which only an export makes\n"));
    }
    if let Some(fault) = &prepared.index {
        lines.push_str(&format!("derive   index.json ({})\n", fault.escape_debug()));
    }
    for (file, fault) in &prepared.root {
        lines.push_str(&format!("copy     {} ({fault})\n", file.name.as_str()));
    }
    if prepared.layout.is_some() {
        lines.push_str("write    oci-layout\n");
    }
    for name in restorable {
        lines.push_str(&format!("recover  {name}\n"));
    }
    for name in prepared.recovery_files() {
        lines.push_str(&format!("make     .pannier/recovery/{name}\n"));
    }
    for rejected in prepared.records.iter().filter(|rejected| !restorable.contains(&rejected.name)) {
        let superseded = prepared.sequence.is_some_and(|newest| newest > rejected.sequence);
        lines.push_str(&format!("{:8} {}\n", if superseded { "remove" } else { "lost" }, rejected.name));
    }
    output.data(&lines)?;
    if !restorable.is_empty() {
        output.say("What the recovered commit names is looked at when it is there.");
    } else if prepared.is_nothing() {
        output.say(format_args!("{} is whole.", args.medium.display()));
    }
    output.say("Nothing was written.");
    Ok(())
}

/// Says what was done, and what is true of the medium now.
fn conclude(summary: &Summary, args: &Args, output: &Output) -> Ended {
    if output.json() {
        output.document(&json!({ "event": "summary", "repaired": summary.repaired, "lost": summary.lost,
            "commit": summary.commit }))?;
    } else {
        for repaired in &summary.repaired {
            output.say(format_args!("{}: {}", repaired.subject, repaired.how));
        }
        let mut lines = String::new();
        for lost in &summary.lost {
            lines.push_str(&format!("lost {}: {}\n", lost.subject, lost.reason.escape_debug()));
            for image in &lost.images {
                lines.push_str(&format!("    needed by {image}\n"));
            }
        }
        output.data(&lines)?;
    }
    let (repaired, lost) = (summary.repaired.len(), summary.lost.len());
    if lost > 0 {
        return Err(Failure::Unrepaired { repaired, lost });
    }
    let medium = args.medium.display();
    match (repaired, summary.commit) {
        (0, _) => output.say(format_args!("{medium} is whole: nothing to repair.")),
        (n, None) => {
            output.say(format_args!("{medium} is whole again: {} repaired.", text::count(n, "file")))
        }
        (n, Some(commit)) => output.say(format_args!(
            "{medium} is whole again, as commit {commit}: {} repaired, some with other bytes than before.",
            text::count(n, "file")
        )),
    }
    Ok(())
}
