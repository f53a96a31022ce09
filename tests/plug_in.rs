//! Nodes where nothing is installed, and nobody types a command.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::carry::{oci, run, text};
use support::cluster::versions;
use support::layout::{files as tar, image, layout};
use support::node::Node;

const APP: &str = "docker.io/library/app:1";

/// The program, linked statically; `make static-dev` builds it.
fn static_program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static/dev/pannier");
    if !path.exists() {
        support::skipped(&format!("{} is missing; run `make static-dev`", path.display()));
        return None;
    }
    Some(path)
}

/// Writes a layout of one image to `directory`.
fn set(directory: &Path) {
    layout().with(image(APP).layer(tar([("etc/app", "1")]))).write_dir(directory);
}

#[test]
fn the_static_program_imports_from_its_medium_where_nothing_else_is() {
    let Some(program) = static_program() else { return };
    // By the program itself, which takes itself along: it is static.
    let desk = tempfile::tempdir().unwrap();
    set(&desk.path().join("layout"));
    for version in versions() {
        let node = Node::start_with(version, &["cri=off"]);
        // In the node's directory, so that the socket can be linked to and nothing need be mounted.
        let bare = node.dir().join("bare");
        let medium = bare.join("media/stick");
        fs::create_dir_all(bare.join("run/containerd")).unwrap();
        let export = Command::new(&program)
            .args(["export", "--all", "--platform", "linux/amd64", "--with-pannier", "--from"])
            .args([&oci(&desk.path().join("layout")), "--to", text(&medium)])
            .output()
            .unwrap();
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        fs::hard_link(node.socket(), bare.join("run/containerd/containerd.sock")).unwrap();
        let chroot = |arguments: &[&str]| {
            let mut command = Command::new("/usr/sbin/chroot");
            command.arg(&bare).arg("/media/stick/pannier").args(arguments).env_clear();
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{version}: {said}");
            said
        };
        chroot(&["verify", "/media/stick"]);
        let said = chroot(&["import", "/media/stick", "--no-cri"]);
        assert!(said.contains("1 image"), "{said}");
        assert!(node.ctr(&["images", "list", "-q"]).lines().any(|name| name == APP), "{version}");
        // What it sent is whole: containerd's own tool says so, and nothing was left to do.
        assert!(node.ctr(&["images", "check"]).contains("complete"), "{version}");
        assert!(chroot(&["import", "/media/stick", "--no-cri"]).contains("all of it already"));
    }
    run(0, ["--version"]);
}
