//! What other tools make of a medium: skopeo, crane, oras and ctr read it, and get the same images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::carry::{oci, run, text};
use crate::support::layout::{Layout, files, image, index, layout, noise, unnamed};
use crate::support::node::{Node, missing, tools};
use crate::support::registry::run as tool;
use pannier::image::Digest;
use pannier::medium::Medium;
use pannier::record::Record;
use serde_json::Value;

const APP: &str = "docker.io/library/app:1";
const BOTH: &str = "registry.local/team/both:2";
const KEPT: &str = "registry.local/team/kept:3";

/// Recompressed layers that are shared, two platforms, and a layer that stays gzip.
fn set() -> Layout {
    let base = noise("data", 1, 300_000);
    let both = index(BOTH)
        .with(unnamed().layer(base.clone()).layer(files([("arch", "amd64")])))
        .with(unnamed().platform("linux/arm64").layer(files([("arch", "arm64")])));
    layout()
        .with(image(APP).docker().layer(base).layer(files([("etc/app", "1")])))
        .with(both)
        .with(image(KEPT).layer(files([("etc/kept", "3")])).gzip_level(9))
}

struct Room {
    directory: tempfile::TempDir,
    record: Record,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        set().write_dir(&directory.path().join("layout"));
        let (from, to) = (oci(&directory.path().join("layout")), directory.path().join("m"));
        // The image for both platforms, the others for the one they have.
        let common = ["export", "--from", &from, "--to", text(&to), "--platform", "linux/amd64"];
        run(0, common.into_iter().chain(["--platform", "linux/arm64", BOTH]));
        run(0, common.into_iter().chain([APP]));
        run(0, common.into_iter().chain(["--compression", "none", KEPT]));
        let record = Medium::open(&to).unwrap().record().unwrap().clone();
        Self { directory, record }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The config and the diff_ids of an image for linux/amd64.
    fn expected(&self, name: &str) -> (Digest, Vec<Digest>) {
        let named = |image: &&pannier::record::Image| image.names.iter().any(|own| own.to_string() == name);
        let image = self.record.images.iter().find(named).unwrap();
        let host = |p: &&pannier::record::ImagePlatform| p.platform.to_string() == "linux/amd64";
        let platform = image.platforms.iter().find(host).unwrap();
        (platform.config.digest, platform.diff_ids.clone())
    }
}

/// The config of the image for linux/amd64 that `descriptor` of a layout leads to, and its diff_ids as
/// the layers really decode.
fn in_layout(layout: &Path, descriptor: &Value) -> (Digest, Vec<Digest>) {
    let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
    let blob = |digest: &Digest| fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    let document: Value = serde_json::from_slice(&blob(&digest)).unwrap();
    if let Some(manifests) = document["manifests"].as_array() {
        let host = |entry: &&Value| entry["platform"]["architecture"] == "amd64";
        // What a tool wraps in an index of its own has no platform there.
        return in_layout(layout, manifests.iter().find(host).unwrap_or(&manifests[0]));
    }
    let layers = document["layers"].as_array().unwrap();
    let decoded = layers.iter().map(|layer| {
        let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
        pannier::layer::check(blob(&digest).as_slice(), pannier::layer::Most::Ratio).unwrap().diff_id
    });
    (document["config"]["digest"].as_str().unwrap().parse().unwrap(), decoded.collect())
}

fn index_json(layout: &Path) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

/// Whether a program is there; says loudly where not.
fn have(program: &Path) -> bool {
    let there = Command::new(program).arg("--help").output().is_ok();
    if !there {
        crate::support::skipped(&format!(
            "{} is missing; run tests/setup/install.sh peers",
            program.display()
        ));
    }
    there
}

