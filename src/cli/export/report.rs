//! What an export says: its plan, and what it did.

use std::path::Path;

use serde_json::json;

use crate::cli::output::Output;
use crate::cli::{facts, text};
use crate::error::Result;
use crate::export::{Options, Prepared, Summary};
use crate::medium::PlaceFacts;
use crate::plan::{FileStep, FileVerdict, ImageVerdict, Verdict};
use crate::record::Level;

/// Says before the first byte what will be done.
pub(super) fn announce(prepared: &Prepared, path: &Path, output: &Output) {
    let Prepared { images, plan, filesystem, .. } = prepared;
    for image in images.iter().filter(|image| !image.absent.is_empty()) {
        let absent: Vec<String> = image.absent.iter().map(ToString::to_string).collect();
        output.say(format_args!("{}: the source does not hold {}", image.name, absent.join(", ")));
    }
    if plan.is_nothing() {
        return;
    }
    let moving = plan.layers.iter().filter(|step| step.bytes() > 0).count();
    output.say(format_args!(
        "{}{}, {} to read in {}; {} there already. At most {} will be written to {}, {} are free ({}).",
        text::count(images.len(), "image"),
        text::and_count(plan.files.len(), "file"),
        text::size(plan.bytes_to_read()),
        text::count(moving, "layer"),
        text::count(plan.layers.len() - moving, "layer"),
        text::size(plan.bytes_to_write(filesystem)),
        path.display(),
        text::size(filesystem.free),
        filesystem.name,
    ));
}

/// Why the bytes may not have come from the device.
fn why_not_more(summary: &Summary) -> String {
    match summary.limit {
        Some(limit) if summary.level < Level::Device => format!(", not proven from the device: {limit}"),
        _ => String::new(),
    }
}

/// Prints the plan of a dry run.
pub(super) fn describe(prepared: &Prepared, path: &Path, output: &Output) -> Result<()> {
    let Prepared { images, plan, filesystem, .. } = prepared;
    if output.json() {
        let images: Vec<_> = images
            .iter()
            .zip(&plan.names)
            .map(|(image, verdict)| {
                let platforms: Vec<_> = image.platforms.iter().map(|p| p.platform.to_string()).collect();
                json!({ "name": image.name, "original": image.original.digest, "platforms": platforms, "verdict": name(*verdict) })
            })
            .collect();
        let layers: Vec<_> = plan
            .layers
            .iter()
            .map(|step| {
                let (verdict, blob) = layer(&step.verdict);
                json!({ "diffId": step.diff_id, "verdict": verdict, "blob": blob.0, "size": blob.1 })
            })
            .collect();
        return output.document(&json!({
            "images": images,
            "layers": layers,
            "files": plan.files.iter().map(file).collect::<Vec<_>>(),
            "bytesToRead": plan.bytes_to_read(),
            "bytesToWrite": if plan.is_nothing() { 0 } else { plan.bytes_to_write(filesystem) },
            "bytesFree": filesystem.free,
            "place": PlaceFacts::of(path)?,
        }));
    }
    let mut lines = String::new();
    for (image, verdict) in images.iter().zip(&plan.names) {
        lines.push_str(&format!("{:9}  {}\n", name(*verdict), image.name));
    }
    for step in &plan.layers {
        let (verdict, (digest, size)) = layer(&step.verdict);
        lines.push_str(&format!("{verdict:9}  layer {digest} {}\n", text::size(size)));
    }
    for step in &plan.files {
        let size = text::size(step.file.size);
        lines.push_str(&format!("{:9}  file {} {size}\n", file_verdict(step), step.file.name));
    }
    output.data(&lines)?;
    announce(prepared, path, output);
    output.say(facts::describe(&PlaceFacts::of(path)?));
    output.say("Nothing was written.");
    Ok(())
}

fn file(step: &FileStep) -> serde_json::Value {
    let file = &step.file;
    json!({ "name": file.name, "digest": file.digest, "size": file.size, "verdict": file_verdict(step) })
}

