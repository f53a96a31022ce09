//! The whole job on the realistic set that `fixtures/corpus/build.sh` makes: its layout becomes a medium,
//! the medium a node's images, the images pods that run the programs in them.

use std::path::{Path, PathBuf};

use crate::support::carry::{assert_names_only_what_is_there, oci, run, text};
use crate::support::cluster::import;
use crate::support::node::{Node, missing};

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/corpus/full");
    if !path.join("index.json").exists() {
        crate::support::skipped("the corpus is missing; run make corpus");
        return None;
    }
    Some(path)
}

#[test]
fn the_corpus_is_carried_and_its_programs_run_in_pods() {
    let Some(corpus) = corpus() else { return };
    let version = "2.1";
    if let Some(why) = missing(version) {
        crate::support::skipped(&why);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("m");
    let arguments =
        ["export", "--from", &oci(&corpus), "--all", "--platform", "linux/amd64", "--to", text(&medium)]
            .map(str::to_owned);
    let arguments = || arguments.iter().map(String::as_str);
    let first = run(0, arguments().chain(["--json"])).json();
    assert!(first["bytesWritten"].as_u64() < first["bytesRead"].as_u64());
    let again = run(0, arguments().chain(["--json"])).json();
    assert_eq!(again["bytesWritten"].as_u64(), Some(0));
    assert_names_only_what_is_there(&medium);

    let mut node = Node::start(version);
    let first = import(0, &node, &medium, &[]).json();
    assert!(first["bytesSent"].as_u64().unwrap() > 100_000_000);
    let second = import(0, &node, &medium, &[]).json();
    assert_eq!(second["bytesSent"].as_u64(), Some(0));
    node.restart();
    for (image, command, expected) in [
        ("docker.io/library/nginx:1.22", &["/usr/sbin/nginx", "-v"][..], "nginx/1.22"),
        ("docker.io/library/redis:7.0", &["/usr/bin/redis-server", "--version"], "Redis server v=7.0"),
        ("docker.io/library/python:3.11", &["/usr/bin/python3", "-c", "print(6 * 7)"], "42"),
        ("ghcr.io/canonical/shop:1.4", &["/usr/local/bin/podmain", "open"], "open"),
    ] {
        let ran = node.run_pod(image, command).unwrap();
        assert!(ran.output.contains(expected), "{image}: {}", ran.output);
    }
}
