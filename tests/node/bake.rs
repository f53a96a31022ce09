//! Roots of containerds that do not run, filled beforehand: moved to their place, they start pods.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::carry::{Ran, expect, flip, pannier, run, text};
use crate::support::cluster::{Bench, app, assert_starts, images, import, pause, program, versions};
use crate::support::layout::{Layout, files, index, layout, noise, unnamed};
use crate::support::node::{Node, PAUSE, tools};

/// The containerd of a version, as a file.
fn containerd(version: &str) -> PathBuf {
    tools().join(format!("containerd-{version}/usr/bin/containerd"))
}

fn several() -> Layout {
    layout()
        .with(pause())
        .with(
            index("docker.io/library/multi:1")
                .with(unnamed().layer(noise("data/base", 1, 300_000)).layer(program("podmain")))
                .with(unnamed().platform("linux/arm64/v8").layer(noise("data/arm", 2, 100_000))),
        )
        .with(
            app("quay.io/team/docker:2")
                .docker()
                .layer(noise("data/base", 1, 300_000))
                .gzip_level(1)
                .layer(special())
                .layer(files([("etc/.wh.gone", "")])),
        )
}

/// `cap_net_bind_service=ep` (`vfs_cap_data`, version 2).
const CAPABILITY: &[u8; 20] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A file with an owner, a mode and an attribute that only root can give it, and one that goes again.
fn special() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_pax_extensions([("SCHILY.xattr.security.capability", CAPABILITY.as_slice())]).unwrap();
    for (path, mode) in [("bin/special", 0o4755), ("etc/gone", 0o644)] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_size(2);
        archive.append_data(&mut header, path, "x\n".as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Files of this path in the snapshots of a root, in the order of the layers.
fn unpacked(root: &Path, path: &str) -> Vec<PathBuf> {
    let snapshots = root.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    let mut found: Vec<PathBuf> =
        fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort_by_key(|snapshot| snapshot.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    found
        .into_iter()
        .map(|snapshot| snapshot.join("fs").join(path))
        .filter(|file| file.symlink_metadata().is_ok())
        .collect()
}

/// What makes a layer what it is besides its bytes.
fn assert_special(root: &Path) {
    let file = unpacked(root, "bin/special").pop().expect("it is unpacked");
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 5678, 0o4755));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&file, "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], CAPABILITY);
    let [there, gone] = unpacked(root, "etc/gone").try_into().unwrap();
    assert!(there.is_file());
    let gone = gone.symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0, "a whiteout is a device");
}

/// A bake by the containerd of a version, whose files are in a folder of the bench.
fn command(bench: &Bench, version: &str, medium: &Path, more: &[&str]) -> Command {
    let containerd = containerd(version);
    let arguments = ["bake", text(medium), "--json", "--containerd", text(&containerd)];
    let mut command = pannier(arguments.into_iter().chain(more.iter().copied()));
    fs::create_dir_all(bench.path("tmp")).unwrap();
    command.env("TMPDIR", bench.path("tmp"));
    command
}

/// Runs it, after which no containerd of ours is there.
fn bake(status: i32, bench: &Bench, version: &str, medium: &Path, more: &[&str]) -> Ran {
    let ran = expect(status, &mut command(bench, version, medium, more));
    assert_eq!(containerds(bench), Vec::<String>::new());
    assert!(fs::read_dir(bench.path("tmp")).unwrap().next().is_none());
    ran
}

/// A node that has booted from a baked directory; switched off with the value.
struct Machine(Node);

impl Drop for Machine {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

/// A disk image with ext4 in it, mounted somewhere; unmounted with the value.
struct Disk {
    file: PathBuf,
    mounted: Option<PathBuf>,
}

impl Disk {
    fn new(file: PathBuf, megabytes: u64) -> Self {
        fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&file).status().unwrap();
        assert!(made.success());
        Self { file, mounted: None }
    }

    fn mount(&mut self, at: &Path) {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&self.file).arg(at).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        self.mounted = Some(at.to_owned());
    }

    fn unmount(&mut self) {
        let at = self.mounted.take().expect("it is mounted");
        let output = Command::new("umount").arg(&at).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(at) = self.mounted.take() {
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
    }
}

