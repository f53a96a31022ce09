//! What `src/lib.rs` says of the rooms, held by reading the code: who may use whom, and what is done in one place.

mod uses;

use std::collections::{BTreeMap, BTreeSet};

use uses::{Sources, room_of};

/// The rooms in layers: what is in a file uses its own room, and those of the lines above.
const LAYERS: [&[&str]; 13] = [
    &["lib", "limits", "sysroot"],
    &["image"],
    &["layer", "patterns", "record", "unique"],
    &["error"],
    &["config", "content", "elf", "inventory", "lists", "progress"],
    &["containerd", "medium", "watch"],
    &["trust"],
    &["eject", "extract", "readback", "recovery", "source"],
    &["plan", "verify"],
    &["diff", "export", "node", "prune", "repair"],
    &["images", "import", "serve"],
    &["bake", "doctor", "push"],
    &["cli"],
];

/// What a file uses of a later layer all the same, and why.
const UPWARDS: [(&str, &str); 1] = [
    // A refusal is a value that an error holds.
    ("error.rs", "trust/refusal.rs"),
];

/// What a plan uses of rooms that also read files or ask others: values, from these files alone.
const VALUES_FOR_PLANS: [&str; 7] = [
    "layer/encode.rs",
    "medium/filesystem.rs",
    "medium/ingest.rs",
    "recovery/mod.rs",
    "source/mod.rs",
    "source/referrers.rs",
    "source/resolve.rs",
];

/// Where something is synced or renamed: a medium's files in one place, and what is on this machine.
const DURABLE: [&str; 3] = ["medium/durable.rs", "node/durable.rs", "node/orphan.rs"];

#[test]
fn a_room_uses_only_rooms_below_it() {
    let sources = Sources::read();
    let layer_of = |file: &str| {
        let layer = LAYERS.iter().position(|layer| layer.contains(&room_of(file)));
        layer.unwrap_or_else(|| panic!("src/{file}: its room stands in no layer of {}", file!()))
    };
    let mut wrong = Vec::new();
    for source in &sources.0 {
        let own = layer_of(&source.file);
        for used in sources.used_by(source) {
            let known = UPWARDS.contains(&(source.file.as_str(), used));
            if source.room() != room_of(used) && layer_of(used) >= own && !known {
                wrong.push(format!("src/{} uses src/{used}", source.file));
            }
        }
    }
    assert!(wrong.is_empty(), "upwards:\n{}", wrong.join("\n"));
    let rooms: BTreeSet<&str> = sources.0.iter().map(|source| source.room()).collect();
    assert_eq!(rooms, LAYERS.concat().into_iter().collect(), "every room, once");
}

#[test]
fn no_circle_has_more_than_three_files() {
    let sources = Sources::read();
    // A module and its parts are one: what a part takes of the module that it is in is no arrow.
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources.0 {
        let whole = sources.0.iter().filter(|other| source.is_part_of(other));
        let whole: BTreeSet<&str> = whole.map(|other| other.file.as_str()).collect();
        let used = sources.used_by(source).into_iter().filter(|used| !whole.contains(used));
        arrows.insert(&source.file, used.collect());
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reach(file, &arrows))).collect();
    let circle = |file: &str| -> BTreeSet<&str> {
        reached[file].iter().filter(|other| reached[*other].contains(file)).copied().collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> = arrows.keys().map(|file| circle(file)).collect();
    let large: Vec<_> = circles.iter().filter(|circle| circle.len() > 3).collect();
    assert!(large.is_empty(), "each uses all others: {large:#?}");
}

/// All that is reached along the arrows.
fn reach<'a>(from: &str, arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for used in &arrows[file] {
            if reached.insert(*used) {
                next.push(used);
            }
        }
    }
    reached
}

#[test]
fn plans_and_records_are_pure() {
    const HANDS: [&str; 13] = [
        "std::fs",
        "std::net",
        "std::os",
        "std::env",
        "std::process",
        "std::thread",
        "std::time",
        "std::io::std",
        "rustix",
        "libc",
        "reqwest",
        "tempfile",
        "time::OffsetDateTime::now",
    ];
    let sources = Sources::read();
    let mut rooms = BTreeSet::new();
    for source in sources.0.iter().filter(|source| ["plan", "record"].contains(&source.room())) {
        rooms.insert(source.room());
        for path in source.foreign() {
            let hand = HANDS.iter().find(|hand| path.starts_with(**hand));
            assert!(hand.is_none(), "src/{}: {path} is no pure value", source.file);
        }
        for words in source.words().windows(2) {
            let clock = ["now", "now_utc", "elapsed"].contains(&words[0]) && words[1] == "(";
            assert!(!clock, "src/{}: a clock is no pure value", source.file);
        }
        for used in sources.used_by(source) {
            let hands = ["containerd", "content", "layer", "medium", "node", "recovery", "source", "trust"];
            let bad = source.room() == "record" || !VALUES_FOR_PLANS.contains(&used);
            assert!(
                !(hands.contains(&room_of(used)) && bad),
                "src/{} uses src/{used}, which has more than values",
                source.file
            );
        }
    }
    assert_eq!(rooms.len(), 2);
}

#[test]
fn only_the_client_of_containerd_and_the_server_are_asynchronous() {
    let may = |file: &str| file.starts_with("containerd/") || file.starts_with("serve/server");
    for source in Sources::read().0.iter().filter(|source| !may(&source.file)) {
        for word in ["async", "await", "tokio", "tonic", "block_on"] {
            assert!(!source.words().contains(&word), "src/{}: {word}", source.file);
        }
    }
}

#[test]
fn one_file_syncs_and_renames_what_is_on_a_medium() {
    const CALLS: [&str; 9] = [
        "fdatasync",
        "fsync",
        "persist",
        "persist_noclobber",
        "renameat",
        "renameat_with",
        "sync_all",
        "sync_data",
        "syncfs",
    ];
    let mut found = BTreeSet::new();
    let sources = Sources::read();
    for source in &sources.0 {
        let words = source.words();
        for at in 2..words.len() - 1 {
            let before = if words[at - 1] == "::" { words[at - 2] } else { words[at - 1] };
            let plain = ["rename", "sync"].contains(&words[at]) && before == "fs";
            // Not where it is written, nor by way of that file.
            let call = (plain || CALLS.contains(&words[at])) && !["fn", "durable"].contains(&before);
            if call && words[at + 1] == "(" {
                found.insert(source.file.as_str());
            }
        }
    }
    assert_eq!(found, DURABLE.into_iter().collect());
}
