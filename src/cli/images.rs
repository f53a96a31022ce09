//! `pannier images`.

use serde_json::json;

use super::failure::{Ended, Failure};
use super::node::{NodeArgs, references};
use super::output::Output;
use super::{signals, text};
use crate::images::{NodeImage, list, record_names};
use crate::node::{Node, check_images, unpin};
use crate::progress::{Run, Stop};

/// List the images of this node as kubelet sees them
///
/// FROM tells the medium that an image was imported from, and the export on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier images
  pannier images --check
  pannier images --unpin nginx:1.22")]
pub(super) struct Args {
    /// Images to check or unpin [default: all; with --unpin, all that pannier imported]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    node: NodeArgs,
    /// Read and hash everything that containerd holds of the images, and compare with it what is unpacked
    ///
    /// Of an unpacked file its type, size, mode, owner, link and attributes; its bytes with --check=content.
    #[arg(long, conflicts_with = "unpin", value_name = "DEPTH", num_args = 0..=1, require_equals = true, default_missing_value = "files")]
    check: Option<CheckDepth>,
    /// Let kubelet collect the images
    #[arg(long)]
    unpin: bool,
    /// Print digests as well
    #[arg(long)]
    digests: bool,
}

/// How closely unpacked files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CheckDepth {
    /// What is said of each file
    Files,
    /// Their bytes as well
    Content,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let stop = signals::stop()?;
    let node = args.node.survey(None, &stop, output)?;
    let names = record_names(&node, &references(&args.images)?)?;
    if let Some(depth) = args.check {
        return check(&node, &names, depth == CheckDepth::Content, &stop, output);
    }
    if args.unpin {
        let unpinned = unpin(&node.client, &names)?;
        if output.json() {
            return Ok(output.document(&json!({ "unpinned": unpinned }))?);
        }
        output.say(format_args!("{} unpinned.", text::count(unpinned.len(), "name")));
        return Ok(());
    }
    let mut images = list(&node)?;
    if !names.is_empty() {
        images.retain(|image| image.tags.iter().chain(&image.digests).any(|name| names.contains(name)));
    }
    if output.json() {
        return Ok(output.document(&json!({ "images": images }))?);
    }
    if output.quiet() {
        let names =
            images.iter().flat_map(|image| if image.tags.is_empty() { &image.digests } else { &image.tags });
        return Ok(output.data(&names.map(|name| format!("{name}\n")).collect::<String>())?);
    }
    output.data(&table(&images, args.digests || output.verbose()))?;
    Ok(())
}

fn table(images: &[NodeImage], digests: bool) -> String {
    let names = images.iter().map(|image| name(image).chars().count());
    let width = names.max().unwrap_or(0).max(5);
    let mut table =
        format!("{:width$}  {:12}  {:>8}  {:6}  {:8}  FROM\n", "IMAGE", "ID", "SIZE", "PINNED", "UNPACKED");
    let yes = |is| if is { "yes" } else { "no" };
    for image in images {
        let from = image.from.as_ref().map_or("-".to_owned(), |from| {
            let medium: String = from.medium.chars().take(8).collect();
            format!("{medium} #{}", from.sequence)
        });
        table.push_str(&format!(
            "{:width$}  {:12}  {:>8}  {:6}  {:8}  {from}\n",
            name(image),
            image.id.short(),
            text::size(image.size),
            yes(image.pinned),
            yes(image.unpacked),
        ));
        for other in image.tags.iter().skip(1) {
            table.push_str(&format!("{other:width$}  the same image\n"));
        }
        if digests {
            for digest in &image.digests {
                table.push_str(&format!("    {digest}\n"));
            }
        }
    }
    table
}

fn name(image: &NodeImage) -> &str {
    image.tags.first().or(image.digests.first()).map_or("<none>", String::as_str)
}

fn check(node: &Node, names: &[String], content: bool, stop: &Stop, output: &Output) -> Ended {
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop };
    let checked = check_images(node, names, content, run)?;
    if output.json() {
        let findings = checked.findings.iter().map(|finding| {
            json!({
                "blob": finding.blob.digest,
                "fault": finding.fault.to_string(),
                "images": finding.images,
            })
        });
        let findings: Vec<_> = findings.collect();
        let unpacked = checked.snapshots.iter().map(|finding| {
            json!({
                "layer": finding.diff_id,
                "snapshot": finding.chain_id,
                "snapshotter": finding.snapshotter,
                "fault": finding.fault.to_string(),
                "images": finding.images,
            })
        });
        let unpacked: Vec<_> = unpacked.collect();
        output.document(&json!({
            "event": "summary",
            "blobs": checked.blobs,
            "bytes": checked.bytes,
            "layersCompared": checked.layers,
            "layersNotCompared": checked.not_compared,
            "findings": findings,
            "unpacked": unpacked,
        }))?;
    } else {
        let mut lines = String::new();
        for finding in &checked.findings {
            lines.push_str(&format!(
                "blob {} {}; needed by {}\n",
                finding.blob.digest,
                finding.fault,
                finding.images.join(" ")
            ));
        }
        for finding in &checked.snapshots {
            lines.push_str(&format!(
                "unpacked layer {} ({} of {}): {}; needed by {}\n",
                finding.diff_id,
                finding.chain_id,
                finding.snapshotter,
                finding.fault,
                finding.images.join(" ")
            ));
        }
        output.data(&lines)?;
        output.say(format_args!(
            "{} read and hashed, {}; {} compared with what is unpacked.",
            text::count(checked.blobs, "blob"),
            text::size(checked.bytes),
            text::count(checked.layers, "layer"),
        ));
        if checked.not_compared > 0 {
            output.say(format_args!(
                "{} could not be compared: the node has no blob of them, or their files cannot be seen from here.",
                text::count(checked.not_compared, "unpacked layer"),
            ));
        }
        if !checked.snapshots.is_empty() {
            output.say("`pannier import MEDIUM --repair` unpacks anew what no container uses.");
        }
    }
    match checked.findings.len() + checked.snapshots.len() {
        0 => Ok(()),
        errors => Err(Failure::Damaged { errors }),
    }
}