/// The containerds that bakes of this bench run.
fn containerds(bench: &Bench) -> Vec<String> {
    let folder = bench.path("tmp").into_os_string().into_encoded_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let ours = lines.filter(|line| line.windows(folder.len()).any(|part| part == folder));
    ours.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn a_baked_disk_image_boots_and_starts_pods_with_nothing_left_to_import() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &several());
    for version in versions() {
        let mut disk = Disk::new(bench.path(&format!("disk-{version}")), 128);
        let system = bench.path("system");
        disk.mount(&system);
        fs::create_dir_all(system.join("etc")).unwrap();
        fs::create_dir_all(system.join("data/var-lib")).unwrap();
        fs::create_dir_all(system.join("var")).unwrap();
        // As in an image whose /var/lib is kept elsewhere: the link is the image's, not this machine's.
        std::os::unix::fs::symlink("/data/var-lib", system.join("var/lib")).unwrap();
        let flags = ["--distro", "kubeadm", "--sysroot", text(&system)];
        let first = bake(0, &bench, version, &medium, &flags).json();
        assert_eq!(
            (first["images"].as_u64(), first["layersUnpacked"].as_u64()),
            (Some(3), Some(7)),
            "{first}"
        );
        let again = bake(0, &bench, version, &medium, &flags).json();
        assert_eq!((again["bytesSent"].as_u64(), again["names"].as_u64()), (Some(0), Some(0)), "{again}");

        let baked = system.join("data/var-lib/containerd");
        assert!(
            !baked.join("io.containerd.grpc.v1.introspection/uuid").exists(),
            "each machine makes its own"
        );
        assert!(!system.join("run").exists() && !system.join("opt").exists());
        fs::rename(&baked, system.join("root")).unwrap();
        disk.unmount();

        // Mounted elsewhere, it is the disk of a machine that boots.
        let machine = bench.path(&format!("machine-{version}"));
        disk.mount(&machine);
        assert_special(&machine.join("root"));
        let mut machine = Machine(Node::start_in(version, &machine));
        let node = &mut machine.0;
        for name in ["docker.io/library/multi:1", "quay.io/team/docker:2"] {
            assert_starts(node, name);
        }
        node.client().collect_garbage().unwrap();
        node.restart();
        node.client().collect_garbage().unwrap();
        images(0, node, &["--check"]);
        let listed = images(0, node, &[]).json();
        let original = several().find("docker.io/library/multi:1").descriptor.digest;
        for name in ["quay.io/team/docker:2".to_owned(), format!("docker.io/library/multi@{original}")] {
            assert_starts(node, &name);
        }
        let pins = !version.starts_with("1.6");
        for image in listed["images"].as_array().unwrap() {
            assert_eq!((&image["unpacked"], &image["pinned"]), (&true.into(), &pins.into()), "{image}");
        }
        assert!(node.client().list_leases().unwrap().iter().all(|lease| !lease.id.starts_with("pannier")));
        let again = import(0, node, &medium, &[]).json();
        assert_eq!(
            (again["bytesSent"].as_u64(), again["layersUnpacked"].as_u64()),
            (Some(0), Some(0)),
            "{again}"
        );
        drop(machine);
        disk.unmount();
    }
}

/// One version, for what does not depend on it.
fn newest() -> Option<&'static str> {
    versions().pop()
}

#[test]
fn what_cannot_be_baked_into_is_refused_and_left_alone() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &several());
    let refused = |version: &str, more: &[&str], why: &str| {
        let ran = bake(1, &bench, version, &medium, more);
        assert!(ran.stderr().contains(why), "{}", ran.stderr());
    };
    for version in versions() {
        let node = Node::start_with(version, &["cri=off"]);
        refused(version, &["--root", text(&node.dir().join("root"))], "a containerd runs on it");
        assert!(node.client().list_images().unwrap().is_empty());
    }
    let Some(version) = newest() else { return };

    let (upper, work, over) = (bench.path("upper"), bench.path("work"), bench.path("over"));
    for folder in [&upper, &work, &over] {
        fs::create_dir(folder).unwrap();
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", text(&over), text(&upper), text(&work));
    let mounted =
        Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(&over).status();
    assert!(mounted.unwrap().success());
    refused(version, &["--root", text(&over.join("containerd"))], "it is on overlayfs itself");
    assert!(fs::read_dir(&over).unwrap().next().is_none());
    assert!(Command::new("umount").arg(&over).status().unwrap().success());

    let root = bench.path("root");
    for (program, why) in [
        ("/bin/cat", "not a containerd"),
        ("/etc/hostname", "running /etc/hostname failed"),
        ("/nowhere/containerd", "No such file"),
    ] {
        let ran = run(1, ["bake", text(&medium), "--root", text(&root), "--containerd", program]);
        assert!(ran.stderr().contains(why), "{}", ran.stderr());
    }
    let empty = bench.path("empty");
    fs::create_dir(&empty).unwrap();
    refused(version, &["--distro", "k3s", "--sysroot", text(&empty)], "is the image mounted?");
    fs::write(bench.path("file"), "").unwrap();
    refused(version, &["--root", text(&bench.path("file"))], "not a directory");
    refused(version, &["--root", text(&root), "--snapshotter", "nowhere"], "no such snapshotter");
}

