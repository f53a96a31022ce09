//! Every fixture is what the program makes, and an export of it comes to what is said of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{assert_names_only_what_is_there, files, pannier, run, text};
use crate::support::cluster::{import, versions};
use crate::support::fixtures::{Verdict, all, readme};
use crate::support::layout::write_files;
use crate::support::node::Node;
use crate::support::seen::{self, Seen};
use pannier::image::Digest;
use pannier::medium::Medium;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[test]
fn the_fixtures_are_what_the_program_makes() {
    for fixture in all().into_iter().filter(|fixture| !fixture.files.is_empty()) {
        let made = fixture.files.into_iter().map(|(path, bytes)| (path.into(), bytes)).collect();
        let there = files(&root().join(fixture.name));
        assert!(there == made, "{}: cargo run --example make-fixtures", fixture.name);
    }
    assert_eq!(fs::read_to_string(root().join("README.md")).unwrap(), readme());
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut there: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    for other in ["corpus", "manifests", "medium-v1", "vectors"] {
        assert!(there.remove(other), "{other}");
    }
    assert_eq!(there, all().iter().map(|fixture| fixture.name.to_owned()).collect());
}

#[test]
fn an_export_of_each_comes_to_what_is_said_of_it() {
    let room = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for fixture in all() {
        let (kind, file) = fixture.source;
        let medium = room.path().join(fixture.name);
        let source = format!("{kind}:{}", root().join(fixture.name).join(file).display());
        let arguments =
            ["export", "--from", &source, "--all", "--to", text(&medium), "--platform", "linux/amd64"];
        let output = pannier(arguments).output().unwrap();
        let (status, stderr) = (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr));
        let right = match fixture.verdict {
            Verdict::Exports(count) => status == 0 && committed(&medium) == Some(count),
            Verdict::Refused(expected, phrase) => {
                status == expected && stderr.contains(phrase) && committed(&medium).is_none()
            }
        };
        if !right {
            wrong.push(format!("{}: {:?}, but {status}: {stderr}", fixture.name, fixture.verdict));
        }
        assert_names_only_what_is_there(&medium);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many images the commit record of a medium names; `None` where nothing was committed.
fn committed(medium: &Path) -> Option<usize> {
    Medium::find(medium).unwrap()?.record().map(|record| record.images.len())
}

#[test]
fn two_dockers_saved_the_same_images() {
    let image = |name: &str, config: &str, top: &str| Seen {
        name: Some(name.into()),
        config: format!("sha256:{config}").parse().unwrap(),
        diff_ids: ["4f5bae241e6faf20c6afeaec94812c1e0e5322652ae22c7e12e8649afdedf2eb", top]
            .map(|hex| format!("sha256:{hex}").parse().unwrap())
            .to_vec(),
    };
    let expected = [
        image(
            "docker.io/library/app:1",
            "9d35c04c9fc779f787feee4018253c7aa562d286b153c585debb452513ced394",
            "2b52e9de2a10c2682c792cf7520614ef01245f79e540906dfefa31af7044074b",
        ),
        image(
            "quay.io/team/web:2",
            "60410eb660eacd99cfae64c36748b5319c70b184edea652aef349fce4d24ac29",
            "76588848c51e8915c029fb92d4df1de26098db35b568b38feabc19023d16d43e",
        ),
    ];
    for name in ["docker-20.10-save", "docker-26.1-save"] {
        let path = root().join(name).join("images.tar.gz");
        assert_eq!(seen::all(&*seen::open("docker-archive", &path).unwrap()).unwrap(), expected, "{name}");
    }
}

/// A copy of the frozen medium: another version may write to it.
fn medium_v1() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let medium = room.path().join("m");
    let there = files(&root().join("medium-v1")).into_iter();
    write_files(&medium, there.map(|(path, bytes)| (text(&path).to_owned(), bytes)));
    (room, medium)
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

#[test]
fn a_medium_of_the_first_format_is_verified_and_listed() {
    let (_room, medium) = medium_v1();
    let report = run(0, ["verify", "--deep", "--json", text(&medium)]).json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["id"], "index-foreign");
    let listed = run(0, ["list", "--json", text(&medium)]).json();
    let frozen: Value = serde_json::from_slice(&fs::read(root().join("medium-v1.json")).unwrap()).unwrap();
    assert!(says(&listed, &frozen), "{listed:#}");
    assert_names_only_what_is_there(&medium);
}

