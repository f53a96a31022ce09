//! Files beside images: carried, listed, read by other tools, damaged, repaired, and got back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::carry::{blobs, files, flip, oci, pannier, repair, run, text};
use crate::support::layout::{files as tar, image, layout};
use crate::support::registry::{have, run as tool};
use pannier::image::Digest;
use pannier::medium::Medium;

/// A directory with a layout of one image, and some files.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        layout()
            .with(image("docker.io/library/app:1").layer(tar([("etc/app", "1")])))
            .write_dir(&desk.path("layout"));
        fs::write(desk.path("k8s.snap"), snap()).unwrap();
        fs::write(desk.path("k8s.assert"), "an assertion").unwrap();
        fs::write(desk.path("helm"), "#!/bin/sh\necho helm\n").unwrap();
        fs::set_permissions(desk.path("helm"), fs::Permissions::from_mode(0o755)).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exports these files, given as to `--file` beneath the desk, and nothing else.
    fn export(&self, to: &Path, files: &[&str]) -> crate::support::carry::Ran {
        let paths: Vec<String> = files.iter().map(|file| text(&self.path(file)).to_owned()).collect();
        let named = paths.iter().flat_map(|path| ["--file", path.as_str()]);
        run(0, ["export", "--json", "--to", text(to)].into_iter().chain(named))
    }

    /// A medium with the image and three files.
    fn medium(&self, more: &[&str]) -> PathBuf {
        let (from, to) = (oci(&self.path("layout")), self.path("m"));
        let (snap, assert, helm) = (self.path("k8s.snap"), self.path("k8s.assert"), self.path("helm"));
        let arguments = ["export", "--from", &from, "--all", "--to", text(&to), "--platform", "linux/amd64"];
        let named = [text(&snap), text(&assert), text(&helm)].into_iter().flat_map(|path| ["--file", path]);
        run(0, arguments.into_iter().chain(named).chain(more.iter().copied()));
        to
    }
}

/// Something that no compression makes smaller.
fn snap() -> Vec<u8> {
    (0..40_000u64).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
}

fn blob(medium: &Path, bytes: &[u8]) -> PathBuf {
    medium.join("blobs/sha256").join(Digest::of(bytes).hex())
}

