//! An export that is killed at any moment: nothing that is named is missing, and the same command
//! goes on to the same result.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::carry::{assert_names_only_what_is_there, blobs, oci, pannier, run, text};
use support::layout::{Layout, image, layout, noise};
use support::strace::{self, killed};

fn set() -> Layout {
    (0..4).fold(layout(), |layout, number| {
        layout.with(
            image(&format!("docker.io/library/app{number}:1")).layer(noise("base", 1, 400_000)).layer(noise(
                "app",
                10 + number,
                200_000,
            )),
        )
    })
}

struct Sweep {
    directory: tempfile::TempDir,
    from: String,
}

impl Sweep {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        set().write_dir(&directory.path().join("layout"));
        let from = oci(&directory.path().join("layout"));
        Self { directory, from }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments<'a>(&'a self, medium: &'a Path) -> Vec<&'a str> {
        vec!["export", "--from", &self.from, "--all", "--platform", "linux/amd64", "--to", text(medium)]
    }

    fn undisturbed(&self) -> PathBuf {
        let medium = self.path("undisturbed");
        run(0, self.arguments(&medium));
        medium
    }
}

/// The calls by which a medium is changed.
const CHANGING: [&str; 5] = ["write", "renameat", "mkdirat", "fsync,fdatasync,syncfs", "unlinkat"];

// fault-matrix: rows 1, 2, 3, 4
#[test]
fn killed_at_any_call_that_changes_the_medium_the_same_command_goes_on() {
    if !strace::available() {
        return;
    }
    let sweep = Sweep::new();
    let expected = blobs(&sweep.undisturbed());
    let mut kills = 0;
    for calls in CHANGING {
        // Every call at first, then ever fewer: the later ones resemble each other.
        let mut number = 1;
        loop {
            let medium = sweep.path("m");
            let arguments = sweep.arguments(&medium);
            if !killed(&arguments, calls, number) {
                fs::remove_dir_all(&medium).unwrap();
                break;
            }
            kills += 1;
            assert_names_only_what_is_there(&medium);
            run(0, arguments);
            assert_names_only_what_is_there(&medium);
            assert_eq!(blobs(&medium), expected, "killed at call {number} of {calls}");
            run(0, ["verify", "--deep", text(&medium)]);
            assert!(fs::read_dir(medium.join(".pannier/ingest")).unwrap().next().is_none());
            fs::remove_dir_all(&medium).unwrap();
            number += 1 + number / 4;
        }
    }
    assert!(kills >= 20, "only {kills} moments were tried");
}

#[test]
fn killed_while_it_adds_to_a_medium_what_was_committed_stays_whole() {
    if !strace::available() {
        return;
    }
    let sweep = Sweep::new();
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 99, 100_000)));
    more.write_dir(&sweep.path("more"));
    let from = oci(&sweep.path("more"));
    for calls in ["renameat", "fsync,fdatasync,syncfs"] {
        for number in 1.. {
            let medium = sweep.path("m");
            run(0, sweep.arguments(&medium));
            let arguments =
                ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&medium)];
            let killed = killed(&arguments, calls, number);
            assert_names_only_what_is_there(&medium);
            let listed = run(0, ["list", text(&medium)]).stdout();
            for image in 0..4 {
                assert!(listed.contains(&format!("app{image}:1")), "{calls} {number}: {listed}");
            }
            run(0, arguments);
            run(0, ["verify", "--deep", text(&medium)]);
            fs::remove_dir_all(&medium).unwrap();
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn layers_that_were_finished_before_the_kill_are_not_made_again() {
    if !strace::available() {
        return;
    }
    let sweep = Sweep::new();
    let medium = sweep.path("m");
    let arguments = sweep.arguments(&medium);
    // The last thing before the record is the barrier: every layer is finished by then.
    assert!(killed(&arguments, "syncfs", 1));
    let again = run(0, arguments.iter().copied().chain(["--json"])).json();
    assert_eq!((again["layersWritten"].as_u64(), again["layersReused"].as_u64()), (Some(0), Some(5)));
}

#[test]
fn interrupted_by_a_signal_it_says_what_is_safe() {
    let sweep = Sweep::new();
    // A large layer, so that the signal comes while it is worked on.
    let large = layout().with(image("docker.io/library/large:1").layer(noise("large", 5, 60_000_000)));
    large.write_dir(&sweep.path("large"));
    let (from, medium) = (oci(&sweep.path("large")), sweep.path("m"));
    let arguments = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&medium)];
    let child = pannier(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let ingest = medium.join(".pannier/ingest");
    while fs::read_dir(&ingest).map_or(true, |mut entries| entries.next().is_none()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains("not safe to remove"), "{printed}");
    run(0, arguments);
    run(0, ["verify", text(&medium)]);
}
