//! Damage of what is unpacked, which containerd never looks at again: found, named, and made anew.

use std::fs;
use std::path::PathBuf;

use crate::support::cluster::{
    Bench, app, assert_starts, available, images, import, pause, program, versions,
};
use crate::support::layout::{Layout, files, image, layout, noise};
use crate::support::node::Node;
use serde_json::Value;

const ONE: &str = "docker.io/library/one:1";
const TWO: &str = "docker.io/library/two:1";

/// Two images on one base, each with a layer of its own.
fn set() -> Layout {
    let base = noise("data/base", 1, 60_000);
    let own = |name, seed| app(name).layer(base.clone()).layer(noise("data/own", seed, 60_000));
    layout().with(pause()).with(own(ONE, 2)).with(own(TWO, 3))
}

/// The file of an unpacked layer, wherever it is: the first of those.
fn unpacked(node: &Node, path: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(node.snapshot_directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().join("fs").join(path))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.remove(0)
}

fn found(node: &Node, depth: &str, status: i32) -> Vec<String> {
    let ran = images(status, node, &[depth]);
    let stdout = ran.stdout();
    let documents = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let summary = { documents }.find(|document| document["unpacked"].is_array()).unwrap();
    assert!(summary["layersCompared"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["findings"].as_array().unwrap().len(), 0, "{summary}");
    let faults = summary["unpacked"].as_array().unwrap().iter();
    faults.map(|finding| finding["fault"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn files_of_unpacked_layers_are_held_against_the_layers_and_made_anew() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        assert_eq!(found(&node, "--check", 0), [""; 0]);
        assert_eq!(found(&node, "--check=content", 0), [""; 0]);

        let file = unpacked(&node, "data/own");
        let whole = fs::read(&file).unwrap();
        let mut other = whole.clone();
        other[100] ^= 1;
        fs::write(&file, &other).unwrap();
        assert_eq!(found(&node, "--check", 0), [""; 0], "only the bytes tell");
        assert_eq!(found(&node, "--check=content", 4), ["data/own has other bytes"]);
        let summary = import(0, &node, &medium, &["--repair"]).json();
        assert_eq!((&summary["bytesSent"], &summary["layersUnpacked"]), (&0.into(), &1.into()), "{summary}");
        assert_eq!(found(&node, "--check=content", 0), [""; 0]);

        // As a power failure leaves it, in a layer that others stand on.
        fs::write(unpacked(&node, "bin/app"), "").unwrap();
        let faults = found(&node, "--check", 4);
        assert!(faults[0].contains("bin/app has 0 bytes, not"), "{faults:?}");
        import(0, &node, &medium, &["--repair"]);
        assert_eq!(found(&node, "--check=content", 0), [""; 0]);
        for name in [ONE, TWO] {
            assert_starts(&node, name);
        }
        // The directory of a layer is gone.
        let file = unpacked(&node, "data/base");
        fs::remove_dir_all(file.ancestors().nth(3).unwrap()).unwrap();
        assert_eq!(found(&node, "--check", 4), ["/ is missing"]);
        import(0, &node, &medium, &["--repair"]);
        assert_eq!(found(&node, "--check", 0), [""; 0]);
        node.client().collect_garbage().unwrap();
        for name in [ONE, TWO] {
            assert_starts(&node, name);
        }
        let again = import(0, &node, &medium, &["--repair"]).json();
        assert_eq!((&again["bytesSent"], &again["layersUnpacked"]), (&0.into(), &0.into()), "{again}");
    }
}

#[test]
fn a_damaged_layer_that_a_container_stands_on_stays_and_is_named() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let node = Node::start("2.1");
    import(0, &node, &medium, &[]);
    let pod = node.leave_pod(ONE);
    fs::write(unpacked(&node, "data/base"), "").unwrap();
    let own = unpacked(&node, "data/own");
    fs::remove_file(own).unwrap();
    let ran = import(4, &node, &medium, &["--repair"]);
    assert!(ran.stderr().contains("in use by container"), "{}", ran.stderr());
    node.remove_pod(&pod);
    import(0, &node, &medium, &["--repair"]);
    assert_eq!(found(&node, "--check=content", 0), [""; 0]);
    assert_starts(&node, ONE);
}

#[test]
fn layers_that_the_snapshotter_lost_are_unpacked_again() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    for version in versions() {
        let mut node = Node::start(version);
        import(0, &node, &medium, &[]);
        assert_starts(&node, ONE);
        node.shut_down();
        fs::remove_dir_all(node.snapshot_directory().parent().unwrap()).unwrap();
        node.launch();
        let faults = found(&node, "--check", 4);
        assert!(faults.iter().all(|fault| fault.contains("the snapshotter does not have it")), "{faults:?}");
        let summary = import(0, &node, &medium, &[]).json();
        assert_eq!(summary["bytesSent"], 0, "{summary}");
        for name in [ONE, TWO] {
            assert_starts(&node, name);
        }
        let again = import(0, &node, &medium, &[]).json();
        assert_eq!(again["layersUnpacked"], 0, "{again}");
        assert_eq!(found(&node, "--check=content", 0), [""; 0]);
    }
}

#[test]
fn what_hides_files_of_lower_layers_is_no_difference() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let hiding = files([("etc/.wh.gone", ""), ("opt/.wh..wh..opq", ""), ("opt/new", "2")]);
    let below = files([("etc/gone", "1"), ("opt/old", "1"), ("etc/stays", "1")]);
    let set = layout()
        .with(pause())
        .with(image("docker.io/library/hides:1").layer(below).layer(hiding).layer(program("podmain")));
    let medium = bench.medium("m", &set);
    for snapshotter in ["overlayfs", "native"] {
        let node = Node::start_with("2.1", &[&format!("snapshotter={snapshotter}")]);
        import(0, &node, &medium, &[]);
        assert_eq!(found(&node, "--check=content", 0), [""; 0], "{snapshotter}");
    }
    let node = Node::start("2.1");
    import(0, &node, &medium, &[]);
    fs::remove_file(unpacked(&node, "opt/new").ancestors().nth(2).unwrap().join("etc/gone")).unwrap();
    assert_eq!(found(&node, "--check", 4), ["etc/gone is missing"]);
}
