//! `pannier repair --from`: exactly what is damaged or missing comes back, from sources of every kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{files, flip, oci, pannier, repair, run, text};
use crate::support::cluster::{Bench as Cluster, app, import, pause, versions};
use crate::support::docker::Form;
use crate::support::layout::{Layout, files as tar, image, index, layout, noise, unnamed};
use crate::support::node::Node;
use crate::support::pushed::{Layout as Pushed, noise as random};
use crate::support::registry::{Server, Setup, have};
use crate::support::strace;
use pannier::medium::Medium;
use pannier::record::{Blob, Role};
use serde_json::Value;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn set() -> Layout {
    let base = noise("data", 1, 300_000);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(tar([("etc/app", "1")])))
        .with(image("docker.io/library/other:1").layer(base).layer(noise("other", 2, 90_000)).docker())
}

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A medium with the layout's images, exported with `more`.
    fn medium(&self, name: &str, layout: &Layout, more: &[&str]) -> PathBuf {
        let from = self.path(&format!("{name}.layout"));
        layout.write_dir(&from);
        let (from, to) = (oci(&from), self.path(name));
        let arguments = ["export", "--from", &from, "--all", "--to", text(&to)];
        let platform: &[&str] =
            if more.contains(&"--platform") { &[] } else { &["--platform", "linux/amd64"] };
        run(0, arguments.iter().copied().chain(platform.iter().copied()).chain(more.iter().copied()));
        to
    }

    /// The layout that the medium `name` was exported from, as `--from` wants it.
    fn layout_of(&self, name: &str) -> String {
        oci(&self.path(&format!("{name}.layout")))
    }
}

fn verify(medium: &Path) -> i32 {
    let output = pannier(["verify", "--deep", "--quiet", text(medium)]).output().unwrap();
    output.status.code().unwrap()
}

fn subjects(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap().to_owned()).collect()
}

fn ingest(medium: &Path) -> Files {
    files(&medium.join(".pannier/ingest"))
}

/// Does each of `damages` to each of the medium's files but the commit record, and has it repaired.
fn each_file_comes_back(medium: &Path, from: &[&str]) {
    let whole = files(medium);
    for path in whole.keys().filter(|path| !path.starts_with(".pannier")) {
        let at = medium.join(path);
        let damages: [&dyn Fn(); 4] = [
            &|| flip(&at),
            &|| fs::remove_file(&at).unwrap(),
            &|| fs::write(&at, &whole[path][..whole[path].len() / 2]).unwrap(),
            &|| fs::write(&at, vec![0; whole[path].len() + 5000]).unwrap(),
        ];
        for damage in damages {
            damage();
            let summary = repair(0, medium, from);
            let name = path.file_name().unwrap().to_str().unwrap();
            let repaired = subjects(&summary["repaired"]);
            // A bit in the middle of oci-layout or of a name in index.json may leave it as good as it was.
            if fs::read(&at).unwrap() != whole[path] {
                assert!(name == "oci-layout" || name == "index.json", "{name}");
                fs::write(&at, &whole[path]).unwrap();
            } else {
                assert!(repaired.iter().any(|subject| subject.contains(name)), "{name}: {repaired:?}");
                assert_eq!(repaired.len(), 1, "exactly that: {repaired:?}");
            }
            let _ = fs::remove_file(medium.join(".pannier/damaged-index.json"));
        }
    }
    assert!(files(medium) == whole);
    assert_eq!(verify(medium), 0);
}

#[test]
fn every_file_comes_back_from_the_layout_it_was_exported_from() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    each_file_comes_back(&medium, &["--from", &bench.layout_of("m")]);
}

#[test]
fn every_file_comes_back_from_another_medium() {
    let bench = Bench::new();
    let (medium, other) = (bench.medium("m", &set(), &[]), bench.medium("other", &set(), &[]));
    each_file_comes_back(&medium, &["--from", &format!("medium:{}", other.display())]);
}

#[test]
fn an_index_of_platforms_comes_back_as_well() {
    let bench = Bench::new();
    let platforms = index("docker.io/library/app:1")
        .with(unnamed().layer(noise("amd64", 1, 20_000)))
        .with(unnamed().platform("linux/arm64").layer(noise("arm64", 2, 20_000)));
    let medium = bench.medium("m", &layout().with(platforms), &["--platform", "all"]);
    each_file_comes_back(&medium, &["--from", &bench.layout_of("m")]);
}

#[test]
fn a_layer_that_was_recompressed_with_other_settings_is_made_again_with_them() {
    let bench = Bench::new();
    for settings in ["zstd:3", "zstd:5,window=20", "none"] {
        let medium = bench.medium(settings, &set(), &["--compression", settings]);
        each_file_comes_back(&medium, &["--from", &bench.layout_of(settings)]);
    }
}