fn file_verdict(step: &FileStep) -> &'static str {
    match step.verdict {
        FileVerdict::Unchanged => name(ImageVerdict::Unchanged),
        FileVerdict::New => name(ImageVerdict::New),
        FileVerdict::Moved => name(ImageVerdict::Moved),
    }
}

fn name(verdict: ImageVerdict) -> &'static str {
    match verdict {
        ImageVerdict::Unchanged => "unchanged",
        ImageVerdict::New => "new",
        ImageVerdict::Moved => "moved",
        ImageVerdict::Extended => "extended",
    }
}

fn layer(verdict: &Verdict) -> (&'static str, (crate::image::Digest, u64)) {
    let (verdict, blob) = match verdict {
        Verdict::Present(_, blob) => ("present", blob),
        Verdict::Finished(blob, _) => ("finished", blob),
        Verdict::Copy(pick) => ("copy", &pick.blob),
        Verdict::Recompress(pick) => ("compress", &pick.blob),
        Verdict::Delta(delta) => ("delta", &delta.pick.blob),
        Verdict::DeltaThere(_, delta) => return ("present", (delta.digest, delta.size)),
        Verdict::LeftOut(base) => return ("left-out", (base.diff_id, 0)),
    };
    (verdict, (blob.digest, blob.size))
}

/// Says what was done, and what is true of the medium now.
pub(super) fn conclude(summary: &Summary, path: &Path, named_files: usize, output: &Output) -> Result<()> {
    let medium = path.display();
    if output.json() {
        return output.document(&json!({
            "event": "summary",
            "commit": summary.sequence,
            "changed": summary.changed,
            "images": summary.images,
            "layersWritten": summary.written.0,
            "deltasWritten": summary.deltas,
            "bytesWritten": summary.written.1,
            "bytesRead": summary.read,
            "filesWritten": summary.files.0,
            "layersReused": summary.reused.0,
            "bytesReused": summary.reused.1,
            "bytesVerified": summary.verified,
            "verification": summary.level,
            "verificationLimit": summary.limit,
            "bytesRecovery": summary.recovery,
            "signed": summary.signed,
        }));
    }
    if !summary.changed {
        if summary.failed.is_empty() {
            let images = text::count(summary.images, "image");
            let files = text::and_count(named_files, "file");
            output.say(format_args!("{medium} has all of it already: {images}{files}. Nothing was written."));
        }
        return Ok(());
    }
    let (layers, bytes) = summary.written;
    output.say(format_args!(
        "{}: {} written, {} (of {} at the source); {} reused, {}.",
        text::count(summary.images, "image"),
        text::count(layers, "layer"),
        text::size(bytes),
        text::size(summary.read),
        text::count(summary.reused.0, "layer"),
        text::size(summary.reused.1),
    ));
    if summary.files.0 > 0 {
        let (files, bytes) = summary.files;
        output.say(format_args!("{} written, {}.", text::count(files, "file"), text::size(bytes)));
    }
    if summary.recovery > 0 {
        output.say(format_args!("Recovery data of all of it: {}.", text::size(summary.recovery)));
    }
    match summary.verified {
        Some(bytes) => output.say(format_args!(
            "Commit {} on {medium}: durable, {} read back and verified ({}{}).",
            summary.sequence,
            text::size(bytes),
            summary.level,
            why_not_more(summary),
        )),
        None => output.say(format_args!(
            "Commit {} on {medium}: durable as far as the system knows (V0), not read back: run `pannier verify`.",
            summary.sequence
        )),
    }
    output.say(super::place::afterwards(path));
    Ok(())
}

/// Says who signed the commit, or that nobody did who signed the one before.
pub(super) fn signed(summary: &Summary, options: &Options, was_signed: bool, output: &Output) {
    match &options.sign_key {
        Some(key) if summary.signed => {
            output.say(format_args!("Commit {} is signed with {}.", summary.sequence, key.fingerprint()));
        }
        None if was_signed && summary.changed => output.complain(format_args!(
            "warning: the commit before was signed, commit {} is not; `pannier sign` does",
            summary.sequence
        )),
        _ => {}
    }
}
