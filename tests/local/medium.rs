//! Damage of every kind, done to a good medium: all of it is found and named.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{files, oci, pannier, run, text};
use crate::support::layout::{files as tar, image, index, layout, noise, unnamed, unnamed_index};
use serde_json::Value;

fn medium(directory: &Path) -> PathBuf {
    let base = noise("data", 1, 30_000);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(tar([("etc/app", "1")])))
        .with(image("docker.io/library/other:1").layer(base))
        .write_dir(&directory.join("layout"));
    let (from, to) = (oci(&directory.join("layout")), directory.join("m"));
    let (platform, carried) = (["--platform", "linux/amd64"], directory.join("k8s.snap"));
    fs::write(&carried, "not an image").unwrap();
    let arguments = ["export", "--from", &from, "--all", "--to", text(&to), "--file", text(&carried)];
    crate::support::carry::run(0, arguments.into_iter().chain(platform));
    to
}

/// Runs `verify --json` and returns its exit status and findings as (id, subject).
fn findings(medium: &Path, more: &[&str]) -> (i32, Vec<(String, String)>) {
    let mut arguments = vec!["verify", "--json", text(medium)];
    arguments.extend(more);
    let output = pannier(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let report = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let report = { report }.find(|line| line["findings"].is_array()).unwrap_or_default();
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let found = report["findings"].as_array().into_iter().flatten();
    let found = found.map(|finding| (string(&finding["id"]), string(&finding["subject"]))).collect();
    (output.status.code().unwrap(), found)
}

/// Does `damage` to a copy of every file of the medium and expects it to be found and named.
fn each_file(damage: impl Fn(&Path, Vec<u8>)) {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    assert_eq!(findings(&medium, &["--deep"]), (0, vec![]));
    for (path, bytes) in files(&medium) {
        let at = medium.join(&path);
        damage(&at, bytes.clone());
        let (status, found) = findings(&medium, &[]);
        let name = path.file_name().unwrap().to_str().unwrap();
        let named = found.iter().any(|(_, subject)| subject.contains(name));
        assert!(named, "{}: {found:?}", path.display());
        assert_eq!(status, 4, "{}: {found:?}", path.display());
        fs::write(&at, bytes).unwrap();
    }
    assert_eq!(findings(&medium, &[]), (0, vec![]));
}

// fault-matrix: rows 41, 43
#[test]
fn one_flipped_byte_in_any_file_is_found() {
    // In the middle, and at the first byte, where a header is.
    each_file(|path, mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    each_file(|path, mut bytes| {
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_missing_file_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    for (path, bytes) in files(&medium.join("blobs")) {
        let at = medium.join("blobs").join(&path);
        fs::remove_file(&at).unwrap();
        let (status, found) = findings(&medium, &[]);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            found.iter().any(|(id, subject)| id == "blob-missing" && subject.contains(name)),
            "{found:?}"
        );
        assert_eq!(status, 4);
        fs::write(&at, bytes).unwrap();
    }
    fs::remove_file(medium.join("index.json")).unwrap();
    assert_eq!(findings(&medium, &[]), (4, vec![("index-missing".into(), "index.json".into())]));
}

// fault-matrix: rows 44
#[test]
fn a_truncated_and_a_grown_file_are_found() {
    each_file(|path, bytes| fs::write(path, &bytes[..bytes.len() - 1]).unwrap());
    each_file(|path, bytes| fs::write(path, [&bytes[..], b"x"].concat()).unwrap());
}

#[test]
fn all_of_several_faults_are_reported_with_the_images_that_they_concern() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    let record = pannier::medium::Medium::open(&medium).unwrap().record().unwrap().clone();
    for layer in &record.layers {
        let path = medium.join("blobs/sha256").join(layer.encodings[0].digest.hex());
        let mut bytes = fs::read(&path).unwrap();
        bytes[10] ^= 0x40;
        fs::write(&path, bytes).unwrap();
    }
    let output = pannier(["verify", text(&medium)]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.matches("error blob-digest:").count(), 2, "{printed}");
    assert_eq!(printed.matches("needed by docker.io/library/app:1").count(), 2, "{printed}");
    assert_eq!(printed.matches("needed by docker.io/library/other:1").count(), 1, "{printed}");
}

#[test]
fn a_newest_record_that_was_cut_off_is_named_and_the_one_before_counts() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    fs::write(medium.join(".pannier/commits/0000000002.json"), b"{\"checksum\":\"sha256:00").unwrap();
    let (status, found) = findings(&medium, &[]);
    assert_eq!(status, 4);
    assert_eq!(found, [("record-damaged".into(), ".pannier/commits/0000000002.json".into())]);
    let listed = crate::support::carry::run(0, ["list", text(&medium)]);
    assert!(listed.stdout().contains("docker.io/library/app:1"));
    assert!(listed.stderr().contains("0000000002.json"));
    // The next export takes a name that was never used, and the state is whole again.
    let from = oci(&directory.path().join("layout"));
    let arguments = ["export", "--from", &from, "app:1", "--as", "app:2", "--to", text(&medium)];
    crate::support::carry::run(0, arguments.into_iter().chain(["--platform", "linux/amd64"]));
    assert!(medium.join(".pannier/commits/0000000003.json").exists());
    // What was cut off went when there was something in its place.
    assert_eq!(findings(&medium, &["--deep"]), (0, vec![]));
}

#[test]
fn a_layer_that_decodes_to_something_else_is_found_by_decoding() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    // A record that is consistent in itself and lies about a layer, as a hostile writer would make it.
    let mut record = pannier::medium::Medium::open(&medium).unwrap().record().unwrap().clone();
    let (first, second) = (record.layers[0].encodings.clone(), record.layers[1].encodings.clone());
    record.layers[0].encodings = second;
    record.layers[1].encodings = first;
    fs::write(medium.join(".pannier/commits/0000000001.json"), record.to_bytes().unwrap()).unwrap();
    let (status, found) = findings(&medium, &["--deep"]);
    assert_eq!(status, 4);
    assert_eq!(found.iter().filter(|(id, _)| id == "layer-diff-id").count(), 2, "{found:?}");
}