#[test]
fn files_are_carried_with_the_images_and_got_back() {
    let desk = Desk::new();
    let medium = desk.medium(&[]);
    let listed = run(0, ["files", "--json", text(&medium)]).json();
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["helm", "k8s.assert", "k8s.snap"]);
    assert_eq!(listed["files"][0]["executable"], true);
    assert_eq!(listed["files"][2]["digest"], Digest::of(&snap()).to_string());
    let table = run(0, ["list", text(&medium)]);
    assert!(table.stdout().contains("docker.io/library/app:1") && table.stdout().contains("k8s.snap"));
    assert!(!table.stderr().contains("no image"), "{}", table.stderr());
    let report = run(0, ["verify", "--json", "--deep", text(&medium)]).json();
    assert_eq!((&report["files"], report["findings"].as_array().unwrap().len()), (&3.into(), 0), "{report}");

    let out = desk.path("new/out");
    run(0, ["extract", text(&medium), "k8s.snap", "helm", "-o", text(&out)]);
    assert_eq!(fs::read(out.join("k8s.snap")).unwrap(), snap());
    let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("helm"), 0);
    assert_eq!((mode("k8s.snap"), files(&out).len()), (0, 2));

    // Again: what is there is left alone, and what lost its bit gets it back.
    fs::set_permissions(out.join("helm"), fs::Permissions::from_mode(0o644)).unwrap();
    let again = run(0, ["extract", "--json", text(&medium), "--all", "-o", text(&out)]).json();
    let verdicts: Vec<&str> =
        again["files"].as_array().unwrap().iter().map(|file| file["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["unchanged", "written", "unchanged"]);
    assert_ne!(mode("helm"), 0);
    let unknown = run(1, ["extract", text(&medium), "kubectl", "-o", text(&out)]);
    assert!(unknown.stderr().contains("kubectl"), "{}", unknown.stderr());
    run(2, ["extract", text(&medium), "../helm", "-o", text(&out)]);
    run(2, ["extract", text(&medium), "-o", text(&out)]);
}

#[test]
fn extract_takes_no_other_files_place_unless_forced_and_goes_through_no_link() {
    let desk = Desk::new();
    let medium = desk.medium(&[]);
    let out = desk.path("out");
    fs::create_dir(&out).unwrap();
    // Of the same size, so that only its bytes tell.
    let mut other = snap();
    other[7] ^= 1;
    fs::write(out.join("k8s.snap"), &other).unwrap();
    let precious = desk.path("precious");
    fs::write(&precious, "mine").unwrap();
    symlink(&precious, out.join("helm")).unwrap();
    for name in ["k8s.snap", "helm"] {
        let refused = run(1, ["extract", text(&medium), "k8s.assert", name, "-o", text(&out)]);
        assert!(refused.stderr().contains("--force"), "{}", refused.stderr());
        assert!(!out.join("k8s.assert").exists(), "something was written");
    }
    assert_eq!(fs::read(out.join("k8s.snap")).unwrap(), other);
    run(0, ["extract", text(&medium), "--all", "-o", text(&out), "--force"]);
    assert_eq!(fs::read(out.join("k8s.snap")).unwrap(), snap());
    assert!(!out.join("helm").is_symlink());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    fs::remove_file(out.join("helm")).unwrap();
    fs::create_dir(out.join("helm")).unwrap();
    run(5, ["extract", text(&medium), "helm", "-o", text(&out), "--force"]);
    assert!(out.join("helm").is_dir() && files(&out).len() == 2, "{:?}", files(&out).keys());
}

#[test]
fn a_medium_of_files_alone_grows_moves_names_and_stays_when_nothing_changes() {
    let desk = Desk::new();
    let medium = desk.path("m");
    let first = desk.export(&medium, &["k8s.snap", "helm"]).json();
    assert_eq!((&first["filesWritten"], &first["changed"]), (&2.into(), &true.into()));
    let before = files(&medium);
    let again = desk.export(&medium, &["k8s.snap"]).json();
    assert_eq!(again["changed"], false);
    assert_eq!(files(&medium), before);
    // The same bytes under a second name are there once.
    fs::write(desk.path("copy"), snap()).unwrap();
    assert_eq!(desk.export(&medium, &["copy"]).json()["filesWritten"], 0);
    fs::write(desk.path("K8S.snap"), "a newer one").unwrap();
    desk.export(&medium, &["K8S.snap"]);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    let names: Vec<&str> = record.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["K8S.snap", "copy", "helm"]);
    run(0, ["verify", text(&medium)]);
    run(0, ["extract", text(&medium), "k8s.SNAP", "-o", text(&desk.path("out"))]);
    assert_eq!(fs::read_to_string(desk.path("out/K8S.snap")).unwrap(), "a newer one");
    // Nothing of it is an image.
    let all = run(0, ["list", "--json", text(&medium)]).json();
    assert_eq!((all["images"].as_array().unwrap().len(), all["files"].as_array().unwrap().len()), (0, 3));
}

#[test]
fn what_cannot_be_carried_is_refused_before_the_medium_is_touched() {
    let desk = Desk::new();
    let medium = desk.path("m");
    let to = ["export", "--to", text(&medium), "--file"];
    let export = |status, more: &[&str]| run(status, to.into_iter().chain(more.iter().copied())).stderr();
    let directory = export(1, &[text(&desk.path("layout"))]);
    assert!(directory.contains("a directory") && directory.contains("tar"), "{directory}");
    fs::write(desk.path("a name"), "x").unwrap();
    assert!(export(2, &[text(&desk.path("a name"))]).contains("NAME=PATH"));
    let twice = export(
        2,
        &[text(&desk.path("helm")), "--file", &format!("HELM={}", desk.path("k8s.snap").display())],
    );
    assert!(twice.contains("two files"), "{twice}");
    assert!(export(1, &[text(&desk.path("absent"))]).contains("absent"));
    assert!(export(1, &["null=/dev/null"]).contains("not a regular file"));
    assert!(!medium.exists());
    export(0, &[&format!("a-name={}", desk.path("a name").display()), "--dry-run"]);
    assert!(!medium.exists());
    export(0, &[&format!("a-name={}", desk.path("a name").display())]);
    assert_eq!(fs::read_to_string(blob(&medium, b"x")).unwrap(), "x");
}

