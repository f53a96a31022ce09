//! Imports of what other tools wrote, without an export first.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::support::carry::{Ran, run, text};
use crate::support::cluster::{app, assert_starts, pause, versions};
use crate::support::docker::Form;
use crate::support::layout::{Layout, index, layout, noise, unnamed};
use crate::support::node::{Node, VERSIONS, missing};
use serde_json::Value;

/// One of each kind of image, and the sandbox that pods stand in.
fn set() -> Layout {
    let base = noise("data/base", 1, 300_000);
    layout()
        .with(pause())
        .with(
            index("docker.io/library/multi:1")
                .with(unnamed().layer(base.clone()).layer(crate::support::cluster::program("podmain")))
                .with(unnamed().platform("linux/arm64/v8").layer(noise("data/arm", 2, 50_000))),
        )
        .with(app("quay.io/team/docker:2").docker().layer(base))
        .with(app("ghcr.io/team/zstd:1").layer(noise("data/zstd", 4, 50_000)).zstd())
}

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

fn import(status: i32, node: &Node, what: &str, more: &[&str]) -> Ran {
    let socket = node.socket();
    let arguments = ["import", what, "--address", text(&socket), "--json"];
    run(status, [&arguments[..], more].concat())
}

fn number(document: &Value, key: &str) -> u64 {
    document[key].as_u64().unwrap()
}

#[test]
fn pods_start_from_a_plain_layout_and_from_every_archive() {
    let room = Room::new();
    let set = set();
    set.write_dir(&room.path("dir"));
    let plain = room.file("images.tar", &set.docker_archive(Form::DockerAndOci));
    let oci = room.file("oci.tar", &set.oci_archive());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&set.oci_archive()).unwrap();
    let gzip = room.file("oci.tar.gz", &gzip.finish().unwrap());
    let directory = room.path("dir");
    for version in versions() {
        let node = Node::start(version);
        for (what, sends) in [
            (text(&directory).to_owned(), true),
            (format!("oci:{}", text(&directory)), false),
            (text(&oci).to_owned(), false),
            (format!("oci-archive:{}", text(&gzip)), false),
        ] {
            let said = import(0, &node, &what, &[]).json();
            assert_eq!(number(&said, "images"), 4, "{what}");
            assert_eq!(number(&said, "bytesSent") > 0, sends, "{what}: {said}");
        }
        // Docker's archive has the images of one platform.
        import(0, &node, text(&plain), &[]);
        for name in ["docker.io/library/multi:1", "quay.io/team/docker:2", "ghcr.io/team/zstd:1"] {
            assert_starts(&node, name);
        }
    }
}

#[test]
fn what_docker_saved_is_imported_by_its_names() {
    let version = VERSIONS[1];
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let room = Room::new();
    for form in [Form::Docker, Form::Podman] {
        let node = Node::start(version);
        let set = layout().with(pause()).with(app("quay.io/team/app:1"));
        let archive = room.file("images.tar", &set.docker_archive(form));
        let before = fs::read_dir(room.0.path()).unwrap().count();
        import(0, &node, text(&archive), &["quay.io/team/app:1"]);
        import(0, &node, text(&archive), &[]);
        assert_starts(&node, "quay.io/team/app:1");
        let again = import(0, &node, text(&archive), &[]).json();
        assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
        assert_eq!(fs::read_dir(room.0.path()).unwrap().count(), before);
    }
}

#[test]
fn an_image_with_a_bare_tag_gets_its_name_at_the_import() {
    let version = VERSIONS[1];
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let room = Room::new();
    let node = Node::start(version);
    layout().with(pause()).write_dir(&room.path("pause"));
    import(0, &node, text(&room.path("pause")), &[]);
    let program = crate::support::cluster::program("podmain");
    layout().with(unnamed().layer(program).ref_name("v1")).write_dir(&room.path("bare"));
    let what = room.path("bare");
    let said = import(1, &node, text(&what), &[]).stderr();
    assert!(said.contains("--as"), "{said}");
    import(0, &node, text(&what), &["v1", "--as", "quay.io/team/bare:1"]);
    assert_starts(&node, "quay.io/team/bare:1");
    let again = import(0, &node, text(&what), &["--as", "quay.io/team/bare:1"]).json();
    assert_eq!(number(&again, "bytesSent"), 0);
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_not_sent() {
    let version = VERSIONS[1];
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let room = Room::new();
    let node = Node::start(version);
    let set = layout().with(app("quay.io/team/app:1").layer(noise("data", 1, 100_000)));
    let layer = set.stored()[0].manifests[0].layers[1].digest;
    set.clone().flip(layer).write_dir(&room.path("flipped"));
    let said = import(4, &node, text(&room.path("flipped")), &[]).stderr();
    assert!(said.contains(&layer.to_string()), "{said}");
    set.without(layer).write_dir(&room.path("gone"));
    let said = import(1, &node, text(&room.path("gone")), &[]).stderr();
    assert!(said.contains(&layer.to_string()), "{said}");
    assert!(node.client().list_images().unwrap().is_empty());
}

#[test]
fn a_machine_that_wants_signatures_takes_nothing_that_has_none() {
    let version = VERSIONS[1];
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let room = Room::new();
    let node = Node::start(version);
    layout().with(app("quay.io/team/app:1")).write_dir(&room.path("dir"));
    let signers = room.file("allowed_signers", b"# nobody\n");
    let more = ["--allowed-signers", text(&signers)];
    let said = import(4, &node, text(&room.path("dir")), &more).stderr();
    assert!(said.contains("--sign-key"), "{said}");
    assert!(node.client().list_images().unwrap().is_empty());
}

#[test]
fn what_is_no_medium_and_no_archive_says_what_would_be() {
    let version = VERSIONS[1];
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let room = Room::new();
    let node = Node::start(version);
    let said = import(1, &node, text(&room.file("notes.txt", b"no tar")), &[]).stderr();
    assert!(said.contains("notes.txt"), "{said}");
    fs::create_dir(room.path("empty")).unwrap();
    let said = import(1, &node, text(&room.path("empty")), &[]).stderr();
    assert!(said.contains("this directory is empty"), "{said}");
}
