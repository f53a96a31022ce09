//! `export --recovery` and `repair` with no source: what parity on the medium brings back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{files, oci, pannier, repair, run, text};
use crate::support::layout::{Layout, files as tar, image, layout, noise};
use crate::support::strace::{self, killed};
use pannier::medium::Medium;
use serde_json::Value;

type Files = BTreeMap<PathBuf, Vec<u8>>;

const BLOCK: usize = 4096;

/// Three images of about 6 MB on the medium.
fn set() -> Layout {
    let base = noise("base", 1, 6_000_000);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(noise("app", 2, 2_000_000)))
        .with(image("docker.io/library/other:1").layer(base).layer(noise("other", 3, 3_000_000)))
        .with(image("docker.io/library/small:1").layer(tar([("etc/small", "1")])))
}

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn export(&self, to: &str, layout: &Layout, more: &[&str]) -> (PathBuf, Value) {
        let from = self.directory.path().join("layout");
        let _ = fs::remove_dir_all(&from);
        layout.write_dir(&from);
        let (from, to) = (oci(&from), self.directory.path().join(to));
        let arguments =
            ["export", "--json", "--from", &from, "--all", "--to", text(&to), "--platform", "linux/amd64"];
        let said = run(0, arguments.into_iter().chain(more.iter().copied())).json();
        (to, said)
    }

    fn medium(&self, layout: &Layout, more: &[&str]) -> PathBuf {
        self.export("m", layout, more).0
    }
}

/// The exit status of verify, and what it found.
fn verify(medium: &Path) -> (i32, Vec<String>) {
    let output = pannier(["verify", "--json", text(medium)]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let report = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let report = { report }.find(|line| line["findings"].is_array()).unwrap();
    let ids = report["findings"].as_array().unwrap().iter();
    (output.status.code().unwrap(), ids.map(|found| found["id"].as_str().unwrap().to_owned()).collect())
}

/// Every block of every file of the medium.
fn blocks(files: &Files) -> Vec<(PathBuf, usize)> {
    let of = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        let path = path.clone();
        (0..bytes.len().div_ceil(BLOCK)).map(move |block| (path.clone(), block))
    };
    files.iter().flat_map(of).collect()
}

fn zero(medium: &Path, files: &Files, chosen: &[(PathBuf, usize)]) {
    let mut damaged: Files = BTreeMap::new();
    for (path, block) in chosen {
        let bytes = damaged.entry(path.clone()).or_insert_with(|| files[path].clone());
        let end = (block * BLOCK + BLOCK).min(bytes.len());
        bytes[block * BLOCK..end].fill(0);
    }
    for (path, bytes) in damaged {
        fs::write(medium.join(path), bytes).unwrap();
    }
}

/// A number of `choices`, none twice, the same for the same seed.
fn choose<T: Clone>(seed: u64, number: usize, choices: &[T]) -> Vec<T> {
    let mut choices = choices.to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in 0..number {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = at + (state % (choices.len() - at) as u64) as usize;
        choices.swap(at, other);
    }
    choices.truncate(number);
    choices
}

/// The files of a medium but the damaged index.json that a repair keeps.
fn files_of(medium: &Path) -> Files {
    let mut files = files(medium);
    files.remove(Path::new(".pannier/damaged-index.json"));
    files
}

// fault-matrix: rows 44, 51
#[test]
fn five_percent_of_all_blocks_zeroed_are_repaired_with_no_source_byte_for_byte() {
    let bench = Bench::new();
    let medium = bench.medium(&set(), &["--recovery", "10%"]);
    // An older commit beside it: its record is protected as well.
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 300_000)));
    bench.medium(&more, &[]);
    let whole = files(&medium);
    assert_eq!(verify(&medium), (0, vec![]));
    let all = blocks(&whole);
    // The files that say what is on the medium are among the damaged ones each time.
    let head =
        ["index.json", "oci-layout", ".pannier/commits/0000000001.json", ".pannier/commits/0000000002.json"];
    for seed in 1..=6 {
        let mut chosen = choose(seed, all.len() / 20, &all);
        chosen.extend(head.iter().map(|path| (PathBuf::from(path), 0)));
        zero(&medium, &whole, &chosen);
        assert!(files(&medium) != whole);
        let planned = run(0, ["repair", "--dry-run", text(&medium)]).stdout();
        assert!(planned.contains("recover  .pannier/commits/0000000002.json"), "{planned}");
        let summary = repair(0, &medium, &[]);
        assert_eq!(summary["lost"].as_array().unwrap().len(), 0);
        assert!(files_of(&medium) == whole, "{seed}");
        assert_eq!(verify(&medium), (0, vec![]));
    }
}

