//! A test that cannot run says so, and is not called passed.

use std::path::Path;
use std::process::{Command, Output};

/// Tests of this program that need a node from their first line to their last.
const TESTS: [&str; 3] = ["topup::", "import_damage::", "containerd_source::"];

/// Runs them where there are no tools, with these settings.
fn without_tools(settings: &[(&str, &str)]) -> Output {
    let nothing = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(TESTS).args(["--nocapture", "--test-threads=1"]).env("PANNIER_TOOLS", nothing.path());
    for name in ["CI", "PANNIER_SKIP", "PANNIER_SKIPPED", "NEXTEST"] {
        command.env_remove(name);
    }
    command.envs(settings.iter().copied()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_tools_no_test_of_a_node_passes() {
    let output = without_tools(&[]);
    assert!(stdout(&output).contains(" 0 passed"), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(said.contains("cannot run here: ") && said.contains("PANNIER_SKIP=1"), "{said}");
}

#[test]
fn continuous_integration_skips_nothing() {
    let output = without_tools(&[("CI", "true"), ("PANNIER_SKIP", "1")]);
    assert!(stdout(&output).contains(" 0 passed"), "{}", stdout(&output));
    assert!(stderr(&output).contains("under CI=true nothing is skipped"), "{}", stderr(&output));
}

#[test]
fn what_is_skipped_on_request_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("skipped");
    let output = without_tools(&[("PANNIER_SKIP", "1"), ("PANNIER_SKIPPED", list.to_str().unwrap())]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("##### SKIPPED: topup::"), "{}", stderr(&output));
    assert_all_are_listed(&stdout(&output), &list);
}

/// Every test that ran is in the list, with a reason.
fn assert_all_are_listed(stdout: &str, list: &Path) {
    let list = std::fs::read_to_string(list).unwrap();
    let ran: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .map(|(test, _)| test)
        .collect();
    assert!(ran.len() > 10, "{stdout}");
    for test in ran {
        assert!(list.lines().any(|line| line.starts_with(&format!("{test}: "))), "{test} is not in {list}");
    }
}
