//! Making a layer from one that the node holds and a delta on the medium.

use std::io;
use std::path::Path;

use super::repair::{Fault, examine};
use crate::containerd::{Client, Resource};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::layer::{Scratch, delta, scratch_directory};
use crate::medium::Medium;
use crate::plan::import::{ImportPlan, Rebuild};
use crate::progress::{Run, Stoppable};

/// Holds the blobs that layers are rebuilt from; one that has just gone is missed when it is read.
pub(super) fn hold_bases(client: &Client, plan: &ImportPlan) -> Result<()> {
    let bases = plan.rebuilds().flat_map(|(rebuild, _)| &rebuild.bases);
    bases.map(|base| Resource::blob(base.digest)).try_for_each(|base| client.hold_here(&base))
}

/// Rebuilds the layer `tar` in a file of ours.
///
/// The base is read from containerd, decoded and compared with its diff_id before it is used, the
/// patch with its digest, the result with its diff_id. What this takes of the disk is gone with the
/// result. Errors name the base that is damaged or gone, and change nothing.
pub(super) fn rebuild(
    client: &Client,
    medium: &Medium,
    rebuild: &Rebuild,
    tar: &Descriptor,
    run: Run<'_>,
) -> Result<Scratch> {
    let (wanted, directory) = (&rebuild.delta, &scratch_directory());
    let base = base(client, rebuild, directory, run)?;
    let patch = medium.open_blob(&wanted.descriptor())?;
    let what = format!("the delta {} to layer {}", wanted.digest, wanted.diff_id);
    match delta::apply(directory, &base, Stoppable(patch, run), &tar.digest, tar.size) {
        Ok(tar) => Ok(tar),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let reason = format!(
                "does not lead there from layer {}, which is whole ({error}); export it again with --no-delta",
                wanted.base
            );
            Err(Error::invalid(Side::Medium, what, reason))
        }
        Err(error) => Err(Error::from_io(Side::Node, "rebuild a layer in", directory.into(), error)),
    }
}

/// The tar of the base, from the first blob that has it.
fn base(client: &Client, rebuild: &Rebuild, directory: &Path, run: Run<'_>) -> Result<Scratch> {
    let mut failed = None;
    for blob in &rebuild.bases {
        run.check()?;
        match tar(client, blob, rebuild, directory, run) {
            Ok(tar) => return Ok(tar),
            Err(error) if error.is_damage() || matches!(error, Error::NotFound { .. }) => {
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if error.is_damage() => Err(error),
        _ => Err(no_base(&rebuild.delta.base, &rebuild.delta.diff_id, "it is not there")),
    }
}

fn tar(
    client: &Client,
    blob: &Descriptor,
    rebuild: &Rebuild,
    directory: &Path,
    run: Run<'_>,
) -> Result<Scratch> {
    let (base, wanted) = (rebuild.delta.base, rebuild.delta.diff_id);
    let what = || format!("blob {}, with layer {base} from which layer {wanted} is rebuilt,", blob.digest);
    // Its own digest is not looked at: the diff_id proves more, and is needed in any case.
    let reader = Stoppable(client.read_blob(blob, 0)?, run);
    let reason = match Scratch::tar(directory, reader, rebuild.delta.base_size) {
        Ok((tar, decoded)) if decoded.diff_id == base => return Ok(tar),
        // What said that the blob is the base is wrong, if the blob is whole.
        Ok((_, decoded)) => {
            format!("is layer {}, which the record or a label has for another", decoded.diff_id)
        }
        Err(error) if error.raw_os_error().is_some() => {
            return Err(Error::io(Side::Node, "write a base to", directory)(error));
        }
        Err(error) => {
            let reason = format!("does not decode: {error}");
            match Error::from_io(Side::Node, "read", blob.digest.to_string().into(), error) {
                Error::Io { .. } => reason,
                own => return Err(own),
            }
        }
    };
    Err(match examine(client, blob, run)? {
        Some(Fault::Damaged(found)) => {
            Error::DigestMismatch { side: Side::Node, what: what(), expected: blob.digest, found }
        }
        Some(Fault::Size(found)) => {
            Error::SizeMismatch { side: Side::Node, what: what(), expected: blob.size, found }
        }
        Some(Fault::Absent | Fault::FileGone) => Error::not_found(Side::Node, what()),
        None => Error::invalid(Side::Node, what(), reason),
    })
}

/// The error for a base that cannot be used, with what can be done.
fn no_base(base: &Digest, diff_id: &Digest, reason: &str) -> Error {
    let what = format!("layer {base}, from which layer {diff_id} is to be rebuilt");
    let reason = format!("{reason}; import what brought it, or export again with --no-delta");
    Error::Invalid { side: Side::Node, what, reason }
}
