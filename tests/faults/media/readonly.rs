//! Media that cannot be written, or no longer.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::room::{Room, attempt};
use crate::support::carry::{files, pannier, run, text};
use crate::support::cluster::{self, app, assert_starts, pause};
use crate::support::faultdisk::{Kind, Mounted, Op, Stick, available};
use crate::support::layout::{layout, noise};
use crate::support::node::Node;
use crate::support::node_state::assert_only_whole_images;
use crate::support::oracle::{Loss, failed_as_documented};
use crate::support::strace;

// fault-matrix: rows 37
#[test]
fn an_export_to_a_read_only_medium_is_refused_in_one_line() {
    if !available() {
        return;
    }
    let room = Room::new();
    let mut stick = Stick::new(Kind::Ext4, 24 << 20);
    let at = stick.path();
    run(0, room.first(&at));
    stick.mounted().change("ro");
    let output = attempt(&room.second(&at));
    let said = failed_as_documented("read-only", &output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("read-only"), "{said}");
    // Looking at it needs no write, and an export that has nothing to write is none.
    run(0, ["verify", "--deep", text(&at)]);
    run(0, ["list", text(&at)]);
    run(0, room.first(&at));
    stick.mounted().change("rw");
    let arguments = room.second(&at);
    room.oracle(&at, &arguments).check("read-only", Loss::Nothing);
}

// fault-matrix: rows 38
#[test]
fn a_medium_that_becomes_read_only_is_said_to_have() {
    if !available() {
        return;
    }
    let room = Room::new();
    let mut stick = room.stick(Kind::Ext4);
    let at = stick.path();
    stick.mounted().change("errors=remount-ro");
    // Nothing can be written any more, as when a stick has worn out: ext4 turns read-only.
    stick.disk.fail(Op::Write, 0..u64::MAX, usize::MAX);
    let arguments = room.second(&at);
    for case in ["when it fails", "afterwards"] {
        let output = attempt(&arguments);
        let said = failed_as_documented(case, &output);
        assert_eq!(output.status.code(), Some(5), "{case}: {said}");
        assert!(said.contains("dmesg"), "{case}: {said}");
    }
    stick.disk.heal();
    stick.remount();
    room.oracle(&at, &arguments).check("read-only", Loss::Unsynced);
}

/// The images of a directory that can never be written.
fn image_of(directory: &Path, to: &Path, kind: &str) -> bool {
    let mut command = match kind {
        "squashfs" => {
            let mut command = Command::new("mksquashfs");
            command.arg(directory).arg(to).args(["-quiet", "-no-progress", "-noappend"]);
            command
        }
        _ => {
            let mut command = Command::new("mkfs.erofs");
            command.arg(to).arg(directory);
            command
        }
    };
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            true
        }
        Err(error) => {
            crate::support::skipped(&format!("{kind}: {error}; run tests/setup/install.sh faults"));
            false
        }
    }
}

// fault-matrix: rows 39
#[test]
fn an_import_from_an_image_that_cannot_be_written_opens_nothing_for_writing() {
    if !available() || !strace::available() || !cluster::available("2.1") {
        return;
    }
    let bench = cluster::Bench::new();
    let name = "docker.io/library/app:1";
    let medium = bench.medium("m", &layout().with(pause()).with(app(name).layer(noise("data", 1, 300_000))));
    for kind in ["squashfs", "erofs"] {
        let (image, at) = (bench.path("image"), bench.path(kind));
        let _ = fs::remove_file(&image);
        if !image_of(&medium, &image, kind) {
            continue;
        }
        let _mounted = Mounted::of_kernel(kind, &image, &at, "ro").unwrap();
        assert!(files(&at) == files(&medium));
        let node = Node::start("2.1");
        let socket = node.socket();
        let arguments = ["import", text(&at), "--address", text(&socket)];
        let calls = "open,openat,openat2,creat,mkdirat,unlinkat,renameat,renameat2,linkat,symlinkat,flock";
        let traced = strace::traced(&arguments, calls, None);
        let said = String::from_utf8_lossy(&traced.output.stderr);
        assert!(traced.output.status.success(), "{kind}: {said}");
        // Names beneath the medium's root are relative to a handle, of which strace gives the path.
        let of_medium: Vec<_> = traced.calls.iter().filter(|call| call.contains(text(&at))).collect();
        assert!(of_medium.len() > 10, "{of_medium:?}");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "mkdir", "unlink", "rename", "link("];
        for call in &of_medium {
            assert!(!writes.iter().any(|write| call.contains(write)), "{kind}: {call}");
        }
        run(0, ["verify", "--deep", text(&at)]);
        assert_starts(&node, name);
    }
}

// fault-matrix: rows 22
#[test]
#[ignore = "long: make test-faults"]
fn pulled_out_during_an_import_the_node_has_only_whole_images() {
    if !available() || !cluster::available("2.1") {
        return;
    }
    let bench = cluster::Bench::new();
    let name = |number: u64| format!("docker.io/library/app{number}:1");
    let set = (0..3).fold(layout().with(pause()), |layout, number| {
        layout.with(app(&name(number)).layer(noise("data", 10 + number, 2_000_000)))
    });
    let medium = bench.medium("m", &set);
    let mut stick = Stick::new(Kind::Ext4, 64 << 20);
    let at = stick.path();
    let from = format!("medium:{}", medium.display());
    run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at)]);
    let node = Node::start("2.1");
    let socket = node.socket();
    let import = ["import", text(&at), "--address", text(&socket)];
    for number in [20, 40, 60] {
        stick.remount();
        stick.disk.yank_at(Op::Read, number);
        let output = pannier(import).output().unwrap();
        if !stick.disk.is_gone() {
            break;
        }
        let case = format!("pulled out at read {number}");
        let said = failed_as_documented(&case, &output);
        assert_eq!(output.status.code(), Some(5), "{case}: {said}");
        assert!(said.contains("was pulled out") || said.contains("still plugged in"), "{case}: {said}");
        assert!(!said.contains("is damaged: "), "{case}: {said}");
        assert_only_whole_images(&node, &case);
    }
    stick.remount();
    run(0, import);
    for number in 0..3 {
        assert_starts(&node, &name(number));
    }
}
