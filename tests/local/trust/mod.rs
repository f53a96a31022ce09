//! What a node takes and what it does not: lanes, signers, what they may bring, age (H5 to H16 of the
//! list of hostile media). `extract` stands in for `import`, which is asked the same, where no node is needed.

mod clock;
mod keys;
mod site;
mod unseen;

use std::fs;
use std::process::Command;

use crate::support::carry::{self, run, text};
use crate::support::cluster;
use crate::support::node::Node;
use crate::support::strace;
use pannier::image::{Digest, Document};
use pannier::record::Timestamp;
use site::Site;

#[test]
fn h05_duplicate_members() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    let whole = fs::read_to_string(site.stick.record()).unwrap();
    for twice in ["\"tool\":\"x\",\"tool\":\"y\",", "\"new\":1,\"new\":2,", "\"new\":[{\"a\":1,\"a\":2}],"] {
        let without = whole.replace("\"tool\":", "\"tolo\":");
        site.forge(|_| without.replacen("\"format\"", &format!("{twice}\"format\""), 1));
        site.refused("twice");
    }
    for (document, media_type) in [
        (r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#, "application/vnd.oci.image.index.v1+json"),
        (r#"{"schemaVersion":2,"layers":[],"layers":[]}"#, "application/vnd.oci.image.manifest.v1+json"),
    ] {
        let refused = Document::parse(media_type, document.as_bytes()).unwrap_err();
        assert!(refused.contains("twice"), "{refused}");
    }
}

#[test]
fn h06_one_key_counts_once() {
    let site = Site::new();
    let stick = &site.stick;
    stick.key("other", &["-t", "ecdsa"]);
    let lines = [stick.line("ana@example.org", "key", ""), stick.line("bob@example.org", "other", "")];
    // The same key under a second name is not a second signer either.
    let again = stick.line("eve@example.org", "key", "");
    fs::write(stick.at("allowed"), lines.concat() + &again).unwrap();
    site.settings("threshold = 2");
    site.export("app:1", "1", &[]);
    fs::copy(stick.signature(), stick.record().with_extension("json.2.sig")).unwrap();
    site.refused("1 signed it who may, 2 have to");
    fs::remove_file(stick.record().with_extension("json.2.sig")).unwrap();
    stick.sign("other");
    assert!(site.take(0, &[]).contains("Signed by bob@example.org"));
}

#[test]
fn h08_an_older_commit_that_is_signed_does_not_come_back() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.copy("medium", "older");
    site.export("app:1", "2", &[]);
    site.take(0, &[]);
    // The same again is nothing new.
    site.take(0, &[]);
    site.copy("medium", "newest");
    site.copy("older", "medium");
    site.refused("a newer commit of medium");
    let said = site.take(0, &["--allow-rollback"]);
    assert!(said.contains("is taken although a newer commit"), "{said}");
    // That was once: what is remembered is still the newest.
    site.refused("a newer commit of medium");
    // Another history from there on, with the same sequence.
    site.export("app:1", "3", &[]);
    site.refused("that is as new as this one");
    site.export("app:1", "4", &[]);
    site.take(0, &[]);
    site.copy("newest", "medium");
    site.refused("a newer commit of medium");
}

#[test]
fn h08_an_older_medium_of_the_lane_does_not_come_back() {
    let site = Site::new();
    site.settings("lane = \"plant-a\"");
    site.export("app:1", "1", &["--lane", "plant-a"]);
    site.copy("medium", "older");
    // Another stick, which knows nothing of the first; its clock is ahead by a little.
    fs::remove_dir_all(site.stick.at("medium")).unwrap();
    site.export("app:1", "2", &["--lane", "plant-a"]);
    let issued = site.record().lane.unwrap().issued;
    site.forge(|text| text.replace(&format!("\"issued\":{issued}"), &format!("\"issued\":{}", issued + 9)));
    site.take(0, &[]);
    site.copy("older", "medium");
    site.refused("a newer commit of lane plant-a was taken before");
}

