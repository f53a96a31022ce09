//! Filesystem objects: H33 to H37, H41 to H44.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use pannier::image::Digest;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::maker::{Draft, Stick, blob, ends, tar};
use crate::support::carry::{run, text};

fn layer() -> Digest {
    Digest::of(&tar(b"content"))
}

/// A medium with something else in the place of its layer.
fn with_layer_as(make: impl FnOnce(&Path)) -> Stick {
    let stick = Draft::default().make().medium(|_| ());
    let path = stick.at(&blob(&layer()));
    fs::remove_file(&path).unwrap();
    make(&path);
    stick
}

/// Found by `verify`, and by an export from it.
fn found(stick: &Stick, id: &str, detail: &str) {
    stick.verify(4, id, detail);
    let to = stick.beside("copy");
    let from = format!("medium:{}", stick.path().display());
    let said = run_any(&["export", "--from", &from, "--all", "--to", text(&to)]);
    assert!(!to.join(".pannier/commits/0000000001.json").exists(), "{said}");
}

fn run_any(arguments: &[&str]) -> String {
    let output = super::maker::bounded(arguments.iter().copied());
    assert!(!output.status.success());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn h33_a_blob_that_is_a_link() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&outside, tar(b"content")).unwrap();
    // Even to the right bytes: they are not on the medium.
    let stick = with_layer_as(|path| symlink(outside.path(), path).unwrap());
    found(&stick, "blob-unreadable", "symbolic links");
    found(&with_layer_as(|path| symlink("/etc/shadow", path).unwrap()), "blob-unreadable", "symbolic links");
}

#[test]
fn h34_directories_that_are_links() {
    for name in ["blobs", "blobs/sha256", ".pannier", ".pannier/commits"] {
        let stick = Draft::default().make().medium(|_| ());
        let moved = stick.beside("moved");
        fs::rename(stick.at(name), &moved).unwrap();
        symlink(&moved, stick.at(name)).unwrap();
        let said = run_any(&["verify", text(&stick.path())]);
        assert!(said.contains("symbolic links") || said.contains("Not a directory"), "{name}: {said}");
    }
}

#[test]
fn h34_another_mount_within_the_medium() {
    if !crate::support::root("mounts are made by root alone") {
        return;
    }
    let stick = Draft::default().make().medium(|_| ());
    let commits = stick.at(".pannier/commits");
    let shown = stick.beside("shown");
    fs::create_dir(&shown).unwrap();
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).status().unwrap().success();
    assert!(mount(&["-t", "tmpfs", "tmpfs", text(&commits)]));
    let said = run_any(&["verify", text(&stick.path())]);
    let unmounted = Command::new("umount").arg(&commits).status().unwrap().success();
    assert!(said.contains("cross-device"), "{said}");
    assert!(unmounted);
}

#[test]
fn h35_blobs_that_are_fifos_sockets_and_devices() {
    let special = |kind, device| {
        move |path: &Path| mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device).unwrap()
    };
    found(&with_layer_as(special(FileType::Fifo, 0)), "blob-unreadable", "not a regular file");
    let socket = tempfile::tempdir().unwrap();
    // Its name would be too long for a socket's address.
    let bound = |path: &Path| {
        drop(UnixListener::bind(socket.path().join("s")).unwrap());
        fs::rename(socket.path().join("s"), path).unwrap();
    };
    found(&with_layer_as(bound), "blob-unreadable", "not a regular file");
    if !crate::support::root("devices are made by root alone") {
        return;
    }
    for minor in [5, 8] {
        let zero = with_layer_as(special(FileType::CharacterDevice, makedev(1, minor)));
        found(&zero, "blob-unreadable", "not a regular file");
    }
    // A fifo for the record and the index: nobody waits for a writer.
    for (name, status) in [("index.json", 4), (".pannier/commits/0000000001.json", 4)] {
        let stick = Draft::default().make().medium(|_| ());
        fs::remove_file(stick.at(name)).unwrap();
        special(FileType::Fifo, 0)(&stick.at(name));
        ends(status, ["verify", text(&stick.path())]);
    }
}

#[test]
fn h35_a_device_is_not_even_opened() {
    if !crate::support::root("devices are made by root alone") {
        return;
    }
    // A block device that is not there: opening it would be told by ENXIO, looking at it is not.
    let stick = with_layer_as(|path| {
        mknodat(CWD, path, FileType::BlockDevice, Mode::from_raw_mode(0o666), makedev(240, 77)).unwrap();
    });
    stick.verify(4, "blob-unreadable", "not a regular file");
}

#[test]
fn h36_a_blob_that_is_a_directory_or_a_hard_link() {
    found(&with_layer_as(|path| fs::create_dir(path).unwrap()), "blob-unreadable", "not a regular file");
    let outside = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    let original = outside.path().join("original");
    fs::write(&original, tar(b"content")).unwrap();
    with_layer_as(|path| fs::hard_link(&original, path).unwrap()).verify(0, "", "");
}

#[test]
fn h37_a_sparse_blob_of_8_tib() {
    let stick = with_layer_as(|path| File::create(path).unwrap().set_len(8 << 40).unwrap());
    found(&stick, "blob-size", "");
}

#[test]
fn h37_a_blob_that_is_said_to_be_huge_and_is() {
    let stick = Draft::default().make().medium(|record| {
        let blobs = record["blobs"].as_array_mut().unwrap();
        blobs.push(serde_json::json!({ "digest": Digest::of(b"x"), "size": 1_u64 << 62, "role": "layer" }));
    });
    stick.refused("more than a blob may have");
}