#[test]
fn what_a_run_that_was_cut_off_left_is_used_as_far_as_it_is_right() {
    let desk = Desk::new();
    let medium = desk.path("m");
    desk.export(&medium, &["helm"]);
    let part = medium.join(".pannier/ingest").join(Digest::of(&snap()).hex());
    for left in [snap()[..100_000].to_vec(), vec![7; 100_000], [snap(), vec![0]].concat()] {
        fs::write(&part, left).unwrap();
        desk.export(&medium, &["k8s.snap"]);
        assert_eq!(fs::read(blob(&medium, &snap())).unwrap(), snap());
        fs::remove_file(blob(&medium, &snap())).unwrap();
    }
    // Whole and not committed: believed for what it is, and not for its name.
    fs::write(desk.path("new"), "new").unwrap();
    for (left, written) in [("new", 0), ("old", 1)] {
        fs::write(blob(&medium, b"new"), left).unwrap();
        let arguments =
            ["export", "--json", "--to", text(&medium), "--dry-run", "--file", text(&desk.path("new"))]
                .map(str::to_owned);
        let plan = run(0, arguments.iter().map(String::as_str)).json();
        assert_eq!(plan["bytesToRead"], 3 * written);
    }
    desk.export(&medium, &["new", "k8s.snap"]);
    run(0, ["verify", text(&medium)]);
}

#[test]
fn damage_is_named_kept_from_the_node_and_repaired() {
    let desk = Desk::new();
    let medium = desk.medium(&[]);
    let good = files(&medium);
    let copy = desk.path("copy");
    run(0, ["export", "--from", &format!("medium:{}", medium.display()), "--all", "--to", text(&copy)]);
    let documents = Medium::open(&medium).unwrap().record().unwrap().files_documents();
    let damage = || {
        flip(&blob(&medium, &snap()));
        documents.iter().for_each(|document| fs::remove_file(blob(&medium, document)).unwrap());
    };
    damage();
    let found = run(4, ["verify", "--json", text(&medium)]).stdout();
    assert!(found.contains("file k8s.snap") && found.contains("blob-missing"), "{found}");
    let out = desk.path("out");
    run(4, ["extract", text(&medium), "k8s.snap", "-o", text(&out)]);
    assert!(files(&out).is_empty(), "{:?}", files(&out).keys());
    let without = repair(3, &medium, &[]);
    assert!(without["lost"][0]["images"][0] == "file k8s.snap", "{without}");
    repair(0, &medium, &["--file", text(&desk.path("k8s.snap"))]);
    assert_eq!(files(&medium), good);
    damage();
    repair(0, &medium, &["--from", &format!("medium:{}", copy.display())]);
    assert_eq!(files(&medium), good);
}

#[test]
fn recovery_data_cover_files() {
    let desk = Desk::new();
    let medium = desk.medium(&["--recovery", "100%"]);
    let good = blobs(&medium);
    fs::remove_file(blob(&medium, &snap())).unwrap();
    repair(0, &medium, &[]);
    assert_eq!(blobs(&medium), good);
}