#[test]
fn a_medium_of_the_first_format_is_extended() {
    let (_room, medium) = medium_v1();
    let from = |fixture: &str| format!("oci:{}", root().join(fixture).display());
    let export = |fixture: &str, platform: &str| {
        let from = from(fixture);
        run(0, ["export", "--json", "--from", &from, "--all", "--platform", platform, "--to", text(&medium)])
            .json()
    };
    // What it has is not written again.
    assert_eq!(export("layout-two-platforms", "all")["bytesWritten"], 0);
    assert_eq!(export("layout-nested-index", "linux/amd64")["changed"], true);
    run(0, ["verify", "--deep", text(&medium)]);
    assert_names_only_what_is_there(&medium);
}

#[test]
fn a_medium_of_the_first_format_is_imported() {
    for version in versions() {
        let (_room, medium) = medium_v1();
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let record = Medium::open(&medium).unwrap().record().unwrap().clone();
        assert_eq!(record.images.len(), 5);
        for image in &record.images {
            let host = image.platforms.iter().find(|p| p.platform.to_string() == "linux/amd64").unwrap();
            for name in &image.names {
                let known = node.client().cri_image(&name.to_string()).unwrap();
                let known = known.unwrap_or_else(|| panic!("{version}: {name} is not there"));
                assert_eq!(known.id, host.config.digest, "{version}: {name}");
            }
        }
        assert_eq!(import(0, &node, &medium, &[]).json()["bytesSent"], 0, "{version}");
    }
}

/// Changes the newest record of a medium, and its checksum with it.
fn rewrite(medium: &Path, from: &str, to: &str) {
    let commits = medium.join(".pannier/commits");
    let newest = fs::read_dir(commits).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let record = fs::read_to_string(&newest).unwrap();
    assert!(record.contains(from), "{record}");
    let record = record.replace(from, to);
    let checksum = record.find("sha256:").unwrap() + "sha256:".len();
    let zeroed = format!("{}{}{}", &record[..checksum], "0".repeat(64), &record[checksum + 64..]);
    let digest = Digest::of(zeroed.as_bytes()).hex();
    fs::write(newest, zeroed.replacen(&"0".repeat(64), &digest, 1)).unwrap();
}

#[test]
fn a_medium_of_a_version_to_come_is_left_alone() {
    for (from, to) in [
        ("pannier-commit-v1", "pannier-commit-v2"),
        ("\"critical\":[]", "\"critical\":[\"unheard-of\"]"),
        ("\"critical\":[]", "\"critical\":[\"deltas\",\"unheard-of\"],\"bases\":{}"),
    ] {
        let (_room, medium) = medium_v1();
        rewrite(&medium, from, to);
        let before = files(&medium);
        let source = format!("oci:{}", root().join("layout-two-images").display());
        let to_it = ["export", "--from", &source, "--all", "--to", text(&medium)];
        let from_it = format!("medium:{}", medium.display());
        let elsewhere = medium.with_extension("other");
        let from_it = ["export", "--from", &from_it, "--all", "--to", text(&elsewhere)];
        let nowhere = medium.with_extension("sock");
        let import = ["import", text(&medium), "--address", text(&nowhere)];
        for arguments in [&["list", text(&medium)][..], &["verify", text(&medium)], &import, &to_it, &from_it]
        {
            // An older record is there and whole, but it is not what the medium holds.
            let ran = run(1, arguments.iter().copied());
            assert!(ran.stderr().contains("newer pannier"), "{arguments:?}: {}", ran.stderr());
        }
        assert!(files(&medium) == before);
    }
    // A field that is not critical is passed over.
    let (_room, medium) = medium_v1();
    rewrite(&medium, "\"critical\":[]", "\"critical\":[],\"remark\":\"hello\"");
    run(0, ["verify", text(&medium)]);
}
