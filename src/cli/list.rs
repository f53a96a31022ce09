//! `pannier list`.

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use super::trust::TrustArgs;
use super::{facts, text};
use crate::error::{Error, Result};
use crate::medium::PlaceFacts;
use crate::record::list;

/// List the images on a medium: platforms, sizes, what is shared
///
/// SIZE is what an image takes with everything it needs, OWN the part of it that no other image on
/// the medium needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier list /media/stick")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Print the digests as well: the original, which the source had, and the carried one
    #[arg(long)]
    digests: bool,
    /// Print the signatures, attestations and SBOMs of each image as well
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let medium = args.trust.open_to_look(&args.medium, output)?;
    output.warn_of_records(&medium);
    let record = medium.committed()?;
    let listing = list(record);
    let facts = PlaceFacts::of(&args.medium)?;
    if output.json() {
        let mut document = serde_json::to_value(&listing)
            .map_err(|error| Error::Usage(format!("the listing cannot be written as JSON: {error}")))?;
        document["place"] = json!(facts);
        return output.document(&document);
    }
    if output.quiet() {
        let names = listing.images.iter().flat_map(|image| &image.names);
        return output.data(&names.map(|name| format!("{name}\n")).collect::<String>());
    }
    let names = listing.images.iter().flat_map(|image| &image.names);
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let mut table = format!("{:width$}  {:>8}  {:>8}  {:>6}  PLATFORMS\n", "IMAGE", "SIZE", "OWN", "COMMIT");
    for image in &listing.images {
        let mut names = image.names.iter();
        let first = names.next().map_or("", String::as_str);
        let (size, own) = (text::size(image.size), text::size(image.own));
        let platforms = image.platforms.join(" ");
        table.push_str(&format!("{first:width$}  {size:>8}  {own:>8}  {:>6}  {platforms}\n", image.commit));
        for name in names {
            table.push_str(&format!("{name:width$}  the same image\n"));
        }
        if args.digests || output.verbose() {
            table.push_str(&format!("    original {}\n    carried  {}\n", image.original, image.carried));
        }
        if !image.deltas.is_empty() {
            let bytes = text::size(image.deltas.iter().map(|delta| delta.size).sum());
            let layers = text::count(image.deltas.len(), "layer");
            table.push_str(&format!(
                "    {layers} as deltas, {bytes}: for nodes that hold what they start from\n"
            ));
        }
        if image.left_out > 0 {
            let layers = text::count(image.left_out, "layer");
            table.push_str(&format!("    {layers} left out: for nodes that hold them\n"));
        }
        for basis in &image.rests_on {
            table.push_str(&format!("    rests on {basis}\n"));
        }
        for referrer in image.referrers.iter().filter(|_| args.referrers) {
            let (kind, size) =
                (referrer.artifact_type.as_deref().unwrap_or("unknown"), text::size(referrer.size));
            table.push_str(&format!("    {kind}  {size}  {}  of {}\n", referrer.digest, referrer.subject));
            if let Some(name) = &referrer.name {
                table.push_str(&format!("        as {name}\n"));
            }
        }
    }
    if !listing.files.is_empty() {
        table.push_str(&format!("\n{}", super::files::table(&listing.files, output.verbose())));
    }
    output.data(&table)?;
    output.say(format_args!(
        "{} in {}; {} if each were alone. Commit {} of {}.",
        text::count(listing.images.len(), "image"),
        text::size(listing.size),
        text::size(listing.alone),
        listing.commit,
        listing.created,
    ));
    if let Some(lane) = &listing.lane {
        output.say(format_args!("It is for the lane {lane}."));
    }
    if let Some(expires) = listing.expires {
        output.say(format_args!("No node takes it from {expires} on."));
    }
    if let Some(volume) = &listing.volume {
        output.say(format_args!(
            "Volume {} of {}; the others hold {} more.",
            volume.number,
            volume.of,
            text::count(volume.elsewhere.len(), "image"),
        ));
    }
    if output.verbose() {
        output.say(facts::describe(&facts));
    }
    if let Some(recovery) = listing.recovery {
        let state = if recovery.current { "" } else { ", out of date" };
        let size = text::size(recovery.size);
        output.say(format_args!(
            "Recovery data of {} %, {size}{state}: `pannier repair` needs no source.",
            recovery.percent
        ));
    }
    if listing.unused > 0 {
        output.say(format_args!("{} belong to no image any more.", text::size(listing.unused)));
    }
    Ok(())
}