#[test]
fn a_damaged_medium_and_a_small_disk_are_found_out_and_nothing_is_named() {
    let Some(version) = newest() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &several());
    let root = bench.path("root");
    let layer = fs::read_dir(medium.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layer.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    flip(&layer);
    let ran = bake(4, &bench, version, &medium, &["--root", text(&root)]);
    assert!(ran.stderr().contains("is damaged"), "{}", ran.stderr());
    flip(&layer);

    let mut small = Disk::new(bench.path("small"), 2);
    let at = bench.path("at");
    small.mount(&at);
    let ran = bake(5, &bench, version, &medium, &["--root", text(&at.join("containerd"))]);
    assert!(ran.stderr().contains("are free"), "{}", ran.stderr());
    // Nothing holds it: no containerd, no mount.
    small.unmount();

    let done = bake(0, &bench, version, &medium, &["--root", text(&root)]).json();
    assert_eq!(done["images"].as_u64(), Some(3));
}

#[test]
fn a_bake_that_is_killed_or_interrupted_takes_its_containerd_along_and_goes_on_afterwards() {
    let Some(version) = newest() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &several());
    for (signal, status) in [("KILL", None), ("TERM", Some(130))] {
        let mut disk = Disk::new(bench.path("disk"), 128);
        let at = bench.path("at");
        disk.mount(&at);
        let root = at.join("containerd");
        let flags = ["--root", text(&root)];
        for moment in ["metadata.v1.bolt/meta.db", "snapshotter.v1.overlayfs/snapshots/1"] {
            let mut child = command(&bench, version, &medium, &flags).stderr(Stdio::null()).spawn().unwrap();
            let there =
                || root.join(format!("io.containerd.{moment}")).exists() && !containerds(&bench).is_empty();
            while !there() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
            let ended = child.wait().unwrap();
            // It may have been faster.
            assert!(ended.code() == status || ended.success(), "{ended}");
            while signal == "KILL" && !containerds(&bench).is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(containerds(&bench), Vec::<String>::new());
            fs::remove_dir_all(bench.path("tmp")).unwrap();
        }
        let done = bake(0, &bench, version, &medium, &flags).json();
        assert_eq!(done["images"].as_u64(), Some(3));
        disk.unmount();
    }
}

#[test]
fn an_archive_in_a_distributions_folder_is_imported_by_ctr_and_its_pods_start() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let layout = several();
    let medium = bench.medium("m", &layout);
    let system = bench.path("system");
    fs::create_dir_all(system.join("etc")).unwrap();
    let archive = |status: i32, distro: &str, more: &[&str]| {
        let arguments = ["bake", text(&medium), "--json", "--as", "archive", "--sysroot", text(&system)];
        run(status, arguments.into_iter().chain(["--distro", distro]).chain(more.iter().copied()))
    };
    let written = archive(0, "k8s", &[]).json();
    let tar = PathBuf::from(written["archive"].as_str().unwrap());
    assert_eq!(tar.parent().unwrap(), system.join("var/snap/k8s/common/images"));
    assert_eq!((written["images"].as_u64(), tar.extension().unwrap().to_str()), (Some(3), Some("tar")));

    let digests = layout.find("docker.io/library/multi:1");
    for version in versions() {
        let node = Node::start(version);
        node.ctr(&["images", "import", text(&tar)]);
        let digests = [digests.descriptor.digest, digests.manifests[0].descriptor.digest];
        let by_digest = digests.map(|digest| format!("docker.io/library/multi@{digest}"));
        let names = ["docker.io/library/multi:1", "quay.io/team/docker:2"].map(str::to_owned);
        let names: Vec<String> = names.into_iter().chain(by_digest).collect();
        // ctr does not wait until CRI has taken the names up.
        while names
            .iter()
            .map(String::as_str)
            .chain([PAUSE])
            .any(|name| node.client().cri_image(name).unwrap().is_none())
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        for name in &names {
            assert_starts(&node, name);
        }
    }

    // The same bytes again, and compressed where that is read.
    let first = fs::read(&tar).unwrap();
    archive(0, "k8s", &[]);
    assert_eq!(fs::read(&tar).unwrap(), first);
    let zst = archive(0, "k3s", &[]).json();
    let zst = PathBuf::from(zst["archive"].as_str().unwrap());
    assert_eq!(zst.parent().unwrap(), system.join("var/lib/rancher/k3s/agent/images"));
    assert_eq!(zst.extension().unwrap(), "zst");
    assert_eq!(zstd::decode_all(fs::File::open(&zst).unwrap()).unwrap(), first);
    let one = archive(0, "rke2", &["quay.io/team/docker:2"]).json();
    assert_eq!(one["images"].as_u64(), Some(1));

    archive(2, "kubeadm", &[]);
    let layer = fs::read_dir(medium.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layer.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    flip(&layer);
    archive(4, "k0s", &[]);
    flip(&layer);
    assert!(
        fs::read_dir(system.join("var/lib/k0s/images")).unwrap().next().is_none(),
        "nothing is left of it"
    );

    // What rests on another medium is no whole archive.
    let (from, have, top_up) =
        (format!("medium:{}", text(&medium)), format!("medium:{}", text(&medium)), bench.path("top-up"));
    run(0, ["export", "--from", &from, "--all", "--have", &have, "--to", text(&top_up)]);
    let ran =
        run(1, ["bake", text(&top_up), "--as", "archive", "--sysroot", text(&system), "--distro", "k0s"]);
    assert!(ran.stderr().contains("needs them whole"), "{}", ran.stderr());
}

