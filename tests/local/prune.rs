//! `pannier prune`: what goes, what stays, and a prune that is killed at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{
    Ran, assert_names_only_what_is_there, blobs, files, flip, oci, pannier, run, text,
};
use crate::support::image::{index, unnamed, unnamed_index};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::strace::{self, killed};
use pannier::image::Digest;
use pannier::medium::Medium;
use pannier::record::{Record, Role};
use serde_json::{Value, json};

/// Three images on one base, each with a layer of its own in this edition.
fn set(edition: u64) -> Layout {
    (0..3).fold(layout(), |layout, number| {
        let own = noise("app", 100 * edition + number, 60_000);
        layout.with(image(&name(number)).layer(noise("base", 1, 90_000)).layer(own))
    })
}

fn name(number: u64) -> String {
    format!("docker.io/library/app{number}:1")
}

fn one(name: &str, seed: u64) -> Layout {
    layout().with(image(name).layer(noise("one", seed, 50_000)))
}

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn medium(&self) -> PathBuf {
        self.directory.path().join("m")
    }

    fn export(&self, layout: &Layout, more: &[&str]) -> Ran {
        let from = self.directory.path().join("layout");
        let _ = fs::remove_dir_all(&from);
        layout.write_dir(&from);
        let (from, to) = (oci(&from), self.medium());
        let own = ["export", "--json", "--from", &from, "--all", "--platform", "linux/amd64"];
        run(0, own.into_iter().chain(["--to", text(&to)]).chain(more.iter().copied()))
    }

    fn prune(&self, status: i32, more: &[&str]) -> Ran {
        let medium = self.medium();
        run(status, ["prune", "--json", text(&medium)].into_iter().chain(more.iter().copied()))
    }

    fn record(&self) -> Record {
        Medium::open(&self.medium()).unwrap().record().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        let record = self.record();
        let names = record.images.iter().flat_map(|image| &image.names);
        names.map(ToString::to_string).collect()
    }

    fn findings(&self) -> Vec<String> {
        findings(&self.medium())
    }

    /// Puts a layout's blobs and entries onto the medium, as another tool would.
    fn add_foreign(&self, layout: &Layout) -> BTreeMap<String, Vec<u8>> {
        let medium = self.medium();
        let path = medium.join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let theirs: Value = serde_json::from_slice(&layout.index_json()).unwrap();
        let entries = theirs["manifests"].as_array().unwrap().clone();
        index["manifests"].as_array_mut().unwrap().extend(entries);
        fs::write(&path, index.to_string()).unwrap();
        let mut blobs = layout.files();
        blobs.retain(|path, _| path.starts_with("blobs/"));
        for (path, bytes) in &blobs {
            fs::write(medium.join(path), bytes).unwrap();
        }
        blobs
    }
}