#[test]
fn skopeo_inspects_and_copies_every_image() {
    if !have(Path::new("skopeo")) {
        return;
    }
    let room = Room::new();
    for name in [APP, BOTH, KEPT] {
        let from = format!("oci:{}:{name}", room.path("m").display());
        let inspected = tool("skopeo", &["inspect", &from]);
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(inspected["Architecture"], "amd64", "{name}");
        let copy = room.path("copy");
        tool("skopeo", &["--insecure-policy", "copy", &from, &format!("oci:{}:x", copy.display())]);
        assert_eq!(in_layout(&copy, &index_json(&copy)[0]), room.expected(name), "{name}");
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn oras_copies_every_image() {
    let oras = tools().join("oras/usr/bin/oras");
    if !have(&oras) {
        return;
    }
    let room = Room::new();
    for name in [APP, BOTH, KEPT] {
        let copy = room.path("copy");
        let medium = room.path("m");
        let from = ["cp", "--from-oci-layout-path", text(&medium), name];
        let to = format!("{}:x", copy.display());
        tool(text(&oras), &[&from[..], &["--to-oci-layout", &to]].concat());
        assert_eq!(in_layout(&copy, &index_json(&copy)[0]), room.expected(name), "{name}");
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn crane_pushes_validates_and_pulls_every_image() {
    let crane = tools().join("crane/usr/bin/crane");
    if !have(&crane) || !crate::support::registry::have(&["docker-registry"]) {
        return;
    }
    let room = Room::new();
    let registry = crate::support::registry::Server::start(crate::support::registry::Setup::default());
    for (number, name) in [APP, BOTH, KEPT].into_iter().enumerate() {
        let (single, copy) = (room.path("single"), room.path("copy"));
        let from = format!("oci:{}:{name}", room.path("m").display());
        tool(
            "skopeo",
            &["--insecure-policy", "copy", "--all", &from, &format!("oci:{}:x", single.display())],
        );
        let to = format!("{}/image{number}:1", registry.name());
        tool(text(&crane), &["push", "--insecure", "--index", text(&single), &to]);
        // Its validation of layers knows gzip only ("gzip: invalid header" for zstd, 0.20.7): for those
        // it looks at the documents, and what it pulls is decoded here.
        let fast: &[&str] = if name == KEPT { &[] } else { &["--fast"] };
        let said = tool(text(&crane), &[&["validate", "--insecure", "--remote", &to], fast].concat());
        assert!(!said.contains("FAIL"), "{name}: {said}");
        tool(text(&crane), &["pull", "--insecure", "--format", "oci", &to, text(&copy)]);
        assert_eq!(in_layout(&copy, &index_json(&copy)[0]), room.expected(name), "{name}");
        fs::remove_dir_all(single).unwrap();
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn ctr_imports_the_tar_of_a_medium_under_the_full_names() {
    let version = "2.1";
    if let Some(why) = missing(version) {
        crate::support::skipped(&why);
        return;
    }
    let room = Room::new();
    let archive = room.path("m.tar");
    tool("tar", &["-C", text(&room.path("m")), "-cf", text(&archive), "oci-layout", "index.json", "blobs"]);
    let node = Node::start(version);
    let ctr = tools().join(format!("containerd-{version}/usr/bin/ctr"));
    let socket = node.socket();
    tool(text(&ctr), &["--address", text(&socket), "-n", "k8s.io", "images", "import", text(&archive)]);
    for name in [APP, BOTH, KEPT] {
        let record = node.client().image(name).unwrap().unwrap_or_else(|| panic!("{name} is not there"));
        let (config, diff_ids) = room.expected(name);
        // CRI takes a name up in its own time.
        let found = (0..100).find_map(|_| {
            let found = node.client().cri_image(name).unwrap();
            found.is_none().then(|| std::thread::sleep(std::time::Duration::from_millis(100)));
            found
        });
        let found = found.unwrap_or_else(|| panic!("CRI does not know {name}"));
        assert_eq!(found.id, config, "{name}");
        assert!(!diff_ids.is_empty() && record.target.size > 0);
    }
}
