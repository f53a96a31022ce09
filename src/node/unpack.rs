//! Unpacking one layer on top of its parent.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Node, durable, orphan};
use crate::containerd::{Client, Prepared, Resource, label};
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, LayerType, MediaKind, kind};
use crate::plan::import::Unpack;

/// Has containerd unpack a layer, compares what came out with the diff_id, and commits the snapshot.
///
/// Its files are on the device before the snapshot is committed: otherwise a power failure leaves
/// empty files in a layer that counts as complete. False: containerd says that it is there, and the snapshotter does
/// not have it.
pub(super) fn unpack(node: &Node, client: &Client, step: &Unpack) -> Result<bool> {
    let (snapshotter, name) = (step.snapshotter.as_str(), step.chain_id.to_string());
    if client.snapshot(snapshotter, &name)?.is_some_and(|snapshot| snapshot.committed) {
        return client.hold_here(&Resource::snapshot(snapshotter, &name)).map(|()| true);
    }
    let key = extract_key(&name);
    let parent = step.parent.map(|parent| parent.to_string()).unwrap_or_default();
    let labels = HashMap::from([(label::SNAPSHOT_REF.to_owned(), name.clone())]);
    let prepare = || client.prepare_snapshot(snapshotter, &key, &parent, labels.clone());
    let mounts = match orphan::prepare(node.snapshot_root.as_deref(), prepare)? {
        Prepared::Ready(mounts) => mounts,
        Prepared::Present => return Ok(client.snapshot(snapshotter, &name)?.is_some()),
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
        durable::layer(node, snapshotter)?;
        // Before the commit: once the snapshot is there, nobody unpacks the layer again to learn this.
        client.label_blob(step.layer.digest, [(label::UNCOMPRESSED, found.to_string().as_str())])?;
        client.commit_snapshot(snapshotter, &name, &key, labels)
    });
    match filled {
        Ok(true) => Ok(true),
        Ok(false) => {
            // Another client was faster; its snapshot is as good as ours.
            client.remove_snapshot(snapshotter, &key)?;
            client.hold_here(&Resource::snapshot(snapshotter, &name)).map(|()| true)
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
