//! A containerd of our own on a root directory: its program, its configuration, its start and end.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::Target;
use crate::containerd::{Client, Version};
use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// How long it may take to answer, and to end: with a large database on a slow disk, seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest path of a socket in bytes (`unix(7)`), with the suffix that containerd adds for ttrpc.
const LONGEST_SOCKET: usize = 107 - ".ttrpc".len();

/// What need not run to fill a directory and would reach outside it, or look for devices (containerd 1.x).
const OFF_1: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart"];
/// The same from 2.0 on. NRI would bind one socket for all containerds of the machine.
const OFF_2: [&str; 5] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.nri.v1.nri",
    "io.containerd.monitor.container.v1.restart",
];
/// Snapshotters that come with containerd and want devices or filesystems of their own.
const SNAPSHOTTERS: [&str; 7] = ["aufs", "blockfile", "btrfs", "devmapper", "erofs", "native", "zfs"];

/// A containerd that can be run.
#[derive(Clone, Debug)]
pub struct ContainerdProgram {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

impl ContainerdProgram {
    /// The program `asked`, else the one in `PATH`. An error unless it says that it is a containerd.
    pub fn find(asked: Option<&Path>) -> Result<Self> {
        let path = match asked {
            Some(path) => std::path::absolute(path).map_err(Error::io(Side::Node, "find", path))?,
            None => in_path("containerd").ok_or_else(|| {
                Error::not_found(
                    Side::Node,
                    "containerd in PATH; name the one of the machine with --containerd",
                )
            })?,
        };
        let output = Command::new(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| cannot_run(&path, &error))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match version(&said) {
            Some(version) => Ok(Self { path, version }),
            None => Err(Error::invalid(
                Side::Node,
                path.display(),
                "not a containerd: with --version it does not say that it is one",
            )),
        }
    }
}

/// Not there, not for this machine, or not to be executed: nothing is wrong with a disk.
fn cannot_run(path: &Path, error: &std::io::Error) -> Error {
    let action = format!("running {}", path.display());
    Error::Refused { side: Side::Node, action, reason: error.to_string() }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The version in `containerd <package> <version> <revision>`.
fn version(said: &str) -> Option<Version> {
    let mut words = said.split_whitespace();
    if words.next() != Some("containerd") {
        return None;
    }
    words.map(Version::parse).find(|version| version.numbers.0 > 0)
}

/// A containerd that this process started on a root directory; it ends with the value, and with the
/// thread that started it however that ends.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    path: PathBuf,
    /// Its state, socket, configuration and log.
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts the program of `target` on its root and waits until it answers.
    pub fn start(target: &Target, stop: &Stop) -> Result<Self> {
        let Target { program, root, .. } = target;
        let folder = private_folder()?;
        let fail = |action: &'static str| Error::io(Side::Node, action, folder.path());
        let config = folder.path().join("config.toml");
        fs::write(&config, configuration(target, folder.path())?).map_err(fail("write to"))?;
        let log = File::create(folder.path().join("log")).map_err(fail("write to"))?;
        let mut command = Command::new(&program.path);
        command
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fail("write to"))?)
            .stderr(log)
            // Keys pressed in a terminal are for us: containerd is ended after its last call.
            .process_group(0);
        let parent = rustix::process::getpid();
        // SAFETY: in the child before exec it makes two system calls and touches no memory but its own.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || end_with(parent));
        }
        let child = command.spawn().map_err(|error| cannot_run(&program.path, &error))?;
        let mut daemon = Self { child, path: program.path.clone(), folder };
        daemon.wait_until_it_answers(root, stop)?;
        Ok(daemon)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    fn wait_until_it_answers(&mut self, root: &Path, stop: &Stop) -> Result<()> {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait().map_err(Error::io(Side::Node, "wait for", &self.path))?;
            let why = match ended {
                Some(status) => format!("it ended with {status}: {}", self.last_words()),
                None if begun.elapsed() > PATIENCE => format!("it does not answer: {}", self.last_words()),
                None => {
                    let answers = Client::connect(&self.socket(), super::NAMESPACE, Side::Node)
                        .and_then(|client| client.version());
                    if answers.is_ok() {
                        return Ok(());
                    }
                    stop.check()?;
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            let action = format!("starting {} on {}", self.path.display(), root.display());
            return Err(Error::Refused { side: Side::Node, action, reason: why });
        }
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let worst =
            lines.iter().rev().find(|line| line.contains("level=fatal") || line.starts_with("containerd:"));
        (*worst.or(lines.last()).unwrap_or(&"it wrote nothing to its log")).to_owned()
    }

    /// Ends it as an init system does, and waits until its databases are closed.
    pub fn stop(mut self) -> Result<()> {
        let failed = |reason: String| Error::Refused {
            side: Side::Node,
            action: format!("ending {}", self.path.display()),
            reason,
        };
        match end(&mut self.child) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(failed(format!("it ended with {status}: {}", self.last_words()))),
            Ok(None) => Err(failed("it had to be killed".into())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After an error that is told already.
        let _ = end(&mut self.child);
    }
}

/// Ends a process; `None` when it took no heed and was killed.
fn end(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    rustix::process::kill_process(Pid::from_child(child), Signal::TERM)?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(PAUSE);
    }
    child.kill()?;
    child.wait().map(|_| None)
}

