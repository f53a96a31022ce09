//! Every fixture is what the program makes, and an export of it comes to what is said of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pannier::medium::Medium;
use support::carry::{assert_names_only_what_is_there, files, pannier, text};
use support::fixtures::{Verdict, all, readme};
use support::seen::{self, Seen};

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
    let others = ["corpus", "manifests"];
    let folders = folders.filter(|entry| {
        entry.file_type().unwrap().is_dir() && !others.iter().any(|other| entry.file_name() == *other)
    });
    let there: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
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
            Verdict::Exports(count) => status == 0 && images(&medium) == count,
            Verdict::Refused(expected, phrase) => status == expected && stderr.contains(phrase),
        };
        if !right {
            wrong.push(format!("{}: {:?}, but {status}: {stderr}", fixture.name, fixture.verdict));
        }
        assert_names_only_what_is_there(&medium);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn images(medium: &Path) -> usize {
    Medium::open(medium).unwrap().record().unwrap().images.len()
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