#[test]
fn h08_only_what_succeeded_is_remembered() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.copy("medium", "older");
    site.export("app:1", "2", &[]);
    // No node is there.
    site.command("import", 6, &[]);
    site.command("verify", 0, &[]);
    site.copy("older", "medium");
    site.take(0, &[]);
}

#[test]
fn h09_a_sequence_that_leaps() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.take(0, &[]);
    let id = site.record().medium;
    let leap = |sequence: &str| {
        let text = fs::read_to_string(site.stick.record()).unwrap();
        let text =
            text.replacen("\"sequence\":1,\"previous\"", &format!("\"sequence\":{sequence},\"previous\""), 1);
        site.forge_as(text, site.stick.record().with_file_name(format!("{sequence}.json")));
    };
    site.copy("medium", "first");
    leap("9999999999");
    site.refused("leaps so far ahead");
    assert!(site.take(4, &["--allow-rollback"]).contains("pannier trust --forget"));
    // Whoever knows that it is right says so.
    let line = format!("medium {id}");
    assert!(site.trust(0, &[]).contains(&format!("{line}: 1")));
    site.trust(0, &["--forget", &line]);
    site.take(0, &[]);
    site.trust(1, &["--forget", "lane of-nobody"]);
    assert!(site.try_export(1, "app:1", "2", &[]).contains("no further commit"));
    // What no file name has room for is no record.
    site.copy("first", "medium");
    let huge = "9223372036854775807";
    site.forge(|text| text.replacen("\"sequence\":1,", &format!("\"sequence\":{huge},"), 1));
    site.refused("its sequence is");
}

#[test]
fn h10_a_commit_whose_time_is_over() {
    let site = Site::new();
    let said = site.try_export(2, "app:1", "1", &["--expires", "2020-01-01"]);
    assert!(said.contains("no node would take the medium"), "{said}");
    let said = site.export("app:1", "1", &["--expires", "2090-01-01"]);
    assert!(said.contains("Commit 1"), "{said}");
    site.forge(|text| text.replace("2090-01-01T", "2020-01-01T"));
    site.refused("it expired at 2020-01-01T00:00:00Z");
    let said = site.take(0, &["--allow-expired"]);
    assert!(said.contains("is taken although it expired"), "{said}");
    // It stays until another is given, and then nothing else need change.
    site.export("app:1", "2", &[]);
    site.refused("it expired");
    site.export("app:1", "2", &["--expires", "90d"]);
    site.take(0, &[]);
    site.export("app:1", "2", &["--expires", "none"]);
    assert!(site.record().expires.is_none());
    site.take(0, &[]);
    for absurd in ["99999-01-01T00:00:00Z", "", "9999999999999999999", "2027-13-01T00:00:00Z"] {
        site.forge(|text| text.replacen("\"format\"", &format!("\"expires\":{absurd:?},\"format\""), 1));
        site.refused("not a commit record");
        site.forge(|text| text.replacen(&format!("\"expires\":{absurd:?},"), "", 1));
    }
    site.take(0, &[]);
}

#[test]
fn h10_a_clock_that_was_set_back() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    let created = site.record().created;
    site.forge(|text| text.replace(&created, "2031-01-01T00:00:00Z"));
    site.take(0, &[]);
    // A medium of that time was taken: 2030 is over, whatever the clock says.
    fs::remove_dir_all(site.stick.at("medium")).unwrap();
    site.export("app:1", "2", &["--expires", "2030-01-01"]);
    site.refused("it expired at 2030-01-01T00:00:00Z");
    site.export("app:1", "2", &["--expires", "2032-01-01"]);
    site.take(0, &[]);
}

