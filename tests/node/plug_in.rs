//! Nodes where nothing is installed, and nobody types a command.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::support::carry::{files, oci, pannier, run, text};
use crate::support::cluster::versions;
use crate::support::layout::{files as tar, image, layout};
use crate::support::node::Node;
use crate::support::registry::have;

const APP: &str = "docker.io/library/app:1";

/// The program, linked statically; `make static-dev` builds it.
fn static_program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static/dev/pannier");
    if !path.exists() {
        crate::support::skipped(&format!("{} is missing; run `make static-dev`", path.display()));
        return None;
    }
    Some(path)
}

/// Writes a layout of one image to `directory`.
fn set(directory: &Path) {
    layout().with(image(APP).layer(tar([("etc/app", "1")]))).write_dir(directory);
}

#[test]
fn the_static_program_imports_from_its_medium_where_nothing_else_is() {
    let Some(program) = static_program() else { return };
    // By the program itself, which takes itself along: it is static.
    let desk = tempfile::tempdir().unwrap();
    set(&desk.path().join("layout"));
    for version in versions() {
        let node = Node::start_with(version, &["cri=off"]);
        // In the node's directory, so that the socket can be linked to and nothing need be mounted.
        let bare = node.dir().join("bare");
        let medium = bare.join("media/stick");
        fs::create_dir_all(bare.join("run/containerd")).unwrap();
        let export = Command::new(&program)
            .args(["export", "--all", "--platform", "linux/amd64", "--with-pannier", "--from"])
            .args([&oci(&desk.path().join("layout")), "--to", text(&medium)])
            .output()
            .unwrap();
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        fs::hard_link(node.socket(), bare.join("run/containerd/containerd.sock")).unwrap();
        let chroot = |arguments: &[&str]| {
            let mut command = Command::new("/usr/sbin/chroot");
            command.arg(&bare).arg("/media/stick/pannier").args(arguments).env_clear();
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{version}: {said}");
            said
        };
        chroot(&["verify", "/media/stick"]);
        let said = chroot(&["import", "/media/stick", "--no-cri"]);
        assert!(said.contains("1 image"), "{said}");
        assert!(node.ctr(&["images", "list", "-q"]).lines().any(|name| name == APP), "{version}");
        // What it sent is whole: containerd's own tool says so, and nothing was left to do.
        assert!(node.ctr(&["images", "check"]).contains("complete"), "{version}");
        assert!(chroot(&["import", "/media/stick", "--no-cri"]).contains("all of it already"));
    }
}

/// A file with a filesystem, for as long as a test wants it: a stick.
struct Stick {
    image: PathBuf,
    kind: &'static str,
    at: PathBuf,
    device: Option<String>,
}

impl Stick {
    /// Formats `directory/<kind>.img` and exports the layout of `directory` to it; `None`, said loudly, where
    /// this machine cannot.
    fn fill(kind: &'static str, directory: &Path) -> Option<Self> {
        let fuse = Path::new("/usr/sbin/mount.exfat-fuse").exists() && Path::new("/dev/fuse").exists();
        if !crate::support::root("nothing can be mounted") {
            return None;
        }
        if kind == "exfat" && !fuse {
            crate::support::skipped("exFAT cannot be mounted; run tests/setup/install.sh faults");
            return None;
        }
        let image = directory.join(format!("{kind}.img"));
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let quiet: &[&str] = if kind == "ext4" { &["-q"] } else { &[] };
        call(Command::new(format!("mkfs.{kind}")).args(quiet).arg(&image));
        // Not where media are watched for: on a busy machine the one who watches may not see it go.
        let mut stick = Self { image, kind, at: directory.join("fill"), device: None };
        let to = stick.at.clone();
        stick.plug_in(&to);
        let from = oci(&directory.join("layout"));
        run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)]);
        stick.pull_out();
        Some(stick)
    }

    /// Mounts it at `at`.
    fn plug_in(&mut self, at: &Path) {
        fs::create_dir_all(at).unwrap();
        self.at = at.to_owned();
        let device = Command::new("losetup").args(["--find", "--show"]).arg(&self.image).output().unwrap();
        assert!(device.status.success(), "{}", String::from_utf8_lossy(&device.stderr));
        let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
        let program = if self.kind == "exfat" { "mount.exfat-fuse" } else { "mount" };
        call(Command::new(program).arg(&device).arg(&self.at));
        self.device = Some(device);
    }

    fn pull_out(&mut self) {
        if let Some(device) = self.device.take() {
            call(Command::new("umount").arg(&self.at));
            call(Command::new("losetup").args(["--detach", &device]));
        }
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        if let Some(device) = self.device.take() {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
            let _ = Command::new("losetup").args(["--detach", &device]).status();
        }
    }
}