#[test]
fn a_stretch_of_the_largest_blob_and_a_whole_small_one_come_back() {
    let bench = Bench::new();
    // More than one group of blocks.
    let large = layout().with(
        image("docker.io/library/large:1").layer(noise("a", 1, 50_000_000)).layer(noise("b", 2, 15_000_000)),
    );
    let medium = bench.medium(&large, &["--recovery", "10%", "--compression", "none"]);
    let whole = files(&medium);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    let recovery = record.recovery.clone().unwrap();
    assert!(recovery.groups > 1, "{recovery:?}");
    let (largest, bytes) = whole.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let total: usize = record.blobs.iter().map(|blob| blob.size as usize).sum();
    let stretch: Vec<(PathBuf, usize)> =
        (100..100 + total / BLOCK / 11).map(|block| (largest.clone(), block)).collect();
    assert!(bytes.len() > (stretch.len() + 100) * BLOCK);
    zero(&medium, &whole, &stretch);
    let config =
        whole.iter().filter(|(path, _)| path.starts_with("blobs")).min_by_key(|(_, b)| b.len()).unwrap();
    fs::remove_file(medium.join(config.0)).unwrap();
    repair(0, &medium, &[]);
    assert!(files_of(&medium) == whole);

    // A stretch cut off at the end, where reading finds nothing; and one byte too many.
    fs::write(medium.join(largest), &bytes[..bytes.len() - total / 20]).unwrap();
    fs::write(medium.join(config.0), [&config.1[..], b"x"].concat()).unwrap();
    repair(0, &medium, &[]);
    assert!(files_of(&medium) == whole);
}

#[test]
fn every_file_of_the_recovery_data_is_made_again_and_verify_knows_them() {
    let bench = Bench::new();
    let medium = bench.medium(&set(), &["--recovery", "10%"]);
    let whole = files(&medium);
    let ours: Vec<&PathBuf> = whole.keys().filter(|path| path.starts_with(".pannier/recovery")).collect();
    assert_eq!(ours.len(), 5, "{ours:?}");
    for path in ours {
        let copy = path.to_str().unwrap().contains(".record.");
        let (damaged, missing) =
            if copy { ("recovery-copy", "recovery-copy") } else { ("recovery-damaged", "recovery-missing") };
        for (damage, id) in [(true, damaged), (false, missing)] {
            if damage {
                let mut bytes = whole[path].clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(medium.join(path), bytes).unwrap();
            } else {
                fs::remove_file(medium.join(path)).unwrap();
            }
            assert_eq!(verify(&medium), (4, vec![id.to_owned()]), "{}", path.display());
            repair(0, &medium, &[]);
            assert!(files(&medium) == whole, "{}", path.display());
        }
    }
    fs::remove_dir_all(medium.join(".pannier/recovery")).unwrap();
    repair(0, &medium, &[]);
    assert!(files(&medium) == whole);
}

// fault-matrix: rows 51
#[test]
fn beyond_parity_the_medium_stays_as_it_is_and_what_is_lost_is_listed() {
    let bench = Bench::new();
    let medium = bench.medium(&set(), &["--recovery", "10%"]);
    let whole = files(&medium);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    let layers: Vec<(PathBuf, usize)> = blocks(&whole)
        .into_iter()
        .filter(|(path, _)| path.starts_with("blobs") && whole[path].len() > 100_000)
        .collect();
    let chosen = choose(1, layers.len() / 7, &layers);
    zero(&medium, &whole, &chosen);
    let damaged = files(&medium);
    let summary = repair(4, &medium, &[]);
    assert!(files(&medium) == damaged, "nothing was made worse or better");
    let mut lost: Vec<String> = summary["lost"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["subject"].as_str().unwrap()[7..].into())
        .collect();
    lost.sort();
    let changed = damaged.iter().filter(|(path, bytes)| whole[*path] != **bytes);
    let changed: Vec<String> =
        changed.map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(lost, changed);
    assert_eq!(lost.len(), 3);
    assert!(record.blobs.len() > 3);

    // A source that has but one of the layers lets the parity bring back the others.
    let base = layout().with(image("docker.io/library/base:1").layer(noise("base", 1, 6_000_000)));
    let from = bench.directory.path().join("base");
    base.write_dir(&from);
    let summary = repair(0, &medium, &["--from", &oci(&from)]);
    let how: Vec<&str> =
        summary["repaired"].as_array().unwrap().iter().map(|r| r["how"].as_str().unwrap()).collect();
    assert!(how.iter().any(|how| how.contains("recovery data")), "{how:?}");
    assert!(files(&medium) == whole);
}

