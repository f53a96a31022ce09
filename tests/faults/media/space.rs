//! Media that are small or full, and files that are too large for them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::room::{Room, attempt, some};
use crate::support::carry::{files, oci, run, text};
use crate::support::faultdisk::{Kind, Mounted, Stick, available};
use crate::support::layout::{image, layout, noise};
use crate::support::oracle::{Loss, failed_as_documented};
use crate::support::strace;

/// Fills a filesystem but for so many bytes.
fn fill_but(at: &Path, left: u64) {
    let filler = File::create(at.join("filler")).unwrap();
    // Another thread of what is filled up may still write: then less is free than a moment ago.
    for _ in 0..100 {
        let stat = rustix::fs::statvfs(at).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let size = free.saturating_sub(left) / 4096 * 4096;
        match rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, size) {
            Ok(()) => return filler.sync_all().unwrap(),
            Err(rustix::io::Errno::NOSPC) => std::thread::sleep(Duration::from_millis(5)),
            Err(errno) => panic!("{errno}"),
        }
    }
    panic!("it is never full but for {left} bytes");
}

// fault-matrix: rows 26
#[test]
fn a_medium_that_is_too_small_is_refused_with_figures_and_untouched() {
    if !available() {
        return;
    }
    let room = Room::new();
    for kind in [Kind::Ext4, Kind::Exfat] {
        let stick = Stick::new(kind, 24 << 20);
        let at = stick.path();
        run(0, room.first(&at));
        if kind == Kind::Ext4 {
            fill_but(&at, 100_000);
        } else {
            let mut filler = File::create(at.join("filler")).unwrap();
            while filler.write_all(&[1; 4096]).is_ok() {}
            filler.set_len(filler.metadata().unwrap().len() - 40_000).unwrap();
        }
        let before = files(&at);
        let arguments = room.second(&at);
        let output = attempt(&arguments);
        let said = failed_as_documented("too small", &output);
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains(" are free"), "{said}");
        assert!(files(&at) == before);
        fs::remove_file(at.join("filler")).unwrap();
        room.oracle(&at, &arguments).check("too small", Loss::Nothing);
    }
}

