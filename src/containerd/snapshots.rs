//! Snapshots: unpacked layers, each committed under its chain_id.

use std::collections::HashMap;
use std::path::PathBuf;

use containerd_client::services::v1::snapshots as api;
use containerd_client::types::Mount;
use tonic::Code;

use super::Client;
use super::client::MAX_MESSAGE;
use crate::error::Result;

/// Where a snapshot that is being made can be written to, or one that is there be read.
#[derive(Clone, Debug)]
pub struct Mounts(pub(super) Vec<Mount>);

/// The directories of a snapshot and of those that it stands on, as far as its mounts tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directories {
    /// One for each layer, bottom first: the upper directories of an overlay.
    Layers(Vec<PathBuf>),
    /// One with all of it.
    Tree(PathBuf),
    /// None that can be looked into.
    Unknown,
}

impl Mounts {
    /// Where the files of a snapshot are that is only looked at.
    pub fn directories(&self) -> Directories {
        let [mount] = self.0.as_slice() else { return Directories::Unknown };
        match mount.r#type.as_str() {
            "bind" => Directories::Tree(mount.source.clone().into()),
            "overlay" => {
                let lower = mount.options.iter().find_map(|option| option.strip_prefix("lowerdir="));
                let lower: Vec<PathBuf> =
                    lower.unwrap_or_default().split(':').rev().map(PathBuf::from).collect();
                match lower.iter().all(|path| path.is_absolute()) {
                    true => Directories::Layers(lower),
                    false => Directories::Unknown,
                }
            }
            _ => Directories::Unknown,
        }
    }
}

/// What preparing a snapshot led to.
#[derive(Debug)]
pub enum Prepared {
    /// It can be filled.
    Ready(Mounts),
    /// The chain it is for is there, and held by the lease in use.
    Present,
}

/// A snapshot, committed or not.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its chain_id when committed, else the key it was prepared with.
    pub name: String,
    /// The snapshot below it; empty for the lowest.
    pub parent: String,
    /// Whether it is complete.
    pub committed: bool,
    /// All labels.
    pub labels: HashMap<String, String>,
}

impl From<api::Info> for Snapshot {
    fn from(info: api::Info) -> Self {
        let committed = info.kind == api::Kind::Committed as i32;
        Self { name: info.name, parent: info.parent, committed, labels: info.labels }
    }
}

impl Client {
    fn snapshots(&self) -> api::snapshots_client::SnapshotsClient<tonic::transport::Channel> {
        api::snapshots_client::SnapshotsClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The snapshot with this chain_id or key.
    pub fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>> {
        let message = api::StatSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
        let request = self.request(message);
        let mut snapshots = self.snapshots();
        let answer = self.find(|| format!("asking for snapshot {key}"), snapshots.stat(request))?;
        Ok(answer.and_then(|answer| answer.info).map(Snapshot::from))
    }

    /// Every snapshot that a snapshotter has in this namespace.
    pub fn list_snapshots(&self, snapshotter: &str) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        self.each_snapshot(snapshotter, |snapshot| snapshots.push(snapshot))?;
        Ok(snapshots)
    }

    /// The same, one after the other.
    pub fn each_snapshot(&self, snapshotter: &str, mut seen: impl FnMut(Snapshot)) -> Result<()> {
        let action = || format!("listing snapshots of {snapshotter}");
        let message = api::ListSnapshotsRequest { snapshotter: snapshotter.into(), filters: Vec::new() };
        let request = self.request(message);
        let mut client = self.snapshots();
        let mut stream = self.call(action, client.list(request))?;
        loop {
            match self.block_on(stream.message()) {
                Ok(Some(page)) => page.info.into_iter().map(Snapshot::from).for_each(&mut seen),
                Ok(None) => return Ok(()),
                Err(status) => return Err(self.failed(action(), status)),
            }
        }
    }

    /// Begins a snapshot under `key` on top of `parent` (empty for none).
    ///
    /// `labels` should carry [`super::label::SNAPSHOT_REF`]: only then is a chain that is there
    /// found and leased, instead of being made twice.
    pub fn prepare_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<Prepared> {
        let message = api::PrepareSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.into(),
            parent: parent.into(),
            labels,
        };
        let request = self.request(message);
        let mut snapshots = self.snapshots();
        match self.block_on(snapshots.prepare(request)) {
            Ok(answer) => Ok(Prepared::Ready(Mounts(answer.into_inner().mounts))),
            Err(status) if status.code() == Code::AlreadyExists => Ok(Prepared::Present),
            Err(status) => Err(self.failed(format!("preparing snapshot {key}"), status)),
        }
    }

    /// Makes what was prepared under `key` the snapshot `name`. False when `name` is there already.
    pub fn commit_snapshot(
        &self,
        snapshotter: &str,
        name: &str,
        key: &str,
        labels: HashMap<String, String>,
    ) -> Result<bool> {
        let message = api::CommitSnapshotRequest {
            snapshotter: snapshotter.into(),
            name: name.into(),
            key: key.into(),
            labels,
        };
        let request = self.request(message);
        let mut snapshots = self.snapshots();
        match self.block_on(snapshots.commit(request)) {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(self.failed(format!("committing snapshot {name}"), status)),
        }
    }

    /// Where the files of the snapshot `name` are; to be called under a lease. `None` where its snapshotter does not have it, whatever
    /// containerd's own database says.
    pub fn snapshot_mounts(&self, snapshotter: &str, name: &str) -> Result<Option<Mounts>> {
        let key = format!("pannier-look-{}", crate::unique::id());
        let message = api::ViewSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.clone(),
            parent: name.into(),
            labels: HashMap::new(),
        };
        let request = self.request(message);
        let mut snapshots = self.snapshots();
        let Some(answer) = self.find(|| format!("looking at snapshot {name}"), snapshots.view(request))?
        else {
            return Ok(None);
        };
        // Only its mounts were wanted.
        self.remove_snapshot(snapshotter, &key)?;
        Ok(Some(Mounts(answer.mounts)))
    }

    /// Removes a snapshot that no other stands on.
    pub fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<()> {
        let message = api::RemoveSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
        let request = self.request(message);
        let mut snapshots = self.snapshots();
        self.find(|| format!("removing snapshot {key}"), snapshots.remove(request)).map(drop)
    }
}
