//! Unpacked layers held against what they were unpacked from: containerd itself never looks at them again.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use crate::containerd::{Client, Directories, label};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::layer::{Applied, Most, compare, with_tar};
use crate::limits::BLOB;

/// How long looking at snapshots may take; the files are read afterwards.
const LOOKING: Duration = Duration::from_secs(60 * 60);
/// Differences of a layer that are told one by one.
const TOLD: usize = 3;

/// A layer that is not unpacked as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFinding {
    /// What it is unpacked with.
    pub snapshotter: String,
    /// The layer.
    pub diff_id: Digest,
    /// The snapshot.
    pub chain_id: Digest,
    /// What is wrong.
    pub fault: SnapshotFault,
    /// The names of images that stand on it.
    pub images: Vec<String>,
}

/// What is wrong with an unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotFault {
    /// It was unpacked, as a label says, and is not there.
    Absent,
    /// Files differ: paths with what is wrong with each, the first few, and how many there are in all.
    Differs(Vec<(PathBuf, String)>, usize),
}

impl fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("was unpacked, and the snapshotter does not have it"),
            Self::Differs(differences, count) => {
                for (at, (path, what)) in differences.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    // Names of files are an image's, and may hold anything.
                    let path = path.display().to_string();
                    write!(f, "{comma}{} {what}", path.escape_debug())?;
                }
                match count - differences.len() {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
        }
    }
}

/// Where an unpacked layer can be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This directory holds what the layer has.
    Layer(PathBuf),
    /// This directory holds the layer and all below it.
    Tree(PathBuf),
    /// Nowhere: the snapshotter does not have it.
    Absent,
    /// Nowhere that is known here.
    Unknown,
}

/// Has `look` look at snapshots through a connection whose lease keeps what is made for that.
///
/// A view that the garbage collection takes stays listed below the snapshot it is of, which can then be removed no
/// more (containerd, `metadata/gc.go`; seen on 1.6 and 1.7). Whoever looks removes it in time.
pub(super) fn looking<T>(client: &Client, look: impl FnOnce(&Client) -> Result<T>) -> Result<T> {
    let id = format!("{}look-{}", super::PREFIX, crate::unique::id());
    let ends = OffsetDateTime::now_utc() + LOOKING;
    let ends = ends.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    client.create_lease(&id, HashMap::from([(label::GC_EXPIRE.to_owned(), ends)]))?;
    let found = client.with_lease(&id).and_then(|leased| look(&leased));
    let ended = client.delete_lease(&id, false);
    found.and_then(|found| ended.map(|()| found))
}

/// Where each layer of a chain is, which is unpacked up to its end.
pub(super) fn places(client: &Client, snapshotter: &str, chain: &[Digest]) -> Result<Vec<Place>> {
    let mut places = vec![Place::Unknown; chain.len()];
    for (at, chain_id) in chain.iter().enumerate().rev() {
        let found = client.snapshot_mounts(snapshotter, &chain_id.to_string())?;
        match found.map(|mounts| mounts.directories()) {
            None => places[at] = Place::Absent,
            Some(Directories::Tree(tree)) => places[at] = Place::Tree(tree),
            Some(Directories::Layers(layers)) if layers.len() == at + 1 => {
                for (place, (below, layer)) in places.iter_mut().zip(layers.into_iter().enumerate()) {
                    // Nothing is hidden by the lowest.
                    *place = if below == 0 { Place::Tree(layer) } else { Place::Layer(layer) };
                }
                break;
            }
            Some(_) => {}
        }
    }
    Ok(places)
}

/// Compares an unpacked layer with `encoded`, the bytes of a blob that holds it.
///
/// `None`: it is as it should be, or cannot be looked into. Errors: what is wrong with the blob.
pub(super) fn differences(
    place: &Place,
    encoded: impl Read + Send,
    content: bool,
) -> std::io::Result<Option<SnapshotFault>> {
    let (root, applied) = match place {
        Place::Layer(root) => (root, Applied::Overlay),
        Place::Tree(root) => (root, Applied::Tree),
        Place::Absent => return Ok(Some(SnapshotFault::Absent)),
        Place::Unknown => return Ok(None),
    };
    let found = with_tar(encoded, Most::Bytes(BLOB), |tar| compare(tar, root, applied, content))?;
    let count = found.len();
    let told: Vec<_> = found.into_iter().take(TOLD).collect();
    Ok((count > 0).then_some(SnapshotFault::Differs(told, count)))
}

/// The same where no blob is there that it could be compared with: only whether its directory is.
pub(super) fn gone(place: &Place) -> Option<SnapshotFault> {
    let missing = |root: &Path| {
        let what = (PathBuf::from("/"), "is missing".to_owned());
        (!root.is_dir()).then(|| SnapshotFault::Differs(vec![what], 1))
    };
    match place {
        Place::Layer(root) | Place::Tree(root) => missing(root),
        Place::Absent => Some(SnapshotFault::Absent),
        Place::Unknown => None,
    }
}

/// The snapshots of a snapshotter, and what stands on what.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// By what is below: the names of what stands on it, and whether those are complete.
    above: HashMap<String, Vec<(String, bool)>>,
    /// By the key of the snapshot that is its root filesystem.
    containers: HashMap<String, String>,
}

impl Standing {
    pub(super) fn of(client: &Client, snapshotter: &str) -> Result<Self> {
        let mut standing = Self::default();
        client.each_snapshot(snapshotter, |snapshot| {
            let above = standing.above.entry(snapshot.parent).or_default();
            above.push((snapshot.name, snapshot.committed));
        })?;
        for container in client.list_containers()? {
            if container.snapshotter == snapshotter {
                let who = super::prune::describe(&container);
                standing.containers.insert(container.snapshot, who);
            }
        }
        Ok(standing)
    }

    /// All that stands on `chain_id`, what is above coming first: complete snapshots, then who uses others.
    pub(super) fn on(&self, chain_id: Digest) -> (Vec<String>, Vec<String>) {
        let (mut complete, mut users) = (Vec::new(), Vec::new());
        let mut level = vec![chain_id.to_string()];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (name, committed) in level.iter().filter_map(|name| self.above.get(name)).flatten() {
                if *committed {
                    complete.push(name.clone());
                    next.push(name.clone());
                } else {
                    let who = self.containers.get(name).cloned();
                    users.push(who.unwrap_or_else(|| format!("snapshot {name}")));
                    next.push(name.clone());
                }
            }
            level = next;
        }
        complete.reverse();
        users.sort();
        users.dedup();
        (complete, users)
    }
}

/// What an error of reading a blob means here: an interruption and the like end everything, what is wrong with the
/// blob is told by whoever reads it on its own.
pub(super) fn fatal(error: std::io::Error) -> Result<()> {
    match error.downcast::<Error>() {
        Ok(error @ (Error::Interrupted | Error::Unreachable { .. })) => Err(error),
        _ => Ok(()),
    }
}
