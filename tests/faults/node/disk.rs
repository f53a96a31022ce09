//! Disks that are full or cannot be read.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pannier::image::Digest;
use pannier::medium::Medium;

use super::{begin, end, medium};
use crate::support::carry::text;
use crate::support::cluster::{import, import_command, versions};
use crate::support::node::{METADATA, Node};
use crate::support::node_state::{State, assert_only_whole_images, empty};
use crate::support::proxy::{At, Fault, Proxy};
use crate::support::strace;

/// Fills the disk that a directory of a node is on, but for these bytes.
fn fill(node: &Node, directory: &str, leave: u64) -> PathBuf {
    let path = node.dir().join(directory).join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size - leave).unwrap();
    path
}

// fault-matrix: rows 30
#[test]
fn a_full_disk_of_the_node_ends_it_with_status_5_and_gives_back_what_has_no_name() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in versions() {
        let node = Node::start_with(version, &["size=48m"]);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        for (call, leave) in [("Content/Write", 100_000), ("Diff/Apply", 200_000)] {
            let what = format!("{version}, {call}");
            empty(&node);
            proxy.arm(At::Message(call, 1), Fault::Hold);
            let mut child = begin(&proxy, &medium, &[]);
            assert!(proxy.await_strike(|| child.try_wait().unwrap().is_some()).is_some(), "{what}");
            let filler = fill(&node, "root", leave);
            proxy.release();
            let (status, said) = end(child);
            assert_eq!(status, Some(5), "{what}: {said}");
            assert!(said.contains("no space left") && said.contains("Free some space"), "{what}: {said}");
            assert_only_whole_images(&node, &what);
            fs::remove_file(filler).unwrap();
            let left = State::of(&node);
            assert_eq!(left.left(), Vec::<String>::new(), "{what}");
            import(0, &node, &medium, &[]);
            State::of(&node).assert_is(&expected, &what);
        }
    }
}

// fault-matrix: rows 31
#[test]
fn a_full_disk_below_containerds_database_ends_it_with_status_5_and_the_same_command_completes() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in versions() {
        let node = Node::start_with(version, &["metadata=1m"]);
        let mut refused = 0;
        // Its database grows: each import comes a little further, and what it wrote there stays.
        for kibibytes in [0, 16, 64] {
            let what = format!("{version}, {kibibytes} KiB left");
            let filler = fill(&node, METADATA, kibibytes << 10);
            let output = import_command(&node, &medium).args(["--timeout", "1"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!("{what}: {said}");
            if output.status.code() != Some(0) {
                refused += 1;
                assert_eq!(output.status.code(), Some(5), "{what}: {said}");
                assert!(said.contains("no space left") && said.contains("Free some space"), "{what}: {said}");
            }
            assert_only_whole_images(&node, &what);
            fs::remove_file(filler).unwrap();
        }
        assert!(refused >= 2, "{version}: {refused} imports found no room");
        import(0, &node, &medium, &[]);
        let there = State::of(&node);
        empty(&node);
        import(0, &node, &medium, &[]);
        there.assert_is(&State::of(&node), version);
    }
}

/// The blob on the medium of the top layer of `one:1`, which no other image has.
fn own_layer(medium: &std::path::Path) -> Digest {
    let medium = Medium::open(medium).unwrap();
    let record = medium.record().unwrap();
    let one = record.images.iter().find(|image| image.names.iter().any(|n| n.path().ends_with("one")));
    let diff_id = one.unwrap().platforms[0].diff_ids.last().unwrap();
    record.layer(diff_id).unwrap().encodings[0].digest
}

// fault-matrix: rows 46
#[test]
fn a_blob_that_cannot_be_read_stops_its_image_and_no_other() {
    if versions().is_empty() {
        return;
    }
    if !strace::available() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    let blob = own_layer(&medium);
    let path = medium.join("blobs/sha256").join(blob.hex());
    let socket = node.socket();
    for (keep_going, status) in [(false, 5), (true, 5)] {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-P", text(&path), "-e", "inject=read,pread64:error=EIO"])
            .arg(env!("CARGO_BIN_EXE_pannier"))
            .args(["import", text(&medium), "--address", text(&socket)])
            .args(keep_going.then_some("--keep-going"))
            .stdout(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(&blob.to_string()) && said.contains("pannier repair"), "{said}");
        assert_only_whole_images(&node, "unreadable");
        assert!(node.client().image("docker.io/library/one:1").unwrap().is_none());
        let other = node.client().image("docker.io/library/two:1").unwrap();
        assert_eq!(other.is_some(), keep_going, "{said}");
    }
    import(0, &node, &medium, &[]);
    let there = State::of(&node);
    empty(&node);
    import(0, &node, &medium, &[]);
    there.assert_is(&State::of(&node), "after a read error");
}