// fault-matrix: rows 31
#[test]
fn what_a_node_remembers_is_never_half_written() {
    if !strace::available() {
        return;
    }
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.take(0, &[]);
    site.export("app:1", "2", &[]);
    let (medium, config, out) = (site.stick.at("medium"), site.stick.at("config.toml"), site.stick.at("out"));
    let staged = site.stick.at("state/seen.json.new");
    let remembered = || fs::read(site.stick.at("state/seen.json")).unwrap();
    let before = remembered();
    for (inject, status) in [
        ("write:error=ENOSPC", Some(5)),
        ("fsync:error=ENOSPC", Some(5)),
        ("write:signal=KILL", None),
        ("fsync:signal=KILL", None),
    ] {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-P",
            text(&staged),
            "-e",
            &format!("inject={inject}"),
        ]);
        command.arg(env!("CARGO_BIN_EXE_pannier")).args([
            "extract",
            text(&medium),
            "--config",
            text(&config),
        ]);
        let output = command.args(["--all", "--force", "-o", text(&out)]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if let Some(status) = status {
            assert_eq!(output.status.code(), Some(status), "{inject}: {said}");
            assert!(said.contains("seen.json.new") && said.contains("Free some space"), "{inject}: {said}");
        }
        assert!(!output.status.success(), "{inject}: {said}");
        assert!(remembered() == before, "{inject}");
    }
    site.take(0, &["--force"]);
    assert!(remembered() != before);
}

#[test]
fn h11_blobs_of_another_commit() {
    let site = Site::new();
    let file = site.stick.at("tool");
    fs::write(&file, "old bytes").unwrap();
    site.export("app:1", "1", &["--file", text(&file)]);
    let old = carry::blobs(&site.stick.at("medium"));
    fs::write(&file, "new bytes").unwrap();
    site.export("app:1", "1", &["--file", text(&file)]);
    site.take(0, &["--force"]);
    // Every blob of the old commit under the name of one of the new that is as long.
    let new = carry::blobs(&site.stick.at("medium"));
    for (name, _) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let length = new[name].len();
        if let Some(other) = old.values().find(|bytes| bytes.len() == length) {
            fs::write(site.stick.at("medium/blobs/sha256").join(name), other).unwrap();
        }
    }
    assert_ne!(carry::blobs(&site.stick.at("medium")), new);
    let _ = fs::remove_dir_all(site.stick.at("out"));
    assert!(site.take(4, &["--force"]).contains("is damaged"));
    site.command("verify", 4, &[]);
}

#[test]
fn h12_a_medium_for_another_lane() {
    let site = Site::new();
    site.export("app:1", "1", &["--lane", "plant-b"]);
    // A node in no lane takes none, though anybody may look.
    for command in ["extract", "import"] {
        assert!(
            site.command(command, 4, &[]).contains("it is for the lane plant-b, this machine is in none")
        );
    }
    site.command("verify", 0, &[]);
    site.take(0, &["--lane", "plant-b"]);
    site.settings("lane = \"plant-a\"");
    site.refused("it is for the lane plant-b, this machine is in plant-a");
    // Without signatures as well: it is the wrong stick.
    assert!(site.take(4, &["--allow-unsigned"]).contains("lane"));
    // An export without --lane leaves it where it was; with it nothing else need change.
    site.export("app:1", "2", &[]);
    site.refused("it is for the lane plant-b");
    site.export("app:1", "2", &["--lane", "plant-a"]);
    site.take(0, &[]);
    site.export("app:1", "2", &["--lane", "none"]);
    site.refused("it is for no lane, this machine is in plant-a");
    // No version that knows no lanes may take it.
    site.export("app:1", "2", &["--lane", "plant-a", "--expires", "90d"]);
    let record = fs::read_to_string(site.stick.record()).unwrap();
    assert!(record.contains("\"critical\":[\"lane\",\"expires\"]"), "{record}");
}

