//! Keeping a medium fit: how sure a verification is, where a medium is, locks, ejecting, and what goes wrong there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::carry::{Ran, blobs, files, oci, pannier, run, text};
use crate::support::faultdisk::{Kind, Mounted, available, format};
use crate::support::layout::{Layout, image, layout, noise};
use crate::support::strace;
use pannier::medium::Medium;
use serde_json::Value;

fn set() -> Layout {
    (0..3).fold(layout(), |layout, number| {
        let own = noise("app", 10 + number, 60_000);
        layout.with(
            image(&format!("docker.io/library/app{number}:1")).layer(noise("base", 1, 90_000)).layer(own),
        )
    })
}

/// A directory with a source in it, and room for disks.
struct Bench {
    directory: tempfile::TempDir,
    from: String,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-care-").tempdir().unwrap();
        set().write_dir(&directory.path().join("layout"));
        let from = oci(&directory.path().join("layout"));
        Self { directory, from }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments<'a>(&'a self, to: &'a Path) -> Vec<&'a str> {
        vec!["export", "--json", "--from", &self.from, "--all", "--platform", "linux/amd64", "--to", text(to)]
    }

    fn export(&self, status: i32, to: &Path, more: &[&str]) -> Ran {
        run(status, self.arguments(to).into_iter().chain(more.iter().copied()))
    }

    /// A disk in a file, formatted.
    fn disk(&self, kind: Kind, options: &[&str]) -> PathBuf {
        let disk = self.path("disk");
        File::create(&disk).unwrap().set_len(32 << 20).unwrap();
        format(kind, &disk, options);
        disk
    }

    fn tmpfs(&self, options: &str) -> PathBuf {
        let to = self.path("tmpfs");
        fs::create_dir(&to).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&to).status();
        assert!(status.unwrap().success());
        to
    }
}

/// What verify says, with its exit status.
fn verify(status: i32, medium: &Path, more: &[&str]) -> Value {
    let ran = run(status, ["verify", "--json", text(medium)].into_iter().chain(more.iter().copied()));
    let said = ran.stdout();
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    { lines }.find(|line| line["findings"].is_array()).unwrap()
}

fn ids(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap()).collect()
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Runs pannier under strace with these options; what it printed.
fn traced(options: &[&str], arguments: &[&str]) -> Output {
    let mut command = strace_of(options, arguments);
    command.output().unwrap()
}

fn strace_of(options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]).args(options);
    command.arg(env!("CARGO_BIN_EXE_pannier")).args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `reached` is true.
fn wait(reached: impl Fn() -> bool) {
    while !reached() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that is killed with the value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_level_rises_when_the_medium_is_plugged_in_again() {
    if !available() {
        return;
    }
    for kind in [Kind::Ext4, Kind::Exfat] {
        let bench = Bench::new();
        let (disk, at) = (bench.disk(kind, &[]), bench.path("mnt"));
        let mount = || Mounted::try_new(kind, &disk, &at, "rw").unwrap();
        let mounted = mount();
        let medium = at.join("m");
        let exported = bench.export(0, &medium, &["--require-verify", "v1"]).json();
        assert_eq!(exported["verification"], "V1", "{kind:?} {exported}");
        let report = verify(0, &medium, &[]);
        assert_eq!((report["level"].as_str(), ids(&report)), (Some("V1"), vec![]), "{kind:?}");
        verify(4, &medium, &["--require-verify", "V3"]);
        // 1 GiB is not there to be read between.
        verify(4, &medium, &["--require-verify", "V2"]);
        drop(mounted);
        let mounted = mount();
        let before = files(&medium);
        assert_eq!(verify(0, &medium, &["--require-verify", "V3"])["level"], "V3", "{kind:?}");
        assert!(files(&medium) == before, "verify wrote something");
        // What is exported now was not there before it was pulled out.
        let more = bench.path("more");
        layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 5_000))).write_dir(&more);
        let more = oci(&more);
        let arguments = ["export", "--from", &more, "--all", "--platform", "linux/amd64", "--to"];
        run(0, arguments.into_iter().chain([text(&medium)]));
        let report = verify(0, &medium, &[]);
        assert_eq!(report["level"], "V1", "{kind:?} {report}");
        drop(mounted);
    }
}

