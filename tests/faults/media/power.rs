//! The power goes: at every flush of an export and between them, on a disk that keeps, drops or garbles
//! what was not flushed.

use std::fs;
use std::path::{Path, PathBuf};

use super::room::{Room, SIZE, attempt, sequence, some};
use crate::support::carry::{blobs, flip, repair, run, text};
use crate::support::faultdisk::{Fate, Kind, Mounted, Recording, Stick, available};
use crate::support::oracle::Loss;
use crate::support::strace;

/// An export onto a medium with one commit, and what the disk was asked for meanwhile.
fn recorded(room: &Room, kind: Kind) -> (Stick, Recording) {
    let stick = room.stick(kind);
    let base = stick.beside("base");
    Recording::begin(&stick.disk, &base);
    run(0, room.second(&stick.path()));
    let recording = Recording::end(&stick.disk, &base);
    (stick, recording)
}

/// Cuts the power at some of the moments and looks at what is left.
fn cut_everywhere(kind: Kind, fates: &[Fate], few: usize) {
    let room = Room::new();
    let (stick, recording) = recorded(&room, kind);
    let (image, at) = (stick.beside("cut"), stick.beside("cut-mnt"));
    let sweep = format!("power lost, {kind:?}, {} fates each", fates.len());
    for end in some(&sweep, &recording.moments(), few) {
        for fate in fates {
            let case = format!("{kind:?}: power lost after {end} of {} requests, {fate:?}", recording.len());
            recording.cut(&image, end, *fate, false);
            let _mounted = Mounted::checked(kind, &image, &at).unwrap_or_else(|why| panic!("{case}: {why}"));
            let arguments = room.second(&at);
            room.oracle(&at, &arguments).check(&case, Loss::Unsynced);
        }
    }
}

// fault-matrix: rows 13, 14, 16
#[test]
fn power_lost_at_any_moment_on_ext4() {
    if available() {
        cut_everywhere(Kind::Ext4, &[Fate::Dropped, Fate::Mixed(1), Fate::Garbled(2)], 4);
    }
}

// exFAT has no journal: what it was writing may be there in part, and so much more may be lost that only
// what a disk keeps that writes in order, and that was checked, is promised.
#[test]
#[ignore = "long: make test-faults"]
fn power_lost_at_any_moment_on_exfat() {
    if available() {
        cut_everywhere(Kind::Exfat, &[Fate::Written, Fate::Dropped], 4);
    }
}

// fault-matrix: rows 15
#[test]
fn power_lost_right_after_the_end_takes_nothing() {
    if !available() {
        return;
    }
    let room = Room::new();
    for kind in [Kind::Ext4, Kind::Exfat] {
        let (stick, recording) = recorded(&room, kind);
        let (image, at) = (stick.beside("cut"), stick.beside("cut-mnt"));
        for fate in [Fate::Dropped, Fate::Mixed(3), Fate::Garbled(4)] {
            recording.cut(&image, recording.len(), fate, false);
            let _mounted = Mounted::new(kind, &image, &at, "rw");
            assert_eq!(sequence(&at), 2, "{kind:?} {fate:?}");
            run(0, ["verify", "--deep", at.to_str().unwrap()]);
        }
    }
}

/// Stops ext4 as a loss of power does: nothing more reaches the disk, not even its journal.
#[allow(unsafe_code)]
fn shut_down(at: &Path) {
    const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    const NO_LOG_FLUSH: u32 = 2;
    let handle = fs::File::open(at).unwrap();
    // SAFETY: the call reads four bytes, which live as long as it.
    unsafe {
        let request = rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        rustix::ioctl::ioctl(&handle, request).unwrap();
    }
}

// fault-matrix: rows 13, 14, 15
#[test]
fn power_lost_by_a_filesystem_that_is_shut_down() {
    if !available() || !strace::available() {
        return;
    }
    let room = Room::new();
    let mut stick = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    run(0, room.first(&at));
    let arguments = room.second(&at);
    // At the barrier: all is written, and nothing of it is sure to be there. Then at each sync of the record.
    for (calls, number) in
        [("renameat", 2), ("syncfs", 1), ("fsync", 1), ("fsync", 5), ("fsync", 6), ("fsync", 7)]
    {
        let whole = fs::read(stick.beside("store")).unwrap();
        strace::killed(&arguments, calls, number);
        shut_down(&at);
        stick.remount();
        let case = format!("shut down at {calls} {number}");
        room.oracle(&at, &arguments).check(&case, Loss::Unsynced);
        // As it was before, for the next case.
        stick.unmount();
        fs::write(stick.beside("store"), whole).unwrap();
        stick.mount();
    }
    run(0, arguments.iter().copied());
    shut_down(&at);
    stick.remount();
    assert_eq!(sequence(&at), 2);
    run(0, ["verify", "--deep", text(&at)]);
}

// fault-matrix: rows 52
#[test]
fn power_lost_during_a_repair_never_makes_it_worse() {
    if !available() {
        return;
    }
    let room = Room::new();
    let from = format!("oci:{}", room.path("second").display());
    let mut stick = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    run(0, room.second(&at));
    let all = blobs(&at);
    let damaged: Vec<PathBuf> = all.keys().step_by(3).cloned().collect();
    for name in &damaged {
        flip(&at.join("blobs/sha256").join(name));
    }
    stick.remount();
    let base = stick.beside("base");
    Recording::begin(&stick.disk, &base);
    repair(0, &at, &["--from", &from]);
    let recording = Recording::end(&stick.disk, &base);
    let (image, at) = (stick.beside("cut"), stick.beside("cut-mnt"));
    let fates = [Fate::Dropped, Fate::Mixed(5), Fate::Garbled(6)];
    let sweep = format!("power lost in a repair, {} fates each", fates.len());
    for end in some(&sweep, &recording.moments(), 3) {
        for fate in fates {
            let case = format!("repair cut after {end} of {}, {fate:?}", recording.len());
            recording.cut(&image, end, fate, false);
            let _mounted =
                Mounted::checked(Kind::Ext4, &image, &at).unwrap_or_else(|why| panic!("{case}: {why}"));
            let now = blobs(&at);
            for (name, bytes) in &all {
                let whole = now.get(name) == Some(bytes);
                assert!(whole || damaged.contains(name), "{case}: {} was whole", name.display());
            }
            let output = attempt(&["repair", text(&at), "--from", &from]);
            assert!(output.status.success(), "{case}: {output:?}");
            assert!(blobs(&at) == all, "{case}");
            run(0, ["verify", "--deep", text(&at)]);
        }
    }
}
