//! `pannier import`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::failure::{Ended, Failure};
use super::foreign::Foreign;
use super::node::{NodeArgs, references};
use super::output::Output;
use super::planned::{self, Planned};
use super::trust::TrustArgs;
use super::{pruned, signals, text, volumes};
use crate::error::{Error, Result};
use crate::image::Reference;
use crate::import::{self, Options, Summary, carry_out, missing_volumes, plan_prune, prepare};
use crate::node::{Node, PrunedNames, Sandbox};
use crate::plan::import::prune::{PrunePlan, Scope};
use crate::plan::import::{ImportPlan, StuckSnapshot};
use crate::progress::Run;
use crate::record::Volume;
use crate::trust::Admitted;

/// Put images from a medium into containerd, where kubelet finds them
///
/// Only what the node lacks is sent: a layer that it has in any encoding is not sent again. When it
/// is cut off, the same command goes on. An image gets its names last, when all of it is there.
#[derive(Debug, clap::Args)]
#[command(help_template = super::HELP, after_help = "\
Examples:
  pannier import /media/stick
  pannier import /media/stick nginx:1.22 --dry-run
  pannier import /media/stick --prune --dry-run
  pannier import /media/stick --repair")]
pub(super) struct Args {
    /// The medium's directory; or a layout or archive of another tool, such as images.tar, oci:DIR, oci-archive:FILE
    /// or docker-archive:FILE
    medium: PathBuf,
    /// Images to import [default: all on the medium]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// The full name for the one image of another tool's that is asked for, that is there, or that has none
    #[arg(long = "as", value_name = "REF", help_heading = "What", hide_short_help = true)]
    rename_to: Option<Reference>,
    #[command(flatten)]
    node: NodeArgs,
    /// The platform to import [default: the node's]
    #[arg(long, value_name = "PLATFORM", help_heading = "What", hide_short_help = true)]
    platform: Option<String>,
    /// Only send; containerd unpacks when the first container starts
    #[arg(long, help_heading = "Care", hide_short_help = true)]
    no_unpack: bool,
    /// Keep no layers once they are unpacked, which takes about half the disk
    ///
    /// Pods start as before. What needs the layers does not work: exporting from the node, `serve --from
    /// containerd`, the registries of k3s and RKE2 between nodes, another snapshotter, deltas against them.
    #[arg(long, conflicts_with = "no_unpack", help_heading = "Care", hide_short_help = true)]
    discard_layers: bool,
    /// Let kubelet collect the images when its disk fills up
    #[arg(long, help_heading = "Care", hide_short_help = true)]
    no_pin: bool,
    /// Hash what the node holds of the images, and replace what is damaged
    #[arg(long, help_heading = "Care")]
    repair: bool,
    /// Import the other images when one fails
    #[arg(long, help_heading = "Care")]
    keep_going: bool,
    /// Afterwards take away what earlier imports brought and the medium no longer has
    ///
    /// Only images that came from this medium, unless it is --prune=all; never what a container uses,
    /// or what somebody else put there. Not done when an image could not be imported.
    #[arg(long, value_name = "SCOPE", num_args = 0..=1, require_equals = true, default_missing_value = "medium", help_heading = "Care")]
    prune: Option<PruneScope>,
    /// Say what would be done, and change nothing
    #[arg(long, help_heading = "Care")]
    dry_run: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Whose images `--prune` takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PruneScope {
    /// Those that came from this medium
    Medium,
    /// Those that came from any medium
    All,
}

impl From<PruneScope> for Scope {
    fn from(scope: PruneScope) -> Self {
        match scope {
            PruneScope::Medium => Self::Medium,
            PruneScope::All => Self::All,
        }
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let foreign = Foreign::find(&args.medium);
    if foreign.is_none() && args.rename_to.is_some() {
        let text = "--as is for what other tools wrote; on a medium images have names";
        return Err(Error::Usage(text.into()).into());
    }
    let options = Options {
        // Of what is adopted nothing else is read.
        images: if foreign.is_some() { Vec::new() } else { references(&args.images)? },
        unpack: !args.no_unpack,
        pin: !args.no_pin,
        repair: args.repair,
        keep_going: args.keep_going,
        discard_layers: args.discard_layers,
    };
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    while let Some((volume, missing)) = import_one(args, foreign.as_ref(), &options, run, output)? {
        volumes::ask_for_next(&volume, missing, &args.medium, output)?;
    }
    Ok(())
}

/// Imports the medium that is there. Where it is one of several and all of it was asked for, the numbers of
/// those that are missing.
fn import_one(
    args: &Args,
    foreign: Option<&Foreign>,
    options: &Options,
    run: Run<'_>,
    output: &Output,
) -> Ended<Option<(Volume, Vec<u32>)>> {
    let began = Instant::now();
    if let Some(foreign) = foreign {
        let node = args.node.survey(args.platform.as_deref(), run.stop, output)?;
        let name = args.rename_to.as_ref();
        let medium = foreign.open(&args.images, name, &node.platform, &args.trust, run, output)?;
        return import_from(args, &Admitted::unchecked(medium), &node, options, (run, began), output);
    }
    let medium = args.trust.open(&args.medium, output)?;
    output.warn_of_ignored(&medium);
    let node = args.node.survey(args.platform.as_deref(), run.stop, output)?;
    import_from(args, &medium, &node, options, (run, began), output)
}

fn import_from(
    args: &Args,
    medium: &Admitted,
    node: &Node,
    options: &Options,
    (run, began): (Run<'_>, Instant),
    output: &Output,
) -> Ended<Option<(Volume, Vec<u32>)>> {
    if args.dry_run {
        let mut planned = Planned::default();
        let see = |plan: &ImportPlan| planned.add(plan, output.json());
        let prepared = prepare(medium, node, options, see, run)?;
        let pruning = args.prune.filter(|_| prepared.failed.is_empty());
        let pruning = pruning.map(|scope| plan_prune(medium, node, &planned.moving, scope.into()));
        planned.describe(&prepared, pruning.transpose()?.as_ref(), node, output)?;
        return Ok(None);
    }
    for (runtime, snapshotter) in &node.other_runtimes {
        output.complain(format_args!(
            "warning: pods of runtime {runtime} unpack with {snapshotter}, for which nothing is unpacked: say --snapshotter for each of {}, {snapshotter}",
            node.snapshotters.join(", "),
        ));
    }
    let prepared = prepare(medium, node, options, |_| {}, run)?;
    planned::announce(&prepared, node, output);
    let summary = carry_out(medium, node, prepared, options, run)?;
    let pruning = args.prune.filter(|_| summary.failed.is_empty());
    let pruned = pruning.map(|scope| import::prune(medium, node, scope.into(), run)).transpose();
    // What was imported is said also where pruning failed.
    conclude(&summary, pruned.as_ref().ok().and_then(Option::as_ref), output)?;
    pruned?;
    if node.cri
        && let Sandbox::Missing(name) = Sandbox::of(&node.client, &node.version, Path::new("/"))
    {
        output.complain(format_args!(
            "warning: the node does not have {name}, which every pod's sandbox runs: no pod starts before it is there; carry it as well"
        ));
    }
    if args.discard_layers {
        output.say("No layers are kept: exporting from this node, serving from it and deltas against its layers do not work.");
    }
    for stuck in &summary.stuck {
        output.complain(format_args!(
            "node: unpacked layer {} ({} of {}) is damaged: {}; it is in use by {}",
            stuck.diff_id,
            stuck.chain_id,
            stuck.snapshotter,
            stuck.fault,
            users(stuck),
        ));
    }
    if !summary.failed.is_empty() {
        if args.prune.is_some() {
            output.say("Nothing was taken away, since not everything was imported.");
        }
        return Err(Failure::Partial {
            total: summary.images + summary.failed.len(),
            failed: summary.failed,
        });
    }
    if !summary.stuck.is_empty() {
        output.say("Remove what uses it, and run the import with --repair again.");
        return Err(Failure::Damaged { errors: summary.stuck.len() });
    }
    args.trust.remember(medium)?;
    let (images, time) = (text::count(summary.images, "image"), text::duration(began.elapsed()));
    let are = if summary.images == 1 { "is" } else { "are" };
    let how = if options.unpack { "ready" } else { "sent, not unpacked," };
    let done = format!("Done: {images} {are} {how} on this node ({time})");
    let volume =
        medium.record().and_then(|record| record.volume.clone()).filter(|_| options.images.is_empty());
    let Some(volume) = volume else {
        output.say(done);
        return Ok(None);
    };
    let missing = missing_volumes(node, &volume)?;
    if missing.is_empty() {
        output.say(format_args!("All {} volumes of this set are on the node.", volume.of));
        output.say(done);
        return Ok(None);
    }
    Ok(Some((volume, missing)))
}

/// What keeps a damaged snapshot from being made anew.
fn users(stuck: &StuckSnapshot) -> String {
    let others = text::count(stuck.others, "layer");
    let others = (stuck.others > 0).then(|| format!("{others} of images that are not imported here"));
    let users: Vec<String> = stuck.users.iter().cloned().chain(others).collect();
    users.join(", ")
}

/// Says what was done.
pub(super) fn conclude(
    summary: &Summary,
    pruned: Option<&(PrunePlan, PrunedNames)>,
    output: &Output,
) -> Result<()> {
    if output.json() {
        let mut document = json!({
            "event": "summary",
            "images": summary.images,
            "layersSent": summary.layers,
            "layersRebuilt": summary.rebuilt,
            "bytesSent": summary.sent,
            "bytesReused": summary.reused,
            "layersUnpacked": summary.unpacked,
            "names": summary.named,
        });
        if let Some((plan, done)) = pruned {
            document["prune"] = pruned::json(plan);
            document["bytesFreed"] = done.freed.into();
        }
        return output.document(&document);
    }
    let images = text::count(summary.images, "image");
    if summary.sent == 0 && summary.named == 0 && summary.unpacked == 0 {
        if summary.failed.is_empty() {
            output.say(format_args!("The node has all of it already: {images}."));
        }
    } else {
        output.say(format_args!(
            "{images}: {} sent, {}; {} on the node already. {} unpacked, {} made.",
            text::count(summary.layers, "layer"),
            text::size(summary.sent),
            text::size(summary.reused),
            text::count(summary.unpacked, "layer"),
            text::count(summary.named, "name"),
        ));
    }
    if let Some((plan, done)) = pruned {
        pruned::conclude(plan, *done, output);
    }
    Ok(())
}
