//! The command line itself: help, completions, manual pages, closed pipes, usage errors.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Command, Stdio};

use support::carry::{oci, pannier, run, text};
use support::layout::{files, image, layout};

#[test]
fn completions_exist_for_every_usual_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(0, ["completions", shell]).stdout();
        assert!(script.contains("export") && script.contains("import"), "{shell}: {script}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    run(0, ["man", "--out", text(directory.path())]);
    for command in ["", "-export", "-import", "-verify", "-list", "-images"] {
        let page = std::fs::read_to_string(directory.path().join(format!("pannier{command}.1"))).unwrap();
        assert!(page.contains(".TH"), "{command}");
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("m");
    for arguments in [
        &["frobnicate"][..],
        &["export", "--to", text(&medium)],
        &["export", "--from", "floppy:x", "--all", "--to", text(&medium)],
        &["export", "--from", "oci:x", "UPPER CASE", "--to", text(&medium)],
        &["export", "--from", "oci:x", "--all", "--compression", "zip", "--to", text(&medium)],
    ] {
        let ran = run(2, arguments.iter().copied());
        assert!(!ran.stderr().is_empty(), "{arguments:?}");
    }
    assert!(!medium.exists());
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let (source, medium) = (directory.path().join("layout"), directory.path().join("m"));
    layout().with(image("docker.io/library/app:1").layer(files([("a", "b")]))).write_dir(&source);
    let from = oci(&source);
    let export =
        ["export", "--from", &from, "--all", "--to", text(&medium), "--platform", "linux/amd64", "--json"];
    for arguments in [&export[..], &["list", text(&medium)], &["verify", "--json", text(&medium)]] {
        let mut closed = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = closed.stdin.take().unwrap();
        closed.wait().unwrap();
        let output = pannier(arguments.iter().copied()).stdout(pipe).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    }
    run(0, ["verify", text(&medium)]);
}

#[test]
fn every_line_of_json_is_json() {
    let directory = tempfile::tempdir().unwrap();
    let (source, medium) = (directory.path().join("layout"), directory.path().join("m"));
    layout().with(image("docker.io/library/app:1").layer(files([("a", "b")]))).write_dir(&source);
    let from = oci(&source);
    let export = ["export", "--from", &from, "--all", "--to", text(&medium), "--platform", "linux/amd64"];
    for arguments in [&export[..], &["list", text(&medium)], &["verify", "--deep", text(&medium)]] {
        let printed = run(0, arguments.iter().copied().chain(["--json"])).stdout();
        assert!(!printed.is_empty());
        for line in printed.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
