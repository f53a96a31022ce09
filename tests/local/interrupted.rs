//! An export that is killed at any moment: nothing that is named is missing, and the same command
//! goes on to the same result.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::carry::{assert_names_only_what_is_there, blobs, flip, oci, pannier, run, text};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::strace::{self, killed};
use rustix::process::{Pid, Signal, kill_process};

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
        // Every call where all are to be tried; else, of the many writes, every one at first and then
        // ever fewer, since the later ones resemble each other.
        let thinly = calls == "write" && std::env::var("PANNIER_FAULTS").as_deref() != Ok("all");
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
            number += if thinly { 1 + number / 4 } else { 1 };
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

/// An export of one large layer, so that a signal comes while it is worked on.
struct Large {
    sweep: Sweep,
    from: String,
}

impl Large {
    fn new() -> Self {
        let sweep = Sweep::new();
        let large = layout().with(image("docker.io/library/large:1").layer(noise("large", 5, 60_000_000)));
        large.write_dir(&sweep.path("large"));
        let from = oci(&sweep.path("large"));
        Self { sweep, from }
    }

    fn arguments<'a>(&'a self, medium: &'a Path) -> Vec<&'a str> {
        let fixed = ["export", "--json", "--from", &self.from, "--all", "--platform", "linux/amd64", "--to"];
        fixed.into_iter().chain([text(medium)]).collect()
    }

    /// Sends signals to an export when it begins a phase; `None` when it was faster.
    fn interrupt(&self, medium: &Path, phase: &str, signals: &[Signal]) -> Option<String> {
        let mut child =
            pannier(self.arguments(medium)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let begins = format!("\"phase\":\"{phase}\"");
        assert!(events.by_ref().any(|line| line.contains(&begins)), "{phase} begins");
        let pid = Pid::from_child(&child);
        for signal in signals {
            kill_process(pid, *signal).unwrap();
        }
        // Nobody reads what it says on standard output from here on.
        drop(events);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => None,
            status => {
                assert_eq!(status, Some(130), "{phase}, {signals:?}: {said}");
                Some(said)
            }
        }
    }
}

/// As often as the end may be faster than the signal.
const TRIES: usize = 20;

// fault-matrix: rows 10
#[test]
fn interrupted_by_a_signal_in_any_phase_it_says_what_is_safe_and_goes_on() {
    let large = Large::new();
    let medium = large.sweep.path("m");
    for (phase, signal) in [("carrying", Signal::INT), ("carrying", Signal::HUP), ("verifying", Signal::TERM)]
    {
        let said = (0..TRIES).find_map(|_| {
            let _ = fs::remove_dir_all(&medium);
            large.interrupt(&medium, phase, &[signal])
        });
        let said = said.unwrap_or_else(|| panic!("{phase}: never caught"));
        assert!(said.contains("NOT safe to remove"), "{phase}: {said}");
        assert_names_only_what_is_there(&medium);
        run(0, large.arguments(&medium));
        run(0, ["verify", text(&medium)]);
        assert!(fs::read_dir(medium.join(".pannier/ingest")).unwrap().next().is_none());
    }
}

// fault-matrix: rows 11
#[test]
fn a_second_signal_ends_it_at_once() {
    let large = Large::new();
    let medium = large.sweep.path("m");
    let said = (0..TRIES).find_map(|_| {
        let _ = fs::remove_dir_all(&medium);
        // Had it come to a safe point, it would have said so.
        let said = large.interrupt(&medium, "carrying", &[Signal::TERM, Signal::INT]);
        said.filter(|said| !said.contains("interrupted"))
    });
    assert!(said.is_some(), "never caught");
    assert_names_only_what_is_there(&medium);
    run(0, large.arguments(&medium));
    run(0, ["verify", text(&medium)]);
}

// fault-matrix: rows 10
#[test]
fn a_signal_is_heard_while_a_registry_does_not_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/app:1", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let medium = directory.path().join("m");
    let arguments = ["export", &name, "--platform", "linux/amd64", "--to", text(&medium)];
    let child = pannier(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let held = listener.accept().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // Waiting for the server to give up would have been status 6.
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted") && !said.contains("safe to remove"), "{said}");
    drop(held);
}

// fault-matrix: rows 12
#[test]
fn with_standard_output_closed_nothing_is_lost_and_only_failed_work_fails() {
    let sweep = Sweep::new();
    let medium = sweep.path("m");
    let closed = |arguments: Vec<&str>| {
        let mut child = pannier(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    };
    assert_eq!(closed(sweep.arguments(&medium).into_iter().chain(["--json"]).collect()), Some(0));
    assert_eq!(blobs(&medium), blobs(&sweep.undisturbed()));
    assert_eq!(closed(vec!["verify", "--json", text(&medium)]), Some(0));
    assert_eq!(closed(vec!["list", text(&medium)]), Some(0));
    let blob = fs::read_dir(medium.join("blobs/sha256")).unwrap().next().unwrap().unwrap().path();
    flip(&blob);
    assert_eq!(closed(vec!["verify", "--json", text(&medium)]), Some(4));
}
