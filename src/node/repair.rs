//! Reading back what containerd holds, and replacing what is damaged.

use std::collections::HashMap;
use std::io::Read;

use crate::containerd::Client;
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{Compression, Descriptor, Digest, Hasher};
use crate::layer::{self, Most};
use crate::limits::BLOB;
use crate::progress::{Event, Run, Stoppable};

/// What is wrong with a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// containerd does not list it.
    Absent,
    /// containerd lists it, but its file is gone.
    FileGone,
    /// Its bytes have this digest.
    Damaged(Digest),
    /// It is this many bytes long.
    Size(u64),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("is absent"),
            Self::FileGone => f.write_str("is listed, but its file is gone"),
            Self::Damaged(found) => write!(f, "is damaged: its bytes have digest {found}"),
            Self::Size(found) => write!(f, "is damaged: it is {found} bytes long"),
        }
    }
}

/// Reads a blob to its end; containerd itself never does that again after the commit.
pub(super) fn examine(client: &Client, blob: &Descriptor, run: Run<'_>) -> Result<Option<Fault>> {
    let mut reader = match client.read_blob(blob, 0) {
        Ok(reader) => reader,
        Err(Error::NotFound { .. }) => return Ok(Some(Fault::FileGone)),
        Err(error) => return Err(error),
    };
    let item = blob.digest.to_string();
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        run.check()?;
        let n = reader
            .read(&mut buffer)
            .map_err(|error| Error::from_io(Side::Node, "read", item.clone().into(), error))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        run.report(Event::Advanced { item: &item, bytes: n as u64 });
    }
    let count = hasher.count();
    let found = hasher.finish();
    Ok(match () {
        () if count != blob.size => Some(Fault::Size(count)),
        () if found != blob.digest => Some(Fault::Damaged(found)),
        () => None,
    })
}

/// Whether containerd's bytes of a blob are what its digest says.
pub(super) fn is_whole(client: &Client, blob: &Descriptor, run: Run<'_>) -> Result<bool> {
    Ok(examine(client, blob, run)?.is_none())
}

/// What a layer of the node decodes to; `None` if it does not.
pub(super) fn decode(
    client: &Client,
    blob: &Descriptor,
    run: Run<'_>,
) -> Result<Option<(Compression, Digest)>> {
    let reader = match client.read_blob(blob, 0) {
        Ok(reader) => reader,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match layer::check(Stoppable(content::Verified::new(reader, blob, Side::Node), run), Most::Bytes(BLOB)) {
        Ok(decoded) => Ok(Some((decoded.compression, decoded.diff_id))),
        Err(error) => match Error::from_io(Side::Node, "read", blob.digest.to_string().into(), error) {
            error @ (Error::Interrupted | Error::Unreachable { .. }) => Err(error),
            _ => Ok(None),
        },
    }
}

/// Clears the way for a good copy of a damaged blob.
///
/// containerd goes by its database: written again right away, the bad file would be taken over as it
/// is. So the blob is dropped wherever it is listed, the garbage collected, and `write` called; the
/// other namespaces get the good one, with the labels they had.
pub(super) fn replace_blob(
    client: &Client,
    blob: &Descriptor,
    write: impl Fn(&Client, &HashMap<String, String>) -> Result<u64>,
) -> Result<u64> {
    let here = client.blob(blob.digest)?.map(|info| info.labels).unwrap_or_default();
    let mut elsewhere = Vec::new();
    for name in client.list_namespaces()?.into_iter().filter(|name| name != client.namespace()) {
        let other = client.with_namespace(&name)?;
        if let Some(info) = other.blob(blob.digest)? {
            elsewhere.push((other, info.labels));
        }
    }
    for (other, _) in &elsewhere {
        other.delete_blob(blob.digest)?;
    }
    client.delete_blob(blob.digest)?;
    client.collect_garbage()?;
    if client.blob(blob.digest)?.is_some() {
        return Err(Error::Refused {
            side: Side::Node,
            action: format!("replacing blob {}", blob.digest),
            reason:
                "containerd lists it again right after it was removed: another client works on the same image"
                    .into(),
        });
    }
    let sent = write(client, &here)?;
    for (other, labels) in elsewhere {
        // Where namespaces share content, nothing is sent for that; where they do not, each has its own.
        write(&other, &labels)?;
    }
    Ok(sent)
}