#[test]
fn layers_come_back_from_a_docker_archive_by_their_content() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    let whole = files(&medium);
    for form in [Form::Docker, Form::Podman, Form::DockerAndOci, Form::Compressed] {
        let archive = bench.path("archive.tar");
        fs::write(&archive, set().docker_archive(form)).unwrap();
        let record = Medium::open(&medium).unwrap().record().unwrap().clone();
        // A layer that was kept as gzip is not among them: no archive has those bytes.
        let made = |blob: &&Blob| match blob.role {
            Role::Layer => {
                record.layers.iter().all(|layer| layer.originals.iter().all(|o| o.digest != blob.digest))
            }
            role => role == Role::Config,
        };
        for blob in record.blobs.iter().filter(made) {
            fs::remove_file(medium.join("blobs/sha256").join(blob.digest.hex())).unwrap();
        }
        repair(0, &medium, &["--from", &format!("docker-archive:{}", archive.display())]);
        assert!(files(&medium) == whole, "{form:?}");
    }
}

#[test]
fn every_file_comes_back_from_a_registry_also_under_another_name() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let bench = Bench::new();
    let server = Server::start(Setup::default());
    let pushed = Pushed::new(
        &["linux/amd64", "linux/arm64"],
        &[("noise", random(1, 50_000)), ("zeros", vec![0; 100_000])],
    );
    let (name, medium) = (server.name(), bench.path("m"));
    pushed.push(&format!("{name}/team/app:1"), &[]);
    let image = format!("{name}/team/app:1");
    let rename = format!("{name}=registry.local");
    let registry = ["--insecure", &name, "--retries", "1", "--rename", &rename];
    let arguments = ["export", &image, "--to", text(&medium), "--platform", "all"];
    run(0, arguments.into_iter().chain(registry));
    let from: Vec<&str> = ["--from", "registry"].into_iter().chain(registry).collect();
    each_file_comes_back(&medium, &from);
    // What the registry does not have is not taken for something else, and one that is gone is told.
    let renamed = files(&medium.join("blobs"));
    let largest = renamed.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    flip(&medium.join("blobs").join(largest));
    drop(server);
    let arguments = ["repair", text(&medium), "--from", "registry"];
    run(6, arguments.into_iter().chain(registry));
}

#[test]
fn what_a_containerd_holds_comes_back_from_it() {
    if versions().is_empty() {
        return;
    }
    let bench = Cluster::new();
    let set = layout().with(pause()).with(app("docker.io/library/app:1").layer(noise("data", 1, 400_000)));
    let medium = bench.medium("m", &set);
    let whole = files(&medium);
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        for path in whole.keys().filter(|path| path.starts_with("blobs")) {
            flip(&medium.join(path));
        }
        let socket = node.socket();
        repair(0, &medium, &["--from", "containerd", "--address", text(&socket)]);
        assert!(files(&medium) == whole, "{version}");
    }
}

#[test]
fn what_is_derived_needs_no_source_and_what_is_not_is_listed_with_its_images() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    let whole = files(&medium);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    let blob = |role: Role| {
        let found = record.blobs.iter().find(|blob| blob.role == role).unwrap();
        medium.join("blobs/sha256").join(found.digest.hex())
    };
    flip(&blob(Role::Manifest));
    fs::remove_file(medium.join("index.json")).unwrap();
    fs::remove_file(medium.join("oci-layout")).unwrap();
    assert_eq!(repair(0, &medium, &[])["repaired"].as_array().unwrap().len(), 3);
    assert!(files(&medium) == whole);

    flip(&blob(Role::Manifest));
    flip(&blob(Role::Layer));
    let summary = repair(3, &medium, &[]);
    assert_eq!(summary["lost"].as_array().unwrap().len(), 1);
    assert!(summary["lost"][0]["images"].as_array().unwrap()[0].as_str().unwrap().contains("docker.io"));
    let damaged = files(&medium);
    repair(4, &medium, &[]);
    assert!(files(&medium) == damaged, "nothing could be done, and nothing was");
    // A source that does not have it is no help either, and one that has is.
    let empty =
        bench.medium("empty", &layout().with(image("docker.io/library/x:1").layer(tar([("x", "")]))), &[]);
    repair(4, &medium, &["--from", &format!("medium:{}", empty.display())]);
    assert!(files(&medium) == damaged);
    repair(0, &medium, &["--from", &bench.layout_of("m")]);
    assert!(files(&medium) == whole);
    assert!(ingest(&medium).is_empty());
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    for path in files(&medium.join("blobs")).keys() {
        flip(&medium.join("blobs").join(path));
    }
    fs::remove_file(medium.join("index.json")).unwrap();
    let damaged = files(&medium);
    let from = bench.layout_of("m");
    let ran = run(0, ["repair", text(&medium), "--from", &from, "--dry-run"]);
    for how in ["encode ", "fetch ", "derive "] {
        assert!(ran.stdout().lines().any(|line| line.starts_with(how)), "{}", ran.stdout());
    }
    assert!(ran.stdout().contains("derive   index.json"));
    let plan = run(0, ["repair", text(&medium), "--from", &from, "--dry-run", "--json"]).json();
    assert_eq!(plan["blobs"].as_array().unwrap().len(), damaged.len() - 2);
    assert!(files(&medium) == damaged);
}