fn call(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A running `pannier watch`; it is killed with the value.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Watcher {
    fn start(node: &Node, desk: &Path, more: &[&str]) -> Self {
        let (config, socket, places) = (desk.join("config.toml"), node.socket(), desk.join("media"));
        let arguments =
            ["watch", "--config", text(&config), "-a", text(&socket), "--no-cri", "--mount-points"];
        let mut command = pannier(arguments.into_iter().chain([text(&places)]).chain(more.iter().copied()));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, said: String::new() }
    }

    /// Waits until it says something with `word` in it.
    fn says(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(120));
            let line = line.unwrap_or_else(|_| panic!("it did not say {word:?}, but:\n{}", self.said));
            self.said.push_str(&format!("{line}\n"));
            if line.contains(word) {
                return line;
            }
        }
    }

    fn stop(mut self) -> Option<i32> {
        rustix::process::kill_process(pid(&self.child), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(child.id() as i32).unwrap()
}

/// A configuration that requires signatures, and the key that counts.
fn configure(desk: &Path, more: &str) -> PathBuf {
    let key = desk.join("key");
    call(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "export@example", "-f"])
            .arg(&key),
    );
    let public = fs::read_to_string(desk.join("key.pub")).unwrap();
    let signers = desk.join("allowed_signers");
    fs::write(&signers, format!("export@example namespaces=\"pannier-commit-v1\" {public}")).unwrap();
    let state = desk.join("state");
    let config = format!(
        "state-directory = {state:?}\n[trust]\nallowed-signers = {signers:?}\n{more}",
        state = text(&state),
        signers = text(&signers)
    );
    fs::write(desk.join("config.toml"), config).unwrap();
    key
}

#[test]
fn a_stick_that_is_plugged_in_is_imported_if_it_is_signed_and_else_refused() {
    if !have(&["ssh-keygen", "losetup", "mkfs.ext4", "mkfs.exfat"]) {
        return;
    }
    let Some(version) = versions().into_iter().next_back() else { return };
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    set(&desk.join("layout"));
    let key = configure(desk, "[watch]\nwrite-result = true\n");
    let node = Node::start_with(version, &["cri=off"]);
    let mut watcher = Watcher::start(&node, desk, &[]);
    watcher.says("Waiting for media");
    let results = |at: &Path| {
        let files = files(&at.join(".pannier/results"));
        let [(_, result)] = &files.into_iter().collect::<Vec<_>>()[..] else { panic!("one result") };
        serde_json::from_slice::<serde_json::Value>(result).unwrap()
    };
    for kind in ["ext4", "exfat"] {
        let at = desk.join("media").join(kind);
        let Some(mut stick) = Stick::fill(kind, desk) else { continue };
        // Nobody signed it.
        stick.plug_in(&at);
        let refused = watcher.says("refused");
        assert!(refused.contains(text(&at)) && refused.contains("not to be trusted"), "{refused}");
        assert!(!node.ctr(&["images", "list", "-q"]).contains(APP), "{kind}");
        assert_eq!(results(&at)["status"], 4);
        run(0, ["sign", text(&at), "--yes", "--key", text(&key)]);
        stick.pull_out();
        watcher.says("is gone");

        stick.plug_in(&at);
        watcher.says("was imported");
        assert!(node.ctr(&["images", "list", "-q"]).lines().any(|name| name == APP), "{kind}");
        assert!(node.ctr(&["images", "check"]).contains("complete"), "{kind}");
        let result = results(&at);
        assert_eq!(
            (&result["status"], &result["commit"], &result["images"]),
            (&0.into(), &1.into(), &1.into())
        );
        node.ctr(&["images", "remove", "--sync", APP]);
        for name in node.ctr(&["images", "list", "-q"]).lines() {
            node.ctr(&["images", "remove", "--sync", name]);
        }
        // What was left on it is no damage.
        run(0, ["verify", text(&at)]);
        stick.pull_out();
        watcher.says("is gone");
    }
    assert_eq!(watcher.stop(), Some(0));
}