#[test]
fn another_medium_is_copied_with_its_files() {
    let desk = Desk::new();
    let medium = desk.medium(&[]);
    let (from, copy) = (format!("medium:{}", medium.display()), desk.path("copy"));
    let image = ["export", "--from", &from, "docker.io/library/app:1", "--to", text(&copy)];
    run(0, image.into_iter().chain(["--platform", "linux/amd64"]));
    assert!(Medium::open(&copy).unwrap().record().unwrap().files.is_empty());
    // One that is named stands before the medium's.
    let helm = format!("helm={}", desk.path("k8s.assert").display());
    let all = ["export", "--from", &from, "--all", "--to", text(&copy), "--platform", "linux/amd64"];
    run(0, all.into_iter().chain(["--file", &helm]));
    let record = Medium::open(&copy).unwrap().record().unwrap().clone();
    let digests: Vec<Digest> = record.files.iter().map(|file| file.digest).collect();
    let assert = Digest::of(b"an assertion");
    assert_eq!(digests, [assert, assert, Digest::of(&snap())]);
    run(0, ["verify", text(&copy)]);

    let (alone, from) = (desk.path("alone"), desk.path("alone2"));
    desk.export(&from, &["helm"]);
    run(0, ["export", "--from", &format!("medium:{}", from.display()), "--all", "--to", text(&alone)]);
    assert_eq!(blobs(&alone), blobs(&from));
}

#[test]
fn other_tools_read_the_files_and_the_images_beside_them() {
    if !have(&["oras", "skopeo"]) {
        return;
    }
    let desk = Desk::new();
    let medium = desk.medium(&[]);
    fs::write(desk.path("copy"), snap()).unwrap();
    desk.export(&medium, &["copy"]);
    let out = desk.path("pulled");
    tool("oras", &["pull", "--oci-layout", &format!("{}:files", medium.display()), "-o", text(&out)]);
    let pulled = files(&out);
    let names: Vec<&str> = pulled.keys().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names, ["copy", "helm", "k8s.assert", "k8s.snap"]);
    assert_eq!(pulled[Path::new("k8s.snap")], snap());
    assert_eq!(pulled[Path::new("copy")], snap());
    let app = format!("oci:{}:docker.io/library/app:1", medium.display());
    tool(
        "skopeo",
        &["--insecure-policy", "copy", "-q", &app, &format!("oci:{}:x", desk.path("s").display())],
    );
    // What came by another tool is kept beside them.
    let status = pannier(["verify", text(&medium)]).status().unwrap();
    assert!(status.success());
}

/// The head of a program for x86-64 with these program headers; more than that nobody looks at.
pub(crate) fn program(kinds: &[u32], body: &str) -> Vec<u8> {
    let mut elf = vec![0; 64 + kinds.len() * 56];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    elf[32] = 64;
    elf[54] = 56;
    elf[56] = kinds.len() as u8;
    for (number, kind) in kinds.iter().enumerate() {
        elf[64 + number * 56..][..4].copy_from_slice(&kind.to_le_bytes());
    }
    [&elf, body.as_bytes()].concat()
}

