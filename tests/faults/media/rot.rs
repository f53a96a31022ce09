//! Bits that rot, sectors that cannot be read, and filesystems that are damaged themselves.

use std::fs;
use std::path::{Path, PathBuf};

use pannier::record::Role;

use super::room::{Room, SIZE, attempt, sequence};
use crate::support::carry::{blobs, flip, oci, pannier, repair, run, text};
use crate::support::faultdisk::{Kind, Op, SECTOR, Stick, available};
use crate::support::layout::{files as tar, image, layout, noise};
use crate::support::oracle::{findings, record};
use crate::support::strace;

/// The file of the largest layer.
fn largest(medium: &Path) -> PathBuf {
    let record = record(medium);
    let layers = record.blobs.iter().filter(|blob| blob.role == Role::Layer);
    let largest = layers.max_by_key(|blob| blob.size).unwrap();
    medium.join("blobs/sha256").join(largest.digest.hex())
}

/// Where a file's first block is on the disk.
fn place(stick: &Stick, file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    stick.disk.find(&bytes[..SECTOR.min(bytes.len())]).expect("it is on the disk")
}

fn ids(medium: &Path) -> Vec<String> {
    findings(medium).into_iter().map(|(id, _)| id).collect()
}

// fault-matrix: rows 43
#[test]
fn a_damaged_index_json_is_found_and_nothing_depends_on_it() {
    let room = Room::new();
    let at = room.path("m");
    run(0, room.second(&at));
    let index = at.join("index.json");
    let whole = fs::read(&index).unwrap();
    for damage in [b"{".to_vec(), Vec::new(), vec![0; whole.len()], whole[..whole.len() / 2].to_vec()] {
        fs::write(&index, damage).unwrap();
        assert_eq!(ids(&at), ["index-damaged"]);
        run(4, ["verify", "--quiet", text(&at)]);
        // What is carried is in the record: another medium gets all of it.
        let from = format!("medium:{}", at.display());
        let copy = room.path("copy");
        let arguments =
            ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&copy)];
        run(0, arguments);
        assert!(blobs(&copy) == room.expected);
        fs::remove_dir_all(copy).unwrap();
        repair(0, &at, &[]);
        assert_eq!(fs::read(&index).unwrap(), whole);
        let _ = fs::remove_file(at.join(".pannier/damaged-index.json"));
    }
}

// fault-matrix: rows 45
#[test]
fn what_rots_between_writing_and_reading_back_is_found_before_the_commit() {
    if !available() {
        return;
    }
    let room = Room::new();
    let marker = "what was written is what is read, or else it is said";
    let rotten = layout().with(image("docker.io/library/rotten:1").layer(tar([("etc/x", marker)])).plain());
    let from = room.path("rotten");
    rotten.write_dir(&from);
    let from = oci(&from);
    let stick = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    run(0, room.first(&at));
    stick.disk.rot_when_read(marker.as_bytes());
    let arguments = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at)];
    let arguments: Vec<_> = arguments.into_iter().chain(["--compression", "none"]).collect();
    let output = attempt(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    // The page cache has it right; only the disk has it wrong.
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("is damaged"), "{said}");
    assert_eq!(sequence(&at), 1);
    stick.disk.heal();
    run(0, arguments);
    run(0, ["verify", "--deep", text(&at)]);
}

// fault-matrix: rows 46
#[test]
fn a_bad_sector_is_named_the_rest_is_read_and_a_repair_gets_it_back() {
    if !available() {
        return;
    }
    let room = Room::new();
    let mut stick = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    run(0, room.second(&at));
    let bad = largest(&at);
    let other = record(&at).blobs.iter().find(|blob| blob.role == Role::Config).unwrap().digest;
    flip(&at.join("blobs/sha256").join(other.hex()));
    stick.remount();
    let start = place(&stick, &bad) + 8192;
    stick.remount();
    stick.disk.fail(Op::Read, start..start + SECTOR as u64, usize::MAX);
    // Both are found: the scan goes on behind what cannot be read.
    let mut found = ids(&at);
    found.sort();
    assert_eq!(found, ["blob-digest", "blob-unreadable"]);
    let from = format!("oci:{}", room.path("second").display());
    let summary = repair(0, &at, &["--from", &from]);
    assert_eq!(summary["repaired"].as_array().unwrap().len(), 2, "{summary}");
    assert!(ids(&at).is_empty());
    assert!(blobs(&at) == room.expected);
}