#[test]
fn a_watch_ends_as_it_was_asked_to() {
    if !have(&["ssh-keygen", "losetup", "mkfs.ext4"]) {
        return;
    }
    let Some(version) = versions().into_iter().next() else { return };
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    set(&desk.join("layout"));
    let node = Node::start_with(version, &["cri=off"]);
    // Without signatures that are required it does not begin.
    for config in ["", "[trust]\nrequired = false\n"] {
        fs::write(desk.join("config.toml"), config).unwrap();
        let mut off = Watcher::start(&node, desk, &[]);
        off.says("allowed-signers");
        assert_eq!(off.child.wait().unwrap().code(), Some(2));
    }
    let key = configure(desk, "");
    let mut none = Watcher::start(&node, desk, &["--wait", "0"]);
    none.says("No medium came");
    assert_eq!(none.child.wait().unwrap().code(), Some(0));

    let at = desk.join("media/stick");
    let Some(mut stick) = Stick::fill("ext4", desk) else { return };
    stick.plug_in(&at);
    let once = ["--once", "--wait", "0"];
    let mut refused = Watcher::start(&node, desk, &once);
    refused.says("refused");
    assert_eq!(refused.child.wait().unwrap().code(), Some(4));
    run(0, ["sign", text(&at), "--yes", "--key", text(&key)]);
    let mut imported = Watcher::start(&node, desk, &once);
    imported.says("was imported");
    assert_eq!(imported.child.wait().unwrap().code(), Some(0));
    // Only where the configuration says so is anything written to a medium.
    assert!(!at.join(".pannier/results").exists());
}

#[test]
fn the_units_are_ones_that_systemd_reads() {
    let root = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_pannier");
    run(0, ["install-units", "--root", text(root.path())]);
    let units = root.path().join("etc/systemd/system");
    let watch = units.join("pannier-watch.service");
    assert!(fs::read_to_string(&watch).unwrap().contains(&format!("ExecStart={program} watch\n")));
    run(0, ["install-units", "--root", text(root.path())]);
    fs::write(&watch, "[Unit]\n").unwrap();
    assert!(run(1, ["install-units", "--root", text(root.path())]).stderr().contains("--force"));
    assert_eq!(fs::read_to_string(&watch).unwrap(), "[Unit]\n");
    run(0, ["install-units", "--root", text(root.path()), "--force"]);
    if !have(&["systemd-analyze"]) {
        return;
    }
    let load = units.join("pannier-load@sdb1.service");
    fs::copy(units.join("pannier-load@.service"), &load).unwrap();
    for unit in [&watch, &load] {
        let verify = |unit: &Path| {
            let mut command = Command::new("systemd-analyze");
            let output =
                command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        assert_eq!(verify(unit), (true, String::new()), "{}", unit.display());
        // It does look: a setting that there is not is told.
        let text = fs::read_to_string(unit).unwrap();
        fs::write(unit, text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes")).unwrap();
        let (_, said) = verify(unit);
        assert!(said.contains("NoNewPrivilege"), "{said}");
        fs::write(unit, text).unwrap();
    }
}