/// The ids of what verify finds; an error among them fails.
fn findings(medium: &Path) -> Vec<String> {
    let report = run(0, ["verify", "--json", text(medium)]).stdout();
    let lines = report.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let report = { lines }.find(|line| line["findings"].is_array()).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_goes_with_what_only_it_needs() {
    let bench = Bench::new();
    bench.export(&set(0), &[]);
    let before = files(&bench.medium());
    let planned = bench.prune(0, &["--image", "app0:1", "--dry-run"]).json();
    assert_eq!(files(&bench.medium()), before, "a dry run wrote something");
    let done = bench.prune(0, &["--image", "app0:1"]).json();
    for key in ["names", "blobs", "bytes"] {
        assert_eq!(planned[key], done[key], "{key}");
    }
    assert_eq!(bench.names(), [name(1), name(2)]);
    // Its own layer, the config and the manifest; not the base.
    assert_eq!(done["blobs"].as_array().unwrap().len(), 3);
    assert_eq!(before.len() - files(&bench.medium()).len(), 3 - 1, "one commit record more than before");
    assert_eq!(bench.findings(), [""; 0]);
    let again = bench.prune(0, &["--image", "app0:1"]).json();
    assert_eq!((&again["commit"], &again["bytes"]), (&Value::Null, &json!(0)));
    let unknown = bench.prune(1, &["--image", "app7:1"]);
    assert!(unknown.stderr().contains("not found: docker.io/library/app7:1"), "{}", unknown.stderr());
    // What is left can be exported over, and the image can come back.
    bench.export(&set(0), &[]);
    assert_eq!(blobs(&bench.medium()).len(), before.keys().filter(|p| p.starts_with("blobs")).count());
    assert_eq!(bench.findings(), [""; 0]);
}

#[test]
fn an_image_with_two_names_goes_with_the_last_of_them() {
    let bench = Bench::new();
    let names = ["docker.io/library/a:1", "docker.io/library/b:1"];
    bench.export(&layout().with(image(names[0]).also(names[1]).layer(noise("x", 1, 1000))), &[]);
    let there = blobs(&bench.medium()).len();
    assert_eq!(bench.prune(0, &["--image", names[0]]).json()["images"], 0);
    assert_eq!((bench.names(), blobs(&bench.medium()).len()), (vec![names[1].to_owned()], there));
    assert_eq!(bench.prune(0, &["--image", names[1]]).json()["images"], 1);
    assert_eq!((bench.names().len(), blobs(&bench.medium()).len()), (0, 0));
    assert_eq!(bench.findings(), [""; 0]);
}

#[test]
fn keep_counts_exports_and_layers_of_replaced_images_go_unasked() {
    let bench = Bench::new();
    bench.export(&set(0), &[]);
    bench.export(&one("docker.io/library/second:1", 7), &[]);
    bench.export(&one("docker.io/library/third:1", 8), &[]);
    assert_eq!(bench.prune(0, &["--keep", "2"]).json()["images"], 3);
    assert_eq!(bench.names(), ["docker.io/library/second:1", "docker.io/library/third:1"]);
    // The commits that prune makes are no exports.
    assert!(bench.prune(0, &["--keep", "2"]).json()["commit"].is_null());
    bench.export(&one("docker.io/library/second:1", 9), &[]);
    assert!(bench.record().blobs.len() > 6);
    assert_eq!(bench.prune(0, &[]).json()["images"], 0);
    assert_eq!((bench.names().len(), bench.record().blobs.len()), (2, 6));
    assert_eq!(bench.findings(), [""; 0]);
}

#[test]
fn an_index_between_the_original_and_the_platform_stays() {
    let bench = Bench::new();
    let leaf = |name: &str| image(name).layer(noise("leaf", 1, 1000));
    let inner = unnamed_index().with(unnamed().layer(noise("leaf", 1, 1000)));
    let nested = layout().with(index("docker.io/library/nested:1").with(inner));
    bench.export(&nested.with(leaf("docker.io/library/leaf:1")), &[]);
    let indexes = || {
        let record = bench.record();
        record.blobs.iter().filter(|blob| blob.role == Role::OriginalIndex).count()
    };
    assert_eq!(indexes(), 2);
    bench.prune(0, &["--image", "leaf:1"]);
    assert_eq!((indexes(), bench.names().len()), (2, 1));
    assert_eq!(bench.findings(), [""; 0]);
    bench.prune(0, &["--image", "nested:1"]);
    assert_eq!((indexes(), blobs(&bench.medium()).len()), (0, 0));
}

// fault-matrix: rows 74
#[test]
fn entries_of_other_tools_and_their_blobs_stay() {
    let bench = Bench::new();
    bench.export(&set(0), &[]);
    // Another tool's image shares the layer of one that goes.
    let shared = noise("app", 0, 60_000);
    let foreign = bench.add_foreign(
        &layout().with(image("docker.io/library/foreign:1").layer(shared).layer(noise("f", 5, 9_000))),
    );
    let stray = Digest::of(b"stray");
    fs::write(bench.medium().join("blobs/sha256").join(stray.hex()), b"stray").unwrap();
    bench.prune(0, &["--keep", "1", "--image", "app0:1", "app1:1", "app2:1"]);
    for (path, bytes) in &foreign {
        assert_eq!(&fs::read(bench.medium().join(path)).unwrap(), bytes, "{path}");
    }
    assert_eq!(bench.findings(), ["index-foreign", "blob-unused"]);
    assert_eq!(blobs(&bench.medium()).len(), foreign.len() + 1);
    assert_eq!(bench.prune(0, &["--unreferenced"]).json()["blobs"], json!([stray]));
    assert_eq!(bench.findings(), ["index-foreign"]);
}

#[test]
fn nothing_is_deleted_while_something_is_damaged() {
    let bench = Bench::new();
    bench.export(&set(0), &[]);
    let layers = |name: &str| {
        let record = bench.record();
        let image = record.images.iter().find(|image| image.names.iter().any(|n| n.to_string() == name));
        let top = *image.unwrap().platforms[0].diff_ids.last().unwrap();
        bench.medium().join("blobs/sha256").join(record.layer(&top).unwrap().encodings[0].digest.hex())
    };
    flip(&layers(&name(0)));
    let before = files(&bench.medium());
    let refused = bench.prune(4, &["--image", "app0:1"]);
    assert!(refused.stdout().contains("blob-digest"), "{}", refused.stdout());
    bench.prune(4, &["--image", "app1:1", "--drop-damaged"]);
    assert_eq!(files(&bench.medium()), before);
    bench.prune(0, &["--image", "app0:1", "--drop-damaged"]);
    assert_eq!((bench.names().len(), bench.findings().len()), (2, 0));
    // Without index.json nobody knows what is another tool's.
    fs::remove_file(bench.medium().join("index.json")).unwrap();
    let refused = bench.prune(4, &["--image", "app1:1"]);
    assert!(refused.stderr().contains("index.json"), "{}", refused.stderr());
}

#[test]
fn recovery_data_are_kept_up() {
    let bench = Bench::new();
    bench.export(&set(0), &["--recovery", "30%"]);
    bench.prune(0, &["--image", "app0:1"]);
    assert_eq!(bench.findings(), [""; 0]);
    let before = blobs(&bench.medium());
    let victim = before.keys().next().unwrap();
    fs::write(bench.medium().join("blobs/sha256").join(victim), b"").unwrap();
    run(0, ["repair", text(&bench.medium())]);
    assert_eq!(blobs(&bench.medium()), before);
    bench.prune(0, &["--image", "app1:1", "--recovery", "none"]);
    assert_eq!(bench.findings(), [""; 0]);
    assert!(files(&bench.medium().join(".pannier/recovery")).is_empty());
}

#[test]
fn deltas_go_with_their_images() {
    let bench = Bench::new();
    let edition = |edition: u8| {
        let mut large = crate::support::image::half_random(3, 400_000);
        large[200_000] ^= edition;
        let tar = crate::support::image::tar_of([("data".to_owned(), large)]);
        layout().with(image("docker.io/library/delta:1").layer(tar))
    };
    bench.export(&edition(0), &[]);
    let old = bench.directory.path().join("old");
    fs::rename(bench.medium(), &old).unwrap();
    bench.export(&one("docker.io/library/other:1", 2), &[]);
    bench.export(&edition(1), &["--have", &format!("medium:{}", old.display())]);
    assert_eq!(bench.record().deltas.len(), 1);
    let done = bench.prune(0, &["--image", "delta:1"]).json();
    assert_eq!(done["deltas"].as_array().unwrap().len(), 1);
    assert!(files(&bench.medium().join(".pannier/deltas")).is_empty());
    assert_eq!((bench.names().len(), bench.findings().len()), (1, 0));
}

#[test]
fn files_beside_the_images_go_by_name() {
    let bench = Bench::new();
    let path = |name: &str| bench.directory.path().join(name);
    for (name, text) in [("a.snap", "aaa"), ("b.snap", "bbb")] {
        fs::write(path(name), text).unwrap();
    }
    let (a, b) = (path("a.snap"), path("b.snap"));
    bench.export(&set(0), &["--file", text(&a), "--file", text(&b)]);
    assert_eq!(bench.prune(0, &["--file", "a.snap"]).json()["files"], json!(["a.snap"]));
    assert_eq!((bench.record().files.len(), bench.names().len(), bench.findings().len()), (1, 3, 0));
    assert!(bench.prune(0, &["--file", "a.snap"]).json()["commit"].is_null());
    bench.prune(1, &["--file", "c.snap"]);
    bench.prune(0, &["--file", "b.snap"]);
    assert_eq!((bench.record().files_manifest, bench.findings().len()), (None, 0));
}

// fault-matrix: rows 9
#[test]
fn killed_at_any_call_nothing_that_is_named_is_missing_and_it_goes_on() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    bench.export(&set(0), &["--recovery", "10%"]);
    bench.export(&one("docker.io/library/more:1", 7), &[]);
    let foreign = bench.add_foreign(&one("docker.io/library/foreign:1", 11));
    let prepared = bench.directory.path().join("prepared");
    fs::rename(bench.medium(), &prepared).unwrap();
    let restore = || {
        let _ = fs::remove_dir_all(bench.medium());
        crate::support::layout::write_files(
            &bench.medium(),
            files(&prepared).into_iter().map(|(path, bytes)| (text(&path).to_owned(), bytes)),
        );
    };
    let medium = bench.medium();
    let arguments = ["prune", text(&medium), "--image", "app0:1", "app1:1"];
    restore();
    run(0, arguments);
    let expected = blobs(&medium);
    let mut kills = 0;
    for calls in ["unlinkat", "renameat", "fsync,fdatasync,syncfs", "write"] {
        let mut number = 1;
        loop {
            restore();
            if !killed(&arguments, calls, number) {
                break;
            }
            kills += 1;
            assert_names_only_what_is_there(&medium);
            assert!(bench.names().len() == 2 || bench.names().len() == 4);
            run(0, arguments);
            assert_names_only_what_is_there(&medium);
            assert_eq!(blobs(&medium), expected, "killed at call {number} of {calls}");
            assert_eq!(findings(&medium), ["index-foreign"], "killed at call {number} of {calls}");
            assert!(bench.record().sequence >= 4);
            // The later ones resemble each other.
            number += 1 + number / if calls == "write" { 1 } else { 4 };
        }
    }
    assert!(kills >= 30, "only {kills} moments were tried");
    for path in foreign.keys() {
        assert!(medium.join(path).exists(), "{path}");
    }
}

// fault-matrix: rows 54
#[test]
fn nothing_is_deleted_while_somebody_reads_and_an_export_does_not_mind() {
    let bench = Bench::new();
    bench.export(&set(0), &[]);
    let reader = Medium::open(&bench.medium()).unwrap();
    let refused = bench.prune(1, &["--image", "app0:1"]);
    assert!(refused.stderr().contains("in use by another pannier"), "{}", refused.stderr());
    bench.export(&one("docker.io/library/second:1", 7), &[]);
    // Others may read at the same time.
    run(0, ["verify", text(&bench.medium())]);
    drop(reader);
    bench.prune(0, &["--image", "app0:1"]);
    let mut opened = Medium::open(&bench.medium()).unwrap();
    let lock = opened.shut_out_readers().unwrap();
    let output = pannier(["verify", text(&bench.medium())]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    drop(lock);
    assert_eq!(bench.findings(), [""; 0]);
}
