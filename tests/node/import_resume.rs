//! Imports that are cut off: run again they complete, and nothing that CRI lists in between fails to
//! start.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::cluster::{
    Bench, app, assert_starts, available, images, import, import_command, pause, program, versions,
};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::node::Node;
use pannier::containerd::{Committed, Opened};
use pannier::image::{Descriptor, Digest};
use serde_json::Value;

/// Five images that share layers, with enough of them for twenty different moments.
fn several() -> Layout {
    let base = noise("data/base", 1, 3_000_000);
    let mut set = layout();
    for n in 0..5u64 {
        let own = noise("data/own", 10 + n, 700_000);
        let image = image(&format!("docker.io/library/app{n}:1"));
        set = set.with(image.layer(base.clone()).layer(program("podmain")).layer(own));
    }
    set
}

fn listed(node: &Node) -> Vec<String> {
    let images = node.client().cri_list_images().unwrap();
    images.into_iter().flat_map(|image| image.tags).filter(|tag| !tag.contains("pause")).collect()
}

fn committed(node: &Node) -> BTreeSet<Digest> {
    node.client().blobs().unwrap().into_iter().map(|info| info.digest).collect()
}

/// The blobs that a run of an import began to send.
fn begun(stdout: &str) -> BTreeSet<Digest> {
    let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let started = events.filter(|event| event["event"] == "started");
    started.filter_map(|event| event["item"].as_str().unwrap().parse().ok()).collect()
}

/// What kills.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Client,
    Containerd,
}

/// Cuts an import off after `lines` events; true if it had not ended by then.
fn cut_off(node: &mut Node, medium: &std::path::Path, lines: usize, victim: Victim) -> bool {
    // A containerd that goes away is waited for; here it comes back only afterwards.
    let mut child = import_command(node, medium)
        .args(["--timeout", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = events.by_ref().take(lines).filter(|line| line.is_ok()).count();
    match victim {
        Victim::Client => {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        Victim::Containerd => {
            node.kill();
            // It notices, and says that the node is gone.
            drop(events);
            child.wait().unwrap();
            node.launch();
        }
    }
    seen == lines
}

// fault-matrix: rows 7, 8, 58, 59
#[test]
fn killed_at_twenty_moments_it_completes_when_run_again() {
    let versions = versions();
    if versions.is_empty() {
        return;
    }
    let bench = Bench::new();
    let sandbox = bench.pause_medium();
    let medium = bench.medium("m", &several());
    let whole = {
        let node = Node::start(versions[0]);
        import(0, &node, &sandbox, &[]);
        import(0, &node, &medium, &[]).stdout().lines().count()
    };
    let moments = 20;
    for moment in 0..moments {
        let victim = if moment % 2 == 0 { Victim::Client } else { Victim::Containerd };
        let mut node = Node::start(versions[moment % versions.len()]);
        import(0, &node, &sandbox, &[]);
        let lines = 1 + moment * (whole - 2) / moments;
        let what =
            format!("{victim:?} killed after {lines} of {whole} events, containerd {}", node.version());
        let in_time = cut_off(&mut node, &medium, lines, victim);
        assert!(in_time || moment > moments / 2, "{what}: it ended before");
        for tag in listed(&node) {
            assert_starts(&node, &tag);
        }
        let there = committed(&node);
        let ran = import(0, &node, &medium, &[]);
        let sent = begun(&ran.stdout());
        let twice: Vec<_> = sent.intersection(&there).collect();
        assert!(twice.is_empty(), "{what}: sent again: {twice:?}");
        assert_eq!(listed(&node).len(), 5, "{what}");
        node.client().collect_garbage().unwrap();
        for tag in listed(&node) {
            assert_starts(&node, &tag);
        }
        let leases = node.client().list_leases().unwrap();
        assert!(leases.iter().all(|lease| !lease.id.starts_with("pannier")), "{what}: {leases:?}");
        assert_eq!(import(0, &node, &medium, &[]).json()["bytesSent"], 0, "{what}");
        images(0, &node, &["--check"]);
    }
}

/// A medium with one image whose one layer is large, and that layer's blob there.
fn large(bench: &Bench) -> (std::path::PathBuf, Descriptor, Vec<u8>) {
    let medium =
        bench.medium("large", &layout().with(pause()).with(app("large:1").layer(noise("x", 5, 8_000_000))));
    let opened = pannier::medium::Medium::open(&medium).unwrap();
    let layers = &opened.record().unwrap().layers;
    let largest = layers.iter().max_by_key(|layer| layer.size).unwrap();
    let blob = largest.encodings[0].clone();
    let bytes = std::fs::read(medium.join("blobs/sha256").join(blob.digest.hex())).unwrap();
    (medium, blob, bytes)
}

/// Leaves the first `bytes` of a blob in containerd, as an import that was cut off does.
fn leave(node: &Node, blob: &Descriptor, bytes: &[u8]) {
    let reference = format!("pannier-{}", blob.digest);
    let Opened::Ingest(mut ingest) = node.client().open_ingest(&reference, blob).unwrap() else { panic!() };
    for chunk in bytes.chunks(1 << 20) {
        ingest.write(chunk.to_vec()).unwrap();
    }
    // What containerd has not taken in yet is lost when the stream ends.
    let arrived = || node.client().partial(&reference).unwrap() == Some(bytes.len() as u64);
    assert!((0..500).any(|_| arrived() || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        false
    }));
}

#[test]
fn a_partial_blob_is_gone_on_with_where_its_hash_proves_it() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let (medium, blob, bytes) = large(&bench);
    let half = bytes.len() / 2;
    for version in versions() {
        let whole = {
            let node = Node::start(version);
            import(0, &node, &medium, &[]).json()["bytesSent"].as_u64().unwrap()
        };
        let node = Node::start(version);
        leave(&node, &blob, &bytes[..half]);
        let summary = import(0, &node, &medium, &[]).json();
        assert_eq!(summary["bytesSent"].as_u64().unwrap(), whole - half as u64, "{version}");
        assert_starts(&node, "docker.io/library/large:1");
    }
}

#[test]
fn a_partial_blob_with_other_bytes_or_of_another_size_is_begun_again() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let (medium, blob, bytes) = large(&bench);
    for version in versions() {
        let mut other = bytes[..bytes.len() / 2].to_vec();
        other[1000] ^= 1;
        let node = Node::start(version);
        leave(&node, &blob, &other);
        import(0, &node, &medium, &[]);
        assert_starts(&node, "docker.io/library/large:1");

        let node = Node::start(version);
        leave(&node, &Descriptor { size: blob.size + 77, ..blob.clone() }, &bytes);
        import(0, &node, &medium, &[]);
        assert_starts(&node, "docker.io/library/large:1");

        // All of the bytes and one wrong: poisoned, as a failed commit leaves it.
        let mut poisoned = bytes.clone();
        poisoned[2000] ^= 1;
        let node = Node::start(version);
        leave(&node, &blob, &poisoned);
        import(0, &node, &medium, &[]);
        assert_starts(&node, "docker.io/library/large:1");
    }
}

