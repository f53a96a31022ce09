//! Nodes that keep no layers once they are unpacked, by their containerd's settings or by ours.

use std::path::Path;

use crate::support::carry::{run, text};
use crate::support::cluster::{Bench, app, assert_starts, images, import, pause, versions};
use crate::support::layout::{Layout, layout, noise};
use crate::support::node::Node;
use pannier::image::{LayerType, MediaKind, kind};
use serde_json::Value;

const APP: &str = "docker.io/library/app:1";

fn set(seed: u64) -> Layout {
    let base = noise("data/base", 1, 300_000);
    layout().with(pause()).with(app(APP).layer(base).layer(noise("data/own", seed, 60_000)))
}

/// Bytes of the layers that containerd has as blobs.
fn layers(node: &Node) -> u64 {
    let client = node.client();
    let records = client.list_images().unwrap();
    let mut layers = std::collections::BTreeMap::new();
    for record in records {
        let bytes = pannier::content::read_all(
            client.read_blob(&record.target, 0).unwrap(),
            &record.target,
            pannier::Side::Node,
            1 << 20,
        );
        let document: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        for layer in document["layers"].as_array().into_iter().flatten() {
            let digest = layer["digest"].as_str().unwrap().parse().unwrap();
            assert!(matches!(
                kind(layer["mediaType"].as_str().unwrap()),
                MediaKind::Layer(LayerType::Tar(_))
            ));
            layers.extend(client.blob(digest).unwrap().map(|blob| (digest, blob.size)));
        }
    }
    layers.values().sum()
}

fn nothing_to_do(node: &Node, medium: &Path, more: &[&str]) {
    let again = import(0, node, medium, more).json();
    let done = (&again["bytesSent"], &again["names"], &again["layersUnpacked"]);
    assert_eq!(done, (&0.into(), &0.into(), &0.into()), "{again}");
}

#[test]
fn layers_are_dropped_after_the_unpack_and_all_goes_on_from_what_is_unpacked() {
    let bench = Bench::new();
    let (medium, newer) = (bench.medium("m", &set(2)), bench.medium("newer", &set(3)));
    for version in versions() {
        let mut node = Node::start(version);
        let socket = node.socket();
        import(0, &node, &medium, &["--discard-layers"]);
        assert_eq!(layers(&node), 0, "{version}");
        for more in [&["--discard-layers"][..], &[]] {
            nothing_to_do(&node, &medium, more);
        }
        node.restart();
        node.client().collect_garbage().unwrap();
        assert_starts(&node, APP);
        images(0, &node, &["--check"]);
        import(0, &node, &medium, &["--repair"]);

        // An inventory knows it, so a top-up carries the new layer alone.
        let inventory = bench.path("inventory.json");
        run(0, ["inventory", "-a", text(&socket), "-o", text(&inventory)]);
        let held: Value = serde_json::from_slice(&std::fs::read(&inventory).unwrap()).unwrap();
        assert_eq!(held["onlyUnpacked"].as_array().unwrap().len(), 2, "{held}");
        let top_up = bench.path(&format!("top-up-{version}"));
        let from = format!("medium:{}", text(&newer));
        let have = text(&inventory);
        let ran = run(0, ["export", "--from", &from, "--all", "--have", have, "--to", text(&top_up)]);
        assert!(ran.stderr().contains("only unpacked"), "{}", ran.stderr());
        let blobs = pannier::medium::Medium::open(&top_up).unwrap();
        let carried =
            blobs.record().unwrap().layers.iter().filter(|layer| !layer.encodings.is_empty()).count();
        assert_eq!(carried, 1);
        let diff = run(0, ["diff", text(&inventory), text(&newer), "--json"]).json();
        assert_eq!(diff["layersAdded"].as_array().unwrap().len(), 1, "{diff}");
        let summary = import(0, &node, &top_up, &["--discard-layers"]).json();
        assert_eq!((&summary["layersSent"], &summary["layersUnpacked"]), (&1.into(), &1.into()), "{summary}");
        assert_eq!(layers(&node), 0, "{version}");
        assert_starts(&node, APP);
        nothing_to_do(&node, &top_up, &[]);
        images(0, &node, &["--check"]);

        // A node without any of it is told what it lacks.
        let other = Node::start(version);
        import(3, &other, &top_up, &[]);
    }
}

#[test]
fn layers_that_a_node_keeps_are_dropped_when_that_is_asked() {
    let bench = Bench::new();
    let (medium, newer) = (bench.medium("m", &set(2)), bench.medium("newer", &set(3)));
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        assert!(layers(&node) > 0);
        let summary = import(0, &node, &medium, &["--discard-layers"]).json();
        assert_eq!(summary["bytesSent"], 0, "{summary}");
        assert_eq!(layers(&node), 0, "{version}");
        nothing_to_do(&node, &medium, &["--discard-layers"]);
        // Of a whole medium only what is not unpacked is sent where none is kept.
        let summary = import(0, &node, &newer, &["--discard-layers"]).json();
        assert_eq!((&summary["layersSent"], &summary["layersUnpacked"]), (&1.into(), &1.into()), "{summary}");
        node.client().collect_garbage().unwrap();
        assert_starts(&node, APP);
        images(0, &node, &["--check=content"]);
    }
}
