//! Little of everything: memory, files, speed, names.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::room::{Room, set};
use crate::support::carry::{blobs, oci, pannier, run, text};
use crate::support::cluster::{self, app, assert_starts, pause};
use crate::support::faultdisk::{Kind, Op, Stick, available};
use crate::support::layout::{image, layout, noise};
use crate::support::node::Node;
use crate::support::oracle::{Loss, failed_as_documented};
use crate::support::strace;

/// Runs the program with at most 64 open files.
fn with_64_files(arguments: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:64", env!("CARGO_BIN_EXE_pannier")]).args(arguments);
    command.output().unwrap()
}

// fault-matrix: rows 65
#[test]
fn sixty_four_open_files_are_enough() {
    let room = Room::of(&set(2), &set(40));
    let at = room.path("m");
    for arguments in [room.first(&at), room.second(&at), vec!["verify", "--deep", text(&at)]] {
        let output = with_64_files(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(blobs(&at) == room.expected);
    let from = oci(&room.path("second"));
    let first = blobs(&at).keys().next().unwrap().clone();
    fs::remove_file(at.join("blobs/sha256").join(first)).unwrap();
    let output = with_64_files(&["repair", text(&at), "--from", &from]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(blobs(&at) == room.expected);
}

/// A control group with so much memory; removed with the value.
struct Group(std::path::PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("pannier-test-{}", std::process::id());
        let (one, two) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (path, limit) = if one.exists() {
            (one.join(name), "memory.limit_in_bytes")
        } else {
            (two.join(name), "memory.max")
        };
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// Runs the program in it.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("sh")
            .args(["-c", "echo $$ >\"$0\"; exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(env!("CARGO_BIN_EXE_pannier"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

// fault-matrix: rows 64
#[test]
#[ignore = "long: make test-faults"]
fn sixty_four_mib_of_memory_are_enough_or_the_medium_is_as_it_was() {
    let Some(group) = Group::new(64 << 20) else {
        crate::support::skipped("no control group can be made");
        return;
    };
    let room = Room::new();
    let at = room.path("m");
    run(0, room.first(&at));
    let large = layout().with(image("docker.io/library/large:1").layer(noise("large", 1, 100 << 20)).plain());
    large.write_dir(&room.path("large"));
    let (from, other) = (oci(&room.path("large")), room.path("other"));
    let plain = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&other)];
    // The size of a layer does not matter.
    for arguments in [
        plain.iter().copied().chain(["--compression", "none"]).collect::<Vec<_>>(),
        vec!["verify", text(&other)],
        vec!["list", text(&other)],
    ] {
        let output = group.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Compressing with a window of 16 MiB may take more: then the system kills it, and that is all.
    let arguments = room.second(&at);
    let output = group.run(&arguments);
    eprintln!("with the usual compression: {}", output.status);
    room.oracle(&at, &arguments).check("64 MiB", Loss::Nothing);
}

// fault-matrix: rows 64, 65
#[test]
#[ignore = "long: make test-faults"]
fn an_import_needs_neither_much_memory_nor_many_files() {
    if !cluster::available("2.1") {
        return;
    }
    let Some(group) = Group::new(64 << 20) else {
        crate::support::skipped("no control group can be made");
        return;
    };
    let bench = cluster::Bench::new();
    let name = "docker.io/library/app:1";
    let from = bench.path("layout");
    layout().with(pause()).with(app(name).layer(noise("data", 1, 80 << 20)).plain()).write_dir(&from);
    let (from, medium) = (oci(&from), bench.path("m"));
    let export = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&medium)];
    run(0, export.into_iter().chain(["--compression", "none"]));
    let node = Node::start("2.1");
    let socket = node.socket();
    let arguments = ["import", text(&medium), "--address", text(&socket)];
    let output = group.run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_starts(&node, name);
    crate::support::node_state::empty(&node);
    let output = with_64_files(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_starts(&node, name);
}

// fault-matrix: rows 71
#[test]
fn a_slow_stick_that_stalls_is_waited_for_and_a_signal_is_heard() {
    if !available() {
        return;
    }
    let room = Room::new();
    let stick = room.stick(Kind::Ext4);
    let at = stick.path();
    let seconds = if super::room::whole() { 60 } else { 3 };
    stick.disk.slow_down(1 << 20);
    stick.disk.stall_at(Op::Flush, 1, Duration::from_secs(seconds));
    let arguments = room.second(&at);
    run(0, arguments.iter().copied());
    assert!(blobs(&at) == room.expected);
    run(0, ["verify", text(&at)]);

    // A signal while it waits for the stick.
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 77, 3_000_000)));
    more.write_dir(&room.path("more"));
    let from = oci(&room.path("more"));
    let begun = stick.disk.count(Op::Flush);
    stick.disk.stall_at(Op::Flush, 1, Duration::from_secs(2));
    let export = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at)];
    let child = pannier(export).stderr(Stdio::piped()).spawn().unwrap();
    while !fs::read_dir(at.join(".pannier/ingest")).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = failed_as_documented("a signal", &output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("NOT safe to remove"), "{said}");
    assert!(stick.disk.count(Op::Flush) >= begun);
    run(0, export);
    run(0, ["verify", "--deep", text(&at)]);
}