#[test]
fn a_source_that_lies_changes_nothing_and_is_named() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    for path in files(&bench.path("m.layout/blobs")).keys() {
        let at = bench.path("m.layout/blobs").join(path);
        // Documents have to be right, else nothing is found at all.
        if fs::metadata(&at).unwrap().len() > 5000 {
            flip(&at);
        }
    }
    let layer = record.blobs.iter().filter(|blob| blob.role == Role::Layer).max_by_key(|b| b.size).unwrap();
    flip(&medium.join("blobs/sha256").join(layer.digest.hex()));
    let damaged = files(&medium);
    let summary = repair(4, &medium, &["--from", &bench.layout_of("m")]);
    assert!(summary["lost"][0]["reason"].as_str().unwrap().contains("damaged"), "{summary}");
    assert!(files(&medium) == damaged);
}

#[test]
fn a_layer_whose_bytes_cannot_be_made_again_is_committed_in_other_bytes() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &["--compression", "zstd:3"]);
    // As if another version had written it: nobody knows the settings any more.
    let mut record = Medium::open(&medium).unwrap().record().unwrap().clone();
    assert!(!record.encoded.is_empty());
    record.encoded.clear();
    fs::write(medium.join(".pannier/commits/0000000001.json"), record.to_bytes().unwrap()).unwrap();
    let layer = record.blobs.iter().filter(|blob| blob.role == Role::Layer).max_by_key(|b| b.size).unwrap();
    fs::remove_file(medium.join("blobs/sha256").join(layer.digest.hex())).unwrap();
    let summary = repair(0, &medium, &["--from", &bench.layout_of("m")]);
    assert_eq!(summary["commit"], 2, "{summary}");
    assert_eq!(verify(&medium), 0);
    let after = Medium::open(&medium).unwrap().record().unwrap().clone();
    assert_eq!(after.images.len(), record.images.len());
    for (old, new) in record.images.iter().zip(&after.images) {
        assert_eq!((&old.names, &old.original), (&new.names, &new.original));
        assert_ne!(old.carried, new.carried);
    }
    // Another tool reads it, and the next export finds everything there.
    let from = bench.layout_of("m");
    let again = ["export", "--from", &from, "--all", "--to", text(&medium), "--json"];
    let again = run(0, again.into_iter().chain(["--platform", "linux/amd64", "--compression", "zstd:3"]));
    assert_eq!(again.json()["changed"], false);
}

#[test]
fn a_damaged_record_that_is_superseded_goes_and_one_that_is_the_newest_is_told() {
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 5000)));
    bench.medium("m", &more, &[]);
    let record = |number: u64| medium.join(format!(".pannier/commits/{number:010}.json"));
    flip(&record(1));
    let summary = repair(0, &medium, &[]);
    assert_eq!(subjects(&summary["repaired"]), [".pannier/commits/0000000001.json"]);
    assert_eq!(verify(&medium), 0);

    let whole = fs::read(record(2)).unwrap();
    flip(&record(2));
    let damaged = files(&medium);
    let summary = repair(4, &medium, &[]);
    assert!(summary["lost"][0]["reason"].as_str().unwrap().contains("no other commit record"), "{summary}");
    assert!(files(&medium) == damaged);
    fs::write(record(2), whole).unwrap();

    bench.medium("m", &set(), &["--rename", "docker.io/library=registry.local"]);
    flip(&record(3));
    let listed = fs::read(medium.join("index.json")).unwrap();
    let summary = repair(4, &medium, &[]);
    assert!(summary["lost"][0]["reason"].as_str().unwrap().contains("commit 2 is the newest"), "{summary}");
    assert_eq!(fs::read(medium.join("index.json")).unwrap(), listed, "what it lists may be commit 3's");
}

#[test]
fn killed_at_any_call_the_medium_is_never_worse_and_the_same_command_goes_on() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &set(), &[]);
    let whole = files(&medium);
    let from = bench.layout_of("m");
    let blobs: Vec<PathBuf> = whole.keys().filter(|path| path.starts_with("blobs")).cloned().collect();
    let damaged: Vec<&PathBuf> = blobs.iter().step_by(3).collect();
    let mut kills = 0;
    for calls in ["write", "renameat", "fsync,fdatasync,syncfs", "unlinkat"] {
        for number in 1..200 {
            for path in &damaged {
                flip(&medium.join(path));
            }
            let killed = strace::killed(&["repair", text(&medium), "--from", &from], calls, number);
            // What was whole is whole, and of what was damaged everything that was there still is.
            let now = files(&medium);
            for path in &blobs {
                let name = path.file_name().unwrap().to_str().unwrap();
                let aside = PathBuf::from(format!(".pannier/ingest/{name}.old"));
                let there = now.get(path).or_else(|| now.get(&aside));
                assert!(there.is_some(), "{calls} {number}: {name}");
                assert!(damaged.contains(&path) || now[path] == whole[path], "{calls} {number}: {name}");
            }
            repair(0, &medium, &["--from", &from]);
            assert!(files(&medium) == whole, "{calls} {number}");
            if !killed {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 20, "{kills}");
}
