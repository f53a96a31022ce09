//! What one commit record has that another has not, for a person to read.

use std::collections::BTreeMap;

use super::Record;

/// What changed from `before` to `after`: a line each, in order of names; empty if nothing did that matters to a node.
pub fn changes(before: &Record, after: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    compare(&images(before), &images(after), "image", &mut lines);
    compare(&files(before), &files(after), "file", &mut lines);
    let lane = |record: &Record| record.lane.as_ref().map_or("none".to_owned(), |lane| lane.name.to_string());
    let expires = |record: &Record| record.expires.map_or("never".to_owned(), |time| time.to_string());
    for (what, then, now) in
        [("lane", lane(before), lane(after)), ("expires", expires(before), expires(after))]
    {
        if then != now {
            lines.push(format!("{what}: {then} -> {now}"));
        }
    }
    if before.medium != after.medium {
        lines.push(format!("medium: {} -> {}", before.medium, after.medium));
    }
    if before.volume != after.volume {
        lines.push("volume: another one of a set".into());
    }
    let how = |record: &Record| (record.layers.clone(), record.deltas.clone());
    if lines.is_empty() && how(before) != how(after) {
        lines.push("layers: carried in other blobs".into());
    }
    lines
}

fn images(record: &Record) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    for image in &record.images {
        let platforms: Vec<String> =
            { image.platforms.iter() }.map(|own| format!("{} {}", own.platform, own.config.digest)).collect();
        let what = format!("{} ({})", image.original.digest, platforms.join(", "));
        images.extend(image.names.iter().map(|name| (name.to_string(), what.clone())));
        for referrer in &image.referrers {
            let name = referrer.name.as_ref().map_or(String::new(), |name| format!(", {name}"));
            let about = format!("a referrer of {}{name}", referrer.subject);
            images.insert(
                format!("{about}, {}", referrer.descriptor.digest),
                referrer.descriptor.digest.to_string(),
            );
        }
    }
    images
}

fn files(record: &Record) -> BTreeMap<String, String> {
    let files = record.files.iter().map(|file| (file.name.to_string(), file.digest.to_string()));
    let root = record.root.iter();
    let root = root.map(|file| (format!("{} at the root", file.name.as_str()), file.digest.to_string()));
    files.chain(root).collect()
}

fn compare(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    what: &str,
    lines: &mut Vec<String>,
) {
    for (name, is) in after {
        match before.get(name) {
            None => lines.push(format!("+ {what} {name} {is}")),
            Some(was) if was != is => lines.push(format!("~ {what} {name} {is}, was {was}")),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    lines.extend(gone.map(|name| format!("- {what} {name}")));
}