// fault-matrix: rows 47
#[test]
fn a_sector_that_is_read_at_the_second_try_is_told() {
    if !available() {
        return;
    }
    let room = Room::new();
    let mut stick = Stick::new(Kind::Ext4, SIZE);
    let at = stick.path();
    run(0, room.second(&at));
    let weak = largest(&at);
    let start = place(&stick, &weak) + 8192;
    stick.remount();
    // The kernel itself tries more than once: reading ahead, and then page by page.
    for times in 1.. {
        stick.remount();
        stick.disk.heal();
        stick.disk.fail(Op::Read, start..start + 4096, times);
        let output = pannier(["verify", "--json", text(&at)]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(times < 20 && !said.contains("blob-unreadable"), "after {times} failures: {said}");
        if said.contains("blob-weak") {
            assert_eq!(output.status.code(), Some(0), "a warning: {said}");
            break;
        }
    }
    assert!(ids(&at).is_empty(), "it was read again");
}

// fault-matrix: rows 75
#[test]
fn a_damaged_filesystem_is_named_with_the_path_and_what_to_do() {
    if !strace::available() {
        return;
    }
    let room = Room::new();
    let at = room.path("m");
    run(0, room.second(&at));
    // EBADMSG is what ext4 gives for a checksum that is wrong.
    for (calls, error) in
        [("getdents64", "EUCLEAN"), ("getdents64", "EBADMSG"), ("openat2", "EUCLEAN"), ("read", "EUCLEAN")]
    {
        // From then on for good: what was damaged once stays so.
        for number in [6, 12, 20] {
            let inject = format!("error={error}:when={number}+");
            let traced = strace::traced(&["verify", text(&at)], calls, Some(&inject));
            let Some(call) = traced.injected() else { continue };
            // Another program file or library, before it looked at the medium.
            if !traced.calls[call].contains(text(&at)) {
                continue;
            }
            let printed = [&traced.output.stdout[..], &traced.output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(!traced.output.status.success(), "{error} {number}: {}: {printed}", traced.calls[call]);
            assert!(
                printed.contains(text(&at)) && printed.contains("fsck"),
                "{error} {number}: {}: {printed}",
                traced.calls[call]
            );
        }
    }
}

// fault-matrix: rows 75
#[test]
fn directories_that_are_garbage_end_in_an_error_and_not_in_a_loop() {
    if !available() {
        return;
    }
    let room = Room::new();
    for kind in [Kind::Ext4, Kind::Exfat] {
        let mut stick = Stick::new(kind, SIZE);
        let at = stick.path();
        run(0, room.second(&at));
        let name = largest(&at).file_name().unwrap().to_str().unwrap().to_owned();
        stick.unmount();
        // A directory's block has the names in it: ext4 in bytes, exFAT in UTF-16.
        let (name, garbage): (Vec<u8>, Vec<u8>) = match kind {
            Kind::Ext4 => {
                ([&[64, 1], name.as_bytes()].concat(), noise("garbage", 7, 4096)[512..1536].to_vec())
            }
            Kind::Exfat => (name[..15].encode_utf16().flat_map(u16::to_le_bytes).collect(), vec![0x85; 1024]),
        };
        let store = fs::read(stick.beside("store")).unwrap();
        // In the journal as well.
        let found = store.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        let found: Vec<usize> = found.map(|(at, _)| at).collect();
        assert!(!found.is_empty());
        for at in found {
            stick.disk.overwrite(at as u64 / 1024 * 1024, &garbage);
        }
        stick.mount();
        for arguments in [vec!["verify", text(&at)], vec!["list", text(&at)], room.second(&at)] {
            let output = attempt(&arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{kind:?} {arguments:?}: {said}");
            let status = output.status.code();
            assert!(status.is_some_and(|s| s != 101), "{kind:?} {arguments:?}: {status:?} {said}");
            if arguments[0] == "verify" {
                assert_ne!(status, Some(0), "{kind:?}: {said}");
            }
        }
    }
}
