//! containerd pulls through `hosts.toml`, as kubelet has it pull.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mirror::Mirror;
use crate::support::carry::{oci, run, text};
use crate::support::cluster::{app, assert_starts, by_digest, images, import, pause, versions};
use crate::support::layout::layout;
use crate::support::node::{Node, PAUSE};
use crate::support::registry::{have, run as tool};

const APP: &str = "docker.io/library/app:1";
const KEPT: &str = "ghcr.io/team/kept:2";

/// Where `pannier hosts` writes for kubeadm, below a root.
fn folder(root: &Path) -> PathBuf {
    root.join("etc/containerd/certs.d")
}

/// Has `pannier hosts` send the registries of the medium's images to the mirror.
fn hosts(root: &Path, mirror: &Mirror, medium: &Path) {
    run(0, ["hosts", text(medium), "--mirror", &mirror.url(), "--write", text(root)]);
}

#[test]
fn containerd_pulls_by_tag_and_by_upstreams_digest_and_pods_start() {
    let directory = tempfile::tempdir().unwrap();
    let set = layout().with(pause()).with(app(APP)).with(app(KEPT).env("KEPT=1"));
    set.write_dir(&directory.path().join("layout"));
    let (from, medium) = (oci(&directory.path().join("layout")), directory.path().join("m"));
    let common = ["export", "--from", &from, "--to", text(&medium), "--platform", "linux/amd64"];
    run(0, common.into_iter().chain([APP, PAUSE]));
    run(0, common.into_iter().chain(["--compression", "none", KEPT]));
    let upstream = set.find(KEPT).descriptor.digest;
    for version in versions() {
        let mirror = Mirror::of(&medium, &[]);
        hosts(directory.path(), &mirror, &medium);
        let node = Node::start_with(version, &[&format!("hosts={}", folder(directory.path()).display())]);
        for image in [PAUSE, APP, KEPT, &by_digest("ghcr.io/team/kept", upstream)] {
            node.pull(image)
                .unwrap_or_else(|reason| panic!("{version}: {image}: {reason}\n{:#?}", mirror.log()));
        }
        let (url, socket) = (mirror.url(), node.socket());
        run(0, ["hosts", text(&medium), "--mirror", &url, "--check", "--pull", "--address", text(&socket)]);
        assert_starts(&node, APP);
        assert_starts(&node, KEPT);
        assert_starts(&node, &by_digest("ghcr.io/team/kept", upstream));
        let head = "HEAD /v2/library/app/manifests/1?ns=docker.io".to_owned();
        assert!(mirror.requests().contains(&head), "{:#?}", mirror.requests());
        // What is there already costs one question and nothing else.
        let before = mirror.requests().len();
        node.pull(APP).unwrap();
        assert_eq!(mirror.requests()[before..], [head], "{version}");
        let refused = node.pull("ghcr.io/team/none:1").unwrap_err();
        assert!(refused.contains("not found"), "{refused}");
    }
}

#[test]
fn a_node_pulls_from_itself_what_was_imported() {
    let directory = tempfile::tempdir().unwrap();
    let set = layout().with(pause()).with(app(APP));
    set.write_dir(&directory.path().join("layout"));
    let (from, medium) = (oci(&directory.path().join("layout")), directory.path().join("m"));
    run(0, ["export", "--from", &from, "--all", "--to", text(&medium), "--platform", "linux/amd64"]);
    let upstream = by_digest("docker.io/library/app", set.find(APP).descriptor.digest);
    for version in versions() {
        // The folder of hosts.toml is read at each pull, so that it may be written afterwards.
        let setting = format!("hosts={}", folder(directory.path()).display());
        let mut node = Node::start_with(version, &[&setting]);
        let refused = node.pull(APP).unwrap_err();
        import(0, &node, &medium, &[]);
        let socket = node.socket();
        let mirror = Mirror::start(&["--from", "containerd", "--address", text(&socket)]);
        hosts(directory.path(), &mirror, &medium);
        for (image, asked) in [
            (APP, "HEAD /v2/library/app/manifests/1?ns=docker.io".to_owned()),
            (&upstream, format!("HEAD /v2/library/app/manifests/{}?ns=docker.io", &upstream[22..])),
        ] {
            let before = mirror.requests().len();
            node.pull(image)
                .unwrap_or_else(|reason| panic!("{version}: {image}: {reason} (without: {refused})"));
            assert_eq!(mirror.requests()[before..], [asked], "{version}");
            assert_starts(&node, image);
        }
        // The pull has taken the labels off the tag; kubelet goes by those of any name.
        let held = images(0, &node, &[]).json();
        let pinned = held["images"].as_array().unwrap().iter().all(|image| image["pinned"] == true);
        assert!(pinned || version == "1.6", "{version}: {held}");
        // Another client gets all of it, also after containerd was restarted.
        node.restart();
        if have(&["skopeo"]) {
            let from = format!("docker://{}/library/app:1", mirror.name());
            let to = format!("oci:{}:x", directory.path().join(version).display());
            tool("skopeo", &["copy", "--quiet", "--src-tls-verify=false", &from, &to]);
        }
        let page = String::from_utf8(mirror.get("/").body).unwrap();
        assert!(page.contains(APP) && page.contains("k8s.io"), "{page}");
        assert_eq!(mirror.get("/v2/none/manifests/1").status, 404);
        let config = set.find(APP).manifests[0].config.digest;
        assert_eq!(
            mirror.get(&format!("/v2/library/app/manifests/{config}")).status,
            404,
            "a config is no manifest"
        );
        assert_eq!(mirror.get(&format!("/v2/library/app/blobs/{config}")).status, 200);
        fs::remove_dir_all(folder(directory.path())).unwrap();
    }
}
