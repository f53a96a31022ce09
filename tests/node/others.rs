//! Nodes of other people's making: several containerds, slow starts, killed pods, other configurations.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::carry::{expect, flip, pannier, run, text};
use crate::support::cluster::{
    Bench, app, assert_starts, available, images, import, import_command, pause, versions,
};
use crate::support::layout::{Layout, layout, noise};
use crate::support::node::{Node, PAUSE};
use crate::support::proxy::{At, Fault, Proxy};
use pannier::medium::Medium;

const APP: &str = "docker.io/library/app:1";

fn set() -> Layout {
    layout().with(pause()).with(app(APP).layer(noise("data/x", 1, 60_000)))
}

#[test]
fn of_two_containerds_that_serve_cri_none_is_taken_without_a_word() {
    if !available("1.6") || !available("2.1") {
        return;
    }
    let (old, new) = (Node::start("1.6"), Node::start("2.1"));
    let places = ["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"];
    // Found in a mount namespace of its own, in which nothing else is at these places.
    let images = |sockets: &[(&str, &Node)], status| {
        let mut script =
            "mount -t tmpfs none /run && mkdir -p /run/containerd /run/k3s/containerd".to_owned();
        for (place, node) in sockets {
            script += &format!(" && ln -s {} {place}", node.socket().display());
        }
        script += " && exec \"$0\" images --json";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_pannier")]);
        command.env_remove("CONTAINERD_ADDRESS").env_remove("CONTAINERD_NAMESPACE");
        expect(status, &mut command)
    };
    let ran = images(&[(places[0], &old), (places[1], &new)], 2);
    assert!(places.iter().all(|place| ran.stderr().contains(place)), "{}", ran.stderr());
    images(&[(places[1], &new)], 0);
    // One socket under two names is one.
    images(&[(places[0], &old), (places[1], &old)], 0);
}

#[test]
fn a_namespace_that_kubelet_does_not_see_is_refused_before_anything_is_sent() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let node = Node::start(version);
    let mut command = import_command(&node, &medium);
    let ran = expect(2, command.env("CONTAINERD_NAMESPACE", "default"));
    assert!(ran.stderr().contains("k8s.io") && ran.stderr().contains("--no-cri"), "{}", ran.stderr());
    assert!(node.client().with_namespace("default").unwrap().blobs().unwrap().is_empty());
    let ran =
        expect(0, import_command(&node, &medium).env("CONTAINERD_NAMESPACE", "default").arg("--no-cri"));
    assert_eq!(ran.json()["images"], 2);
}

#[test]
fn cri_that_is_starting_is_waited_for() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let node = Node::start(version);
    let proxy = Proxy::before(&node);
    let socket = proxy.socket();
    for call in ["RuntimeService/Version", "ImageService/ImageStatus"] {
        proxy.arm(At::Message(call, 1), Fault::Status(Code::Unknown, "server is not initialized yet"));
        let ran = run(0, ["import", text(&medium), "--address", text(&socket), "--json"]);
        assert!(proxy.struck().is_some(), "{call}: {}", ran.stderr());
        node.client().delete_image(APP, &node.client().image(APP).unwrap().unwrap().target).unwrap();
        proxy.disarm();
    }
}

#[test]
fn what_an_import_in_a_killed_pod_left_is_taken_over_by_the_next_pod_and_seen_by_doctor() {
    let bench = Bench::new();
    let large = set().with(app("docker.io/library/large:1").layer(noise("data/large", 2, 40_000_000)));
    let medium = bench.medium("m", &large);
    for version in versions() {
        let node = Node::start(version);
        let leases =
            || node.client().list_leases().unwrap().into_iter().map(|lease| lease.id).collect::<Vec<_>>();
        let in_pod = |medium: &Path| {
            let mut command = Command::new("unshare");
            command.args(["-p", "-f", "--kill-child", "--mount-proc", env!("CARGO_BIN_EXE_pannier")]);
            command.args(["import", text(medium), "--address", text(&node.socket()), "--json"]);
            command
        };
        let killed = || {
            let before = leases();
            let mut pod = in_pod(&medium).stdout(std::process::Stdio::null()).spawn().unwrap();
            let begun = Instant::now();
            let signs = |lease: &String| {
                !node.client().partials(&format!("pannier-alive-{lease}")).unwrap().is_empty()
            };
            let is_new = |lease: &String| !before.contains(lease) && signs(lease);
            while !leases().iter().any(is_new) || node.client().partials("pannier-sha256").unwrap().is_empty()
            {
                assert!(begun.elapsed() < Duration::from_secs(60), "it never began");
                std::thread::sleep(Duration::from_millis(2));
            }
            pod.kill().unwrap();
            pod.wait().unwrap();
        };
        killed();
        assert_eq!(leases().len(), 1, "{:?}", leases());
        let document = run_doctor(&node);
        assert!(document.contains("lease-left"), "{document}");
        // Others take it over, whatever becomes of them.
        killed();
        expect(0, &mut in_pod(&medium));
        // containerd may take a moment to see that the second one's connection is gone.
        expect(0, &mut in_pod(&medium));
        assert_eq!(leases(), [""; 0]);
        assert!(crate::support::unfinished(&node.client()).is_empty());
        assert_starts(&node, APP);
    }
}