// fault-matrix: rows 11
#[test]
fn interrupted_twice_it_ends_and_the_medium_is_as_after_a_kill() {
    if !available() {
        return;
    }
    let room = Room::new();
    let stick = room.stick(Kind::Ext4);
    let at = stick.path();
    stick.disk.stall_at(Op::Flush, 1, Duration::from_secs(2));
    let arguments = room.second(&at);
    let child = pannier(arguments.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
    while !fs::read_dir(at.join(".pannier/ingest")).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_child(&child);
    for _ in 0..2 {
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    room.oracle(&at, &arguments).check("interrupted twice", Loss::Nothing);
}

// fault-matrix: rows 73
#[test]
fn what_a_hundred_crashed_runs_left_is_removed_and_nothing_of_others() {
    let room = Room::new();
    let at = room.path("m");
    run(0, room.first(&at));
    let ingest = at.join(".pannier/ingest");
    for number in 0..100u32 {
        let digest = pannier::image::Digest::of(&number.to_be_bytes()).hex();
        fs::write(ingest.join(format!("{digest}.0")), vec![1; 5000]).unwrap();
        fs::write(ingest.join(&digest), vec![2; 5000]).unwrap();
        fs::write(ingest.join(format!("{digest}.{digest}.9.24")), b"").unwrap();
    }
    let theirs = ["notes.txt", ".Trash-1000/x", "blobs/README", "blobs/sha256/readme.txt"];
    for name in theirs {
        fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
        fs::write(at.join(name), "mine").unwrap();
    }
    run(0, room.second(&at));
    assert_eq!(fs::read_dir(&ingest).unwrap().count(), 0);
    for name in theirs {
        assert_eq!(fs::read(at.join(name)).unwrap(), b"mine", "{name}");
    }
    run(0, ["verify", "--deep", text(&at)]);
}

// fault-matrix: rows 35, 40
#[test]
fn no_name_is_made_that_some_filesystem_refuses() {
    if !available() || !strace::available() {
        return;
    }
    let room = Room::new();
    let stick = Stick::new(Kind::Exfat, 24 << 20);
    let at = stick.path();
    let calls = "openat2,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2";
    for arguments in [room.first(&at), room.second(&at)] {
        let traced = strace::traced(&arguments, calls, None);
        assert!(traced.output.status.success());
        let own = traced.calls.iter().filter(|call| call.contains(text(&at)));
        let makes =
            |call: &&String| call.contains("O_CREAT") || call.contains("mkdir") || call.contains("rename");
        let mut made = 0;
        for call in own.filter(makes) {
            for name in call.split('"').skip(1).step_by(2).filter(|name| !name.starts_with('/')) {
                made += 1;
                let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./-".contains(c);
                assert!(name.chars().all(legal), "{name}");
                for part in name.split('/') {
                    assert!(
                        part == "." || !part.ends_with('.') && !part.is_empty() && part.len() <= 255,
                        "{name}"
                    );
                }
            }
        }
        assert!(made > 10, "{made} names");
    }
    room.oracle(&at, &room.second(&at)).check("names", Loss::Nothing);
}

// fault-matrix: rows 12
#[test]
fn a_closed_output_costs_no_data() {
    let room = Room::new();
    for more in [&["--json"][..], &[]] {
        let at = room.path("m");
        let arguments: Vec<_> = room.second(&at).into_iter().chain(more.iter().copied()).collect();
        let mut child = pannier(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        let status = child.wait().unwrap();
        assert!(status.code().is_some_and(|status| status != 101), "{status}");
        run(0, ["verify", "--deep", text(&at)]);
        assert!(blobs(&at) == room.expected, "all of it was carried: {status}");
        fs::remove_dir_all(at).unwrap();
    }
}
