//! How it is told what `import --prune` takes away.

use serde_json::{Value, json};

use super::output::Output;
use super::text;
use crate::node::PrunedNames;
use crate::plan::import::prune::{PruneImage, PrunePlan, PruneVerdict};

/// The images that go, and those that stay though the medium no longer has them.
pub(super) fn json(plan: &PrunePlan) -> Value {
    let shown = |image: &PruneImage| {
        let names: Vec<&String> = image.names.keys().collect();
        match reason(image) {
            None => json!({ "id": image.id, "names": names }),
            Some(reason) => json!({ "id": image.id, "names": names, "reason": reason }),
        }
    };
    let (removed, stays): (Vec<_>, Vec<_>) =
        plan.images.iter().partition(|image| image.verdict == PruneVerdict::Remove);
    let shown = |images: Vec<&PruneImage>| images.into_iter().map(shown).collect::<Vec<_>>();
    json!({ "removed": shown(removed), "kept": shown(stays) })
}

/// Lines of a dry run.
pub(super) fn lines(plan: &PrunePlan) -> String {
    let mut lines = String::new();
    for image in &plan.images {
        let verdict = if image.verdict == PruneVerdict::Remove { "remove" } else { "keep" };
        for name in image.names.keys() {
            lines.push_str(&format!("{verdict:9}  {name}\n"));
        }
        if let Some(reason) = reason(image) {
            lines.push_str(&format!("{:9}  {reason}\n", ""));
        }
    }
    lines
}

/// Says what was taken away, and what stays.
pub(super) fn conclude(plan: &PrunePlan, done: PrunedNames, output: &Output) {
    for image in &plan.images {
        match reason(image) {
            None => output.say(format_args!("Removed {}.", image.label())),
            Some(reason) => output.complain(format_args!("{} stays: {reason}", image.label())),
        }
    }
    output.say(format_args!(
        "{} removed with {}; containerd collected {} of blobs, and what was unpacked of them.",
        text::count(done.images, "image"),
        text::count(done.names, "name"),
        text::size(done.freed),
    ));
}

/// Why an image stays that the medium no longer has.
fn reason(image: &PruneImage) -> Option<String> {
    match &image.verdict {
        PruneVerdict::Remove => None,
        PruneVerdict::InUse(users) => Some(match users.len() {
            0..=3 => format!("used by {}", users.join(", ")),
            more => format!("used by {} and {} more", users[..2].join(", "), more - 2),
        }),
        PruneVerdict::Later(sequence) => {
            Some(format!("export {sequence} brought it, and this is an older copy of that medium"))
        }
    }
}