#[test]
fn an_import_in_another_pod_that_runs_keeps_its_lease() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let node = Node::start(version);
    let proxy = Proxy::before(&node);
    proxy.arm(At::Message("Diff/Apply", 1), Fault::Hold);
    let mut command = Command::new("unshare");
    command.args(["-p", "-f", "--kill-child", "--mount-proc", env!("CARGO_BIN_EXE_pannier")]);
    let mut first =
        command.args(["import", text(&medium), "--address", text(&proxy.socket())]).spawn().unwrap();
    proxy.await_strike(|| first.try_wait().unwrap().is_some()).unwrap();
    import(0, &node, &medium, &[]);
    let leases = node.client().list_leases().unwrap();
    assert_eq!(leases.len(), 1, "{leases:?}");
    proxy.release();
    assert!(first.wait().unwrap().success());
    assert!(node.client().list_leases().unwrap().is_empty());
}

fn run_doctor(node: &Node) -> String {
    let socket = node.socket();
    let output = pannier(["doctor", "--json", "--address", text(&socket)]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn where_namespaces_do_not_share_content_a_damaged_blob_is_repaired_for_each() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let damaged = {
        let medium = Medium::open(&medium).unwrap();
        let layers = &medium.record().unwrap().layers;
        layers.iter().max_by_key(|layer| layer.encodings[0].size).unwrap().encodings[0].digest
    };
    for version in versions() {
        let isolated =
            "extra=[plugins.'io.containerd.metadata.v1.bolt']\ncontent_sharing_policy = 'isolated'\n";
        let node = Node::start_with(version, &[isolated]);
        import(0, &node, &medium, &[]);
        import(0, &node, &medium, &["--namespace", "other", "--no-cri", "--no-unpack"]);
        flip(&node.blob_file(&damaged.hex()));
        import(0, &node, &medium, &["--repair"]);
        node.client().collect_garbage().unwrap();
        images(0, &node, &["--check"]);
        images(0, &node, &["--check", "--namespace", "other", "--no-cri"]);
    }
}

#[test]
fn two_snapshotters_at_once_have_every_layer_each() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    for version in versions() {
        let node = Node::start(version);
        let both = ["--snapshotter", "overlayfs", "--snapshotter", "native"];
        import(0, &node, &medium, &both);
        let count = |snapshotter: &str| node.client().list_snapshots(snapshotter).unwrap().len();
        assert_eq!((count("native"), count("overlayfs")), (3, 3));
        node.client().collect_garbage().unwrap();
        assert_eq!((count("native"), count("overlayfs")), (3, 3));
        let check = images(0, &node, &["--check=content", "--snapshotter", "native"]).json();
        assert_eq!(check["layersCompared"], 3, "{check}");
        let again = import(0, &node, &medium, &both).json();
        assert_eq!((&again["bytesSent"], &again["layersUnpacked"]), (&0.into(), &0.into()), "{again}");
        assert_starts(&node, APP);
    }
}

#[test]
fn what_an_import_takes_is_known_on_a_fresh_root_and_where_layers_are_copies() {
    let bench = Bench::new();
    let layers =
        |size| app("docker.io/library/large:1").layer(noise("a", 1, size)).layer(noise("b", 2, size));
    let medium = bench.medium("m", &layout().with(layers(8_000_000)));
    for version in versions() {
        let need = |settings: &[&str]| {
            let node = Node::start_with(version, settings);
            let plan = import(0, &node, &medium, &["--dry-run"]).json();
            let needed =
                plan["space"].as_array().unwrap().iter().map(|space| space["needed"].as_u64().unwrap());
            (
                needed.sum::<u64>(),
                plan["bytesToSend"].as_u64().unwrap(),
                plan["bytesToUnpack"].as_u64().unwrap(),
            )
        };
        let (needed, sent, unpacked) = need(&[]);
        assert!(needed >= sent + unpacked && needed < sent + unpacked * 2, "{version}: {needed}");
        // The base of 8 MB stands below the other, and both are whole trees.
        let (copied, sent, unpacked) = need(&["snapshotter=native"]);
        assert!(copied >= sent + unpacked + 8_000_000, "{version}: {copied}");
    }
}

#[test]
fn an_import_says_when_the_node_has_no_sandbox_image() {
    for version in versions() {
        let bench = Bench::new();
        let medium = bench.medium("m", &layout().with(app(APP)));
        let node = Node::start(version);
        let ran = import(0, &node, &medium, &[]);
        assert!(ran.stderr().contains(PAUSE), "{version}: {}", ran.stderr());
        let ran = import(0, &node, &bench.pause_medium(), &[]);
        assert!(!ran.stderr().contains(PAUSE), "{version}: {}", ran.stderr());
    }
}

#[test]
fn a_configuration_with_files_that_it_imports_is_read_as_containerd_does() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let drop_in = bench.path("10-images.toml");
    let sandbox =
        |name: &str| format!("[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{name}'\n");
    fs::write(&drop_in, format!("version = 3\n{}", sandbox("example.com/absent:1"))).unwrap();
    let verifiers = bench.path("verifiers");
    fs::create_dir(&verifiers).unwrap();
    fs::write(verifiers.join("no"), "").unwrap();
    let node = Node::start_with(
        "2.1",
        &[
            &format!("imports={}", text(&drop_in)),
            &format!(
                "extra=[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = '{}'\n",
                text(&verifiers)
            ),
        ],
    );
    let ran = import(0, &node, &medium, &[]);
    assert!(ran.stderr().contains("example.com/absent:1"), "{}", ran.stderr());
    let found = run_doctor(&node);
    assert!(found.contains("sandbox-missing") && found.contains("verifier-not-asked"), "{found}");
    assert!(!found.contains("runtime-not-ready"), "{found}");
    fs::write(&drop_in, format!("version = 3\n{}", sandbox(PAUSE))).unwrap();
    assert!(!run_doctor(&node).contains("sandbox-"));
}
