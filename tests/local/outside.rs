//! No command reaches out of a medium: each directory in turn is a link or another mount, and the rest of the
//! filesystem is looked at.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::program;
use crate::support::carry::{oci, pannier, run, text};
use crate::support::layout::{files as tar, image, layout, noise};

const DIRECTORIES: [&str; 9] = [
    "blobs",
    "blobs/sha256",
    ".pannier",
    ".pannier/commits",
    ".pannier/ingest",
    ".pannier/deltas",
    ".pannier/parts",
    ".pannier/recovery",
    ".pannier/results",
];

/// A place with a medium in it, what an export needs, and nothing else that a command may write to.
struct World {
    room: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { room: tempfile::tempdir().unwrap() };
        let first = layout()
            .with(image("docker.io/library/app:1").layer(noise("big", 1, 100_000)))
            .with(image("docker.io/library/other:1").layer(tar([("etc/other", "1")])));
        first.write_dir(&world.at("first"));
        layout()
            .with(image("docker.io/library/new:1").layer(noise("new", 2, 1_200_000)))
            .write_dir(&world.at("second"));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(world.at("key"));
        assert!(keygen.status().unwrap().success());
        fs::write(world.at("note"), "a file").unwrap();
        fs::write(world.at("built"), program(&[1], "")).unwrap();
        for directory in ["home", "tmp", "out"] {
            fs::create_dir(world.at(directory)).unwrap();
        }
        let (first, medium) = (oci(&world.at("first")), world.at("medium"));
        let file = text(&world.at("note")).to_owned();
        let export =
            ["export", "--from", &first, "--all", "--to", text(&medium), "--recovery", "10", "--file", &file];
        run(0, export);
        run(0, ["prune", text(&medium), "--image", "docker.io/library/other:1"]);
        for directory in [".pannier/deltas", ".pannier/parts", ".pannier/results"] {
            fs::create_dir_all(medium.join(directory)).unwrap();
        }
        // What a repair that was cut off leaves, and what nobody left.
        for name in ["oci-layout.old", "pannier.new", &format!("{}.0", "a".repeat(64))] {
            fs::write(medium.join(".pannier/ingest").join(name), "left").unwrap();
        }
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// A medium that is like the first one.
    fn fresh(&self) {
        let _ = fs::remove_dir_all(self.at("try"));
        let _ = fs::remove_dir_all(self.at("elsewhere"));
        copy(&self.at("medium"), &self.at("try"));
    }

    /// Every command that opens a medium, damaged or not.
    fn commands(&self) -> Vec<Vec<String>> {
        let at = |name: &str| text(&self.at(name)).to_owned();
        let (medium, key) = (at("try"), at("key"));
        let (first, second) = (oci(&self.at("first")), oci(&self.at("second")));
        let export = |from: &str, more: &[&str]| {
            let mut arguments = vec![
                "export",
                "--from",
                from,
                "--all",
                "--to",
                &medium,
                "--sign-key",
                &key,
                "--accept-unsigned",
            ];
            arguments.extend(more);
            arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let with = format!("--with-pannier={}", at("built"));
        let own = |arguments: &[&str]| arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        vec![
            export(&second, &[]),
            export(&second, &["--split=1048576", "--recovery", "20", &with]),
            export(&first, &[]),
            own(&["repair", &medium]),
            own(&["repair", &medium, "--from", &first, "--sign-key", &key, "--accept-unsigned"]),
            own(&["prune", &medium, "--image", "docker.io/library/app:1"]),
            own(&[
                "prune",
                &medium,
                "--image",
                "docker.io/library/app:1",
                "--sign-key",
                &key,
                "--accept-unsigned",
            ]),
            own(&["prune", &medium]),
            own(&["sign", &medium, "--yes", "--key", &key]),
            own(&["verify", "--deep", &medium]),
            own(&["list", &medium]),
            own(&["files", &medium]),
            own(&["extract", &medium, "--all", "-o", &at("out")]),
            own(&["diff", &medium, &at("medium")]),
            own(&["import", &medium, "--address", "/nowhere"]),
            own(&["import", &medium, "--address", "/nowhere", "--dry-run"]),
        ]
    }

    /// Everything but the medium and what `extract` was told to fill.
    fn rest(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.room.path()).unwrap() {
            let path = entry.unwrap().path();
            if !["try", "out"].iter().any(|name| path.ends_with(name)) {
                look(&path, &mut found);
            }
        }
        found
    }

