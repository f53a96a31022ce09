//! Making a layer from one that the node holds and a delta on the medium.

use std::io::{self, Read};
use std::path::Path;

use crate::containerd::Client;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::layer::{Scratch, delta};
use crate::medium::Medium;
use crate::plan::import::Rebuild;
use crate::progress::Run;

/// Rebuilds the layer `tar` in a file of ours in `directory`.
///
/// The base is read from containerd, decoded and compared with its diff_id before it is used, the
/// patch with its digest, the result with its diff_id. What this takes of the disk is gone with the
/// result. Errors name the base that is damaged or gone, and change nothing.
pub(super) fn rebuild(
    client: &Client,
    medium: &Medium,
    rebuild: &Rebuild,
    tar: &Descriptor,
    directory: &Path,
    run: Run<'_>,
) -> Result<Scratch> {
    let wanted = &rebuild.delta;
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
    let reason = failed.map_or_else(|| "is not there".into(), |error| error.to_string());
    Err(no_base(&rebuild.delta.base, &rebuild.delta.diff_id, &reason))
}

fn tar(
    client: &Client,
    blob: &Descriptor,
    rebuild: &Rebuild,
    directory: &Path,
    run: Run<'_>,
) -> Result<Scratch> {
    let reader = Verified::new(client.read_blob(blob, 0)?, blob, Side::Node);
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::FileTooLarge => {
            Error::invalid(Side::Node, format!("blob {}", blob.digest), format!("does not decode: {error}"))
        }
        _ => Error::from_io(Side::Node, "read a base into", directory.into(), error),
    };
    let (tar, decoded) =
        Scratch::tar(directory, Stoppable(reader, run), rebuild.delta.base_size).map_err(fail)?;
    if decoded.diff_id == rebuild.delta.base {
        return Ok(tar);
    }
    Err(Error::DigestMismatch {
        side: Side::Node,
        what: format!("the content of layer {}", blob.digest),
        expected: rebuild.delta.base,
        found: decoded.diff_id,
    })
}

/// The error for a base that cannot be used, with what can be done.
pub(crate) fn no_base(base: &Digest, diff_id: &Digest, reason: &str) -> Error {
    let what = format!("layer {base}, from which layer {diff_id} is to be rebuilt");
    let reason = format!(
        "{reason}; import the medium that brought it (with --repair where it is damaged), or export with --no-delta"
    );
    Error::Invalid { side: Side::Node, what, reason }
}

/// Ends the reading when someone asks to stop.
struct Stoppable<'a, R>(R, Run<'a>);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.read(buffer)
    }
}