/// Runs the export, and fills the medium but for so many bytes when it has set aside what the record takes.
fn filled_meanwhile(arguments: &[&str], at: &Path, left: u64) -> Output {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", text(log.path()), "-e", "inject=fallocate:signal=STOP:when=1"])
        .arg(env!("CARGO_BIN_EXE_pannier"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut filled = false;
    while strace.try_wait().unwrap().is_none() {
        let stopped = fs::read_to_string(log.path()).unwrap().contains("stopped by SIGSTOP");
        if stopped && !filled {
            fill_but(at, left);
            filled = true;
        }
        if filled {
            // Each of its threads stops when it comes that far.
            let children = format!("/proc/{0}/task/{0}/children", strace.id());
            let child = fs::read_to_string(children).unwrap_or_default();
            if let Some(pid) = child.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(filled, "it never wrote");
    strace.wait_with_output().unwrap()
}

// fault-matrix: rows 26, 28
#[test]
fn full_at_any_block_the_commit_is_whole_or_absent_and_nothing_unfinished_stays() {
    if !available() || !strace::available() {
        return;
    }
    let room = Room::new();
    let mut stick = Stick::new(Kind::Ext4, 24 << 20);
    run(0, room.first(&stick.path()));
    stick.unmount();
    let (copy, at) = (room.path("copy"), room.path("mnt"));
    let (mut full, mut fitted) = (0, 0);
    for blocks in
        some("export onto a medium with so many blocks left", &(0..56).step_by(2).collect::<Vec<u64>>(), 5)
    {
        fs::copy(stick.beside("store"), &copy).unwrap();
        let _mounted = Mounted::new(Kind::Ext4, &copy, &at, "rw");
        let arguments = room.second(&at);
        let output = filled_meanwhile(&arguments, &at, blocks * 4096);
        let case = format!("{blocks} blocks left");
        if output.status.success() {
            fitted += 1;
        } else {
            full += 1;
            let said = failed_as_documented(&case, &output);
            assert_eq!(output.status.code(), Some(5), "{case}: {said}");
            let left = fs::read_dir(at.join(".pannier/ingest")).unwrap().map(|entry| entry.unwrap());
            let left: Vec<_> = left.filter(|entry| entry.metadata().unwrap().len() > 0).collect();
            assert!(left.is_empty(), "{case}: {left:?}");
        }
        fs::remove_file(at.join("filler")).unwrap();
        room.oracle(&at, &arguments).check(&case, Loss::Nothing);
    }
    assert!(full > 0 && fitted > 0, "{full} did not fit, {fitted} did");
}

// fault-matrix: rows 29
#[test]
fn no_room_for_more_files_is_named_as_such() {
    if !available() {
        return;
    }
    let room = Room::new();
    let stick = Stick::formatted(Kind::Ext4, 24 << 20, &["-N", "64"]);
    let at = stick.path();
    run(0, room.first(&at));
    let before = files(&at);
    fs::create_dir(at.join("other")).unwrap();
    let free = || rustix::fs::statvfs(&at).unwrap().f_favail;
    while free() > 3 {
        File::create(at.join(format!("other/{}", free()))).unwrap();
    }
    let arguments = room.second(&at);
    let output = attempt(&arguments);
    let said = failed_as_documented("no inodes", &output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("files") && said.contains("3 more"), "{said}");
    fs::remove_dir_all(at.join("other")).unwrap();
    assert!(files(&at) == before);
    room.oracle(&at, &arguments).check("no inodes", Loss::Nothing);
}

// fault-matrix: rows 33
#[test]
fn a_layer_that_a_file_cannot_hold_is_refused_before_the_first_byte() {
    if !available() {
        return;
    }
    let room = Room::new();
    let from = room.path("layout");
    layout().with(image("docker.io/library/large:1").layer(noise("large", 1, 10_000))).write_dir(&from);
    // The layer is said to have 5 GiB: a file with a hole, which is not to be read before the refusal.
    let huge: u64 = 5 << 30;
    let blobs = from.join("blobs/sha256");
    let manifest = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let manifest = { manifest }.find(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.starts_with(b"{") && bytes.windows(8).any(|window| window == b"\"layers\"")
    });
    let manifest = manifest.unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let layer = document["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    document["layers"][0]["size"] = huge.into();
    File::options().write(true).open(blobs.join(&layer)).unwrap().set_len(huge).unwrap();
    let bytes = serde_json::to_vec(&document).unwrap();
    let digest = pannier::image::Digest::of(&bytes);
    fs::write(blobs.join(digest.hex()), &bytes).unwrap();
    let index = from.join("index.json");
    let old = manifest.file_name().unwrap().to_str().unwrap();
    let mut listed: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    assert!(listed["manifests"][0]["digest"].as_str().unwrap().ends_with(old));
    listed["manifests"][0]["digest"] = digest.to_string().into();
    listed["manifests"][0]["size"] = bytes.len().into();
    fs::write(&index, serde_json::to_vec(&listed).unwrap()).unwrap();

    // There is no driver for FAT32 here: exFAT, whose first sector says FAT32 once it is mounted.
    let stick = Stick::new(Kind::Exfat, 6 << 30);
    let device = File::options().write(true).open(stick.device()).unwrap();
    use std::os::unix::fs::FileExt;
    device.write_all_at(b"MSDOS5.0", 3).unwrap();
    device.write_all_at(b"FAT32   ", 82).unwrap();
    let (from, at) = (oci(&from), stick.path());
    let arguments = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at)];
    let arguments: Vec<_> = arguments.into_iter().chain(["--compression", "none"]).collect();
    let output = attempt(&arguments);
    let said = failed_as_documented("FAT32", &output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    for word in [layer.as_str(), "5.37 GB", "FAT32", "exFAT or ext4"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(files(&at).is_empty(), "{:?}", files(&at).keys());
}
