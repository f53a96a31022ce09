//! Copies of commit records that somebody planted among the recovery data.

use std::fs;
use std::path::Path;

use crate::support::carry::{files, oci, run, text};
use crate::support::layout::{files as tar, image, layout};
use crate::support::stick::Stick;

/// A medium with one signed commit and recovery data, and the state of a foreigner's commit on top of it.
fn with_foreign_copy() -> Stick {
    let stick = Stick::new();
    fs::remove_dir_all(stick.at("medium")).unwrap();
    for name in ["app", "evil"] {
        let made = layout().with(image(&format!("docker.io/library/{name}:1")).layer(tar([("file", name)])));
        made.write_dir(&stick.at(name));
    }
    let export = |source: &str, to: &str, more: &[&str]| {
        let (source, to) = (oci(&stick.at(source)), stick.at(to));
        let arguments = ["export", "--from", &source, "--all", "--to", text(&to)];
        run(0, arguments.into_iter().chain(more.iter().copied()));
    };
    let key = stick.at("key");
    export("app", "medium", &["--recovery", "10%", "--sign-key", text(&key)]);
    let copy =
        std::process::Command::new("cp").arg("-a").arg(stick.at("medium")).arg(stick.at("foreign")).status();
    assert!(copy.unwrap().success());
    export("evil", "foreign", &[]);
    // The foreigner's blobs and the copy of the record, and not the record.
    for (path, bytes) in files(&stick.at("foreign")) {
        let own = stick.at("medium").join(&path);
        if !path.starts_with(".pannier/commits") && !own.exists() {
            fs::write(own, bytes).unwrap();
        }
    }
    assert!(stick.at("medium/.pannier/recovery/0000000002.record.0").exists());
    stick
}

fn commits(medium: &Path) -> Vec<String> {
    files(&medium.join(".pannier/commits")).into_keys().map(|path| text(&path).to_owned()).collect()
}

#[test]
fn a_planted_copy_with_a_higher_sequence_is_not_made_the_newest_record() {
    let stick = with_foreign_copy();
    let medium = stick.at("medium");
    let before = commits(&medium);
    run(0, ["repair", text(&medium)]);
    assert_eq!(commits(&medium), before);
    run(0, ["repair", text(&medium), "--sign-key", text(&stick.at("key"))]);
    assert_eq!(commits(&medium), before);
    assert!(!run(0, ["list", text(&medium)]).stdout().contains("evil"));
    stick.verify(0);
}

#[test]
fn recovery_data_alone_make_no_record() {
    let stick = with_foreign_copy();
    let medium = stick.at("medium");
    for name in commits(&medium) {
        fs::remove_file(medium.join(".pannier/commits").join(name)).unwrap();
    }
    let repair = crate::support::carry::pannier(["repair", text(&medium)]).output().unwrap();
    assert_ne!(repair.status.code(), Some(0));
    assert!(commits(&medium).is_empty());
}

#[test]
fn a_damaged_record_comes_back_only_as_what_was_signed() {
    let stick = with_foreign_copy();
    let medium = stick.at("medium");
    let record = stick.record();
    let whole = fs::read(&record).unwrap();
    fs::write(&record, b"damaged").unwrap();
    run(0, ["repair", text(&medium)]);
    assert_eq!(fs::read(&record).unwrap(), whole);
    // A record in the place of the foreigner's, so that it looks like one that was committed and rotted.
    fs::write(record.with_file_name("0000000002.json"), b"damaged").unwrap();
    let repair = crate::support::carry::pannier(["repair", text(&medium)]).output().unwrap();
    assert_ne!(repair.status.code(), Some(0));
    assert!(!run(0, ["list", text(&medium)]).stdout().contains("evil"));
}
