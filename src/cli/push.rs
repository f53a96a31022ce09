//! `pannier push`.

use std::path::PathBuf;

use serde_json::json;

use super::failure::{Ended, Failure};
use super::node::references;
use super::output::Output;
use super::registry::RegistryArgs;
use super::trust::TrustArgs;
use super::{signals, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::progress::Run;
use crate::push::plan::{Existing, Failed, Target};
use crate::push::{Fate, Options, Prepared, Summary, carry_out, prepare};
use crate::source::registry::Registry;

/// Put the images of a medium into a registry
///
/// Only what the registry lacks is sent. A blob that is cut off goes on where it was, also in another run. An
/// image arrives under upstream's digest where all its layers are kept as upstream has them, and under the
/// carried one otherwise; which one is said for each. See docs/mirror.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier push /media/stick mirror.example:5000
  pannier push /media/stick harbor.example/k8s nginx:1.27 --existing overwrite
  pannier push /media/stick mirror.example:5000 --with-registry --dry-run")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// The registry, and the path below which everything goes
    #[arg(value_name = "REGISTRY[/PREFIX]")]
    target: Target,
    /// Images to push [default: all on the medium]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// What becomes of a tag that is there and points elsewhere
    #[arg(long, value_enum, value_name = "POLICY", default_value = "error")]
    existing: Policy,
    /// Keep the registry of each image as a part of its path, as in mirror.example/ghcr.io/team/app
    #[arg(long)]
    with_registry: bool,
    /// Fail for an image that cannot arrive under upstream's digest
    #[arg(long)]
    require_original: bool,
    /// Push the other images when one fails
    #[arg(long)]
    keep_going: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What becomes of a tag that is there and points elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    /// It stays, and the image is not pushed under it
    Keep,
    /// It points at the image of the medium afterwards
    Overwrite,
    /// Nothing is pushed
    Error,
}

impl From<Policy> for Existing {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Keep => Self::Keep,
            Policy::Overwrite => Self::Overwrite,
            Policy::Error => Self::Error,
        }
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let target = Target { with_registry: args.with_registry, ..args.target.clone() };
    let medium = args.trust.open(&args.medium, output)?;
    for rejected in medium.rejected() {
        output.complain(format_args!("warning: {}: {}; it is ignored", rejected.name, rejected.reason));
    }
    let reach = args.registry.options(&[target.registry.clone()].into(), &stop, &reporter)?;
    if reach.hosts_dir.is_some() {
        return Err(Error::Usage("a push goes to the registry itself: leave --hosts-dir out".into()).into());
    }
    let options = Options {
        target,
        images: references(&args.images)?,
        existing: args.existing.into(),
        require_original: args.require_original,
        keep_going: args.keep_going,
        retries: reach.retries,
        state: Config::read(args.trust.config()).ok().map(|config| config.state_directory),
    };
    let registry = Registry::new(reach)?;
    let (prepared, failed) = prepare(&medium, &registry, &options, run)?;
    describe(&prepared, output)?;
    if args.dry_run {
        return partial(prepared.len(), failed);
    }
    let mut summary = carry_out(&medium, &registry, &prepared, &options, run)?;
    conclude(&summary, output)?;
    summary.failed.extend(failed);
    partial(summary.images, summary.failed)
}

fn partial(done: usize, failed: Failed) -> Ended {
    if failed.is_empty() { Ok(()) } else { Err(Failure::Partial { total: done + failed.len(), failed }) }
}

/// Says for each name where it goes, and under which digest.
fn describe(prepared: &[Prepared], output: &Output) -> Result<()> {
    let mut table = String::new();
    for Prepared { image, fates } in prepared {
        for (name, fate) in image.names.iter().zip(fates) {
            let whose = if image.upstream { "upstream's digest" } else { "the carried digest" };
            let (becomes, id) = match fate {
                Fate::New => ("new", "new"),
                Fate::Same => ("there already", "there"),
                Fate::Kept => ("kept as it is there", "kept"),
                Fate::Overwritten => ("overwritten", "overwritten"),
            };
            if output.json() {
                output.document(&json!({
                    "event": "name",
                    "name": name.own,
                    "target": name.target,
                    "digest": image.root.digest,
                    "original": image.original,
                    "upstream": image.upstream,
                    "fate": id,
                }))?;
            } else if output.talks() {
                let digest = image.root.digest.short();
                table += &format!("{} -> {}: {becomes}, {whose} ({digest})\n", name.own, name.target);
            }
        }
        if image.referrers_left > 0 {
            let left = text::count(image.referrers_left, "referrer");
            output.complain(format_args!(
                "warning: {}: {left} not pushed: upstream's digest, which they are about, cannot be there",
                image.title()
            ));
        }
    }
    output.data(&table)
}

fn conclude(summary: &Summary, output: &Output) -> Result<()> {
    if output.json() {
        return output.document(&json!({
            "event": "summary",
            "images": summary.images,
            "namesWritten": summary.written,
            "namesThere": summary.same,
            "namesKept": summary.kept,
            "blobsSent": summary.blobs,
            "bytesSent": summary.sent,
            "blobsMounted": summary.mounted,
            "referrersSent": summary.referrers,
        }));
    }
    if summary.written == 0 && summary.sent == 0 && summary.referrers == 0 {
        output.say(format_args!("Nothing was sent: {} there already.", text::count(summary.same, "name")));
        return Ok(());
    }
    output.say(format_args!(
        "{}: {} sent, {}; {} mounted; {} written{}.",
        text::count(summary.images, "image"),
        text::count(summary.blobs, "blob"),
        text::size(summary.sent),
        text::count(summary.mounted, "blob"),
        text::count(summary.written, "name"),
        text::and_count(summary.referrers, "referrer"),
    ));
    Ok(())
}
