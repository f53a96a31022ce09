//! `pannier doctor` on real containerds of all versions: what is found, and what is no longer found
//! once it is repaired. The checks themselves have unit tests; here are those that ask containerd.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{run, text};
use crate::support::cluster::{Bench, app, import, pause, versions};
use crate::support::layout::layout;
use crate::support::node::{Node, PAUSE};
use pannier::image::Descriptor;
use serde_json::Value;

/// The files of a system with a default route, and with the configuration of this node's containerd.
fn system(bench: &Bench, node: &Node) -> PathBuf {
    let system = bench.path(&format!("system-{}", node.version()));
    fs::create_dir_all(system.join("etc/containerd")).unwrap();
    fs::create_dir_all(system.join("proc/net")).unwrap();
    fs::copy(node.dir().join("config.toml"), system.join("etc/containerd/config.toml")).unwrap();
    // How full the disk of this machine is shall not matter.
    fs::create_dir_all(system.join("var/lib/kubelet")).unwrap();
    let kubelet = "imageGCHighThresholdPercent: 100\nevictionHard: {imagefs.available: '1'}\n";
    fs::write(system.join("var/lib/kubelet/config.yaml"), kubelet).unwrap();
    route(&system, "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n");
    system
}

fn route(system: &Path, line: &str) {
    fs::write(system.join("proc/net/route"), format!("Iface Destination Gateway Flags\n{line}")).unwrap();
}

/// What is found, but for what depends on the machine that runs this.
fn found(status: i32, socket: &Path, system: &Path, more: &[&str]) -> (Vec<String>, Value) {
    let arguments = ["doctor", "--json", "--address", text(socket), "--sysroot", text(system)];
    let ran = run(status, arguments.into_iter().chain(more.iter().copied()));
    let lines = ran.stdout();
    let document: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let ids = document["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().to_owned());
    let of_this_machine = ["network-not-ready", "root-in-memory"];
    let ids = ids.filter(|id| !of_this_machine.contains(&id.as_str()));
    (ids.collect(), document)
}

fn ids(expected: &[&str], pins: bool) -> Vec<String> {
    let mut expected: Vec<String> = expected.iter().map(|id| (*id).to_owned()).collect();
    expected.extend((!pins).then(|| "pins-ignored".to_owned()));
    expected
}

#[test]
fn a_node_becomes_ready_as_what_is_found_is_mended() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let pause = bench.medium("pause", &layout().with(pause()));
    let apps = bench.medium("apps", &layout().with(app("quay.io/team/app:1")));
    let manifests = bench.path("app.yaml");
    fs::write(
        &manifests,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: 'quay.io/team/app:1'}\n",
    )
    .unwrap();
    for version in versions() {
        let node = Node::start(version);
        let (system, socket) = (system(&bench, &node), node.socket());
        let pins = !version.starts_with("1.6");
        let (first, document) = found(1, &socket, &system, &[]);
        assert_eq!(first, ids(&["sandbox-missing"], pins), "{document}");
        assert!(document["findings"][0]["what"].as_str().unwrap().contains(PAUSE), "{document}");
        assert_eq!(document["ready"], false);
        import(0, &node, &pause, &[]);
        let (ready, document) = found(0, &socket, &system, &[]);
        assert_eq!((ready, &document["ready"]), (ids(&[], pins), &true.into()));

        // A workload whose image comes with a medium, and is there after the import.
        let with = ["--manifests", text(&manifests)];
        assert_eq!(found(1, &socket, &system, &with).0, ids(&["image-missing"], pins));
        assert_eq!(
            found(0, &socket, &system, &[text(&apps), "--manifests", text(&manifests)]).0,
            ids(&[], pins)
        );
        assert_eq!(
            found(1, &socket, &system, &[text(&pause), "--manifests", text(&manifests)]).0,
            ids(&["image-missing"], pins)
        );
        import(0, &node, &apps, &[]);
        assert_eq!(found(0, &socket, &system, &with).0, ids(&[], pins));

        // What an import of an earlier boot left.
        let client = node.client();
        let owner = HashMap::from([("io.pannier.owner".to_owned(), "earlier x 1 1".to_owned())]);
        client.create_lease("pannier-import-left", owner).unwrap();
        let held = client.with_lease("pannier-import-left").unwrap();
        let blob = Descriptor::of("application/octet-stream", b"unfinished");
        drop(held.open_ingest("pannier-left", &blob).unwrap());
        let mut left = found(0, &socket, &system, &[]).0;
        left.retain(|id| id.ends_with("-left"));
        assert_eq!(left, ["lease-left", "ingest-left"]);
        let (after, document) = found(0, &socket, &system, &["--repair"]);
        assert_eq!(after, ids(&[], pins));
        assert_eq!(document["repaired"].as_array().unwrap().len(), 2, "{document}");
        assert!(client.partials("pannier").unwrap().is_empty());
        assert!(client.list_leases().unwrap().iter().all(|lease| !lease.id.starts_with("pannier")));

        route(&system, "");
        assert_eq!(found(1, &socket, &system, &[]).0, ids(&["no-default-route"], pins));
    }
}

#[test]
fn a_containerd_that_is_no_kubelets_and_one_that_is_not_there() {
    let bench = Bench::new();
    for version in versions() {
        let mut node = Node::start_with(version, &["cri=off"]);
        let (system, socket) = (system(&bench, &node), node.socket());
        assert!(found(1, &socket, &system, &[]).0.contains(&"cri-off".to_owned()));
        node.kill();
        assert_eq!(found(1, &socket, &system, &[]).0, ["socket-silent"]);
        fs::remove_file(&socket).unwrap();
        assert_eq!(found(1, &socket, &system, &[]).0, ["socket-missing"]);
        node.launch();
    }
}

#[test]
fn a_medium_that_does_not_fit_is_found_before_the_import() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let large =
        layout().with(app("quay.io/team/large:1").layer(crate::support::layout::noise("data", 1, 9_000_000)));
    let medium = bench.medium("large", &large);
    let node = Node::start_with(version, &["size=8m"]);
    let system = system(&bench, &node);
    let (found, document) = found(1, &node.socket(), &system, &[text(&medium)]);
    assert!(found.contains(&"medium-too-large".to_owned()), "{document}");
}