/// Has the kernel end this process when `parent` ends, even if that is killed.
fn end_with(parent: Pid) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    match rustix::process::getppid() {
        Some(now) if now == parent => Ok(()),
        // It ended before the kernel was asked.
        _ => Err(rustix::io::Errno::SRCH.into()),
    }
}

/// A folder for a socket, whose path is not too long for one.
fn private_folder() -> Result<tempfile::TempDir> {
    let mut made = Err(std::io::ErrorKind::NotFound.into());
    let own = std::env::temp_dir();
    for place in [own.as_path(), Path::new("/tmp"), Path::new("/run"), Path::new("/var/tmp")] {
        made = tempfile::Builder::new().prefix("pannier-").tempdir_in(place);
        if let Ok(folder) = &made
            && folder.path().join("c.sock").as_os_str().as_bytes().len() <= LONGEST_SOCKET
        {
            break;
        }
    }
    made.map_err(Error::io(Side::Node, "make a folder in", own))
}

/// The configuration: nothing but what fills a directory, and nothing of the machine's own.
fn configuration(target: &Target, folder: &Path) -> Result<String> {
    let Target { root, snapshotter, .. } = target;
    let version = &target.program.version;
    let format = if version.numbers.0 == 1 { 2 } else { 3 };
    let services: &[&str] = if version.numbers.0 == 1 { &OFF_1 } else { &OFF_2 };
    let snapshotters = SNAPSHOTTERS.iter().filter(|name| *name != snapshotter);
    let off: Vec<String> = services
        .iter()
        .map(|id| format!("'{id}'"))
        .chain(snapshotters.map(|name| format!("'io.containerd.snapshotter.v1.{name}'")))
        .collect();
    let root = quoted(root)?;
    let snapshots = match &target.snapshots {
        Some(path) => {
            let name = quoted(Path::new(&format!("io.containerd.snapshotter.v1.{snapshotter}")))?;
            format!("[plugins.{name}]\n  root_path = {}\n", quoted(path)?)
        }
        None => String::new(),
    };
    let inside = |name: &str| quoted(&folder.join(name));
    let (state, socket, opt) = (inside("state")?, inside("c.sock")?, inside("opt")?);
    Ok(format!(
        "version = {format}\nroot = {root}\nstate = {state}\n\
         # Else containerd reads what it finds in its own places.\nimports = []\n\
         disabled_plugins = [{}]\n\
         [grpc]\n  address = {socket}\n\
         [plugins.'io.containerd.internal.v1.opt']\n  path = {opt}\n\
         {snapshots}[timeouts]\n  'io.containerd.timeout.bolt.open' = '10s'\n",
        off.join(", ")
    ))
}

/// A path as a basic string of TOML, whose escapes are JSON's.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().and_then(|text| serde_json::to_string(text).ok());
    text.ok_or_else(|| {
        super::refused(path, "its path is not UTF-8, which containerd's configuration cannot name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_builds_say() {
        for (said, numbers) in [
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1", (1, 6, 20)),
            ("containerd containerd.io 1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182", (1, 7, 24)),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376",
                (2, 1, 4),
            ),
            ("containerd github.com/k3s-io/containerd v2.0.5-k3s1 ", (2, 0, 5)),
        ] {
            assert_eq!(version(said).unwrap().numbers, numbers, "{said}");
        }
        for said in ["", "cat (GNU coreutils) 9.1", "containerd", "containerd-shim: 1.2"] {
            assert!(version(said).is_none(), "{said}");
        }
    }

    #[test]
    fn the_configuration_keeps_to_its_folders_whatever_they_are_called() {
        let root = Path::new("/mnt/it's \"here\"/containerd");
        for (text, format) in [("1.6.20", 2), ("1.7.24", 2), ("2.1.9", 3)] {
            let target = Target {
                root: root.into(),
                system: "/".into(),
                program: ContainerdProgram { path: "c".into(), version: Version::parse(text) },
                snapshotter: "native".into(),
                snapshots: Some("/mnt/data".into()),
                sandbox: None,
                platform: None,
            };
            let config = configuration(&target, Path::new("/tmp/x")).unwrap();
            let config: toml::Table = config.parse().unwrap();
            assert_eq!(config["version"].as_integer(), Some(format));
            assert_eq!(config["root"].as_str(), root.to_str());
            let plugin = &config["plugins"]["io.containerd.snapshotter.v1.native"];
            assert_eq!(plugin["root_path"].as_str(), Some("/mnt/data"));
            assert_eq!(config["grpc"]["address"].as_str(), Some("/tmp/x/c.sock"));
            let off: Vec<&str> =
                config["disabled_plugins"].as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
            assert!(off.contains(&"io.containerd.grpc.v1.cri"));
            assert!(!off.contains(&"io.containerd.snapshotter.v1.native"));
            assert_eq!(off.contains(&"io.containerd.nri.v1.nri"), format == 3);
        }
    }
}