#[test]
fn a_directory_is_baked_in_a_chroot_by_the_containerd_in_path() {
    let Some(version) = newest() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(pause()).with(app("quay.io/team/app:1")));
    let (chroot, machine) = (bench.path("chroot"), bench.path("machine"));
    fs::create_dir(&chroot).unwrap();
    fs::create_dir(&machine).unwrap();
    let path =
        format!("{}:{}", containerd(version).parent().unwrap().display(), std::env::var("PATH").unwrap());
    // The mounts are seen in a namespace of their own only, and go with it.
    let script = "mount --bind / \"$0\" && mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(&chroot)
        .args([env!("CARGO_BIN_EXE_pannier"), "bake", text(&medium), "--root", text(&machine.join("root"))])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let machine = Machine(Node::start_in(version, &machine));
    assert_starts(&machine.0, "quay.io/team/app:1");
}

/// The steps of `docs/canonical-kubernetes.md` that need neither the snap store nor snapd.
#[test]
fn canonical_kubernetes_is_brought_with_a_stick_as_the_readme_says() {
    let Some(version) = newest() else { return };
    let bench = Bench::new();
    let at = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: &[u8]| fs::write(bench.path(name), bytes).unwrap();
    let set = layout().with(pause()).with(app("ghcr.io/canonical/cilium:1")).with(app("quay.io/team/app:1"));
    write("set.tar", &set.oci_archive());
    fs::create_dir(bench.path("snap")).unwrap();
    write("snap/images.txt", format!("{PAUSE}\nghcr.io/canonical/cilium:1\n").as_bytes());
    let made = Command::new("mksquashfs")
        .args([at("snap"), at("k8s.snap")])
        .args(["-comp", "xz", "-quiet"])
        .output();
    assert!(made.unwrap().status.success());
    write("k8s.assert", b"type: snap-revision\n");
    write("workloads.txt", b"quay.io/team/app:1\n");
    let key = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at("key")]).status();
    assert!(key.unwrap().success());
    let public = fs::read_to_string(bench.path("key.pub")).unwrap();
    write("allowed", format!("ana@example.org namespaces=\"pannier-commit-v1\" {public}").as_bytes());

    // Where there is a network.
    let (stick, from) = (at("stick"), format!("oci-archive:{}", at("set.tar")));
    let (snap, assertion) = (at("k8s.snap"), at("k8s.assert"));
    let lists = ["--list", &snap, "--list", &at("workloads.txt")].map(str::to_owned);
    let files = ["--file", &snap, "--file", &assertion].map(str::to_owned);
    let to = ["export", "--from", &from, "--to", &stick];
    run(0, to.into_iter().chain(lists.iter().chain(&files).map(String::as_str)));
    run(0, ["sign", &stick, "--yes", "--key", &at("key")]);

    // On the node.
    let signers = ["--allowed-signers".to_owned(), at("allowed")];
    let trusted = |arguments: &[&str]| {
        run(0, arguments.iter().copied().chain(signers.iter().map(String::as_str)));
    };
    trusted(&["verify", &stick]);
    run(0, ["extract", &stick, "--all", "-o", &at("snaps")]);
    assert_eq!(fs::read(bench.path("snaps/k8s.snap")).unwrap(), fs::read(&snap).unwrap());
    let system = bench.path("system");
    fs::create_dir_all(system.join("etc")).unwrap();
    let containerd = containerd(version);
    trusted(&[
        "bake",
        &stick,
        "--distro",
        "k8s",
        "--sysroot",
        text(&system),
        "--containerd",
        text(&containerd),
    ]);
    assert!(!system.join("run").exists(), "bootstrap refuses it");

    // What bootstrap starts.
    let machine = bench.path("machine");
    fs::create_dir(&machine).unwrap();
    fs::rename(system.join("var/lib/containerd"), machine.join("root")).unwrap();
    let machine = Machine(Node::start_in(version, &machine));
    for image in ["ghcr.io/canonical/cilium:1", "quay.io/team/app:1"] {
        assert_starts(&machine.0, image);
    }
    let socket = machine.0.socket();
    let ran = pannier(["doctor", "--json", "--address", text(&socket), "--list", &at("workloads.txt")])
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(!said.contains("sandbox-missing") && !said.contains("image-missing"), "{said}");
}

