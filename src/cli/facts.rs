//! The place that a medium is on, for people.

use super::text;
use crate::medium::PlaceFacts;

/// In one line.
pub(super) fn describe(facts: &PlaceFacts) -> String {
    let mut parts =
        vec![format!("{} free in clusters of {}", text::size(facts.free), text::size(facts.cluster))];
    if let Some(files) = facts.files_free {
        parts.push(format!("room for {files} more files"));
    }
    if let Some(largest) = facts.largest_file {
        parts.push(format!("files up to {}", text::size(largest)));
    }
    if facts.read_only {
        parts.push("read-only".into());
    }
    match facts.removable {
        Some(true) => parts.push("removable".into()),
        Some(false) => parts.push("fixed".into()),
        None => {}
    }
    let device =
        facts.device.as_ref().map(|device| format!(" on {}", device.display().to_string().escape_debug()));
    let mut line = format!("{}{}: {}.", facts.filesystem, device.unwrap_or_default(), parts.join(", "));
    if facts.may_ignore_flushes() {
        line.push_str(
            " The kernel takes it for a device without a cache (write through) and sends no flush: only `pannier verify` after it was plugged in again proves what is on it.",
        );
    }
    line
}
