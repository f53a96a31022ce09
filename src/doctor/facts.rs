//! What is known of a node. Everything that can be looked up beneath another root than `/` is.

mod kubelet;
mod node;
mod registries;
mod system;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::containerd::Version;
use crate::error::Result;
use crate::image::Reference;
use crate::import::Space;
use crate::lists::{Named, Pull};
use crate::progress::Run;
use crate::trust::Admitted;

pub use crate::node::Sandbox;
pub use kubelet::{Amount, Kubelet, PullIntent, Thresholds};
pub use registries::{HostsFile, MirrorHost, Proxy};
pub use system::{Clock, Disk, DiskRole};

/// What a node is asked about, and what for.
#[derive(Debug, Default)]
pub struct Subject<'a> {
    /// containerd's socket, instead of looking for one.
    pub address: Option<&'a Path>,
    /// The root of the system whose files are looked at.
    pub system: PathBuf,
    /// A medium that is to be imported.
    pub medium: Option<&'a Admitted>,
    /// Images that workloads name.
    pub named: Vec<Named>,
}

/// Everything the checks go by.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Whether this runs as root, and so sees everything.
    pub privileged: bool,
    /// containerd's socket.
    pub socket: Socket,
    /// What it told; `None` when it does not answer.
    pub containerd: Option<Containerd>,
    /// Filesystems of images and of kubelet.
    pub disks: Vec<Disk>,
    /// Whether there is a default route; `None` when that cannot be seen.
    pub default_route: Option<bool>,
    /// kubelet's configuration and files.
    pub kubelet: Kubelet,
    /// The clock.
    pub clock: Clock,
    /// Proxies that containerd is told of.
    pub proxies: Vec<Proxy>,
    /// Mirrors that containerd is told of.
    pub hosts: Vec<HostsFile>,
    /// Images that workloads name.
    pub workloads: Vec<Workload>,
    /// The medium.
    pub medium: Option<MediumFacts>,
}

/// How the socket is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// None of these exist.
    Missing(Vec<PathBuf>),
    /// This user may not connect.
    Denied(PathBuf),
    /// Nobody answers, or not in time: why.
    Silent(PathBuf, String),
    /// containerd answers.
    Answers(PathBuf),
}

/// A containerd that answers.
#[derive(Clone, Debug)]
pub struct Containerd {
    /// Its version.
    pub version: Version,
    /// Whether it serves CRI.
    pub cri: bool,
    /// What CRI says of itself.
    pub conditions: Vec<Condition>,
    /// What CRI unpacks with; `None` when it does not say.
    pub snapshotter: Option<Snapshotter>,
    /// The image of pods' sandboxes.
    pub sandbox: Sandbox,
    /// The folders of mirrors that CRI is told of, as they are written; `None` where none is.
    pub mirrors: Option<String>,
    /// The folder of programs that are asked before an image is pulled, where there are any.
    pub verifiers: Option<PathBuf>,
    /// Leases of imports that have ended.
    pub dead_leases: Vec<String>,
    /// Unfinished blobs of ours that no running import works on.
    pub left_ingests: Vec<String>,
}

/// A condition that CRI reports, such as `RuntimeReady`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why not.
    pub message: String,
}

/// A snapshotter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshotter {
    /// Its name.
    pub name: String,
    /// Why it does not work, if it does not.
    pub failure: Option<String>,
}

/// An image that a workload names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The image.
    pub image: Reference,
    /// Where it is named.
    pub place: String,
    /// When kubelet asks a registry for it.
    pub pull: Pull,
    /// Whether the node has it; `None` when it cannot be asked.
    pub on_node: Option<bool>,
    /// Whether the medium has it; `None` without a medium.
    pub on_medium: Option<OnMedium>,
}

/// How a medium has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMedium {
    /// It does not.
    No,
    /// For this node's platform.
    Yes,
    /// For others only: which.
    OtherPlatforms(String),
}

