//! Media that released versions made are read by this one, and so are those with each critical feature.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pannier::import::each_wanted;
use pannier::medium::Medium;
use pannier::progress::{Run, Silent};
use pannier::trust::Admitted;
use serde_json::Value;

use crate::support::carry::{files, run, text};
use crate::support::layout::write_files;

/// The features that a record can name as critical (docs/format.md, 3.3).
const FEATURES: [&str; 6] = ["deltas", "expires", "files", "lane", "parts", "top-up"];

/// Every vector of every version.
pub(crate) fn all() -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors");
    folders(&root).iter().flat_map(|version| folders(version)).collect()
}

/// A copy of a medium in `room`, which a test may write to.
pub(crate) fn copy(medium: &Path, room: &Path) -> PathBuf {
    let to = room.join("m");
    let there = files(medium).into_iter();
    write_files(&to, there.map(|(path, bytes)| (text(&path).to_owned(), bytes)));
    to
}

/// Whether everything that `old` says is said in `new` as well, which may say more.
fn says(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|new| says(new, value)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| says(new, old))
        }
        _ => new == old,
    }
}

fn critical(medium: &Path) -> BTreeSet<String> {
    let commits = files(&medium.join(".pannier/commits"));
    let newest = commits.iter().rfind(|(name, _)| name.extension().is_some_and(|e| e == "json"));
    let record: Value = serde_json::from_slice(newest.unwrap().1).unwrap();
    serde_json::from_value(record["critical"].clone()).unwrap()
}

#[test]
fn every_vector_is_whole_and_lists_what_it_did() {
    let mut features = BTreeSet::new();
    for vector in all() {
        let report = run(0, ["verify", "--deep", "--json", text(&vector)]).json();
        let severe =
            report["findings"].as_array().unwrap().iter().filter(|found| found["severity"] != "note");
        assert_eq!(severe.count(), 0, "{}: {report:#}", vector.display());
        let listed = run(0, ["list", "--json", text(&vector)]).json();
        let frozen: Value =
            serde_json::from_slice(&fs::read(vector.with_extension("json")).unwrap()).unwrap();
        assert!(says(&listed, &frozen), "{}: {listed:#}", vector.display());
        features.extend(critical(&vector));
    }
    assert_eq!(features, FEATURES.map(str::to_owned).into());
}

#[test]
fn the_images_of_every_vector_are_proven_as_for_an_import() {
    let platform = "linux/amd64".parse().unwrap();
    let stop = Default::default();
    for vector in all() {
        let medium = Admitted::unchecked(Medium::open(&vector).unwrap());
        let mut seen = 0;
        let see = |_| {
            seen += 1;
            Ok(())
        };
        each_wanted(&medium, &[], &platform, Run { reporter: &Silent, stop: &stop }, see).unwrap();
        assert_eq!(seen, medium.record().unwrap().images.len(), "{}", vector.display());
    }
}

#[test]
fn files_and_signatures_of_the_vectors_count() {
    let room = tempfile::tempdir().unwrap();
    for vector in all() {
        let name = vector.file_name().unwrap().to_str().unwrap();
        let features = critical(&vector);
        // A medium of a lane is only for nodes in it.
        if features.contains("files") && !features.contains("lane") {
            let to = room.path().join(name);
            run(0, ["extract", "--all", text(&vector), "-o", text(&to)]);
            assert!(!files(&to).is_empty(), "{name}");
        }
        let signed = ["signed", "everything"].contains(&name);
        let signers = vector.with_file_name("allowed_signers");
        let status = if signed { 0 } else { 4 };
        run(status, ["verify", "--allowed-signers", text(&signers), text(&vector)]);
    }
}
