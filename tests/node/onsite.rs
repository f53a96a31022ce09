//! What an operator sees on a node: the last line, and warnings of what kubelet has no use for.

use crate::support::carry::{run, text};
use crate::support::cluster::{Bench, app, images, pause, versions};
use crate::support::layout::layout;
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
