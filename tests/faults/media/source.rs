//! The source goes wrong while a medium is filled: what it holds is deleted, or rots.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::support::carry::{flip, pannier, run, text};
use crate::support::cluster;
use crate::support::faultdisk::{Kind, Op, Stick, available};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::node::Node;
use crate::support::oracle::failed_as_documented;

fn set() -> Layout {
    (0..4).fold(layout(), |layout, number| {
        let name = format!("docker.io/library/app{number}:1");
        layout.with(image(&name).layer(noise("data", 20 + number, 6_000_000)))
    })
}

/// A containerd that has the set, and its archive.
fn containerd(at: &std::path::Path) -> Node {
    let archive = at.join("set.tar");
    fs::write(&archive, set().oci_archive()).unwrap();
    let node = Node::start_with("2.1", &["cri=off"]);
    node.ctr(&["images", "import", "--all-platforms", "--no-unpack", text(&archive)]);
    node
}

fn export<'a>(socket: &'a str, to: &'a str) -> [&'a str; 10] {
    ["export", "--from", "containerd", "-a", socket, "--all", "--platform", "linux/amd64", "--to", to]
}

// fault-matrix: rows 67
#[test]
#[ignore = "long: make test-faults"]
fn images_deleted_in_containerd_during_an_export_are_whole_on_the_medium_or_named() {
    if !available() || !cluster::available("2.1") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = containerd(directory.path());
    let stick = Stick::new(Kind::Ext4, 64 << 20);
    let (socket, at) = (node.socket(), stick.path());
    let arguments = export(text(&socket), text(&at));
    stick.disk.stall_at(Op::Write, 1, Duration::from_secs(3));
    stick.disk.slow_down(4 << 20);
    let child = pannier(arguments.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
    while !fs::read_dir(at.join(".pannier/ingest")).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let client = node.client();
    for image in client.list_images().unwrap() {
        client.delete_image(&image.name, &image.target).unwrap();
    }
    client.collect_garbage().unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        run(0, ["verify", "--deep", text(&at)]);
        let listed = run(0, ["list", text(&at)]).stdout();
        assert!((0..4).all(|number| listed.contains(&format!("app{number}:1"))), "{listed}");
    } else {
        let said = failed_as_documented("deleted at the source", &output);
        assert!(said.contains("source: "), "{said}");
        assert!(fs::read_dir(at.join(".pannier/commits")).unwrap().next().is_none(), "{said}");
    }
}

// fault-matrix: rows 68
#[test]
#[ignore = "long: make test-faults"]
fn what_rots_in_containerd_is_not_carried() {
    if !cluster::available("2.1") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = containerd(directory.path());
    let rotten = set().stored()[2].manifests[0].layers[0].digest;
    flip(&node.blob_file(&rotten.hex()));
    let (socket, at) = (node.socket(), directory.path().join("m"));
    let arguments = export(text(&socket), text(&at));
    let ran = run(4, arguments.iter().copied());
    assert!(ran.stderr().contains(&rotten.to_string()), "{}", ran.stderr());
    assert!(fs::read_dir(at.join(".pannier/commits")).unwrap().next().is_none());
    // The others, where that is asked for.
    run(4, arguments.iter().copied().chain(["--keep-going"]));
    let listed = run(0, ["list", text(&at)]).stdout();
    assert!(!listed.contains("app2:1") && listed.contains("app3:1"), "{listed}");
    run(0, ["verify", "--deep", text(&at)]);
}
