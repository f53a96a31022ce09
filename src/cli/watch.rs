//! `pannier watch`.

mod notify;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde_json::json;

use super::failure::{Ended, Failure};
use super::node::NodeArgs;
use super::output::Output;
use super::trust::TrustArgs;
use super::{exit, planned, signals};
use crate::config::{self, Config};
use crate::error::{Error, Result, Side};
use crate::import::{Options, Summary, carry_out, prepare};
use crate::medium::{now, write_result};
use crate::node::Node;
use crate::progress::Run;
use crate::trust::Admitted;
use crate::watch::Watch;

/// Between two attempts to reach a containerd that does not run yet.
const PAUSE: Duration = Duration::from_secs(1);

/// Wait for media to be mounted, and import each with no command typed
///
/// A medium is a mounted filesystem with the folder .pannier. It is imported if somebody signed it whose
/// signature counts here, as the configuration says; without a configuration that requires signatures
/// nothing is watched. One medium is imported at a time. What became of each is said on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier watch
  pannier watch --once --wait 0 --mount-points /run/pannier/sdb1

pannier install-units writes the systemd units that run it.")]
pub(super) struct Args {
    /// Where media are mounted: these directories, and those beneath them
    #[arg(long, value_name = "DIR", default_values = ["/media", "/run/media", "/mnt"])]
    mount_points: Vec<PathBuf>,
    /// End after the first medium, with the exit status of its import
    #[arg(long)]
    once: bool,
    /// End after so many seconds without a medium; 0 takes only what is mounted already
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Wait so many seconds for a containerd that does not run yet
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    node_timeout: u64,
    /// The configuration [default: /etc/pannier/config.toml]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Ended {
    let config = Config::read(args.config.as_deref())?;
    if !config.trust.is_required() {
        let file = args.config.as_deref().unwrap_or(Path::new(config::DEFAULT));
        return Err(Error::Usage(format!(
            "media are imported unasked only where they have to be signed: set allowed-signers in the section [trust] of {}",
            file.display()
        ))
        .into());
    }
    let stop = signals::stop()?;
    let reporter = output.reporter();
    let run = Run { reporter: &*reporter, stop: &stop };
    let mut watch = Watch::new(&args.mount_points)?;
    let places: Vec<String> = args.mount_points.iter().map(|place| place.display().to_string()).collect();
    output.say(format_args!("Waiting for media at {}.", places.join(", ")));
    let watcher = Watcher { args, config: &config, run, output };
    let mut deadline = args.deadline();
    let mut ready = false;
    loop {
        let changes = watch.look()?;
        for path in &changes.gone {
            output.say(format_args!("{} is gone.", path.display()));
        }
        for path in changes.arrived {
            let result = watcher.medium(&path);
            match result {
                Err(error @ Failure::Error(Error::Interrupted)) => return Err(error),
                result if args.once => return result,
                // It was said what became of it.
                _ => deadline = args.deadline(),
            }
        }
        // Whatever was mounted before this began is on the node, or was refused: kubelet may start.
        if !ready {
            notify::ready();
            ready = true;
        }
        match watch.wait(deadline, &stop) {
            Ok(true) => {}
            Ok(false) => {
                output.say("No medium came.");
                return Ok(());
            }
            // Nothing was being done: an orderly end.
            Err(Error::Interrupted) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Args {
    fn deadline(&self) -> Option<Instant> {
        self.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds))
    }
}

struct Watcher<'a> {
    args: &'a Args,
    config: &'a Config,
    run: Run<'a>,
    output: &'a Output,
}

impl Watcher<'_> {
    /// Imports the medium at `path`, and says what became of it.
    fn medium(&self, path: &Path) -> Ended {
        let _one_at_a_time = self.lock()?;
        self.output.say(format_args!("{} is a medium.", path.display()));
        let (commit, result) = self.import(path);
        let mut document =
            json!({ "event": "medium", "path": path.display().to_string(), "commit": commit, "time": now() });
        match &result {
            Ok(summary) => {
                document["status"] = 0.into();
                document["images"] = summary.images.into();
                document["names"] = summary.named.into();
                self.output.say(format_args!("{} was imported.", path.display()));
            }
            Err(error) => {
                let told = exit::error_text(error);
                document["status"] = told.status.into();
                document["error"] = told.text.clone().into();
                document["hint"] = told.hint.clone().into();
                self.output.complain(format_args!("{}: {}: {}", path.display(), verdict(error), told.text));
                if let Some(hint) = told.hint {
                    self.output.complain(format_args!("hint: {hint}"));
                }
            }
        }
        if self.config.watch.write_result {
            self.leave(path, &document);
        }
        if self.output.json() {
            self.output.document(&document)?;
        }
        result.map(drop)
    }

    /// The commit that was read, if any, and how its import went.
    fn import(&self, path: &Path) -> (Option<u64>, Ended<Summary>) {
        let trust = TrustArgs::configured(self.args.config.clone());
        let medium = match trust.open(path, self.output) {
            Ok(medium) => medium,
            Err(error) => return (None, Err(error.into())),
        };
        let commit = medium.record().map(|record| record.sequence);
        let imported = self.import_opened(&medium);
        (commit, imported.and_then(|summary| Ok(trust.remember(&medium).map(|()| summary)?)))
    }

    fn import_opened(&self, medium: &Admitted) -> Ended<Summary> {
        let options = Options {
            images: Vec::new(),
            unpack: true,
            pin: true,
            repair: false,
            keep_going: true,
            discard_layers: false,
        };
        let node = self.node()?;
        let prepared = prepare(medium, &node, &options, |_| {}, self.run)?;
        planned::announce(&prepared, &node, self.output);
        let summary = carry_out(medium, &node, prepared, &options, self.run)?;
        if !summary.failed.is_empty() {
            let total = summary.images + summary.failed.len();
            return Err(Failure::Partial { total, failed: summary.failed });
        }
        Ok(summary)
    }

    /// Finds the node, for which this may have to wait: at boot containerd may start after this.
    fn node(&self) -> Result<Node> {
        let deadline = Instant::now() + Duration::from_secs(self.args.node_timeout);
        loop {
            self.run.check()?;
            match self.args.node.survey(None, self.run.stop, self.output) {
                Err(
                    Error::Unreachable { side: Side::Node, .. } | Error::NotFound { side: Side::Node, .. },
                ) if Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                surveyed => return surveyed,
            }
        }
    }

    /// Waits until no other watcher imports; the unit for one stick may run beside the one for all.
    fn lock(&self) -> Result<File> {
        let path = self.config.state_directory.join("watch.lock");
        let fail = |action| Error::io(Side::Node, action, &path);
        std::fs::create_dir_all(&self.config.state_directory).map_err(fail("create"))?;
        let file = File::create(&path).map_err(fail("create"))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    self.run.check()?;
                    std::thread::sleep(PAUSE);
                }
                Err(errno) => return Err(fail("lock")(errno.into())),
            }
        }
    }

    /// Leaves the result on the medium, for whoever carries it back. One that cannot be written is no failure.
    fn leave(&self, path: &Path, document: &serde_json::Value) {
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy();
        if let Err(error) = write_result(path, &host, document.to_string().as_bytes()) {
            self.output.say(format_args!("The result was not left on the medium: {}", error.with_cause()));
        }
    }
}

/// What became of a medium, in a word or two.
fn verdict(failure: &Failure) -> &'static str {
    match failure {
        Failure::Error(Error::Untrusted { .. } | Error::NotTaken { .. }) => "refused",
        Failure::Error(Error::Interrupted) => "interrupted",
        Failure::Partial { .. } => "imported in part",
        _ => "not imported",
    }
}
