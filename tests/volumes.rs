//! A set that is larger than each of several media: each gets whole images, and they are imported in any
//! order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use pannier::medium::{Medium, Record};
use serde_json::Value;
use support::carry::{assert_names_only_what_is_there, files, oci, run, text};
use support::cluster::{app, assert_starts, available, images, import, pause};
use support::layout::{Layout, layout, noise};
use support::mounted::Mounted;
use support::node::{Node, PAUSE};

const MIB: usize = 1 << 20;

/// Six images, of which two each share a layer of 4 MiB and have 1 MiB of their own.
fn set() -> Layout {
    (0..6u64).fold(layout().with(pause()), |layout, number| {
        let name = format!("docker.io/library/app{number}:1");
        let base = noise("base", number / 2, 4 * MIB);
        layout.with(app(&name).layer(base).layer(noise("own", 10 + number, MIB)))
    })
}

fn record(medium: &Path) -> Record {
    Medium::open(medium).unwrap().record().unwrap().clone()
}

fn names(medium: &Path) -> BTreeSet<String> {
    record(medium).images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect()
}

/// A layout with the set, and the arguments that export it.
struct Source {
    _directory: tempfile::TempDir,
    from: String,
}

impl Source {
    fn of(layout: &Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        layout.write_dir(directory.path());
        let from = oci(directory.path());
        Self { _directory: directory, from }
    }

    fn export<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let all = ["export", "--json", "--from", &self.from, "--all", "--platform", "linux/amd64"];
        all.into_iter().chain(more.iter().copied()).collect()
    }
}

#[test]
fn a_set_is_spread_over_three_small_media_and_imported_in_the_wrong_order() {
    if !support::root("file systems are mounted") || !available("2.1") {
        return;
    }
    let source = Source::of(&set());
    let sticks = [Mounted::ext4(11), Mounted::ext4(11), Mounted::ext4(11)];
    let paths: Vec<_> = sticks.iter().map(Mounted::path).collect();
    let to: Vec<&str> = paths.iter().flat_map(|path| ["--to", text(path)]).collect();
    // None of them holds all of it.
    let refused = run(5, source.export(&to[..2]));
    assert!(
        refused.stderr().contains("needs") && refused.stderr().contains("medium"),
        "{}",
        refused.stderr()
    );
    run(0, source.export(&to));

    let mut seen = BTreeSet::new();
    for (number, path) in (1..).zip(&paths) {
        let (record, names) = (record(path), names(path));
        let volume = record.volume.as_ref().unwrap();
        assert_eq!((volume.number, volume.of), (number, 3));
        assert!(!names.is_empty() && seen.is_disjoint(&names));
        assert_eq!(volume.elsewhere.len(), 7 - names.len());
        // Each is complete in itself, for every tool.
        assert_names_only_what_is_there(path);
        run(0, ["verify", "--deep", text(path)]);
        seen.extend(names);
    }
    assert_eq!(seen.len(), 7);

    // The same again touches nothing.
    let before: Vec<_> = paths.iter().map(|path| files(path)).collect();
    run(0, source.export(&to));
    assert!(paths.iter().map(|path| files(path)).eq(before));

    let node = Node::start("2.1");
    let missing = |ran: &support::carry::Ran| ran.stderr();
    let third = import(3, &node, &paths[2], &[]);
    assert!(missing(&third).contains("volumes 1, 2"), "{}", missing(&third));
    let first = import(3, &node, &paths[0], &[]);
    assert!(missing(&first).contains("volume 2 is not"), "{}", missing(&first));
    let second = import(0, &node, &paths[1], &[]);
    assert_eq!(second.json()["event"], "summary");
    import(0, &node, &paths[2], &[]);
    let there = images(0, &node, &[]).stdout();
    let there: Value = serde_json::from_str(&there).unwrap();
    assert_eq!(there["images"].as_array().map(Vec::len), Some(7), "{there}");
    for number in 0..6 {
        assert_starts(&node, &format!("docker.io/library/app{number}:1"));
    }

    // An image that is on another medium of the set: it is said on which.
    let elsewhere = names(&paths[0]).into_iter().find(|name| *name != PAUSE).unwrap();
    let asked = import(1, &node, &paths[1], &[&elsewhere]);
    assert!(asked.stderr().contains("on volume 1 of the 3"), "{}", asked.stderr());
}

#[test]
fn a_newer_edition_stays_on_the_medium_of_the_older_one() {
    let source = Source::of(&set());
    let directory = tempfile::tempdir().unwrap();
    let to = ["--to", text(directory.path()), "--volumes", "8MiB"];
    run(0, source.export(&to));
    let volume = |number: u32| directory.path().join(format!("volume-{number}"));
    let of = record(&volume(1)).volume.unwrap().of;
    assert!(of >= 3 && volume(of).exists() && !volume(of + 1).exists());
    let where_is = |name: &str| (1..=of).find(|number| names(&volume(*number)).contains(name)).unwrap();
    let name = "docker.io/library/app5:1";
    let (before, set_id) = (where_is(name), record(&volume(1)).volume.unwrap().set);
    let newer = layout().with(app(name).layer(noise("newer", 99, MIB / 4)));
    run(0, Source::of(&newer).export(&to));
    assert_eq!(where_is(name), before);
    let all: Vec<BTreeSet<String>> = (1..=of).map(|number| names(&volume(number))).collect();
    assert_eq!(all.iter().map(BTreeSet::len).sum::<usize>(), 7, "no name is on two media: {all:?}");
    for number in 1..=of {
        assert_eq!(record(&volume(number)).volume.unwrap().set, set_id);
    }

    // An image that no medium of this size can hold is refused before anything is written.
    let large = layout().with(app("large:1").layer(noise("large", 7, 16 * MIB)));
    let refused = run(2, Source::of(&large).export(&to));
    assert!(refused.stderr().contains("never torn apart"), "{}", refused.stderr());
    assert!(!volume(of + 1).exists());
}

#[test]
fn media_of_two_sets_are_not_mixed() {
    let source = Source::of(&set());
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for set in ["a", "b"] {
        run(0, source.export(&["--to", &path(set), "--volumes", "8MiB"]));
    }
    let mixed = run(2, source.export(&["--to", &path("a/volume-1"), "--to", &path("b/volume-2")]));
    assert!(mixed.stderr().contains("two different sets"), "{}", mixed.stderr());
    let twice = run(2, source.export(&["--to", &path("a/volume-1"), "--to", &path("a/volume-1")]));
    assert!(twice.stderr().contains("named twice"), "{}", twice.stderr());
}
