//! A filesystem on a loop device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

use super::model::Disk;
use super::server::{Served, serve};

/// Which filesystem, and who drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The kernel's ext4.
    Ext4,
    /// exFAT through FUSE.
    Exfat,
}

/// The mount namespace of the machine.
static COMMON: OnceLock<File> = OnceLock::new();

/// Whether sticks can be made here; said loudly where not.
pub(crate) fn available() -> bool {
    let programs = ["mkfs.ext4", "mkfs.exfat", "mount.exfat-fuse", "losetup"];
    let there = |program: &&str| {
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|at| Path::new(at).join(program).exists())
    };
    let missing: Vec<_> = programs.iter().filter(|program| !there(program)).collect();
    if !missing.is_empty() || !Path::new("/dev/fuse").exists() || !Path::new("/dev/loop-control").exists() {
        super::super::skipped(&format!("no sticks: {missing:?} or /dev/fuse or /dev/loop-control missing"));
        return false;
    }
    if !super::super::root("sticks are mounted") {
        return false;
    }
    own_namespace();
    true
}

/// Moves this thread, and the programs that it starts, into a mount namespace of their own.
pub(crate) fn own_namespace() {
    COMMON.get_or_init(|| File::open("/proc/thread-self/ns/mnt").expect("the machine's namespace"));
    unshare(CloneFlags::CLONE_NEWNS).expect("root may unshare");
    done(Command::new("mount").args(["--make-rprivate", "/"]));
}

/// Moves this thread back into the mount namespace of the machine.
pub(super) fn leave_namespace() {
    let common = COMMON.get().expect("a namespace was made");
    unshare(CloneFlags::CLONE_FS).expect("a thread may have directories of its own");
    setns(common, CloneFlags::CLONE_NEWNS).expect("root may go back");
}