#[test]
fn the_same_set_gives_the_same_parity_and_a_later_export_keeps_it_up() {
    let bench = Bench::new();
    let parity = |medium: &Path| -> Files {
        let files = files(&medium.join(".pannier/recovery")).into_iter();
        files.filter(|(path, _)| !path.to_str().unwrap().contains(".record.")).collect()
    };
    let (first, said) = bench.export("m", &set(), &["--recovery", "10"]);
    assert!(said["bytesRecovery"].as_u64().unwrap() > 600_000, "{said}");
    let (second, _) = bench.export("n", &set(), &["--recovery", "10%"]);
    assert!(parity(&first) == parity(&second));
    let listed = run(0, ["list", "--json", text(&first)]).json();
    assert_eq!(listed["recovery"]["percent"], 10);
    assert!(run(0, ["list", text(&first)]).stderr().contains("Recovery data of 10 %"));

    // Again: nothing. Another name for the same blobs: the files stay.
    let before = files(&first);
    assert_eq!(bench.export("m", &set(), &[]).1["changed"], false);
    assert!(files(&first) == before);
    bench.export("m", &set(), &["--rename", "docker.io/library=registry.local"]);
    assert!(parity(&first) == parity(&second));
    // More blobs: new files, and the old ones are gone.
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 300_000)));
    bench.export("m", &more, &[]);
    let names: Vec<PathBuf> = parity(&first).into_keys().collect();
    assert!(names.iter().all(|name| name.to_str().unwrap().starts_with("0000000003")), "{names:?}");
    assert_eq!(verify(&first), (0, vec![]));
    let whole = files(&first);
    zero(&first, &whole, &choose(3, blocks(&whole).len() / 20, &blocks(&whole)));
    repair(0, &first, &[]);
    assert!(files_of(&first) == whole);
    // Another percentage, and none.
    bench.export("m", &set(), &["--recovery", "20%"]);
    assert_eq!(run(0, ["list", "--json", text(&first)]).json()["recovery"]["percent"], 20);
    bench.export("m", &set(), &["--recovery", "none"]);
    assert!(files(&first.join(".pannier/recovery")).is_empty());
    assert_eq!(verify(&first), (0, vec![]));
}

#[test]
fn recovery_data_that_are_out_of_date_are_known_as_such_and_renewed() {
    let bench = Bench::new();
    let medium = bench.medium(&set(), &["--recovery", "10%"]);
    // As if something else had written a record.
    let mut record = Medium::open(&medium).unwrap().record().unwrap().clone();
    record.recovery.as_mut().unwrap().covers = pannier::image::Digest::of(b"other blobs");
    fs::write(medium.join(".pannier/commits/0000000001.json"), record.to_bytes().unwrap()).unwrap();
    let (status, found) = verify(&medium);
    assert_eq!((status, found), (0, vec!["recovery-stale".to_owned()]));
    bench.medium(&set(), &[]);
    assert_eq!(verify(&medium), (0, vec![]));
}

fn small() -> Layout {
    let base = noise("base", 1, 400_000);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(noise("app", 2, 100_000)))
        .with(image("docker.io/library/other:1").layer(base))
}

#[test]
fn killed_at_any_call_a_repair_from_parity_goes_on_with_what_is_there() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium(&small(), &["--recovery", "10%"]);
    let whole = files(&medium);
    let all = blocks(&whole);
    let mut kills = 0;
    for calls in ["renameat", "fsync,fdatasync,syncfs", "unlinkat", "pwrite64,write"] {
        for number in (1..400).step_by(if calls.starts_with('p') { 7 } else { 1 }) {
            // As much as there is parity for: were it any worse afterwards, it could not be repaired.
            let mut chosen = choose(number as u64, all.len() / 20, &all);
            chosen.push((PathBuf::from(".pannier/commits/0000000001.json"), 0));
            zero(&medium, &whole, &chosen);
            let killed = killed(&["repair", text(&medium)], calls, number);
            repair(0, &medium, &[]);
            assert!(files_of(&medium) == whole, "{calls} {number}");
            if !killed {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 30, "{kills}");
}

#[test]
fn killed_at_any_call_an_export_with_recovery_data_goes_on() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let (before, _) = bench.export("before", &small(), &["--recovery", "10%"]);
    let more = layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 50_000)));
    let from = bench.directory.path().join("more");
    more.write_dir(&from);
    let (from, to) = (oci(&from), bench.directory.path().join("to"));
    let arguments = ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)];
    for calls in ["renameat", "fsync,fdatasync,syncfs", "unlinkat"] {
        for number in 1..200 {
            let _ = fs::remove_dir_all(&to);
            for (path, bytes) in files(&before) {
                fs::create_dir_all(to.join(&path).parent().unwrap()).unwrap();
                fs::write(to.join(path), bytes).unwrap();
            }
            fs::create_dir_all(to.join(".pannier/ingest")).unwrap();
            let killed = killed(&arguments, calls, number);
            // Whatever state it is in, parity and record belong together, and can be used.
            let (status, found) = verify(&to);
            assert_eq!(status & !4, 0, "{calls} {number}: {found:?}");
            assert!(
                !found.iter().any(|id| id.starts_with("recovery-") && id != "recovery-copy"),
                "{found:?}"
            );
            run(0, arguments);
            assert_eq!(verify(&to), (0, vec![]), "{calls} {number}");
            if !killed {
                break;
            }
        }
    }
}
