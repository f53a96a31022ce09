//! Too large: a set for each of several media, which get whole images and are imported in any order; and a
//! layer for a file, which goes in parts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::carry::{assert_names_only_what_is_there, blobs, files, flip, oci, repair, run, text};
use crate::support::cluster::{app, assert_starts, available, images, import, pause};
use crate::support::layout::{Layout, layout, noise};
use crate::support::mounted::Mounted;
use crate::support::node::{Node, PAUSE};
use crate::support::strace;
use pannier::medium::Medium;
use pannier::record::Record;
use serde_json::Value;

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
    if !crate::support::root("file systems are mounted") || !available("2.1") {
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
    let missing = |ran: &crate::support::carry::Ran| ran.stderr();
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

/// One image with a layer that takes several parts of 1 MiB, and one without.
fn with_a_long_layer() -> Layout {
    let long = app("long:1").layer(noise("long", 3, 6 * MIB));
    layout().with(pause()).with(long).with(app("short:1").layer(noise("short", 4, MIB / 2)))
}

fn parts(medium: &Path) -> Vec<std::path::PathBuf> {
    files(&medium.join(".pannier/parts"))
        .into_keys()
        .map(|name| medium.join(".pannier/parts").join(name))
        .collect()
}

// fault-matrix: rows 33, 34
#[test]
fn a_layer_that_is_longer_than_a_file_may_be_goes_in_parts() {
    let source = Source::of(&with_a_long_layer());
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("medium");
    // As on FAT32, only smaller: no file may be longer than 1.5 MiB.
    let limited = |arguments: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 1536; exec \"$0\" \"$@\"";
        let mut command = std::process::Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_pannier")]).args(arguments);
        command.output().unwrap()
    };
    let to = ["--to", text(&medium)];
    let refused = limited(&source.export(&to));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("too large"), "{said}");
    for (name, bytes) in blobs(&medium) {
        assert_eq!(name.to_str(), Some(pannier::image::Digest::of(&bytes).hex().as_str()));
    }
    let split = [to[0], to[1], "--split=1MiB"];
    let exported = limited(&source.export(&split));
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));

    let record = record(&medium);
    let [split_blob] = record.parts.as_slice() else { panic!("{:?}", record.parts) };
    let all = parts(&medium);
    assert!(all.len() > 2);
    let mut bytes = Vec::new();
    all.iter().for_each(|part| bytes.extend(std::fs::read(part).unwrap()));
    assert_eq!(pannier::image::Digest::of(&bytes), split_blob.digest);
    // Other tools find the images that they can read.
    let index = std::fs::read_to_string(medium.join("index.json")).unwrap();
    assert!(index.contains("short:1") && !index.contains("long:1"));
    run(0, ["verify", "--deep", text(&medium)]);

    // Again, also by somebody who says nothing of parts: nothing is written.
    let before = files(&medium);
    run(0, source.export(&to));
    assert_eq!(files(&medium), before);

    // A copy on a medium without that limit is one file again.
    let copy = directory.path().join("copy");
    let from = format!("medium:{}", medium.display());
    run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&copy)]);
    assert_eq!(std::fs::read(copy.join("blobs/sha256").join(split_blob.digest.hex())).unwrap(), bytes);
    assert!(!copy.join(".pannier/parts").exists());

    if available("2.1") {
        let node = Node::start("2.1");
        import(0, &node, &medium, &[]);
        assert_starts(&node, "docker.io/library/long:1");
    }
}

#[test]
fn parts_are_repaired_from_a_source_and_from_parity() {
    let source = Source::of(&with_a_long_layer());
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("medium");
    run(0, source.export(&["--to", text(&medium), "--split=1MiB", "--recovery", "20%"]));
    let whole = files(&medium.join(".pannier/parts"));
    let all = parts(&medium);

    flip(&all[1]);
    let found = run(4, ["verify", "--json", text(&medium)]);
    assert!(found.stdout().contains(&record(&medium).parts[0].digest.to_string()), "{}", found.stdout());
    repair(0, &medium, &[]);
    assert_eq!(files(&medium.join(".pannier/parts")), whole);

    std::fs::remove_file(&all[0]).unwrap();
    flip(&all[2]);
    run(4, ["verify", text(&medium)]);
    repair(0, &medium, &["--from", &source.from]);
    assert_eq!(files(&medium.join(".pannier/parts")), whole);
    run(0, ["verify", "--deep", text(&medium)]);
}

#[test]
fn an_export_in_parts_that_is_killed_goes_on() {
    if !strace::available() {
        return;
    }
    let source = Source::of(&with_a_long_layer());
    let directory = tempfile::tempdir().unwrap();
    let undisturbed = directory.path().join("undisturbed");
    run(0, source.export(&["--to", text(&undisturbed), "--split=1MiB", "--compression", "none"]));
    let calls = "renameat,renameat2,fdatasync,mkdirat,unlinkat";
    for number in (1..).step_by(3) {
        let medium = directory.path().join(number.to_string());
        let arguments = source.export(&["--to", text(&medium), "--split=1MiB", "--compression", "none"]);
        let killed = strace::killed(&arguments, calls, number);
        run(0, arguments);
        assert_eq!(
            files(&medium.join(".pannier/parts")),
            files(&undisturbed.join(".pannier/parts")),
            "{number}"
        );
        assert_eq!(files(&medium.join("blobs")), files(&undisturbed.join("blobs")), "{number}");
        run(0, ["verify", text(&medium)]);
        if !killed {
            assert!(number > 9, "the sweep reached the parts");
            break;
        }
    }
}

#[test]
fn pruning_takes_the_parts_away_as_well() {
    let source = Source::of(&with_a_long_layer());
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("medium");
    run(0, source.export(&["--to", text(&medium), "--split=1MiB"]));
    assert!(!parts(&medium).is_empty());
    run(0, ["prune", text(&medium), "--image", "long:1"]);
    assert!(parts(&medium).is_empty());
    assert!(record(&medium).parts.is_empty());
    run(0, ["verify", "--deep", text(&medium)]);
}