// fault-matrix: rows 37, 39
#[test]
fn a_read_only_medium_is_verified_and_listed_and_not_written() {
    if !available() {
        return;
    }
    let bench = Bench::new();
    let (disk, at) = (bench.disk(Kind::Ext4, &[]), bench.path("mnt"));
    let mounted = Mounted::try_new(Kind::Ext4, &disk, &at, "rw").unwrap();
    bench.export(0, &at, &[]);
    drop(mounted);
    let _mounted = Mounted::try_new(Kind::Ext4, &disk, &at, "ro").unwrap();
    assert_eq!(verify(0, &at, &["--require-verify", "V3"])["level"], "V3");
    let place = run(0, ["list", "--json", text(&at)]).json()["place"].clone();
    assert_eq!((place["readOnly"].as_bool(), place["filesystem"].as_str()), (Some(true), Some("ext4")));
    for arguments in [vec!["prune", text(&at), "--keep", "1", "--image", "app0:1"], vec!["repair", text(&at)]]
    {
        let ran = run(5, arguments);
        assert!(ran.stderr().contains("read-only"), "{}", ran.stderr());
    }
    let ran = run(5, bench.arguments(&at).into_iter().chain(["--recovery", "10%"]));
    assert!(ran.stderr().contains("read-only"), "{}", ran.stderr());
}

// fault-matrix: rows 45
#[test]
fn rot_under_what_is_in_memory_is_found() {
    if !available() {
        return;
    }
    for kind in [Kind::Ext4, Kind::Exfat] {
        let bench = Bench::new();
        let (disk, at) = (bench.disk(kind, &[]), bench.path("mnt"));
        let _mounted = Mounted::try_new(kind, &disk, &at, "rw").unwrap();
        bench.export(0, &at.join("m"), &[]);
        let there = blobs(&at.join("m"));
        let (name, blob) = there.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        // The same 4 KiB, wherever on the disk they are.
        let (bytes, wanted) = (fs::read(&disk).unwrap(), &blob[8192..12288]);
        let at_disk = (0..bytes.len()).step_by(512).find(|at| bytes[*at..].starts_with(wanted)).unwrap();
        let file = File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&[!wanted[0]], at_disk as u64).unwrap();
        file.sync_all().unwrap();
        let report = verify(4, &at.join("m"), &[]);
        assert_eq!(ids(&report), ["blob-digest"], "{kind:?}");
        assert!(report["findings"][0]["subject"].as_str().unwrap().ends_with(text(name)));
    }
}

#[test]
fn without_a_device_it_says_so_and_does_not_commit_where_more_is_required() {
    if !available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.tmpfs("size=16m").join("m");
    let ran = bench.export(4, &medium, &["--require-verify", "V1"]);
    assert!(ran.stderr().contains("verified as V0+ only, V1 is required"), "{}", ran.stderr());
    assert!(Medium::open(&medium).unwrap().record().is_none());
    assert_eq!(bench.export(0, &medium, &["--require-verify", "V0+"]).json()["verification"], "V0+");
    // Nothing is to be written, and it is looked at all the same.
    assert_eq!(bench.export(0, &medium, &["--require-verify", "V0+"]).json()["verification"], "V0+");
    bench.export(4, &medium, &["--require-verify", "V2"]);
    bench.export(2, &medium, &["--require-verify", "V3"]);
    let refused = run(1, ["eject", text(&medium)]);
    assert!(refused.stderr().contains("could be unmounted"), "{}", refused.stderr());
}

