//! Damage on the way: on the medium, and in containerd's content store. All of it is found and named.

use std::fs;
use std::path::Path;

use crate::support::carry::flip;
use crate::support::cluster::{Bench, app, assert_starts, images, import, pause, versions};
use crate::support::layout::{Layout, layout, noise};
use crate::support::node::Node;
use pannier::image::Digest;
use pannier::medium::Medium;
use serde_json::Value;

fn two_images() -> Layout {
    layout()
        .with(pause())
        .with(app("docker.io/library/good:1").layer(noise("data/good", 1, 60_000)))
        .with(app("docker.io/library/bad:1").layer(noise("data/bad", 2, 3_000_000)))
}

/// The blob on the medium of the top layer of `name`.
fn top_layer(medium: &Path, name: &str) -> Digest {
    let medium = Medium::open(medium).unwrap();
    let record = medium.record().unwrap();
    let image = record.images.iter().find(|image| image.names.iter().any(|n| n.to_string() == name)).unwrap();
    let diff_id = image.platforms[0].diff_ids.last().unwrap();
    record.layer(diff_id).unwrap().encodings[0].digest
}

fn findings(document: &Value) -> Vec<(String, String)> {
    let list = document["findings"].as_array().unwrap_or_else(|| panic!("{document}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(|finding| (text(&finding["blob"]), text(&finding["fault"]))).collect()
}

// fault-matrix: rows 41
#[test]
fn a_flipped_byte_on_the_medium_stops_its_image_and_no_other() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &two_images());
    let damaged = top_layer(&medium, "docker.io/library/bad:1");
    flip(&medium.join("blobs/sha256").join(damaged.hex()));
    for version in versions() {
        let node = Node::start(version);
        let ran = import(4, &node, &medium, &[]);
        assert!(ran.stderr().contains(&damaged.to_string()), "{}", ran.stderr());
        assert!(node.client().image("docker.io/library/bad:1").unwrap().is_none());
        let ran = import(4, &node, &medium, &["--keep-going"]);
        assert!(ran.stderr().contains("docker.io/library/bad:1"), "{}", ran.stderr());
        assert!(node.client().image("docker.io/library/bad:1").unwrap().is_none());
        assert!(node.client().blob(damaged).unwrap().is_none());
        assert!(node.client().partials("").unwrap().is_empty(), "nothing of it stays");
        assert_starts(&node, "docker.io/library/good:1");
    }
}

#[test]
fn a_damaged_document_on_the_medium_stops_its_image_and_no_other() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &two_images());
    let config = {
        let opened = Medium::open(&medium).unwrap();
        let images = &opened.record().unwrap().images;
        let bad = images.iter().find(|image| image.names.iter().any(|n| n.path().ends_with("bad"))).unwrap();
        bad.platforms[0].config.digest
    };
    flip(&medium.join("blobs/sha256").join(config.hex()));
    let node = Node::start(version);
    let ran = import(4, &node, &medium, &[]);
    assert!(ran.stderr().contains(&config.to_string()), "{}", ran.stderr());
    assert!(node.client().blobs().unwrap().is_empty(), "found out before the first byte");
    import(4, &node, &medium, &["--keep-going"]);
    assert_starts(&node, "docker.io/library/good:1");
}

#[test]
fn a_flipped_byte_and_a_deleted_file_in_containerd_are_named_and_repaired() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &two_images());
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let (flipped, deleted) =
            (top_layer(&medium, "docker.io/library/bad:1"), top_layer(&medium, "docker.io/library/good:1"));
        flip(&node.blob_file(&flipped.hex()));
        fs::remove_file(node.blob_file(&deleted.hex())).unwrap();

        let found = findings(&first_document(&images(4, &node, &["--check"]).stdout()));
        let fault = |digest: Digest| found.iter().find(|(blob, _)| *blob == digest.to_string()).map(|f| &f.1);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(fault(flipped).unwrap().contains("damaged"), "{found:?}");
        assert!(fault(deleted).unwrap().contains("gone"), "{found:?}");
        // A file that is gone is seen without reading anything, and said.
        let ran = import(1, &node, &medium, &[]);
        assert!(ran.stderr().contains("--repair") && ran.stderr().contains(&deleted.to_string()));

        import(0, &node, &medium, &["--repair"]);
        images(0, &node, &["--check"]);
        for digest in [flipped, deleted] {
            assert_eq!(Digest::of(&fs::read(node.blob_file(&digest.hex())).unwrap()), digest);
        }
        node.client().collect_garbage().unwrap();
        images(0, &node, &["--check"]);
        assert_starts(&node, "docker.io/library/bad:1");
        assert_starts(&node, "docker.io/library/good:1");
        let again = import(0, &node, &medium, &["--repair"]).json();
        assert_eq!(again["bytesSent"], 0);
    }
}

#[test]
fn a_damaged_blob_that_another_namespace_holds_as_well_is_repaired_for_both() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &two_images());
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        import(0, &node, &medium, &["--namespace", "other", "--no-cri", "--no-unpack"]);
        let damaged = top_layer(&medium, "docker.io/library/bad:1");
        flip(&node.blob_file(&damaged.hex()));
        import(0, &node, &medium, &["--repair"]);
        images(0, &node, &["--check"]);
        images(0, &node, &["--check", "--namespace", "other", "--no-cri"]);
        node.client().collect_garbage().unwrap();
        images(0, &node, &["--check", "--namespace", "other", "--no-cri"]);
    }
}

/// The summary; an error's document follows it.
fn first_document(stdout: &str) -> Value {
    let documents = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    documents.into_iter().find(|document| document["findings"].is_array()).unwrap()
}
