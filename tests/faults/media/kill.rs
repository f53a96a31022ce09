//! Killed at every call that changes the medium, on the filesystems that sticks have; and the program
//! that serves exFAT killed at every write.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::room::{Room, attempt, some};
use crate::support::carry::run;
use crate::support::faultdisk::{Kind, Mounted, Stick, available};
use crate::support::oracle::{Loss, failed_as_documented};
use crate::support::strace;

/// The calls by which a medium is changed.
const CHANGING: [&str; 6] =
    ["write", "openat2", "renameat", "mkdirat,unlinkat", "fsync,fdatasync,syncfs", "fallocate"];

/// A filesystem in a file, with the first commit on it.
fn first_commit(room: &Room, kind: Kind) -> Stick {
    let mut stick = Stick::new(kind, 24 << 20);
    run(0, room.first(&stick.path()));
    stick.unmount();
    stick
}

/// Kills the second export at each call, and looks at the medium mounted again.
fn kill_everywhere(kind: Kind, few: usize) {
    if !available() || !strace::available() {
        return;
    }
    let room = Room::new();
    let stick = first_commit(&room, kind);
    let (image, at) = (stick.beside("image"), stick.beside("image-mnt"));
    for calls in CHANGING {
        let whole = traced_calls(&room, &stick, kind, calls);
        assert!(whole > 0, "an export calls none of {calls}");
        let sweep = format!("export killed at {calls}, {kind:?}");
        for number in some(&sweep, &(1..=whole).collect::<Vec<_>>(), few) {
            let case = format!("{kind:?}: killed at call {number} of {calls}");
            fs::copy(stick.beside("store"), &image).unwrap();
            let arguments = room.second(&at);
            {
                let _mounted = Mounted::new(kind, &image, &at, "rw");
                strace::killed(&arguments, calls, number);
            }
            let _mounted = Mounted::new(kind, &image, &at, "rw");
            room.oracle(&at, &arguments).check(&case, Loss::Nothing);
        }
    }
}

/// How often one thread of an undisturbed export does one of these calls, at most.
fn traced_calls(room: &Room, stick: &Stick, kind: Kind, calls: &str) -> usize {
    let (image, at) = (stick.beside("image"), stick.beside("image-mnt"));
    fs::copy(stick.beside("store"), &image).unwrap();
    let _mounted = Mounted::new(kind, &image, &at, "rw");
    let traced = strace::traced(&room.second(&at), calls, None);
    assert!(traced.output.status.success());
    // strace counts each thread's calls of each kind.
    let mut counts = std::collections::BTreeMap::new();
    for call in &traced.calls {
        let kind = call.split('(').next().unwrap_or_default().to_owned();
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts.values().copied().max().unwrap_or(0)
}

// fault-matrix: rows 1, 2, 3, 4
#[test]
fn killed_at_any_call_on_ext4() {
    kill_everywhere(Kind::Ext4, 2);
}

// fault-matrix: rows 1, 2, 3, 4
#[test]
fn killed_at_any_call_on_exfat() {
    kill_everywhere(Kind::Exfat, 2);
}

/// Mounts exFAT under strace, which notes or disturbs its writes.
fn exfat_under_strace(image: &Path, at: &Path, log: &Path, more: &[&str]) -> Mounted {
    let own = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", "trace=pwrite64"];
    let under: Vec<&str> = own.iter().chain(more).copied().collect();
    Mounted::exfat(image, at, &under).unwrap()
}

// fault-matrix: rows 5, 6
#[test]
fn the_program_that_serves_exfat_killed_at_any_write() {
    if !available() || !strace::available() {
        return;
    }
    let room = Room::new();
    let stick = first_commit(&room, Kind::Exfat);
    let (image, at, log) = (stick.beside("image"), stick.beside("image-mnt"), stick.beside("log"));
    fs::copy(stick.beside("store"), &image).unwrap();
    let writes = {
        let _mounted = exfat_under_strace(&image, &at, &log, &[]);
        run(0, room.second(&at));
        fs::read_to_string(&log).unwrap().matches("pwrite64(").count()
    };
    // The commit record and index.json come last.
    let late: Vec<usize> = (1..=writes).rev().take(if super::room::whole() { 60 } else { 40 }).collect();
    for number in some("exfat-fuse killed at its writes", &late, 6) {
        let case = format!("exfat-fuse killed at write {number} of {writes}");
        fs::copy(stick.beside("store"), &image).unwrap();
        let arguments = room.second(&at);
        {
            let inject = format!("inject=pwrite64:signal=KILL:when={number}");
            let _mounted = exfat_under_strace(&image, &at, &log, &["-e", &inject]);
            let output = attempt(&arguments);
            if !output.status.success() {
                let said = failed_as_documented(&case, &output);
                assert_eq!(output.status.code(), Some(5), "{case}: {said}");
            }
        }
        let checked = Command::new("fsck.exfat").arg("-n").arg(&image).output().unwrap();
        eprintln!("{case}: fsck.exfat: {}", String::from_utf8_lossy(&checked.stdout));
        let _mounted = Mounted::new(Kind::Exfat, &image, &at, "rw");
        room.oracle(&at, &arguments).check(&case, Loss::Unsynced);
    }
}