#[test]
fn h13_signers_bring_only_what_they_may() {
    let site = Site::new();
    let stick = &site.stick;
    stick.key("ops", &["-t", "ed25519"]);
    let lines = [stick.line("dev@team-a", "key", ""), stick.line("ops@example.org", "ops", "")];
    fs::write(stick.at("allowed"), lines.concat()).unwrap();
    let rule = |signers: &str, images: &str| {
        format!("[[trust.policy]]\nsigners = [{signers:?}]\nimages = [{images:?}]\n")
    };
    let rules = rule("*@team-a", "registry.local/team-a/*") + &rule("ops@*", "*");
    site.settings(&rules);
    site.export("registry.local/team-a/app:1", "1", &[]);
    site.take(0, &[]);
    site.export("registry.k8s.io/pause:3.10", "2", &[]);
    site.refused("nobody who signed it may bring registry.k8s.io/pause:3.10");
    stick.sign("ops");
    site.take(0, &[]);
    // With a threshold so many of the signers have to be allowed to.
    site.settings(&format!("threshold = 2\n{rules}"));
    site.refused("1 of those who signed it may bring registry.k8s.io/pause:3.10, 2 have to");
    // Files are brought by rules of their own.
    site.settings(&rules);
    let file = stick.at("tool");
    fs::write(&file, "tool").unwrap();
    site.export("registry.local/team-a/app:1", "1", &["--file", text(&file)]);
    stick.sign("ops");
    site.refused("nobody who signed it may bring tool");
    site.settings(&format!("{rules}files = [\"*\"]\n"));
    site.take(0, &[]);
}

#[test]
fn h16_what_a_newer_version_wrote() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    let whole = fs::read_to_string(site.stick.record()).unwrap();
    for (from, to) in [
        ("\"format\":\"pannier-commit-v1\"", "\"format\":\"pannier-commit-v2\""),
        ("\"critical\":[]", "\"critical\":[\"unheard-of\"]"),
    ] {
        site.forge(|_| whole.replace(from, to));
        for command in ["extract", "import", "verify"] {
            assert!(site.command(command, 1, &[]).contains("written by a newer pannier"), "{command}");
        }
    }
    // What is not critical may be unknown.
    site.forge(|_| whole.replace("\"critical\":[]", "\"critical\":[],\"unheardOf\":{\"x\":[1]}"));
    site.take(0, &[]);
}

#[test]
fn what_a_prune_commits_is_signed_again() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.export("tool:1", "2", &[]);
    let (medium, key) = (site.stick.at("medium"), site.stick.at("key"));
    let prune = |flags: &[&str]| {
        let arguments = ["prune", text(&medium)].into_iter().chain(flags.iter().copied());
        run(0, arguments).stderr()
    };
    assert!(prune(&["--image", "tool:1"]).contains("the newest one is not"));
    site.refused("it is not signed");
    assert!(prune(&["--accept-unsigned", "--sign-key", text(&key)]).contains("is signed with SHA256:"));
    site.take(0, &[]);
    site.export("tool:1", "2", &[]);
    prune(&["--image", "tool:1", "--sign-key", text(&key)]);
    site.take(0, &[]);
    let repaired = run(0, ["repair", text(&medium), "--sign-key", text(&key)]).stderr();
    assert!(repaired.contains("already signed"), "{repaired}");
}

#[test]
fn an_import_is_remembered_by_the_node() {
    if !cluster::available("2.1") {
        return;
    }
    let site = Site::new();
    let node = Node::start("2.1");
    let (medium, config) = (site.stick.at("medium"), site.stick.at("config.toml"));
    let import = |status: i32| cluster::import(status, &node, &medium, &["--config", text(&config)]).stderr();
    site.export("app:1", "1", &[]);
    site.copy("medium", "older");
    site.export("app:1", "2", &[]);
    import(0);
    assert!(site.trust(0, &[]).contains(&format!("medium {}: 2", site.record().medium)));
    site.copy("older", "medium");
    assert!(import(4).contains("a newer commit of medium"));
}

#[test]
fn what_is_remembered_is_listed_and_a_damaged_memory_refuses() {
    let site = Site::new();
    site.settings("lane = \"plant-a\"");
    site.export("app:1", "1", &["--lane", "plant-a"]);
    site.take(0, &[]);
    let listed = site.trust(0, &["--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let seen = &listed["seen"]["lane plant-a"];
    assert_eq!(seen["record"], Digest::of(&fs::read(site.stick.record()).unwrap()).to_string());
    assert_eq!(listed["required"], true);
    let created: Timestamp = seen["created"].as_str().unwrap().parse().unwrap();
    assert_eq!(created.to_string(), site.record().created);
    fs::write(site.stick.at("state/seen.json"), "{").unwrap();
    site.take(1, &[]);
    site.trust(1, &[]);
}
