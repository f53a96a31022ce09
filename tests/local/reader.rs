//! The second reader, `tests/reader/reader.py`, which was written from docs/format.md: it says of every medium what
//! Pannier says, of whole ones and of damaged ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::files::program;
use crate::support::carry::{files, oci, pannier, run, text};
use crate::support::image::{half_random, image, index, noise, tar_of, unnamed};
use crate::support::layout::{Layout, layout, write_files};
use crate::support::skipped;
use crate::vectors;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has `zstandard`; `None`, and it is said, where there is none.
fn python() -> Option<&'static str> {
    let has = |python: &&str| {
        Command::new(python).args(["-c", "import zstandard"]).output().is_ok_and(|out| out.status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has);
    if found.is_none() {
        skipped("no Python has zstandard; run tests/setup/install.sh peers");
    }
    found
}

/// Runs the reader: its exit status and its answer, if it gave one.
fn read(python: &str, arguments: &[&str]) -> (i32, Value) {
    let reader = root().join("tests/reader/reader.py");
    let output = Command::new(python).arg("-B").arg(reader).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("Traceback"), "{arguments:?}: {stderr}");
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// What Pannier lists, in the words of the reader.
fn listed(medium: &Path) -> Value {
    let document = run(0, ["list", "--json", text(medium)]).json();
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let image = |image: &Value| {
        let referrers = image["referrers"].as_array().into_iter().flatten().map(|r| r["digest"].clone());
        json!({
            "names": image["names"], "platforms": image["platforms"], "size": image["size"],
            "original": image["original"], "carried": image["carried"], "commit": image["commit"],
            "leftOut": or(&image["leftOut"], json!(0)),
            "deltas": image["deltas"].as_array().map_or(0, Vec::len),
            "referrers": referrers.collect::<Vec<_>>(),
        })
    };
    json!({
        "medium": document["medium"], "commit": document["commit"], "created": document["created"],
        "images": document["images"].as_array().unwrap().iter().map(image).collect::<Vec<_>>(),
        "size": document["size"], "files": or(&document["files"], json!([])), "lane": document["lane"],
        "expires": document["expires"], "volume": document["volume"],
    })
}