#[test]
fn a_commit_of_wrong_bytes_is_no_commit() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let (_, blob, mut bytes) = large(&bench);
    bytes[3000] ^= 1;
    for version in versions() {
        let node = Node::start(version);
        let Opened::Ingest(mut ingest) = node.client().open_ingest("test", &blob).unwrap() else { panic!() };
        for chunk in bytes.chunks(1 << 20) {
            ingest.write(chunk.to_vec()).unwrap();
        }
        assert_eq!(ingest.commit(Default::default()).unwrap(), Committed::Mismatch);
        assert!(node.client().blob(blob.digest).unwrap().is_none());
    }
}

#[test]
fn an_interruption_stops_an_unpacking_and_leaves_nothing_half_done() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let large = app("large:1").layer(noise("x", 5, 40_000_000));
    let medium = bench.medium("large", &layout().with(pause()).with(large));
    for version in versions() {
        let node = Node::start(version);
        let mut child =
            import_command(&node, &medium).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let largest = 40_000_000;
        let unpacks_it = |line: &String| {
            let event: Value = serde_json::from_str(line).unwrap();
            let item = event["item"].as_str().unwrap_or_default();
            event["event"] == "started"
                && item.starts_with("unpack ")
                && event["bytes"].as_u64().unwrap_or_default() > largest
        };
        let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(events.by_ref().any(|line| unpacks_it(&line)), "{version}: it is unpacked");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{version}");
        drop(events);
        let snapshots = node.client().list_snapshots("overlayfs").unwrap();
        assert!(snapshots.iter().all(|snapshot| snapshot.committed), "{version}: {snapshots:?}");
        assert!(node.client().image("docker.io/library/large:1").unwrap().is_none());
        let there = committed(&node);
        let sent = begun(&import(0, &node, &medium, &[]).stdout());
        assert!(sent.is_disjoint(&there), "{version}: {sent:?}");
        assert_starts(&node, "docker.io/library/large:1");
    }
}

// fault-matrix: rows 57
#[test]
fn two_imports_at_the_same_time_both_succeed() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &several().with(pause()));
    for version in versions() {
        let node = Node::start(version);
        let run =
            || import_command(&node, &medium).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let both = [run(), run()].map(|child| child.wait_with_output().unwrap());
        for output in &both {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{version}: {stderr}");
        }
        node.client().collect_garbage().unwrap();
        for tag in listed(&node) {
            assert_starts(&node, &tag);
        }
        assert_eq!(listed(&node).len(), 5);
        images(0, &node, &["--check"]);
    }
}

#[test]
fn content_of_another_namespace_is_taken_over_without_sending_it() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &several().with(pause()));
    let node = Node::start("2.1");
    import(0, &node, &medium, &["--namespace", "moby", "--no-cri", "--no-unpack"]);
    let summary = import(0, &node, &medium, &[]).json();
    assert_eq!(summary["bytesSent"], 0, "{summary}");
    assert_starts(&node, "docker.io/library/app3:1");
}

#[test]
fn a_directory_that_a_killed_containerd_left_is_no_obstacle() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let (sandbox, medium) = (bench.pause_medium(), bench.medium("m", &several()));
    for version in versions() {
        let node = Node::start(version);
        // overlayfs numbers its snapshots; one that was made and not noted has the next number.
        for number in 1..4 {
            std::fs::create_dir_all(node.snapshot_directory().join(format!("{number}/fs/left"))).unwrap();
        }
        import(0, &node, &sandbox, &[]);
        import(0, &node, &medium, &[]);
        for tag in listed(&node) {
            assert_starts(&node, &tag);
        }
    }
}