// fault-matrix: rows 25, 72
#[test]
fn an_ejected_medium_is_unmounted_and_one_in_use_is_not() {
    if !available() {
        return;
    }
    for kind in [Kind::Ext4, Kind::Exfat] {
        let bench = Bench::new();
        let (disk, at) = (bench.disk(kind, &[]), bench.path("mnt"));
        let mounted = Mounted::try_new(kind, &disk, &at, "rw").unwrap();
        bench.export(0, &at, &["--no-verify"]);
        let open = File::open(at.join("index.json")).unwrap();
        let ran = run(5, ["eject", text(&at)]);
        assert!(ran.stderr().contains("was not ejected"), "{}", ran.stderr());
        assert!(ran.stderr().contains(&format!("process {}", std::process::id())), "{}", ran.stderr());
        assert!(is_mounted(&at) && !ran.stderr().contains("Safe to remove"), "{}", ran.stderr());
        drop(open);
        // It was not read back by the export; a damaged one stays where it is.
        let (name, bytes) = blobs(&at).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        let blob = at.join("blobs/sha256").join(&name);
        fs::write(&blob, &bytes[1..]).unwrap();
        let ran = run(4, ["eject", text(&at)]);
        assert!(is_mounted(&at) && ran.stderr().contains("blob-size"), "{}", ran.stderr());
        fs::write(&blob, &bytes).unwrap();
        let ran = run(0, ["eject", text(&at)]);
        assert!(ran.stderr().contains("Safe to remove") && !is_mounted(&at), "{}", ran.stderr());
        drop(mounted);
        let _mounted = Mounted::try_new(kind, &disk, &at, "rw").unwrap();
        verify(0, &at, &["--require-verify", "V3"]);
    }
}

#[test]
fn a_directory_on_the_machines_own_disk_is_not_ejected() {
    let bench = Bench::new();
    let medium = bench.path("m");
    bench.export(0, &medium, &[]);
    let ran = run(1, ["eject", text(&medium)]);
    assert!(ran.stderr().contains("not on a filesystem of its own"), "{}", ran.stderr());
}

// fault-matrix: rows 23, 24
#[test]
fn another_medium_at_the_same_path_is_not_written_to() {
    if !available() || !strace::available() {
        return;
    }
    let bench = Bench::new();
    let (first, other) = (bench.path("disk"), bench.path("other-disk"));
    bench.disk(Kind::Ext4, &[]);
    fs::copy(&first, &other).unwrap();
    let at = bench.path("mnt");
    let below = Mounted::try_new(Kind::Ext4, &first, &at, "rw").unwrap();
    // Held up while it gives the first blob its name.
    let options = ["-e", "inject=renameat:delay_enter=4000000:when=1"];
    let arguments = bench.arguments(&at);
    let child = strace_of(&options, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait(|| fs::read_dir(at.join(".pannier/ingest")).is_ok_and(|entries| entries.count() > 1));
    let above = Mounted::try_new(Kind::Ext4, &other, &at, "rw").unwrap();
    let output = child.wait_with_output().unwrap();
    let found = files(&at);
    drop(above);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("is not the medium any more"), "{}", stderr(&output));
    assert!(found.is_empty(), "{:?}", found.keys());
    assert!(Medium::open(&at).unwrap().record().is_none());
    bench.export(0, &at, &[]);
    drop(below);
}

// fault-matrix: rows 28
#[test]
fn a_medium_that_fills_up_at_the_last_moment_is_committed_to_all_the_same() {
    if !available() || !strace::available() {
        return;
    }
    let bench = Bench::new();
    let at = bench.tmpfs("size=12m");
    let medium = at.join("m");
    let options = ["-e", "inject=syncfs:delay_enter=4000000:when=1"];
    let arguments = bench.arguments(&medium);
    let child = strace_of(&options, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait(|| fs::read_dir(medium.join("blobs/sha256")).is_ok_and(|entries| entries.count() >= 10));
    std::thread::sleep(Duration::from_millis(300));
    let filler = fs::write(at.join("filler"), vec![1; 12 << 20]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(ids(&verify(0, &medium, &[])), [""; 0]);
    assert_eq!(fs::read_dir(medium.join(".pannier/ingest")).unwrap().count(), 0);
}

// fault-matrix: rows 29
#[test]
fn too_few_inodes_are_named_as_such() {
    if !available() {
        return;
    }
    let bench = Bench::new();
    let (disk, at) = (bench.disk(Kind::Ext4, &["-N", "24"]), bench.path("mnt"));
    let _mounted = Mounted::try_new(Kind::Ext4, &disk, &at, "rw").unwrap();
    let place = bench.export(5, &at.join("m"), &[]);
    assert!(place.stderr().contains("more files"), "{}", place.stderr());
    assert!(!at.join("m").exists(), "refused before the first byte");
}

// fault-matrix: rows 32
#[test]
fn a_quota_is_named_as_such() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.path("m");
    let output = traced(&["-e", "inject=renameat:error=EDQUOT:when=2"], &bench.arguments(&medium));
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("quota"), "{}", stderr(&output));
    bench.export(0, &medium, &[]);
}