#[test]
fn what_is_no_medium_is_refused_and_nothing_is_written_to_it() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["verify", "list"] {
        let ran = crate::support::carry::run(1, [command, text(directory.path())]);
        assert!(ran.stderr().contains("this directory is empty"), "{}", ran.stderr());
        assert!(ran.stderr().contains("is the medium mounted?"), "{}", ran.stderr());
    }
    assert!(files(directory.path()).is_empty());
}

#[test]
fn the_next_export_carries_what_is_missing_again() {
    let directory = tempfile::tempdir().unwrap();
    // An index within an index is named by no image of the record.
    let inner = unnamed_index().with(unnamed().layer(tar([("arch", "amd64")])));
    let nested = layout().with(index("docker.io/library/nested:1").with(inner));
    nested.write_dir(&directory.path().join("nested"));
    let medium = medium(directory.path());
    let sources = ["layout", "nested"].map(|name| oci(&directory.path().join(name)));
    let snap = directory.path().join("k8s.snap");
    let export = || {
        for from in &sources {
            let arguments =
                ["export", "--from", from, "--all", "--to", text(&medium), "--platform", "linux/amd64"];
            let file = ["--file", text(&snap)];
            // The other set is not whole yet: nothing is committed that is not.
            let _ = pannier(arguments.into_iter().chain(file)).output().unwrap();
        }
    };
    export();
    let whole = files(&medium.join("blobs"));
    for path in whole.keys() {
        fs::remove_file(medium.join("blobs").join(path)).unwrap();
        export();
        assert_eq!(findings(&medium, &["--deep"]), (0, vec![]), "{}", path.display());
        assert!(files(&medium.join("blobs")) == whole);
    }
}

#[test]
fn every_byte_of_what_is_beside_the_blobs_that_is_changed_or_gone_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path());
    let from = oci(&directory.path().join("layout"));
    let key = directory.path().join("key");
    let mut keygen = std::process::Command::new("ssh-keygen");
    assert!(keygen.args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).status().unwrap().success());
    let export = |name: &str, more: &[&str]| {
        let arguments = ["export", "--from", &from, "--to", text(&medium), "--as", name];
        let arguments = arguments.into_iter().chain([
            "--sign-key",
            text(&key),
            "--accept-unsigned",
            "docker.io/library/app:1",
        ]);
        run(0, arguments.chain(more.iter().copied()));
    };
    export("docker.io/library/second:1", &["--recovery", "10%"]);
    export("docker.io/library/third:1", &[]);
    assert_eq!(findings(&medium, &[]), (0, vec![]));
    let whole = files(&medium);
    let beside = |path: &&std::path::PathBuf| !path.starts_with("blobs");
    let mut looked_at = 0;
    for path in whole.keys().filter(beside) {
        let at = medium.join(path);
        let bytes = fs::read(&at).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x10;
        fs::write(&at, &flipped).unwrap();
        let (status, found) = findings(&medium, &[]);
        assert_eq!(status, 4, "{path:?}: {found:?}");
        // A signature that is gone is asked about by whoever asks for one, and an older record by nobody.
        let name = path.to_str().unwrap();
        fs::remove_file(&at).unwrap();
        if !name.contains("/commits/") {
            let (status, found) = findings(&medium, &[]);
            assert_eq!(status, 4, "{path:?}: {found:?}");
        }
        fs::write(&at, bytes).unwrap();
        looked_at += 1;
    }
    assert!(looked_at > 8, "{looked_at}");
    assert_eq!(findings(&medium, &[]), (0, vec![]));
}
