//! Sticks that are smaller than they say, or that do not do what they are told.

use std::process::Output;

use super::room::{Room, attempt, sequence, set};
use crate::support::carry::{oci, run, text};
use crate::support::faultdisk::{Capacity, Fate, Kind, Mounted, Op, Recording, Stick, available};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::oracle::{failed_as_documented, findings};

/// What describes the filesystem is at the front of the stick, as with exFAT and FAT, so that it is not
/// the filesystem that finds out.
const FRONT: [&str; 10] = [
    "-N",
    "2048",
    "-E",
    "nodiscard,packed_meta_blocks=1,lazy_itable_init=1",
    "-O",
    "^resize_inode",
    "-G",
    "512",
    "-J",
    "size=8",
];

/// Layers of so many MiB each, which do not shrink.
fn large(images: usize, mib: usize) -> Layout {
    (0..images).fold(layout(), |layout, number| {
        let name = format!("docker.io/library/large{number}:1");
        layout.with(image(&name).layer(noise("large", 100 + number as u64, mib << 20)).plain())
    })
}

/// Exports a layout as it is; how that ended.
fn export(stick: &Stick, layout: &Layout) -> Output {
    let from = stick.beside("layout");
    let _ = std::fs::remove_dir_all(&from);
    layout.write_dir(&from);
    let (from, to) = (oci(&from), stick.path());
    let own = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)];
    attempt(&own.into_iter().chain(["--compression", "none"]).collect::<Vec<_>>())
}

/// It was found out: nothing was committed, and what may be the matter is said.
fn found_out(stick: &Stick, output: &Output, committed: u64) {
    let said = failed_as_documented("counterfeit", output);
    eprintln!("{said}");
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("less than it says"), "{said}");
    let now = pannier::medium::Medium::find(&stick.path()).ok().flatten();
    let now = now.and_then(|medium| medium.record().map(|record| record.sequence)).unwrap_or(0);
    assert!(now <= committed, "commit {now} was made of what is not there");
}

// fault-matrix: rows 49
#[test]
fn a_stick_that_wraps_around_is_found_out_by_the_export_that_overfills_it() {
    if available() {
        let stick = Stick::formatted(Kind::Ext4, 64 << 30, &FRONT);
        stick.disk.lie(Capacity::Wrap(40 << 20), 4 << 20);
        let output = export(&stick, &large(3, 20));
        found_out(&stick, &output, 0);
    }
}

// fault-matrix: rows 49
#[test]
#[ignore = "long: make test-faults"]
fn a_fake_stick_of_64_gib_with_1_gib_behind_it_is_found_out_by_the_export_that_overfills_it() {
    if !available() {
        return;
    }
    let stick = Stick::formatted(Kind::Ext4, 64 << 30, &FRONT);
    // Such sticks have 256 MiB of memory that hides it.
    stick.disk.lie(Capacity::Wrap(1 << 30), 256 << 20);
    let output = export(&stick, &large(9, 150));
    found_out(&stick, &output, 0);
}

// fault-matrix: rows 50
#[test]
#[ignore = "long: make test-faults"]
fn what_was_carried_before_is_read_back_as_well() {
    if !available() {
        return;
    }
    // ext4 puts the first file at 128 MiB here, which both have, one of them at 28 MiB.
    for capacity in [Capacity::Wrap(100 << 20), Capacity::Limbo(160 << 20)] {
        let stick = Stick::formatted(Kind::Ext4, 64 << 30, &FRONT);
        stick.disk.lie(capacity, 1 << 20);
        let first = export(&stick, &large(1, 20));
        assert!(first.status.success(), "{first:?}");
        // The second set has the first one's layer, which what is new destroys, or which stays, while
        // what is new is nowhere.
        let output = export(&stick, &large(6, 20));
        found_out(&stick, &output, 1);
    }
}

// fault-matrix: rows 48
#[test]
fn what_only_its_memory_holds_is_found_out_when_it_is_plugged_in_again() {
    if !available() {
        return;
    }
    let mut stick = Stick::formatted(Kind::Ext4, 64 << 30, &FRONT);
    // All that is written fits its memory: nobody can tell before it is pulled out.
    stick.disk.lie(Capacity::Limbo(64 << 20), 256 << 20);
    let output = export(&stick, &large(2, 10));
    assert!(output.status.success(), "{output:?}");
    stick.unmount();
    stick.disk.forget();
    stick.mount();
    let at = stick.path();
    let found = findings(&at);
    let lost = ["blob-digest", "blob-unreadable", "blob-missing", "record-damaged"];
    assert!(found.iter().any(|(id, _)| lost.contains(&id.as_str())), "{found:?}");
    run(4, ["verify", "--quiet", text(&at)]);
}

// fault-matrix: rows 17
#[test]
fn a_disk_that_ignores_flushes_may_lose_the_last_commit_and_never_the_one_before() {
    if !available() {
        return;
    }
    let room = Room::of(&set(2), &set(3));
    let stick = room.stick(Kind::Ext4);
    let base = stick.beside("base");
    Recording::begin(&stick.disk, &base);
    run(0, room.second(&stick.path()));
    let recording = Recording::end(&stick.disk, &base);
    assert!(stick.disk.count(Op::Flush) > 0);
    let (cut, at) = (stick.beside("cut"), stick.beside("cut-mnt"));
    let mut lost = 0;
    // It writes in order, and the power went when it had come so far.
    for kept in (0..=recording.len()).step_by(1 + recording.len() / 8) {
        recording.cut(&cut, kept, Fate::Written, true);
        let _mounted = Mounted::checked(Kind::Ext4, &cut, &at).unwrap();
        lost += u32::from(sequence(&at) == 1);
        let arguments = room.second(&at);
        let case = format!("flushes ignored, {kept} of {} written", recording.len());
        room.oracle(&at, &arguments).check(&case, crate::support::oracle::Loss::Unsynced);
    }
    assert!(lost > 0, "the last commit was never at stake");
}