// fault-matrix: rows 47
#[test]
fn an_error_that_goes_away_is_a_weak_blob_and_one_that_stays_is_damage() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.path("m");
    bench.export(0, &medium, &[]);
    let (name, _) = blobs(&medium).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let blob = medium.join("blobs/sha256").join(name);
    let look = |when: &str| {
        let inject = format!("inject=read,pread64:error=EIO:when={when}");
        let output = traced(&["-P", text(&blob), "-e", &inject], &["verify", "--json", text(&medium)]);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let report = { lines }.find(|line| line["findings"].is_array()).unwrap();
        (output.status.code().unwrap(), ids(&report).join(" "))
    };
    assert_eq!(look("1"), (0, "blob-weak".into()));
    assert_eq!(look("1..2"), (0, "blob-weak".into()));
    assert_eq!(look("1+"), (4, "blob-unreadable".into()));
}

// fault-matrix: rows 53, 56
#[test]
fn the_lock_of_a_killed_process_is_free_and_a_file_that_is_left_over_is_none() {
    let bench = Bench::new();
    let medium = bench.path("m");
    bench.export(0, &medium, &[]);
    let lock = ["--no-fork", text(&medium.join(".pannier")), "sleep", "600"].map(str::to_owned);
    let mut holder = Killed(Command::new("flock").args(lock).spawn().unwrap());
    let mut refused = None;
    wait(|| {
        let output = pannier(bench.arguments(&medium)).output().unwrap();
        output.status.code() == Some(1) && stderr(&output).contains("in use by another pannier")
    });
    refused.get_or_insert(());
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    // Nobody judges a file by its name or its time.
    fs::write(medium.join(".pannier/lock"), "4294967295 1970-01-01").unwrap();
    bench.export(0, &medium, &["--recovery", "10%"]);
    assert!(medium.join(".pannier/lock").exists());
}

// fault-matrix: rows 55
#[test]
fn a_filesystem_without_locks_is_warned_about() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.path("m");
    for error in ["ENOLCK", "EOPNOTSUPP"] {
        let inject = format!("inject=flock:error={error}");
        let _ = fs::remove_dir_all(&medium);
        let output = traced(&["-e", &inject], &bench.arguments(&medium));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("cannot be locked"), "{}", stderr(&output));
        let output = traced(&["-e", &inject], &["verify", text(&medium)]);
        assert_eq!((output.status.code(), stderr(&output).contains("warning")), (Some(0), false));
        let output = traced(&["-e", &inject], &["prune", text(&medium), "--image", "app0:1"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("cannot be locked"), "{}", stderr(&output));
    }
}

// fault-matrix: rows 73
#[test]
fn what_crashed_runs_left_goes_and_what_others_left_stays() {
    let bench = Bench::new();
    let medium = bench.path("m");
    fs::create_dir_all(medium.join(".pannier/ingest/directory")).unwrap();
    let ingest = medium.join(".pannier/ingest");
    for number in 0..100_u64 {
        let digest = pannier::image::Digest::of(&number.to_le_bytes()).hex();
        let name = match number % 5 {
            0 => digest.clone(),
            1 => format!("{digest}.0"),
            2 => format!("{digest}.{digest}.9.24"),
            3 => format!("{digest}.new"),
            _ => format!("{number:010}.parity.0.new"),
        };
        fs::write(ingest.join(name), "left over").unwrap();
    }
    fs::write(ingest.join("holiday.jpg"), "theirs").unwrap();
    bench.export(0, &medium, &[]);
    let left: Vec<String> = fs::read_dir(&ingest)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(fs::read_to_string(ingest.join("holiday.jpg")).unwrap(), "theirs");
    assert_eq!(ids(&verify(0, &medium, &[])), [""; 0]);
}