    fn run_each(&self, change: &dyn Fn(&str), mount: Option<&str>, directory: &str) {
        for arguments in self.commands() {
            self.fresh();
            change(directory);
            let before = self.rest();
            let program = pannier(arguments.iter().map(String::as_str));
            let mut command = match mount {
                None => program,
                Some(script) => {
                    let mut shell = Command::new("unshare");
                    shell.args(["-m", "sh", "-c", script, "sh"]);
                    shell.arg(self.at("elsewhere")).arg(self.at("try").join(directory));
                    shell.arg(program.get_program()).args(program.get_args());
                    shell
                }
            };
            let output = command.env("HOME", self.at("home")).env("TMPDIR", self.at("tmp")).output().unwrap();
            let after = self.rest();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let differs: Vec<_> = { before.keys() }
                .chain(after.keys())
                .filter(|path| before.get(*path) != after.get(*path))
                .collect();
            assert!(differs.is_empty(), "{directory}: {arguments:?} changed {differs:?}: {said}");
            assert_ne!(output.status.code(), Some(2), "{arguments:?}: {said}");
            assert!(!said.contains("panicked"), "{directory}: {arguments:?}: {said}");
        }
    }
}

/// What is at `path` and beneath it; directories with the time of their last change.
fn look(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let about = fs::symlink_metadata(path).unwrap();
    let stamp = format!("{:?} {:?} ", about.file_type(), about.permissions());
    let mut seen = stamp.into_bytes();
    if about.is_dir() {
        seen.extend(format!("{:?}", about.modified().unwrap()).bytes());
        for entry in fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), found);
        }
    } else if about.is_file() {
        seen.extend(fs::read(path).unwrap());
    }
    found.insert(path.to_owned(), seen);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn no_command_follows_a_directory_that_is_a_link() {
    let world = World::new();
    for directory in DIRECTORIES {
        let change = |directory: &str| {
            let at = world.at("try").join(directory);
            fs::rename(&at, world.at("elsewhere")).unwrap();
            symlink(world.at("elsewhere"), &at).unwrap();
        };
        world.run_each(&change, None, directory);
    }
}

#[test]
fn no_command_follows_a_link_to_an_empty_directory() {
    let world = World::new();
    for directory in DIRECTORIES {
        let change = |directory: &str| {
            let at = world.at("try").join(directory);
            fs::remove_dir_all(&at).unwrap();
            fs::create_dir(world.at("elsewhere")).unwrap();
            symlink(world.at("elsewhere"), &at).unwrap();
        };
        world.run_each(&change, None, directory);
    }
}

#[test]
fn no_command_goes_into_another_mount() {
    if !crate::support::root("nothing can be mounted") {
        return;
    }
    let world = World::new();
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    for directory in DIRECTORIES {
        let change = |directory: &str| {
            copy(&world.at("try").join(directory), &world.at("elsewhere"));
        };
        world.run_each(&change, Some(script), directory);
    }
}

#[test]
fn nothing_is_written_through_a_file_that_is_a_link() {
    let world = World::new();
    let staged = |name: &str| format!(".pannier/ingest/{name}");
    // Every name that is opened to be written on the way.
    let second = layout().with(image("docker.io/library/new:1").layer(noise("new", 2, 1_200_000)));
    let config = second.find("docker.io/library/new:1").manifests[0].config.digest;
    let diff_id = second.find("docker.io/library/new:1").manifests[0].diff_ids[0];
    let names = [
        staged("reserve.new"),
        staged("index.json"),
        staged("blocks.new"),
        staged("oci-layout.new"),
        staged(&config.hex()),
        staged(&format!("{}.0", diff_id.hex())),
        ".pannier/commits/0000000004.json".into(),
        ".pannier/commits/0000000003.json.sig".into(),
        "index.json".into(),
        "oci-layout".into(),
    ];
    for name in names {
        let change = |_: &str| {
            let at = world.at("try").join(&name);
            let _ = fs::remove_file(&at);
            fs::write(world.at("elsewhere"), "of somebody").unwrap();
            symlink(world.at("elsewhere"), &at).unwrap();
        };
        let change = |directory: &str| {
            let _ = fs::remove_file(world.at("elsewhere"));
            change(directory);
        };
        world.run_each(&change, None, &name);
    }
}