#[test]
fn a_program_and_a_readme_are_put_at_the_root() {
    let desk = Desk::new();
    let medium = desk.path("m");
    let good = program(&[1, 2], "first");
    fs::write(desk.path("built"), &good).unwrap();
    fs::write(desk.path("dynamic"), program(&[3, 1], "")).unwrap();
    let from = oci(&desk.path("layout"));
    let export = |status: i32, with: &str, platform: &str| {
        let with = format!("--with-pannier{}{with}", if with.is_empty() { "" } else { "=" });
        let to =
            ["export", "--json", "--from", &from, "--all", "--to", text(&medium), "--platform", platform];
        run(status, to.into_iter().chain([with.as_str()]))
    };
    let refused = export(1, text(&desk.path("dynamic")), "linux/amd64").stderr();
    assert!(refused.contains("make static"), "{refused}");
    // The program that is tested here is a dynamic one.
    assert!(export(1, "", "linux/amd64").stderr().contains("--with-pannier=PATH"));
    let refused = export(1, text(&desk.path("built")), "linux/arm64").stderr();
    assert!(refused.contains("linux/amd64") && refused.contains("linux/arm64"), "{refused}");
    export(1, text(&desk.path("helm")), "linux/amd64");
    assert!(!medium.exists());

    export(0, text(&desk.path("built")), "linux/amd64");
    let at_root = |name: &str| fs::read(medium.join(name)).unwrap();
    assert_eq!(at_root("pannier"), good);
    assert_ne!(fs::metadata(medium.join("pannier")).unwrap().permissions().mode() & 0o111, 0);
    let readme = String::from_utf8(at_root("README.txt")).unwrap();
    assert!(readme.contains("./pannier import .") && readme.contains("doctor"), "{readme}");
    run(0, ["verify", text(&medium)]);
    let before = files(&medium);
    assert_eq!(export(0, text(&desk.path("built")), "linux/amd64").json()["changed"], false);
    assert_eq!(files(&medium), before);

    // Damage at the root, in the blob, in both: the one is made again from the other.
    for name in ["pannier", "README.txt"] {
        let of_blob = blob(&medium, &before[Path::new(name)]);
        for damaged in [medium.join(name), of_blob.clone()] {
            flip(&damaged);
            let found = run(4, ["verify", text(&medium)]).stdout();
            assert!(found.contains(name), "{name}: {found}");
            repair(0, &medium, &[]);
            assert_eq!(files(&medium), before);
        }
        fs::remove_file(medium.join(name)).unwrap();
        flip(&of_blob);
        let lost = repair(4, &medium, &[]);
        assert_eq!(lost["lost"].as_array().unwrap().len(), 2, "{lost}");
        fs::write(of_blob, &before[Path::new(name)]).unwrap();
    }
    // An export that changes nothing puts back what is missing.
    assert_eq!(export(0, text(&desk.path("built")), "linux/amd64").json()["changed"], false);
    assert_eq!(files(&medium), before);

    // A newer build of the same size takes its place; the old one's bytes stay until they are pruned.
    let newer = program(&[1, 2], "later");
    fs::write(desk.path("built"), &newer).unwrap();
    export(0, text(&desk.path("built")), "linux/amd64");
    assert_eq!(at_root("pannier"), newer);
    run(0, ["verify", text(&medium)]);
    run(0, ["extract", text(&medium), "pannier", "-o", text(&desk.path("out"))]);
    assert_eq!(fs::read(desk.path("out/pannier")).unwrap(), newer);
}

#[test]
fn what_a_person_put_at_the_root_stays() {
    let desk = Desk::new();
    let medium = desk.path("m");
    fs::write(desk.path("built"), program(&[1], "")).unwrap();
    fs::create_dir(&medium).unwrap();
    fs::write(medium.join("README.txt"), "whose stick this is").unwrap();
    let with = format!("--with-pannier={}", desk.path("built").display());
    let arguments = ["export", "--to", text(&medium), "--platform", "linux/amd64", &with];
    let refused = || {
        let refused = run(1, arguments).stderr();
        assert!(refused.contains("README.txt") && refused.contains("move it away"), "{refused}");
    };
    refused();
    assert_eq!(files(&medium).len(), 1);
    desk.export(&medium, &["helm"]);
    refused();
    assert_eq!(fs::read_to_string(medium.join("README.txt")).unwrap(), "whose stick this is");
    fs::remove_file(medium.join("README.txt")).unwrap();
    run(0, arguments);
    run(0, ["verify", text(&medium)]);
}

#[test]
fn a_file_that_goes_in_parts_is_listed_so() {
    let desk = Desk::new();
    let medium = desk.path("m");
    fs::write(desk.path("large"), vec![0; (1 << 20) + 1]).unwrap();
    let large = desk.path("large");
    run(0, ["export", "--to", text(&medium), "--split=1048576", "--file", text(&large)]);
    // A reader that knows no parts would miss it, and a repair has to make the same parts again.
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    assert_eq!(record.parts.iter().map(|parts| parts.size).collect::<Vec<_>>(), [1 << 20]);
    let commit = fs::read_to_string(medium.join(".pannier/commits/0000000001.json")).unwrap();
    assert!(commit.contains(r#""critical":["files","parts"]"#), "{commit}");
    let parts = files(&medium.join(".pannier/parts"));
    assert_eq!(parts.len(), 2);
    flip(&medium.join(".pannier/parts").join(parts.keys().next().unwrap()));
    repair(0, &medium, &["--file", text(&large)]);
    assert!(files(&medium.join(".pannier/parts")) == parts);
}