#[test]
fn a_set_on_several_media_is_baked_one_after_the_other() {
    let Some(version) = newest() else { return };
    let bench = Bench::new();
    let set = [("quay.io/team/a:1", 1), ("quay.io/team/b:1", 2)];
    let set = set
        .iter()
        .fold(layout(), |all, (name, seed)| all.with(app(name).layer(noise("data", *seed, 12_000_000))));
    fs::write(bench.path("set.tar"), set.oci_archive()).unwrap();
    let from = format!("oci-archive:{}", text(&bench.path("set.tar")));
    run(0, ["export", "--from", &from, "--all", "--to", text(&bench.path("set")), "--volumes", "13MiB"]);
    let root = bench.path("root");
    let flags = ["--root", text(&root)];
    let ran = bake(3, &bench, version, &bench.path("set/volume-1"), &flags);
    assert!(ran.stderr().contains("volume 1 of 2"), "{}", ran.stderr());
    bake(0, &bench, version, &bench.path("set/volume-2"), &flags);
}

#[test]
fn an_image_is_filled_where_its_own_configuration_says() {
    let bench = Bench::new();
    let medium =
        bench.medium("m", &layout().with(app("quay.io/team/app:1").layer(noise("data/x", 1, 60_000))));
    let pause = bench.medium("pause", &layout().with(pause()));
    for version in versions() {
        let system = bench.path(&format!("system-{version}"));
        let folder = system.join("etc/containerd");
        fs::create_dir_all(folder.join("conf.d")).unwrap();
        let (format, images) = match version.starts_with('1') {
            true => (2, format!("[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{PAUSE}'\n")),
            false => {
                (3, format!("[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{PAUSE}'\n"))
            }
        };
        let main =
            format!("version = {format}\nroot = '/data/containerd'\nimports = ['conf.d/*.toml']\n{images}");
        fs::write(folder.join("config.toml"), main).unwrap();
        let overlay = "[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = '/data/overlay'\n";
        fs::write(folder.join("conf.d/10.toml"), overlay).unwrap();
        let bake = |medium: &Path| {
            let path = containerd(version);
            let flags = ["--distro", "kubeadm", "--sysroot", text(&system), "--containerd", text(&path)];
            run(0, ["bake", text(medium)].into_iter().chain(flags))
        };
        let ran = bake(&medium);
        assert!(ran.stderr().contains(PAUSE), "its sandbox image is missed: {}", ran.stderr());
        let ran = bake(&pause);
        assert!(!ran.stderr().contains("sandbox"), "{}", ran.stderr());
        assert!(!system.join("var/lib/containerd").exists());

        // As the machine has it: both directories in their places.
        let machine = bench.path(&format!("machine-{version}"));
        fs::create_dir(&machine).unwrap();
        fs::rename(system.join("data/containerd"), machine.join("root")).unwrap();
        let at = machine.join("overlay");
        fs::rename(system.join("data/overlay"), &at).unwrap();
        let more =
            format!("[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = '{}'\n", text(&at));
        fs::write(machine.join("extra"), more).unwrap();
        let machine = Machine(Node::start_in(version, &machine));
        assert_starts(&machine.0, "quay.io/team/app:1");
        let again = import(0, &machine.0, &medium, &[]).json();
        assert_eq!((&again["bytesSent"], &again["layersUnpacked"]), (&0.into(), &0.into()), "{again}");
    }
    let (link, root) = (bench.path("link"), bench.path("absent"));
    std::os::unix::fs::symlink(&root, &link).unwrap();
    let Some(version) = newest() else { return };
    let path = containerd(version);
    let ran = run(1, ["bake", text(&medium), "--root", text(&link), "--containerd", text(&path)]);
    assert!(ran.stderr().contains("a link to"), "{}", ran.stderr());
}
