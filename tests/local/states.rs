//! What a directory is said to be that is no medium which can be read: a sentence, a status and a cure of
//! its own for each.

use std::fs;
use std::path::Path;

use crate::support::carry::{oci, pannier, run, text};
use crate::support::layout::{image, layout, noise};

/// Runs a command that has to fail with `status`; what it says.
fn says(status: i32, arguments: &[&str]) -> String {
    let output = pannier(arguments.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    stderr
}

/// The commands that do nothing without a commit.
fn each_command(medium: &Path, status: i32, sentence: &str, cure: &str) {
    let inventory_side = text(medium);
    for arguments in [
        vec!["list", text(medium)],
        vec!["files", text(medium)],
        vec!["extract", text(medium), "--all", "-o", "/nonexistent"],
        vec!["diff", inventory_side, inventory_side],
        vec!["prune", text(medium), "--image", "x:1"],
    ] {
        let said = says(status, &arguments);
        assert!(said.contains(sentence) && said.contains(cure), "{arguments:?}: {said}");
        assert!(!said.contains("no export has been committed"), "{said}");
    }
}

fn medium(directory: &Path, more: &[&str]) -> std::path::PathBuf {
    layout()
        .with(image("docker.io/library/app:1").layer(noise("data", 1, 30_000)))
        .write_dir(&directory.join("layout"));
    let (from, to) = (oci(&directory.join("layout")), directory.join("m"));
    let arguments = ["export", "--from", &from, "--all", "--to", text(&to), "--platform", "linux/amd64"];
    run(0, arguments.into_iter().chain(more.iter().copied()));
    to
}

#[test]
fn nothing_a_file_and_a_directory_of_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent");
    assert!(says(1, &["list", text(&absent)]).contains("there is nothing here"));
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(says(1, &["list", text(&file)]).contains("this is no directory"));
    let said = says(1, &["list", text(directory.path())]);
    assert!(said.contains("not a medium: it has neither oci-layout nor .pannier"), "{said}");
    assert!(said.contains("hint: give the directory that the medium is mounted at"), "{said}");
}

#[test]
fn the_layout_of_another_tool() {
    let directory = tempfile::tempdir().unwrap();
    medium(directory.path(), &[]);
    let said = says(1, &["list", text(&directory.path().join("layout"))]);
    assert!(said.contains("an OCI layout of another tool"), "{said}");
    assert!(said.contains("pannier export --all --from oci:DIR --to MEDIUM"), "{said}");
}

#[test]
fn an_export_that_was_begun_and_never_finished() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path(), &[]);
    fs::remove_file(medium.join(".pannier/commits/0000000001.json")).unwrap();
    each_command(&medium, 3, "was begun and never finished", "run the same export again");
}

#[test]
fn a_medium_whose_records_are_all_damaged_is_not_called_empty() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path(), &[]);
    let record = medium.join(".pannier/commits/0000000001.json");
    let bytes = fs::read(&record).unwrap();
    fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    each_command(&medium, 4, "every commit record is damaged", "no recovery data");
}

#[test]
fn with_recovery_data_the_cure_is_named_and_works() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path(), &["--recovery", "10%"]);
    let record = medium.join(".pannier/commits/0000000001.json");
    let bytes = fs::read(&record).unwrap();
    fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    each_command(&medium, 4, "every commit record is damaged", "`pannier repair MEDIUM`");
    run(0, ["repair", text(&medium)]);
    assert!(run(0, ["list", text(&medium)]).stdout().contains("docker.io/library/app:1"));
}

#[test]
fn what_fails_on_this_machine_is_not_laid_to_the_source() {
    let directory = tempfile::tempdir().unwrap();
    let medium = medium(directory.path(), &[]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(["list", "--json", text(&medium)])
        .stdout(full)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: cannot write standard output"), "{stderr}");
}
