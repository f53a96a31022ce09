//! Fills the directory of a containerd that does not run: that of an image of a machine, of a chroot.
//!
//! A containerd of our own is started on the directory, with its state and socket elsewhere and
//! without CRI; the import does the rest, and containerd is ended. Moved to its place, the directory
//! is as if the images had been imported there: nothing is left to do when the machine boots.

mod archive;
mod daemon;
mod distribution;
mod root;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Side};
use crate::image::{Platform, Reference};
use crate::import::{self, Prepared, Summary};
use crate::node::{self, Node, NodeOptions};
use crate::progress::{Event, Run};
use crate::record::Volume;
use crate::trust::Admitted;

pub use archive::{Archive, archive};
pub use daemon::{ContainerdProgram, Daemon};
pub use distribution::{Distribution, Images};

/// The namespace of Kubernetes, which CRI uses.
const NAMESPACE: &str = "k8s.io";

/// What is filled, and with what.
#[derive(Clone, Debug)]
pub struct Target {
    /// containerd's root directory; made if it is not there.
    pub root: PathBuf,
    /// The system that the directory is part of: `/` when it is this one.
    pub system: PathBuf,
    /// The containerd that fills it.
    pub program: ContainerdProgram,
    /// What layers are unpacked with; it must be what CRI will use on that machine.
    pub snapshotter: String,
    /// Where that keeps its files, if not below `root`.
    pub snapshots: Option<PathBuf>,
    /// The image that the sandboxes of pods run on that machine, if that is known.
    pub sandbox: Option<String>,
    /// The platform of the images, instead of this machine's.
    pub platform: Option<Platform>,
}

/// What a bake did.
#[derive(Debug)]
pub struct Baked {
    /// The import.
    pub summary: Summary,
    /// Where the medium is one of several and all of it was asked for: the numbers of those that are
    /// not in the directory yet.
    pub missing: Option<(Volume, Vec<u32>)>,
}

/// Imports images into the root directory of a containerd that does not run.
///
/// `planned` is told the plan before the first byte. However this ends, the containerd that it started
/// has ended; run again after an interruption, it goes on. Errors: a directory that cannot be one of
/// a containerd, or is that of one that runs; those of [`import::prepare`] and [`import::carry_out`].
///
/// To be called from a thread that lives as long as the process: the kernel ends the containerd with
/// the thread that started it.
pub fn bake(
    medium: &Admitted,
    target: &Target,
    options: &import::Options,
    run: Run<'_>,
    planned: impl FnOnce(&Prepared, &Node),
) -> Result<Baked> {
    root::require_usable(&target.root, &target.snapshotter)?;
    if let Some(snapshots) = &target.snapshots {
        root::require_usable(snapshots, &target.snapshotter)?;
    }
    let folders = root::RunFolders::note(&target.system);
    let daemon = Daemon::start(target, run.stop)?;
    let result = fill(medium, target, &daemon, options, run, planned);
    // What went wrong first is what is told.
    let stopped = daemon.stop();
    root::unmount_leftovers(&target.root);
    let baked = result?;
    stopped?;
    root::tidy(&target.root)?;
    if let Some(snapshots) = &target.snapshots {
        node::sync(snapshots)?;
    }
    for warning in folders.appeared() {
        run.report(Event::Warning(&warning));
    }
    Ok(baked)
}

fn fill(
    medium: &Admitted,
    target: &Target,
    daemon: &Daemon,
    options: &import::Options,
    run: Run<'_>,
    planned: impl FnOnce(&Prepared, &Node),
) -> Result<Baked> {
    let node = Node::survey(&NodeOptions {
        address: Some(daemon.socket().to_owned()),
        namespace: NAMESPACE.into(),
        snapshotters: vec![target.snapshotter.clone()],
        platform: target.platform.clone(),
        no_cri: true,
        alone: true,
        stop: run.stop.clone(),
        ..NodeOptions::default()
    })?;
    let prepared = import::prepare(medium, &node, options, |_| {}, run)?;
    planned(&prepared, &node);
    let summary = import::carry_out(medium, &node, prepared, options, run)?;
    if let Some(name) = target.sandbox.as_deref().and_then(|name| name.parse::<Reference>().ok())
        && node.client.image(&name.to_string())?.is_none()
    {
        let text = format!(
            "{name}, which every pod's sandbox runs on that machine, is not there: no pod starts before it is; carry it as well"
        );
        run.report(Event::Warning(&text));
    }
    let volume = medium.record().and_then(|record| record.volume.clone());
    let missing = match volume.filter(|_| options.images.is_empty()) {
        Some(volume) => {
            let missing = import::missing_volumes(&node, &volume)?;
            Some((volume, missing))
        }
        None => None,
    };
    Ok(Baked { summary, missing })
}

/// An error about the directory that is filled.
fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Refused {
        side: Side::Node,
        action: format!("baking into {}", path.display()),
        reason: reason.into(),
    }
}
