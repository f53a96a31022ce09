//! The power goes: at every flush of an export and between them, on a disk that keeps, drops or garbles
//! what was not flushed.

use crate::room::{Room, sequence, some};
use crate::support::carry::run;
use crate::support::faultdisk::{Fate, Kind, Mounted, Recording, Stick, available};
use crate::support::oracle::Loss;

const SIZE: u64 = 24 << 20;

/// An export onto a medium with one commit, and what the disk was asked for meanwhile.
fn recorded(room: &Room, kind: Kind) -> (Stick, Recording) {
    let mut stick = Stick::new(kind, SIZE);
    run(0, room.first(&stick.path()));
    stick.remount();
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
    for end in some(&recording.moments(), few) {
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
