//! The stick is pulled out: while it is written, synced and read back, and what is plugged in afterwards.

use std::process::Command;

use super::room::{Room, SIZE, attempt, sequence, some};
use crate::support::carry::{files, oci, pannier, run, text};
use crate::support::faultdisk::{Kind, Op, Stick, available};
use crate::support::layout::{image, layout, noise};
use crate::support::oracle::{Loss, failed_as_documented, findings};
use crate::support::strace;

/// How many such requests the second export makes of the disk.
fn requests(room: &Room, kind: Kind, op: Op) -> usize {
    let stick = room.stick(kind);
    let before = stick.disk.count(op);
    run(0, room.second(&stick.path()));
    stick.disk.count(op) - before
}

/// Pulls it out at some of such requests; the message each time.
fn pull_out(kind: Kind, op: Op, few: usize) -> Vec<String> {
    let room = Room::new();
    let all: Vec<usize> = (1..=requests(&room, kind, op)).collect();
    assert!(!all.is_empty());
    let mut said = Vec::new();
    for number in some(&format!("pulled out at {op:?}, {kind:?}"), &all, few) {
        let case = format!("{kind:?}: pulled out at {op:?} {number} of {}", all.len());
        let mut stick = room.stick(kind);
        let at = stick.path();
        let arguments = room.second(&at);
        stick.disk.yank_at(op, number);
        let output = attempt(&arguments);
        // What the system writes out later is none of the export's.
        if !output.status.success() {
            let message = failed_as_documented(&case, &output);
            assert_eq!(output.status.code(), Some(5), "{case}: {message}");
            assert!(message.contains("medium: cannot "), "{case}: {message}");
            said.push(message);
        }
        stick.recover();
        room.oracle(&at, &arguments).check(&case, Loss::Unsynced);
    }
    said
}

// fault-matrix: rows 18, 20
#[test]
fn pulled_out_while_it_is_written() {
    if available() {
        for kind in [Kind::Ext4, Kind::Exfat] {
            let said = pull_out(kind, Op::Write, 3);
            assert!(!said.is_empty());
        }
    }
}

// fault-matrix: rows 20
#[test]
fn pulled_out_while_it_is_synced() {
    if available() {
        for kind in [Kind::Ext4, Kind::Exfat] {
            let said = pull_out(kind, Op::Flush, 2);
            assert!(!said.is_empty());
        }
    }
}

// fault-matrix: rows 20
#[test]
fn after_a_sync_that_failed_nothing_is_synced_again() {
    if !strace::available() {
        return;
    }
    let room = Room::new();
    let calls = "fsync,fdatasync,syncfs";
    for number in 1.. {
        let at = room.path("m");
        run(0, room.first(&at));
        let arguments = room.second(&at);
        let traced = strace::traced(&arguments, calls, Some(&format!("error=EIO:when={number}")));
        let Some(first) = traced.injected() else { break };
        let case = format!("sync {number} failed");
        failed_as_documented(&case, &traced.output);
        assert_eq!(traced.output.status.code(), Some(5));
        let after: Vec<_> = traced.calls[first + 1..].iter().filter(|call| call.contains("sync")).collect();
        assert!(after.is_empty(), "{case}: {after:?}");
        room.oracle(&at, &arguments).check(&case, Loss::Nothing);
        std::fs::remove_dir_all(&at).unwrap();
    }
}

