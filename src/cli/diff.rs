//! `pannier diff`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::node::NodeArgs;
use super::output::Output;
use super::{signals, text};
use crate::diff::{Contents, Diff, DiffImage};
use crate::error::Result;
use crate::inventory::Inventory;
use crate::medium::{Medium, now};
use crate::node::take_inventory;
use crate::progress::Run;

/// Tell what B has that A has not: images, layers, and bytes to carry
///
/// Each is a medium's directory, a file of `pannier inventory`, or the word node for what the running
/// containerd holds. Images are compared by their ids, layers by their content, whatever tool
/// compressed them. Nothing is read but records, and what a node lists.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier diff node /media/stick
  pannier diff node1.json node2.json
  pannier diff /srv/carried-before /media/stick --layers")]
pub(super) struct Args {
    /// What is there: a medium, an inventory, or node
    #[arg(value_name = "A")]
    from: PathBuf,
    /// What it is compared with
    #[arg(value_name = "B")]
    to: PathBuf,
    /// Print the layers as well
    #[arg(long)]
    layers: bool,
    /// What the node runs, such as linux/arm64 [default: asked from it]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let diff = Diff::new(&side(&args.from, args, output)?, &side(&args.to, args, output)?);
    if output.json() {
        return output.document(&json!(diff));
    }
    output.data(&lines(&diff, args.layers || output.verbose()))?;
    if diff.is_empty() {
        output.say(format_args!("Both have the same: {}.", text::count(diff.same, "image")));
    } else {
        output.say(format_args!(
            "{} added, {} removed, {} changed, {} the same.",
            text::count(diff.added.len(), "image"),
            diff.removed.len(),
            diff.changed.len(),
            diff.same,
        ));
    }
    output.say(format_args!(
        "From A to B: {} to carry in {}; {} there already.",
        text::size(diff.bytes_to_carry),
        text::count(diff.layers_added.len(), "layer"),
        diff.layers_same,
    ));
    if diff.layers_elsewhere > 0 {
        output.say(format_args!(
            "{} of these are not in B itself, but on nodes that it was made for.",
            text::count(diff.layers_elsewhere, "layer")
        ));
    }
    Ok(())
}

/// What a directory, a file or the node has.
fn side(path: &Path, args: &Args, output: &Output) -> Result<Contents> {
    if path == Path::new("node") {
        let (stop, reporter) = (signals::stop()?, output.reporter());
        let node = args.node.survey(args.platform.as_deref(), &stop, output)?;
        let held = take_inventory(&node, now(), Run { reporter: &*reporter, stop: &stop })?;
        return Ok(Contents::of_inventory(&held));
    }
    let path = path.to_str().and_then(|path| path.strip_prefix("medium:")).map_or(path, Path::new);
    if !path.is_dir() {
        return Ok(Contents::of_inventory(&Inventory::read(path)?.0));
    }
    let medium = Medium::open(path)?;
    output.warn_of_records(&medium);
    let record = medium.committed()?;
    Ok(Contents::of_record(record))
}

fn lines(diff: &Diff, layers: bool) -> String {
    let all = [("+", &diff.added), ("~", &diff.changed), ("-", &diff.removed)];
    let several = all.iter().flat_map(|(_, images)| *images).any(|image| {
        all.iter().flat_map(|(_, images)| *images).any(|other| other.platform != image.platform)
    });
    let name = |image: &DiffImage| match several {
        true => format!("{} {}", image.name, image.platform),
        false => image.name.clone(),
    };
    let width = all.iter().flat_map(|(_, images)| *images).map(|image| name(image).chars().count());
    let width = width.max().unwrap_or(0);
    let mut lines = String::new();
    for (sign, images) in all {
        for image in images {
            let (name, bytes) = (name(image), text::size(image.bytes));
            let of = text::count(image.layers, "layer");
            lines.push_str(&match sign {
                "-" => format!("{sign} {name}\n"),
                _ => format!("{sign} {name:width$}  {bytes:>8} in {} of {of}\n", image.layers_lacking),
            });
        }
    }
    for (sign, list) in [("+", &diff.layers_added), ("-", &diff.layers_removed)] {
        for layer in list.iter().filter(|_| layers) {
            let size = layer.size.map_or("left out".to_owned(), text::size);
            lines.push_str(&format!("{sign} layer {}  {size:>8}\n", layer.diff_id));
        }
    }
    lines
}
