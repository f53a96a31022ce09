//! What an operator sees on a node: the last line, and warnings of what kubelet has no use for.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::carry::{oci, run, text};
use crate::support::cluster::{Bench, app, images, pause, versions};
use crate::support::layout::{image, layout, noise};
use crate::support::node::{Node, PAUSE};
use crate::support::update::Update;

#[test]
fn the_last_line_says_what_is_ready() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(pause()).with(app("docker.io/library/app:1")));
    let node = Node::start(version);
    let socket = node.socket();
    let import = ["import", text(&medium), "--address", text(&socket)];
    let said = run(0, import.into_iter().chain(["--snapshotter", "native"])).stderr();
    assert!(said.contains("warning: CRI uses the snapshotter overlayfs here, not native"), "{said}");
    for _ in 0..2 {
        let said = run(0, import).stderr();
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("Done: 2 images are ready on this node ("), "{said}");
        assert!(!said.contains("snapshotter"), "{said}");
    }
    let names = run(0, ["images", "-q", "--address", text(&socket)]).stdout();
    assert!(names.lines().any(|name| name == "docker.io/library/app:1"), "{names}");
    assert_eq!(images(0, &node, &[]).json()["images"].as_array().unwrap().len(), names.lines().count());
    assert_eq!(run(0, ["list", "-q", text(&medium)]).stdout().lines().count(), 2);
}

#[test]
fn a_node_without_the_image_of_sandboxes_is_told_of() {
    // Later versions do not tell which image it is; `pannier doctor` reads their configuration.
    let Some(version) = versions().into_iter().find(|version| version.starts_with("1.")) else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(app("docker.io/library/app:1")));
    let node = Node::start(version);
    let said = run(0, ["import", text(&medium), "--address", text(&node.socket())]).stderr();
    assert!(said.contains(&format!("warning: the node does not have {PAUSE}, which every pod")), "{said}");
}

#[test]
fn blobs_that_are_missing_are_counted_before_anything_is_named() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(pause()).with(app("docker.io/library/app:1")));
    let blobs = std::fs::read_dir(medium.join("blobs/sha256")).unwrap();
    let gone = blobs.map(|blob| blob.unwrap()).filter(|blob| blob.metadata().unwrap().len() > 10_000);
    let gone = gone.map(|blob| std::fs::remove_file(blob.path()).unwrap()).count();
    let node = Node::start(version);
    let said = run(4, ["import", text(&medium), "--address", text(&node.socket())]).stderr();
    assert!(said.contains(&format!("is missing; {gone} of ")), "{said}");
    assert!(said.contains("hint: was all of the medium copied?"), "{said}");
}

#[test]
fn a_top_up_names_the_node_that_it_was_made_for() {
    let Some(version) = versions().pop() else { return };
    let both = |newer: &str| layout().with(pause()).with(app("docker.io/library/app:1")).with(app(newer));
    let update = Update::new(&both("docker.io/library/x:1"), &both("docker.io/library/x:2"));
    let node = update.imported(version);
    let inventory = update.path("node.json");
    run(0, ["inventory", "--address", text(&node.socket()), "-o", text(&inventory)]);
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&inventory).unwrap()).unwrap();
    let (host, day) = (document["host"].as_str().unwrap(), &document["created"].as_str().unwrap()[..10]);
    update.export(0, "new-layout", "new", &["--have", text(&inventory)]);
    let other = Node::start(version);
    let said = run(3, ["import", text(&update.path("new")), "--address", text(&other.socket())]).stderr();
    let made_for = format!("was made for nodes that hold what {host} held on {day}");
    assert!(said.contains(&made_for), "{said}");
}

#[test]
fn a_medium_that_a_container_still_has_mounted_is_not_safe_to_remove() {
    let bench = Bench::new();
    let place = bench.path("stick");
    std::fs::create_dir(&place).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=20m", "none", text(&place)]).status();
    assert!(mount.unwrap().success());
    layout()
        .with(image("docker.io/library/app:1").layer(noise("data", 1, 30_000)))
        .write_dir(&bench.path("from"));
    let from = oci(&bench.path("from"));
    run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&place)]);
    // A container that was started meanwhile has a copy of the mount.
    let mut container = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    container.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let said = run(5, ["eject", text(&place)]).stderr();
    assert!(said.contains("is in use and was not ejected: the mounts of process "), "{said}");
    assert!(said.contains("not safe to remove yet"), "{said}");
    container.kill().unwrap();
    container.wait().unwrap();
}