// fault-matrix: rows 19
#[test]
#[ignore = "long: make test-faults"]
fn pulled_out_under_a_large_layer_it_is_noticed_long_before_its_end() {
    if !available() || !strace::available() {
        return;
    }
    const LAYER: usize = 160 << 20;
    let stick = Stick::new(Kind::Ext4, 300 << 20);
    let from = stick.beside("layout");
    layout().with(image("docker.io/library/large:1").layer(noise("large", 1, LAYER))).write_dir(&from);
    let (from, to) = (oci(&from), stick.path());
    stick.disk.yank_at(Op::Write, stick.disk.count(Op::Write) + 8);
    let arguments = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)];
    let traced = strace::traced(
        &arguments.into_iter().chain(["--compression", "none"]).collect::<Vec<_>>(),
        "write",
        None,
    );
    failed_as_documented("a large layer", &traced.output);
    assert_eq!(traced.output.status.code(), Some(5));
    let written = |call: &String| call.rsplit("= ").next().and_then(|n| n.trim().parse::<usize>().ok());
    let written: usize = traced.calls.iter().filter_map(written).sum();
    assert!(written < LAYER / 2, "{written} bytes were written before it was noticed");
}

// fault-matrix: rows 21
#[test]
fn pulled_out_while_it_is_read_back_it_is_unreadable_and_not_damaged() {
    if !available() {
        return;
    }
    for message in pull_out(Kind::Ext4, Op::Read, 3) {
        assert!(!message.contains("damaged"), "{message}");
    }
    // `verify` alone: what cannot be read is told from what is wrong.
    let room = Room::new();
    let mut stick = room.stick(Kind::Ext4);
    stick.disk.yank_at(Op::Read, 12);
    let at = stick.path();
    let output = pannier(["verify", text(&at)]).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert!(!output.status.success() && !printed.contains("blob-digest"), "{printed}");
    assert!(printed.contains("cannot "), "{printed}");
    stick.remount();
    assert!(findings(&at).is_empty());
}

// fault-matrix: rows 23
#[test]
fn another_stick_that_is_mounted_in_its_place_meanwhile_is_not_touched() {
    if !available() {
        return;
    }
    let room = Room::new();
    let mut stick = room.stick(Kind::Ext4);
    let other = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    let arguments = room.second(&at);
    let begun = stick.disk.count(Op::Flush);
    stick.disk.stall_at(Op::Flush, 1, std::time::Duration::from_secs(2));
    let child = pannier(arguments.iter().copied()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // It writes: at this moment one stick goes and another is mounted over its directory.
    while !at.join(".pannier/ingest").exists()
        || std::fs::read_dir(at.join("blobs/sha256")).unwrap().count() < 8
    {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    stick.disk.yank();
    let before = files(&other.path());
    let bound = Command::new("mount").arg("--bind").arg(other.path()).arg(&at).status().unwrap();
    assert!(bound.success());
    let output = child.wait_with_output().unwrap();
    let said = failed_as_documented("another stick", &output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(files(&other.path()) == before, "the other stick was written to");
    assert!(stick.disk.count(Op::Flush) >= begun);
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    stick.remount();
    room.oracle(&at, &arguments).check("another stick", Loss::Unsynced);
}

// fault-matrix: rows 24
#[test]
fn another_stick_at_the_same_path_gets_everything() {
    let room = Room::new();
    let at = room.path("m");
    run(0, room.first(&at));
    let first = crate::support::oracle::record(&at).medium;
    // Nothing is remembered of a path: what counts is what is on the medium that is there now.
    std::fs::rename(&at, room.path("drawer")).unwrap();
    run(0, room.second(&at));
    assert_eq!(sequence(&at), 1);
    assert_ne!(crate::support::oracle::record(&at).medium, first);
    assert!(crate::support::carry::blobs(&at) == room.expected);
    run(0, ["verify", "--deep", text(&at)]);
}

// fault-matrix: rows 25
#[test]
fn pulled_out_after_it_was_unmounted_nothing_is_lost() {
    if !available() {
        return;
    }
    let room = Room::new();
    for kind in [Kind::Ext4, Kind::Exfat] {
        let mut stick = room.stick(kind);
        run(0, room.second(&stick.path()));
        stick.unmount();
        stick.disk.yank();
        stick.disk.plug_in();
        stick.mount();
        assert_eq!(sequence(&stick.path()), 2);
        run(0, ["verify", "--deep", text(&stick.path())]);
    }
}
