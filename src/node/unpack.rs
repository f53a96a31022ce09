//! Unpacking one layer on top of its parent.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::orphan;
use crate::containerd::{Client, Prepared, Resource, label};
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, LayerType, MediaKind, kind};
use crate::plan::import::Unpack;

/// Has containerd unpack a layer, compares what came out with the diff_id, and commits the snapshot.
///
/// `files` is the directory that layers are unpacked to, if it can be seen from here: it is brought
/// to the device before the snapshot is committed. containerd does that itself only from 1.7.14 on;
/// without it, a power failure leaves empty files in a layer that counts as complete.
pub(super) fn unpack(client: &Client, step: &Unpack, files: Option<&Path>) -> Result<()> {
    let (snapshotter, name) = (step.snapshotter.as_str(), step.chain_id.to_string());
    if client.snapshot(snapshotter, &name)?.is_some_and(|snapshot| snapshot.committed) {
        return client.hold_here(&Resource::snapshot(snapshotter, &name));
    }
    let key = extract_key(&name);
    let parent = step.parent.map(|parent| parent.to_string()).unwrap_or_default();
    let labels = HashMap::from([(label::SNAPSHOT_REF.to_owned(), name.clone())]);
    let prepare = || client.prepare_snapshot(snapshotter, &key, &parent, labels.clone());
    let mounts = match orphan::prepare(files, prepare)? {
        Prepared::Ready(mounts) => mounts,
        Prepared::Present => return Ok(()),
    };
    let filled = client.apply(&for_differ(&step.layer), &mounts).and_then(|found| {
        if found != step.diff_id {
            return Err(Error::DigestMismatch {
                side: Side::Medium,
                what: format!("the content of layer {}", step.layer.digest),
                expected: step.diff_id,
                found,
            });
        }
        sync(files)?;
        // Before the commit: once the snapshot is there, nobody unpacks the layer again to learn this.
        client.label_blob(step.layer.digest, [(label::UNCOMPRESSED, found.to_string().as_str())])?;
        client.commit_snapshot(snapshotter, &name, &key, labels)
    });
    match filled {
        Ok(true) => Ok(()),
        Ok(false) => {
            // Another client was faster; its snapshot is as good as ours.
            client.remove_snapshot(snapshotter, &key)?;
            client.hold_here(&Resource::snapshot(snapshotter, &name))
        }
        Err(error) => {
            // Best effort: the lease takes it along in the end.
            if !matches!(error, Error::Unreachable { .. }) {
                let _ = client.remove_snapshot(snapshotter, &key);
            }
            Err(error)
        }
    }
}

/// In containerd's own form, with our mark where it puts random characters.
fn extract_key(chain_id: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let unique = crate::unique::id();
    format!("extract-{nanos}-pannier{} {chain_id}", &unique[..8])
}

/// The layer under a media type with which every version tells the compression by the bytes:
/// OCI's type of a plain tar does not, and 1.6 does not know Docker's for zstd.
fn for_differ(layer: &Descriptor) -> Descriptor {
    let media_type = match kind(&layer.media_type) {
        MediaKind::Layer(LayerType::Tar(Compression::None)) => "application/vnd.docker.image.rootfs.diff.tar",
        MediaKind::Layer(LayerType::Tar(compression)) => compression.oci_layer_type(),
        _ => &layer.media_type,
    };
    Descriptor { media_type: media_type.into(), ..layer.clone() }
}

/// Brings the filesystem that `directory` is on to the device.
pub(super) fn sync(directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    let handle = File::open(directory).map_err(Error::io(Side::Node, "open", directory))?;
    rustix::fs::syncfs(&handle)
        .map_err(|errno| Error::from_io(Side::Node, "sync", directory.into(), errno.into()))
}