/// The exit status of `pannier verify --deep`, and what it finds damaged.
fn verified(medium: &Path) -> (i32, BTreeSet<String>) {
    let output = pannier(["verify", "--deep", "--json", text(medium)]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let report = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = { report }.find(|line| line["findings"].is_array()).unwrap_or_default();
    let findings = report["findings"].as_array().into_iter().flatten();
    let severe = findings.filter(|finding| finding["severity"] == "error");
    let subjects = severe.map(|finding| finding["subject"].as_str().unwrap().to_owned());
    (output.status.code().unwrap(), subjects.collect())
}

/// Whether both say the same of a medium.
fn agree(python: &str, medium: &Path, about: &str) {
    let (mut ours, theirs) = (verified(medium), read(python, &["verify", "--deep", text(medium)]));
    // What a reader may leave alone: copies and parity that only a repair reads, and signatures without a key.
    let all = ours.1.len();
    ours.1.retain(|subject| !subject.starts_with(".pannier/recovery/") && !subject.ends_with(".sig"));
    if all > 0 && ours.1.is_empty() {
        ours.0 = 0;
    }
    assert_eq!(ours.0, theirs.0, "{about}: {ours:?}, {}", theirs.1);
    // Without a single whole record there is nothing more to say.
    if let Some(findings) = theirs.1["findings"].as_array() {
        let subjects: BTreeSet<String> = findings.iter().map(|f| f[1].as_str().unwrap().to_owned()).collect();
        assert_eq!(ours.1, subjects, "{about}: {}", theirs.1);
        assert_eq!(listed(medium), read(python, &["list", text(medium)]).1, "{about}");
    }
}

/// The files of the commit records on a medium.
fn records(medium: &Path) -> Vec<PathBuf> {
    let commits = medium.join(".pannier/commits");
    let names = files(&commits).into_keys();
    names
        .filter(|name| name.extension().is_some_and(|e| e == "json"))
        .map(|name| commits.join(name))
        .collect()
}

/// Whether records are as docs/record.schema.json has them, and have no member that it lacks.
fn valid(python: &str, records: &[PathBuf]) {
    let (script, schema) = (root().join("tests/reader/schema.py"), root().join("docs/record.schema.json"));
    let output = Command::new(python).arg("-B").args([script, schema]).args(records).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(!records.is_empty() && output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn records_are_as_the_schema_has_them() {
    let Some(python) = python() else { return };
    if !Command::new(python).args(["-c", "import jsonschema"]).output().unwrap().status.success() {
        return skipped("no Python has jsonschema; run tests/setup/install.sh peers");
    }
    let mut all: Vec<PathBuf> = fixtures().iter().flat_map(|medium| records(medium)).collect();
    let rooms: Vec<_> = (100..110).map(|seed| (seed, tempfile::tempdir().unwrap())).collect();
    for (seed, room) in &rooms {
        all.extend(records(&generate(room.path(), *seed).0));
    }
    valid(python, &all);
}

fn fixtures() -> Vec<PathBuf> {
    let mut media = vectors::all();
    media.push(root().join("fixtures/medium-v1"));
    media
}

#[test]
fn it_says_of_every_vector_what_we_say() {
    let Some(python) = python() else { return };
    for medium in fixtures() {
        agree(python, &medium, text(&medium));
    }
}

#[test]
fn one_flipped_byte_is_damage_to_both_or_to_neither() {
    let Some(python) = python() else { return };
    let room = tempfile::tempdir().unwrap();
    for medium in fixtures() {
        let name = medium.file_name().unwrap().to_str().unwrap();
        if !["everything", "deltas-and-bases", "top-up"].contains(&name) {
            continue;
        }
        let copy = vectors::copy(&medium, &room.path().join(name));
        for (number, (path, bytes)) in files(&copy).into_iter().enumerate() {
            let mut damaged = bytes.clone();
            let place = if number % 2 == 0 { bytes.len() / 2 } else { bytes.len() - 1 - bytes.len() / 3 };
            damaged[place] ^= 1;
            fs::write(copy.join(&path), damaged).unwrap();
            agree(python, &copy, &format!("{name}, byte {place} of {}", path.display()));
            fs::write(copy.join(&path), bytes).unwrap();
        }
        agree(python, &copy, name);
    }
}

#[test]
fn it_extracts_what_deltas_lead_to() {
    let Some(python) = python() else { return };
    let room = tempfile::tempdir().unwrap();
    let of = |name: &str| vectors::all().into_iter().find(|path| path.ends_with(name)).unwrap();
    let (plain, deltas) = (room.path().join("plain"), room.path().join("deltas"));
    let (status, first) = read(python, &["extract", text(&of("plain")), text(&plain)]);
    assert_eq!((status, first["absent"].as_array().unwrap().len()), (0, 0));
    let (status, without) = read(python, &["extract", text(&of("deltas")), text(&deltas)]);
    assert_eq!(status, 0);
    let (status, with) =
        read(python, &["extract", text(&of("deltas")), text(&deltas), "--base", text(&plain)]);
    assert_eq!(status, 0);
    // The deltas are those that only the bases bring; what was left out stays away.
    let absent = |answer: &Value| answer["absent"].as_array().unwrap().len();
    assert!(absent(&with) < absent(&without), "{without}, {with}");
    for (path, bytes) in files(&deltas.join("layers")) {
        assert_eq!(format!("{}.tar", pannier::image::Digest::of(&bytes).hex()), text(&path));
    }
}

/// Numbers that are different for each seed and the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn is_chosen(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// Up to four images of up to four layers, some of which they share, in any encoding.
fn set(numbers: &mut Numbers, edition: u8) -> Layout {
    let mut all = layout();
    for number in 0..=numbers.below(4) {
        let name = format!("registry.local/team/app{number}:1");
        let mut one = if numbers.is_chosen(4) { image(&name).docker() } else { image(&name) };
        for layer in 0..=numbers.below(4) {
            let mut content = half_random(layer, 2_000 + 9_000 * layer as usize);
            content[1_000] ^= edition;
            let tar = match numbers.below(4) {
                0 => noise("data/own", 100 + number, 3_000),
                _ => tar_of([(format!("data/{layer}"), content)]),
            };
            one = one.layer(tar);
            one = match numbers.below(5) {
                0 => one.plain(),
                1 if number % 2 == 1 => one.gzip_members(2),
                2 => one.gzip_level(1),
                _ => one,
            };
        }
        all = all.with(one);
    }
    if numbers.is_chosen(3) {
        let both = index("registry.local/team/both:2").with(unnamed().layer(noise("data/both", 7, 4_000)));
        all = all.with(both.with(unnamed().platform("linux/arm64/v8").layer(noise("data/arm", 8, 4_000))));
    }
    all
}

/// Makes a medium of one to three commits with some of all features; what was made.
fn generate(room: &Path, seed: u64) -> (PathBuf, String) {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let medium = room.join("m");
    let key = room.join("key");
    let keygen = ["-q", "-t", "ed25519", "-N", "", "-f", text(&key)];
    assert!(Command::new("ssh-keygen").args(keygen).status().unwrap().success());
    fs::write(room.join("notes.txt"), format!("notes {seed}")).unwrap();
    fs::write(room.join("zeros"), vec![0; (1 << 20) + 5]).unwrap();
    fs::write(room.join("program"), program(&[1], "a program")).unwrap();
    let with = format!("--with-pannier={}", room.join("program").display());
    let mut done = Vec::new();
    for commit in 0..=numbers.below(3) {
        let source = room.join(format!("layout-{commit}"));
        set(&mut numbers, commit as u8).write_dir(&source);
        let have = room.join("have");
        let mut more: Vec<String> = Vec::new();
        let mut add = |chosen: bool, arguments: &[&str]| {
            if chosen {
                more.extend(arguments.iter().map(|&argument| argument.to_owned()));
            }
        };
        let have_of = format!("medium:{}", have.display());
        add(numbers.is_chosen(3) && have.exists(), &["--have", &have_of]);
        add(numbers.is_chosen(4), &["--file", text(&room.join("notes.txt"))]);
        add(numbers.is_chosen(6), &["--file", text(&room.join("zeros")), "--split=1048576"]);
        add(numbers.is_chosen(6), &[&with]);
        add(numbers.is_chosen(4), &["--lane", "plant-a"]);
        add(numbers.is_chosen(4), &["--expires", "2099-12-31T00:00:00Z"]);
        add(numbers.is_chosen(4), &["--recovery", "20%"]);
        add(numbers.is_chosen(5), &["--compression", "none"]);
        add(numbers.is_chosen(4), &["--sign-key", text(&key), "--accept-unsigned"]);
        let from = oci(&source);
        let own = ["export", "--quiet", "--from", &from, "--all", "--platform", "all", "--to", text(&medium)];
        run(0, own.into_iter().chain(more.iter().map(String::as_str)));
        done.push(more.join(" "));
        if commit == 0 {
            let there: BTreeMap<_, _> = files(&medium);
            write_files(&have, there.into_iter().map(|(path, bytes)| (text(&path).to_owned(), bytes)));
        }
    }
    (medium, format!("seed {seed}: {}", done.join(" / ")))
}

/// Media of these seeds, each whole and with one byte flipped somewhere.
fn agree_on_generated(seeds: std::ops::Range<u64>) {
    let Some(python) = python() else { return };
    for seed in seeds {
        let room = tempfile::tempdir().unwrap();
        let (medium, about) = generate(room.path(), seed);
        agree(python, &medium, &about);
        let mut numbers = Numbers(seed);
        let all: Vec<(PathBuf, Vec<u8>)> =
            files(&medium).into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        let (path, mut bytes) = all[numbers.below(all.len() as u64) as usize].clone();
        let place = numbers.below(bytes.len() as u64) as usize;
        bytes[place] ^= 1 << numbers.below(8);
        fs::write(medium.join(&path), bytes).unwrap();
        // What the derived index says behind its entries, nobody reads.
        if path != Path::new("index.json") {
            agree(python, &medium, &format!("{about}, byte {place} of {}", path.display()));
        }
    }
}

#[test]
fn it_agrees_on_media_that_are_made_up() {
    agree_on_generated(0..12);
}

#[test]
#[ignore = "a quarter of an hour: make test-long"]
fn it_agrees_on_a_thousand_media_that_are_made_up() {
    agree_on_generated(0..1000);
}