/// What an import of the medium would come to.
#[derive(Clone, Debug)]
pub struct MediumFacts {
    /// Where it is.
    pub path: PathBuf,
    /// When its newest record was written, if that is known.
    pub created: Option<SystemTime>,
    /// Why it could not be imported.
    pub failure: Option<String>,
    /// What the import takes up.
    pub spaces: Vec<Space>,
    /// Names with the tag `latest`.
    pub latest: Vec<String>,
}

impl NodeFacts {
    /// Looks. Nothing is changed; what cannot be seen is left out or said to be unknown.
    ///
    /// Errors: an interruption. Whatever is wrong with the node is a fact.
    pub fn gather(subject: &Subject<'_>, run: Run<'_>) -> Result<Self> {
        let system = subject.system.as_path();
        let reached = node::reach(subject.address, system);
        let containerd = reached.client.as_ref().and_then(|client| node::ask(client, system));
        let kubelet = Kubelet::read(system);
        let node = node::survey(&reached, containerd.as_ref());
        let (workloads, medium) = workloads::compare(subject, node.as_ref(), reached.client.as_ref(), run)?;
        Ok(Self {
            privileged: rustix::process::geteuid().is_root(),
            disks: system::disks(node.as_ref(), system),
            default_route: system::default_route(system),
            clock: system::clock(system, medium.as_ref().and_then(|medium| medium.created)),
            proxies: registries::proxies(system),
            hosts: registries::hosts(system),
            socket: reached.socket,
            containerd,
            kubelet,
            workloads,
            medium,
        })
    }
}

#[cfg(test)]
use crate::import::Need;

#[cfg(test)]
impl NodeFacts {
    /// A node on which everything is as it should be.
    pub(super) fn healthy() -> Self {
        let gigabytes = |n: u64| n << 30;
        let disk = Disk {
            role: DiskRole::Images,
            path: "/var/lib/containerd".into(),
            filesystem: "ext4".into(),
            read_only: false,
            size: gigabytes(100),
            free: gigabytes(60),
            inodes: 1000,
            inodes_free: 900,
        };
        Self {
            privileged: true,
            socket: Socket::Answers("/run/containerd/containerd.sock".into()),
            containerd: Some(Containerd {
                version: Version::parse("2.1.4"),
                cri: true,
                conditions: ["RuntimeReady", "NetworkReady"]
                    .map(|name| Condition { name: name.into(), holds: true, message: String::new() })
                    .into(),
                snapshotter: Some(Snapshotter { name: "overlayfs".into(), failure: None }),
                sandbox: Sandbox::Present("registry.k8s.io/pause:3.10".into()),
                mirrors: Some("/etc/containerd/certs.d".into()),
                verifiers: None,
                dead_leases: Vec::new(),
                left_ingests: Vec::new(),
            }),
            disks: vec![
                disk.clone(),
                Disk { role: DiskRole::Kubelet, path: "/var/lib/kubelet".into(), ..disk },
            ],
            default_route: Some(true),
            kubelet: Kubelet::default(),
            clock: Clock {
                now: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
                newest: Some((
                    "/etc/machine-id".into(),
                    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_799_000_000),
                )),
            },
            proxies: Vec::new(),
            hosts: Vec::new(),
            workloads: Vec::new(),
            medium: None,
        }
    }

    /// The same with a workload whose image is on the node and a medium that fits.
    pub(super) fn healthy_with_workload() -> Self {
        Self {
            workloads: vec![Workload {
                image: "app:1".parse().unwrap(),
                place: "app.yaml:3".into(),
                pull: Pull::Unsaid,
                on_node: Some(false),
                on_medium: Some(OnMedium::Yes),
            }],
            medium: Some(MediumFacts {
                path: "/media/stick".into(),
                created: None,
                failure: None,
                spaces: vec![Space {
                    path: "/var/lib/containerd".into(),
                    need: Need { blobs: 10, unpacked: 10 },
                    free: 60,
                    size: 100,
                }],
                latest: Vec::new(),
            }),
            ..Self::healthy()
        }
    }
}
