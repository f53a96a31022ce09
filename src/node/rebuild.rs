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
use crate::record::Delta;

/// Holds the blobs that layers are rebuilt from; one that has just gone is missed when it is read.
pub(super) fn hold_bases(client: &Client, plan: &ImportPlan) -> Result<()> {
    let bases = plan.rebuilds().flat_map(|(rebuild, _)| &rebuild.bases);
    bases.map(|base| Resource::blob(base.digest)).try_for_each(|base| client.hold_here(&base))
}

/// Rebuilds the layer `tar` in a file of ours.
///
/// The base is read from containerd and decoded, the patch compared with its digest. Base and result
/// are not: containerd hashes the result before it shows it, and [`disproved`] tells then what is wrong.
/// What this takes of the disk is gone with the result. Errors name the base that is damaged or gone,
/// and change nothing.
pub(super) fn rebuild(
    client: &Client,
    medium: &Medium,
    rebuild: &Rebuild,
    tar: &Descriptor,
    run: Run<'_>,
) -> Result<Scratch> {
    let mut failed = None;
    for blob in &rebuild.bases {
        run.check()?;
        match rebuild_from(client, medium, blob, rebuild, tar, run) {
            Ok(tar) => return Ok(tar),
            Err(error @ (Failed::Base(_) | Failed::Absent)) => {
                failed.get_or_insert(error);
            }
            Err(Failed::All(error)) => return Err(error),
        }
    }
    match failed {
        Some(Failed::Base(error)) => Err(error),
        _ => Err(no_base(&rebuild.delta)),
    }
}

/// What is wrong when what was rebuilt is not the layer that it should be.
pub(super) fn disproved(delta: &Delta, found: Digest) -> Error {
    let what = format!("the layer to which the delta {} leads", delta.digest);
    Error::DigestMismatch { side: Side::Medium, what, expected: delta.diff_id, found }
}

/// Why a layer could not be rebuilt from a blob.
enum Failed {
    /// The blob does not hold the base; another may.
    Base(Error),
    /// It is gone, as well.
    Absent,
    /// Another blob would not help.
    All(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { .. } => Self::Absent,
            error => Self::All(error),
        }
    }
}

fn rebuild_from(
    client: &Client,
    medium: &Medium,
    blob: &Descriptor,
    rebuild: &Rebuild,
    tar: &Descriptor,
    run: Run<'_>,
) -> Result<Scratch, Failed> {
    let (wanted, directory) = (&rebuild.delta, &scratch_directory());
    let base = base(client, blob, rebuild, directory, run)?;
    let patch = medium.open_blob(&wanted.descriptor())?;
    let error = match delta::apply(directory, &base, Stoppable(patch, run), tar.size) {
        Ok(tar) => return Ok(tar),
        Err(error) => error,
    };
    let text = error.to_string();
    let damage = error.kind() == io::ErrorKind::InvalidData;
    match Error::from_io(Side::Node, "rebuild a layer in", directory.into(), error) {
        Error::Io { .. } if damage => {}
        error => return Err(error.into()),
    }
    // Either the base is another, or the delta is wrong.
    let found = base.digest().map_err(Error::io(Side::Node, "read", directory))?;
    if found != wanted.base {
        // What said that the blob is the base is wrong, if the blob is whole.
        let reason = format!("is layer {found}, which the record or a label has for another");
        return Err(not_the_base(client, blob, rebuild, reason, run)?);
    }
    let what = format!("the delta {} to layer {}", wanted.digest, wanted.diff_id);
    let reason = format!(
        "does not lead there from layer {found}, which is whole ({text}); export it again with --no-delta"
    );
    Err(Failed::All(Error::invalid(Side::Medium, what, reason)))
}

/// The tar of a blob that should be the base.
fn base(
    client: &Client,
    blob: &Descriptor,
    rebuild: &Rebuild,
    directory: &Path,
    run: Run<'_>,
) -> Result<Scratch, Failed> {
    let reader = Stoppable(client.read_blob(blob, 0)?, run);
    let error = match Scratch::unproven_tar(directory, reader, rebuild.delta.base_size) {
        Ok(tar) => return Ok(tar),
        Err(error) => error,
    };
    if error.raw_os_error().is_some() {
        return Err(Failed::All(Error::io(Side::Node, "write a base to", directory)(error)));
    }
    let reason = format!("does not decode: {error}");
    match Error::from_io(Side::Node, "read", blob.digest.to_string().into(), error) {
        Error::Io { .. } => Err(not_the_base(client, blob, rebuild, reason, run)?),
        own => Err(own.into()),
    }
}

/// What is wrong with a blob that should hold the base and does not, for this reason if it is whole.
fn not_the_base(
    client: &Client,
    blob: &Descriptor,
    rebuild: &Rebuild,
    reason: String,
    run: Run<'_>,
) -> Result<Failed> {
    let (base, wanted) = (rebuild.delta.base, rebuild.delta.diff_id);
    let what = format!("blob {}, with layer {base} from which layer {wanted} is rebuilt,", blob.digest);
    Ok(Failed::Base(match examine(client, blob, run)? {
        Some(Fault::Damaged(found)) => {
            Error::DigestMismatch { side: Side::Node, what, expected: blob.digest, found }
        }
        Some(Fault::Size(found)) => {
            Error::SizeMismatch { side: Side::Node, what, expected: blob.size, found }
        }
        Some(Fault::Absent | Fault::FileGone) => return Ok(Failed::Absent),
        None => Error::invalid(Side::Node, what, reason),
    }))
}

/// The error for a base that is gone, with what can be done.
fn no_base(delta: &Delta) -> Error {
    let what = format!("layer {}, from which layer {} is to be rebuilt", delta.base, delta.diff_id);
    Error::invalid(
        Side::Node,
        what,
        "it is not there; import what brought it, or export again with --no-delta",
    )
}
