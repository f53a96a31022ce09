//! The command line itself: help, completions, manual pages, closed pipes, usage errors.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::carry::{oci, pannier, run, text};
use crate::support::cluster::{self, app, pause};
use crate::support::docker::Form;
use crate::support::layout::{files, image, layout};
use crate::support::node::Node;

#[test]
fn completions_exist_for_every_usual_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(0, ["completions", shell]).stdout();
        assert!(script.contains("export") && script.contains("import"), "{shell}: {script}");
        if shell != "bash" {
            continue;
        }
        // What is completed after "pannier exp" is "export".
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, &script).unwrap();
        let complete = "source \"$0\"; COMP_WORDS=(pannier exp) COMP_CWORD=1; \
                        _pannier pannier exp pannier; echo \"${COMPREPLY[@]}\"";
        let output = Command::new("bash").args(["-c", complete, text(file.path())]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "export");
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

/// The commands that the help of `command` ends with.
fn examples(command: &str) -> Vec<String> {
    let help = run(0, [command, "--help"]).stdout();
    let at = help.rfind("Example").unwrap_or_else(|| panic!("{command} shows no example"));
    let lines = help[at..].lines().skip(1).take_while(|line| line.starts_with("  "));
    let examples: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    assert!(!examples.is_empty(), "{help}");
    examples
}

#[test]
fn the_short_help_fits_a_screen() {
    for command in ["export", "import"] {
        let help = run(0, [command, "-h"]).stdout();
        let lines: Vec<&str> = help.lines().collect();
        assert!(lines.len() <= 50, "{command} -h has {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{help}");
        let at = |word: &str| help.find(word).unwrap_or_else(|| panic!("{command} -h lacks {word}: {help}"));
        assert!(at("Examples:") < at("Usage:") && at("Usage:") < at("Care:"), "{help}");
    }
}

/// Runs an example in a directory that has what it speaks of; returns its exit status and what it said.
fn try_out(example: &str, directory: &Path, environment: &[(&str, &str)]) -> (i32, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_pannier")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    // Nobody is to be asked for charts, and nothing of this machine is to be written.
    let line = example
        .replace("/media/stick", "stick")
        .replace("helm template ./chart", "cat chart.yaml")
        .replace("/etc/bash_completion.d/", "");
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &line])
        .current_dir(directory)
        .env("PATH", path)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (output.status.code().unwrap(), format!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_examples_of_the_help_work() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    layout().with(image("docker.io/library/app:1").layer(files([("a", "b")]))).write_dir(&at("layout"));
    let saved = layout().with(image("app:1").layer(files([("a", "c")])));
    fs::write(at("app.tar"), saved.docker_archive(Form::Docker)).unwrap();
    fs::write(at("chart.yaml"), "kind: Pod\nspec: {containers: [{image: 'nginx:1.22'}]}\n").unwrap();
    fs::write(at("images.txt"), "# what the node holds\nnginx:1.22\n").unwrap();
    for name in ["k8s.snap", "k8s.assert", "core22.snap"] {
        fs::write(at(name), name).unwrap();
    }
    let mut tried = 0;
    for example in ["export", "verify", "list", "completions"].into_iter().flat_map(examples) {
        // No registry can be reached from here; a proxy that refuses says so at once.
        let status = match &example {
            // This program needs libraries: tests/node/plug_in.rs has one that does not.
            _ if example.contains("--from containerd") || example.contains("--with-pannier") => continue,
            _ if example.contains("export") && !example.contains("--from") && !example.contains("--file") => {
                6
            }
            _ => 0,
        };
        let (found, said) = try_out(&example, directory.path(), &[("HTTPS_PROXY", "http://127.0.0.1:9")]);
        assert_eq!(found, status, "{said}");
        tried += 1;
    }
    assert!(tried >= 7, "{tried} examples were tried");
    assert!(fs::read_to_string(at("pannier")).unwrap().contains("complete "));
}

#[test]
fn the_examples_of_the_help_work_on_a_node() {
    let version = "2.1";
    if !cluster::available(version) {
        return;
    }
    let bench = cluster::Bench::new();
    let set = layout().with(pause()).with(app("docker.io/library/nginx:1.22"));
    bench.medium("stick", &set);
    fs::write(bench.path("images.txt"), "nginx:1.22\n").unwrap();
    let node = Node::start(version);
    let socket = node.socket();
    let environment = [("CONTAINERD_ADDRESS", text(&socket))];
    let from_containerd = examples("export").into_iter().filter(|line| line.contains("--from containerd"));
    for example in ["import", "images"].into_iter().flat_map(examples).chain(from_containerd) {
        let (status, said) = try_out(&example, &bench.path(""), &environment);
        assert_eq!(status, 0, "{said}");
    }
}