#[test]
fn h41_many_files_that_nobody_named() {
    let stick = Draft::default().make().medium(|_| ());
    for number in 0..5_000 {
        File::create(stick.at(&format!("blobs/sha256/{number:064x}"))).unwrap();
    }
    let deep = stick.at("blobs/sha256").join(vec!["d"; 200].join("/"));
    fs::create_dir_all(deep).unwrap();
    stick.verify(0, "blob-unused", "5000 files");
}

#[test]
fn h42_names_that_are_nearly_right() {
    let stick = with_layer_as(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        for other in [name.to_uppercase(), format!("{name}.json"), format!("{}~1", &name[..6])] {
            fs::write(path.with_file_name(other), tar(b"content")).unwrap();
        }
    });
    found(&stick, "blob-missing", "");
    stick.verify(4, "blob-name", "never read");
}

/// The medium as a filesystem in a file, changed by commands of debugfs and by replacing bytes, and mounted where
/// the medium was, as the unit mounts media.
struct Forged<'a>(&'a Stick);

impl<'a> Forged<'a> {
    fn mounted(stick: &'a Stick, commands: &str, replaced: Option<(&[u8], &[u8])>) -> Self {
        let (image, medium) = (stick.beside("image"), stick.path());
        let done = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        // Without checksums of its structures: whoever forges them makes them right.
        let options = ["-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d"];
        done(Command::new("mke2fs").args(options).arg(&medium).arg(&image).arg("8M"));
        fs::write(stick.beside("commands"), commands).unwrap();
        done(Command::new("debugfs").args(["-w", "-f"]).arg(stick.beside("commands")).arg(&image));
        if let Some((from, to)) = replaced {
            let mut bytes = fs::read(&image).unwrap();
            let at = bytes.windows(from.len()).position(|window| window == from).expect("such bytes");
            bytes[at..at + to.len()].copy_from_slice(to);
            fs::write(&image, bytes).unwrap();
        }
        let options = "loop,ro,nosuid,nodev,noexec,errors=continue";
        done(Command::new("mount").args(["-o", options]).arg(&image).arg(&medium));
        Self(stick)
    }
}

impl Drop for Forged<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// What attacks the kernel is the kernel's to stop; what it lets through is met like any other medium.
#[test]
fn h43_a_filesystem_that_was_made_by_hand() {
    // The unit gives the kernel as little to do as can be: no devices, no programs, no writing.
    let unit = include_str!("../../../src/cli/units/pannier-load@.service");
    assert!(unit.contains("mount -o ro,nosuid,nodev,noexec "));
    if !crate::support::root("filesystems are mounted by root alone") {
        return;
    }
    let long = "f".repeat(64);
    let blob = blob(&layer());
    let in_place = |command: &str| format!("rm {blob}\n{command}\n");
    for (commands, replaced, id, detail) in [
        // Nothing is wrong yet.
        (String::new(), None, "", ""),
        // A length of 8 TiB; no list of blocks; blocks beyond the end of the device.
        (format!("sif {blob} size 0x80000000000"), None, "blob-unreadable", "fsck"),
        (format!("sif {blob} block[0] 0x12345678"), None, "blob-unreadable", "fsck"),
        (format!("sif {blob} block[5] 0x7fffffff"), None, "blob-unreadable", ""),
        // Another name of the root directory, of the journal, of a file with other content.
        (in_place(&format!("ln / {blob}")), None, "blob-unreadable", ""),
        (in_place(&format!("ln <8> {blob}")), None, "blob-unreadable", "fsck"),
        (in_place(&format!("ln index.json {blob}")), None, "blob-size", ""),
        // A device that is there, and a program that would run as root.
        (
            format!("cd blobs/sha256\nrm {name}\nmknod {name} c 1 5", name = layer().hex()),
            None,
            "blob-unreadable",
            "not a regular file",
        ),
        (format!("sif {blob} mode 0104755"), None, "", ""),
        // A name that a terminal would act on.
        (String::new(), Some((&long[..4], "\u{1b}[2J")), "blob-name", "never read"),
    ] {
        let stick = Draft::default().make().medium(|_| ());
        stick.write(&format!("blobs/sha256/{long}"), b"");
        let forged =
            Forged::mounted(&stick, &commands, replaced.map(|(from, to)| (from.as_bytes(), to.as_bytes())));
        let status = if ["", "blob-name"].contains(&id) { 0 } else { 4 };
        stick.verify(status, id, detail);
        drop(forged);
    }
    // A name that no program can have given: the kernel does not list it, nor what stands behind it.
    let stick = Draft::default().make().medium(|_| ());
    stick.write(&format!("blobs/sha256/{long}"), b"");
    let _forged = Forged::mounted(&stick, "", Some((&long.as_bytes()[..22], b"../../../../etc/shadow")));
    let said = ends(5, ["verify", text(&stick.path())]);
    assert!(said.contains("cannot list") && !said.contains("shadow"), "{said}");
}

#[test]
fn h44_nothing_on_the_medium_is_run_or_is_configuration() {
    let stick = Draft::default().make().medium(|_| ());
    let proof = stick.beside("was-run");
    let script = format!("#!/bin/sh\ntouch {}\n", proof.display());
    for name in [
        "autorun.inf",
        "config.toml",
        ".pannier/config.toml",
        ".pannier/hooks/post-import",
        ".git/hooks/post-checkout",
        "pannier",
        "allowed_signers",
    ] {
        fs::create_dir_all(stick.at(name).parent().unwrap()).unwrap();
        fs::write(stick.at(name), &script).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(stick.at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    stick.verify(0, "", "");
    // Not even where it is the working directory.
    let status =
        Command::new(env!("CARGO_BIN_EXE_pannier")).args(["verify", "."]).current_dir(stick.path()).status();
    assert!(status.unwrap().success() && !proof.exists());
    run(0, ["list", text(&stick.path())]);
}