/// Runs a program that must succeed; what it printed.
fn done(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A stick: the disk and what is mounted of it.
pub(crate) struct Stick {
    // In the order in which they have to go.
    mounted: Option<Mounted>,
    _served: Served,
    pub(crate) disk: Disk,
    kind: Kind,
    directory: tempfile::TempDir,
}

impl Stick {
    /// A stick of so many bytes, formatted and mounted.
    pub(crate) fn new(kind: Kind, size: u64) -> Self {
        Self::formatted(kind, size, &[])
    }

    /// The same; `options` are for the program that formats it.
    pub(crate) fn formatted(kind: Kind, size: u64, options: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-stick-").tempdir().unwrap();
        let store = directory.path().join("store");
        let file = File::options().read(true).write(true).create_new(true).open(&store).unwrap();
        file.set_len(size).unwrap();
        format(kind, &store, options);
        let disk = Disk::new(file, size);
        let served = directory.path().join("served");
        fs::create_dir(&served).unwrap();
        let served = serve(&disk, &served);
        let mut stick = Self { mounted: None, _served: served, disk, kind, directory };
        stick.mount();
        stick
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// A path beside the mount point, on the machine's own disk.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its block device.
    pub(crate) fn device(&self) -> &str {
        &self.mounted.as_ref().expect("mounted").device
    }

    pub(crate) fn mount(&mut self) {
        let file = self.directory.path().join("served/disk");
        self.mounted = Some(Mounted::new(self.kind, &file, &self.path(), "rw"));
    }

    pub(crate) fn unmount(&mut self) {
        self.mounted = None;
    }

    /// Pulls it out and plugs it in again: nothing of it is in any memory but its own.
    pub(crate) fn remount(&mut self) {
        self.unmount();
        self.disk.plug_in();
        self.mount();
    }

    /// The same after it was pulled out in the middle of a write: the filesystem is checked as after a loss of power.
    pub(crate) fn recover(&mut self) {
        self.unmount();
        self.disk.plug_in();
        let file = self.directory.path().join("served/disk");
        self.mounted = Some(Mounted::checked(self.kind, &file, &self.path()).expect("it mounts"));
    }

    /// What is mounted.
    pub(crate) fn mounted(&mut self) -> &mut Mounted {
        self.mounted.as_mut().expect("mounted")
    }
}

/// Formats the file `disk`.
pub(crate) fn format(kind: Kind, disk: &Path, options: &[&str]) {
    let mut command = match kind {
        Kind::Ext4 => {
            let mut command = Command::new("mkfs.ext4");
            command.args(["-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard"]);
            command
        }
        Kind::Exfat => Command::new("mkfs.exfat"),
    };
    done(command.args(options).arg(disk));
}

/// A filesystem that is mounted from a loop device on a file; unmounted and detached with the value.
pub(crate) struct Mounted {
    device: String,
    /// Whether the kernel detaches the device when it is unmounted, also when the test was killed. Its number
    /// may be another's then.
    released: bool,
    path: PathBuf,
    /// The program that serves exFAT.
    pub(crate) daemon: Option<Child>,
}

impl Mounted {
    /// Mounts `disk`, which has a filesystem of this kind, on `path`, which is made.
    pub(crate) fn new(kind: Kind, disk: &Path, path: &Path, options: &str) -> Self {
        Self::try_new(kind, disk, path, options).expect("it mounts")
    }

    /// The same; the reason if the filesystem cannot be mounted.
    pub(crate) fn try_new(kind: Kind, disk: &Path, path: &Path, options: &str) -> Result<Self, String> {
        match kind {
            Kind::Ext4 => Self::of_kernel("ext4", disk, path, options),
            Kind::Exfat => Self::exfat(disk, path, &[]),
        }
    }

    /// The same, as a person does it after a loss of power: exFAT, which has no journal, is checked first, and
    /// ext4 if it does not mount.
    pub(crate) fn checked(kind: Kind, disk: &Path, path: &Path) -> Result<Self, String> {
        let mut command = match kind {
            Kind::Ext4 => {
                if let Ok(mounted) = Self::try_new(kind, disk, path, "rw") {
                    return Ok(mounted);
                }
                let mut command = Command::new("e2fsck");
                command.arg("-f");
                command
            }
            Kind::Exfat => Command::new("fsck.exfat"),
        };
        let said = command.arg("-y").arg(disk).output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&said.stdout));
        Self::try_new(kind, disk, path, "rw")
    }

    /// One that the kernel drives.
    pub(crate) fn of_kernel(name: &str, disk: &Path, path: &Path, options: &str) -> Result<Self, String> {
        fs::create_dir_all(path).unwrap();
        let mut mounted = Self { device: attach(disk), released: false, path: path.to_owned(), daemon: None };
        let output = Command::new("mount")
            .args(["-t", name, "-o", options, &mounted.device])
            .arg(path)
            .output()
            .unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            mounted.release();
            Ok(mounted)
        } else {
            Err(why)
        }
    }

    /// exFAT; its program is started by `under`, such as strace, if that is not empty.
    pub(crate) fn exfat(disk: &Path, path: &Path, under: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(path).unwrap();
        let device = attach(disk);
        // It dies with the thread that started it, and its mounts with it.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(under)
            .args(["mount.exfat-fuse", "-d", "-o", "rw", &device])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut mounted = Self { device, released: false, path: path.to_owned(), daemon: Some(daemon) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !mounted.is_mounted() {
            let ended = mounted.daemon.as_mut().expect("just set").try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!("exfat-fuse: {ended:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        mounted.release();
        Ok(mounted)
    }

    /// Has the kernel detach the device when it is no longer mounted.
    fn release(&mut self) {
        done(Command::new("losetup").args(["--detach", &self.device]));
        self.released = true;
    }

    /// Whether something is mounted there.
    pub(crate) fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let path = self.path.to_str().unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4) == Some(path))
    }

    /// Its block device.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Kills the program that serves it.
    pub(crate) fn kill(&mut self) {
        let daemon = self.daemon.as_mut().expect("exFAT");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Mounts it with other options.
    pub(crate) fn change(&self, options: &str) {
        done(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.path));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted() {
            let quiet = |arguments: &[&str]| {
                let mut command = Command::new("umount");
                command.args(arguments).arg(&self.path).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            };
            // One whose disk has gone is only let go of.
            let _ = (0..20).any(|_| {
                quiet(&[]) || {
                    std::thread::sleep(Duration::from_millis(20));
                    false
                }
            }) || quiet(&["-l"]);
        }
        if let Some(daemon) = &mut self.daemon {
            let deadline = Instant::now() + Duration::from_secs(5);
            while daemon.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if !self.released {
            let _ = Command::new("losetup").args(["--detach", &self.device]).stderr(Stdio::null()).status();
        }
    }
}

fn attach(disk: &Path) -> String {
    let device = done(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(disk));
    device.trim().to_owned()
}