#[test]
fn many_small_blobs_are_brought_to_the_device_on_the_way() {
    if !strace::available() {
        return;
    }
    let bench = Bench::new();
    let small = (0..9).fold(layout(), |layout, number| {
        let tar = noise("data", number, 8_000_000);
        layout.with(image(&format!("docker.io/library/small{number}:1")).layer(tar).plain())
    });
    small.write_dir(&bench.path("small"));
    let (from, to, log) = (oci(&bench.path("small")), bench.path("m"), bench.path("log"));
    let arguments =
        ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--compression", "none"];
    let status = Command::new("strace")
        .args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync,syncfs", "-o", text(&log)])
        .arg(env!("CARGO_BIN_EXE_pannier"))
        .args(arguments)
        .args(["--to", text(&to), "--no-verify"])
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let log = fs::read_to_string(log).unwrap();
    // No file has 64 MiB; all together have a little more.
    let before = log.split("syncfs").next().unwrap();
    assert!(before.contains("fdatasync"), "{log}");
}

#[test]
fn a_person_is_told_what_the_medium_is_on() {
    let bench = Bench::new();
    let medium = bench.path("m");
    let planned = bench.export(0, &medium, &["--dry-run"]).json();
    assert!(planned["place"]["free"].as_u64().unwrap() > 0 && !medium.exists());
    bench.export(0, &medium, &[]);
    let said = run(0, ["list", "--verbose", text(&medium)]).stderr();
    assert!(said.contains("free in clusters of"), "{said}");
}

#[test]
fn a_copy_on_another_stick_is_not_proven_and_goes_its_own_way() {
    if !available() {
        return;
    }
    let bench = Bench::new();
    let (disk, at) = (bench.disk(Kind::Ext4, &[]), bench.path("mnt"));
    let mounted = Mounted::try_new(Kind::Ext4, &disk, &at, "rw").unwrap();
    let medium = at.join("m");
    bench.export(0, &medium, &[]);
    let copied = bench.path("copied");
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&medium, &copied);
    drop(mounted);
    let other = Bench::new();
    let (disk, at) = (other.disk(Kind::Ext4, &[]), other.path("mnt"));
    let _mounted = Mounted::try_new(Kind::Ext4, &disk, &at, "rw").unwrap();
    let clone = at.join("m");
    copy(&copied, &clone);
    verify(4, &clone, &["--require-verify", "V3"]);
    let id = |medium: &Path| run(0, ["list", "--json", text(medium)]).json()["medium"].clone();
    assert_eq!(id(&clone), id(&copied));
    let more = bench.path("more");
    layout().with(image("docker.io/library/more:1").layer(noise("more", 9, 5_000))).write_dir(&more);
    let more = oci(&more);
    let arguments = ["export", "--from", &more, "--all", "--platform", "linux/amd64", "--to"];
    run(0, arguments.into_iter().chain([text(&clone)]));
    let own = id(&clone);
    assert_ne!(own, id(&copied));
    let record = pannier::medium::Medium::open(&clone).unwrap().record().unwrap().clone();
    assert_eq!(record.cloned_from.len(), 1);
    assert_eq!(id(&copied), record.cloned_from[0].medium);
    verify(0, &clone, &[]);
    // Where it is now, it stays what it is.
    let again = other.path("again");
    layout().with(image("docker.io/library/again:1").layer(noise("again", 8, 5_000))).write_dir(&again);
    let again = oci(&again);
    let arguments = ["export", "--from", &again, "--all", "--platform", "linux/amd64", "--to"];
    run(0, arguments.into_iter().chain([text(&clone)]));
    assert_eq!(id(&clone), own);
}
