//! A signed stick comes back from foreign hands with a newer, unsigned commit: no command signs that.

use std::fs;

use crate::support::carry::{oci, pannier, run, text};
use crate::support::image::{files, image};
use crate::support::layout::layout;
use crate::support::stick::Stick;

const EVIL: &str = "docker.io/library/evil:1";

/// A stick that its owner signed, and a foreigner wrote to after that.
fn returned() -> Stick {
    let stick = Stick::new();
    fs::remove_dir_all(stick.at("medium")).unwrap();
    for (source, name) in
        [("own", "docker.io/library/app:1"), ("foreign", EVIL), ("more", "docker.io/library/more:1")]
    {
        layout().with(image(name).layer(files([("file", source)]))).write_dir(&stick.at(source));
    }
    run(0, export(&stick, "own", &["--sign-key", text(&stick.at("key"))]).iter().map(String::as_str));
    run(0, export(&stick, "foreign", &[]).iter().map(String::as_str));
    stick
}

fn export(stick: &Stick, source: &str, more: &[&str]) -> Vec<String> {
    let (medium, source) = (stick.at("medium"), oci(&stick.at(source)));
    let arguments =
        ["export", "--from", &source, "--all", "--to", text(&medium), "--platform", "linux/amd64"];
    arguments.iter().chain(more).map(|text| (*text).to_owned()).collect()
}

/// The commands that sign, as a site uses them.
fn commands(stick: &Stick) -> Vec<Vec<String>> {
    let (medium, key) = (stick.at("medium"), stick.at("key"));
    let (medium, key) = (text(&medium), text(&key));
    let own = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    vec![
        export(stick, "more", &["--sign-key", key]),
        // All of it is there, so that nothing is written.
        export(stick, "own", &["--sign-key", key]),
        export(stick, "foreign", &["--sign-key", key]),
        export(stick, "more", &["--sign-key", key, "--dry-run"]),
        own(&["prune", medium, "--sign-key", key]),
        own(&["prune", medium, "--image", "docker.io/library/app:1", "--sign-key", key]),
        own(&["repair", medium, "--sign-key", key]),
        own(&["sign", medium, "--key", key]),
    ]
}

fn images(stick: &Stick) -> Vec<String> {
    let listed = run(0, ["list", "--json", text(&stick.at("medium"))]).json();
    let images = listed["images"].as_array().unwrap().iter();
    images.map(|image| image["names"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_command_signs_what_a_foreigner_committed() {
    let stick = returned();
    let before = crate::support::carry::files(&stick.at("medium"));
    for arguments in commands(&stick) {
        let said = run(4, arguments.iter().map(String::as_str)).stderr();
        assert!(said.contains(&format!("+ image {EVIL}")), "{arguments:?}: {said}");
        assert!(!said.contains("+ image docker.io/library/app:1"), "{arguments:?}: {said}");
        assert!(crate::support::carry::files(&stick.at("medium")) == before, "{arguments:?}");
        stick.refused("it is not signed");
    }
}

#[test]
fn the_same_where_all_that_was_signed_is_gone() {
    let stick = returned();
    for name in ["0000000001.json", "0000000001.json.sig"] {
        fs::remove_file(stick.at("medium/.pannier/commits").join(name)).unwrap();
    }
    for arguments in commands(&stick) {
        let said = run(4, arguments.iter().map(String::as_str)).stderr();
        assert!(said.contains(&format!("+ image {EVIL}")), "{arguments:?}: {said}");
        stick.refused("it is not signed");
    }
}

#[test]
fn from_the_newest_trusted_commit_what_came_after_is_dropped() {
    let stick = returned();
    let key = stick.at("key");
    let more = ["--sign-key", text(&key), "--start-from-trusted"];
    let said = run(0, export(&stick, "more", &more).iter().map(String::as_str)).stderr();
    assert!(said.contains("commit 2 is dropped") && said.contains(EVIL), "{said}");
    assert_eq!(images(&stick), ["docker.io/library/app:1", "docker.io/library/more:1"]);
    // The name of what was dropped is not used again.
    assert!(stick.record().ends_with("0000000003.json"));
    assert!(!stick.at("medium/.pannier/commits/0000000002.json").exists());
    stick.verify(0);
}

#[test]
fn what_a_person_accepts_is_listed_and_signed() {
    let stick = returned();
    let key = stick.at("key");
    let more = ["--sign-key", text(&key), "--accept-unsigned"];
    let said = run(0, export(&stick, "more", &more).iter().map(String::as_str)).stderr();
    assert!(said.contains(&format!("+ image {EVIL}")), "{said}");
    stick.verify(0);
}

#[test]
fn an_untouched_stick_is_asked_nothing_new() {
    let stick = Stick::new();
    fs::remove_dir_all(stick.at("medium")).unwrap();
    for (source, name) in [("own", "docker.io/library/app:1"), ("more", "docker.io/library/more:1")] {
        layout().with(image(name).layer(files([("file", source)]))).write_dir(&stick.at(source));
    }
    let (medium, key) = (stick.at("medium"), stick.at("key"));
    for source in ["own", "own", "more", "own"] {
        run(0, export(&stick, source, &["--sign-key", text(&key)]).iter().map(String::as_str));
        stick.verify(0);
    }
    run(0, ["prune", text(&medium), "--image", "docker.io/library/more:1", "--sign-key", text(&key)]);
    stick.verify(0);
    run(0, ["repair", text(&medium), "--sign-key", text(&key)]);
    run(0, ["sign", text(&medium), "--key", text(&key)]);
    stick.verify(0);
    // Somebody else's signature counts where they are among the allowed signers.
    stick.key("other", &["-t", "ed25519"]);
    let more = ["--sign-key", text(&stick.at("other"))].map(str::to_owned);
    let arguments: Vec<String> = export(&stick, "more", &[]).into_iter().chain(more).collect();
    run(4, arguments.iter().map(String::as_str));
    let allowed = stick.at("allowed");
    let arguments: Vec<String> =
        arguments.into_iter().chain(["--allowed-signers".into(), text(&allowed).into()]).collect();
    run(0, arguments.iter().map(String::as_str));
}

#[test]
fn where_signatures_are_required_every_command_asks_for_them() {
    let stick = returned();
    let config = stick.at("config.toml");
    fs::write(&config, format!("[trust]\nallowed-signers = {:?}\n", stick.at("allowed"))).unwrap();
    let medium = stick.at("medium");
    let mut all: Vec<Vec<String>> = vec![
        export(&stick, "more", &[]),
        vec!["prune".into(), text(&medium).into()],
        vec!["repair".into(), text(&medium).into()],
        vec!["list".into(), text(&medium).into()],
    ];
    let from = format!("medium:{}", medium.display());
    all.push(
        ["export", "--all", "--from", &from, "--to", text(&stick.at("new"))].map(str::to_owned).to_vec(),
    );
    for arguments in all {
        let output =
            pannier(arguments.iter().map(String::as_str)).env("PANNIER_CONFIG", &config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {said}");
    }
    assert!(!stick.at("new").exists());
}
