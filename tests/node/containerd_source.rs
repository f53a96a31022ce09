//! A containerd as the source of an export: what it discarded is told apart from what it lost.

use std::fs;

use crate::support::carry::{blobs, run, text};
use crate::support::cluster::{Bench, app, import, pause, versions};
use crate::support::layout::{layout, noise};
use crate::support::node::Node;
use pannier::medium::Medium;

const APP: &str = "docker.io/library/app:1";

#[test]
fn a_discarded_layer_a_lost_file_and_a_damaged_one_are_three_things() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(pause()).with(app(APP).layer(noise("data", 1, 400_000))));
    let layer = {
        let opened = Medium::open(&medium).unwrap();
        let layers = opened.record().unwrap().layers.clone();
        layers.into_iter().max_by_key(|layer| layer.size).unwrap().encodings[0].clone()
    };
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let socket = node.socket();
        let to = bench.path(&format!("out-{version}"));
        let export = ["export", "--from", "containerd", "--address", text(&socket), "--to", text(&to), APP];
        let export = || export.into_iter().chain(["--platform", "linux/amd64"]);

        // Whole, it is carried to the same blobs as on the medium that it came from.
        run(0, export());
        let (carried, original) = (blobs(&to), blobs(&medium));
        assert_eq!(
            carried.get(std::path::Path::new(&layer.digest.hex())).map(Vec::len),
            Some(layer.size as usize),
            "{version}"
        );
        assert!(original.len() > carried.len());
        fs::remove_dir_all(&to).unwrap();

        let file = node.blob_file(&layer.digest.hex());
        let bytes = fs::read(&file).unwrap();
        let mut damaged = bytes.clone();
        damaged[100] ^= 1;
        fs::write(&file, damaged).unwrap();
        let said = run(4, export()).stderr();
        assert!(said.contains("damaged") && said.contains(&layer.digest.to_string()), "{version}: {said}");

        fs::remove_file(&file).unwrap();
        let said = run(1, export()).stderr();
        assert!(said.contains("gone"), "{version}: {said}");

        node.client().delete_blob(layer.digest).unwrap();
        let said = run(1, export()).stderr();
        assert!(said.contains("discard_unpacked_layers"), "{version}: {said}");
    }
}
