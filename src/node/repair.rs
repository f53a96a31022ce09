//! Reading back what containerd holds, and replacing what is damaged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use crate::containerd::{Client, Committed, Opened};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{
    Compression, Descriptor, Digest, Document, Hasher, MAX_INDEX_DEPTH, MAX_MANIFEST, MediaKind, kind,
};
use crate::layer::{self, Most};
use crate::limits::BLOB;
use crate::progress::{Event, Phase, Run, Stoppable};

/// Something wrong with a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFinding {
    /// The blob.
    pub blob: Descriptor,
    /// What is wrong.
    pub fault: Fault,
    /// The names of images that need it.
    pub images: Vec<String>,
}

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
    write: impl FnOnce(&HashMap<String, String>) -> Result<u64>,
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
    let sent = write(&here)?;
    for (other, labels) in elsewhere {
        let reference = format!("{}{}", super::PREFIX, blob.digest);
        if let Opened::Ingest(ingest) = other.open_ingest(&reference, blob)?
            && (ingest.offset() != blob.size || ingest.commit(labels)? == Committed::Mismatch)
        {
            other.abort(&reference)?;
        }
    }
    Ok(sent)
}

/// Hashes everything that the images with these names need, or all images; reads each blob once.
///
/// A layer that is absent because containerd discarded it after unpacking is not a fault.
pub fn check_images(
    client: &Client,
    names: &[String],
    run: Run<'_>,
) -> Result<(usize, u64, Vec<BlobFinding>)> {
    let listed: HashMap<Digest, _> =
        client.blobs()?.into_iter().map(|info| (info.digest, info.labels)).collect();
    let mut needed: BTreeMap<Digest, (Descriptor, Vec<String>)> = BTreeMap::new();
    let mut findings: BTreeMap<Digest, BlobFinding> = BTreeMap::new();
    let records = client.list_images()?;
    let chosen = records.iter().filter(|record| names.is_empty() || names.contains(&record.name));
    for record in chosen.filter(|record| !record.name.starts_with("sha256:")) {
        let mut blobs = Vec::new();
        gather(client, &record.target, &listed, 0, &mut blobs)?;
        for blob in blobs {
            let entry = needed.entry(blob.digest).or_insert_with(|| (blob, Vec::new()));
            entry.1.push(record.name.clone());
        }
    }
    let bytes = needed.values().map(|(blob, _)| blob.size).sum();
    run.report(Event::Phase { phase: Phase::Verifying, bytes, items: needed.len() });
    let count = needed.len();
    for (digest, (blob, images)) in needed {
        let fault = match listed.contains_key(&digest) {
            true => examine(client, &blob, run)?,
            false => Some(Fault::Absent),
        };
        if let Some(fault) = fault {
            findings.insert(digest, BlobFinding { blob, fault, images });
        }
        run.report(Event::Finished { item: &digest.to_string() });
    }
    run.report(Event::PhaseEnded { phase: Phase::Verifying });
    Ok((count, bytes, findings.into_values().collect()))
}

/// Everything that is needed from `blob` down, as far as it can be read. Of an index, what is listed
/// in the content store: images of other platforms are rightly absent.
fn gather(
    client: &Client,
    blob: &Descriptor,
    listed: &HashMap<Digest, HashMap<String, String>>,
    depth: usize,
    into: &mut Vec<Descriptor>,
) -> Result<()> {
    into.push(blob.clone());
    let Some(labels) = listed.get(&blob.digest) else { return Ok(()) };
    if depth > MAX_INDEX_DEPTH || !matches!(kind(&blob.media_type), MediaKind::Index | MediaKind::Manifest) {
        return Ok(());
    }
    let read = client
        .read_blob(blob, 0)
        .and_then(|reader| content::read_all(reader, blob, Side::Node, MAX_MANIFEST));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
        // What is wrong with it is found when it is examined.
        Err(_) => return Ok(()),
    };
    // What the proof of an image names is not there; the proof itself hangs on a label of ours.
    let proof = labels.iter().filter(|(key, _)| key.starts_with("containerd.io/gc.ref.content.pannier."));
    let proof: HashSet<Digest> = proof.filter_map(|(_, digest)| digest.parse().ok()).collect();
    match Document::parse(&blob.media_type, &bytes) {
        Ok(Document::Index(index)) => {
            for child in index.manifests.iter().filter(|child| listed.contains_key(&child.descriptor.digest))
            {
                gather(client, &child.descriptor, listed, depth + 1, into)?;
            }
        }
        Ok(Document::Manifest(manifest)) => {
            into.push(manifest.config);
            // A layer that the manifest does not keep is absent by intent.
            let keeps_all = !labels.contains_key("containerd.io/gc.ref.content.config");
            let kept = labels.iter().filter(|(key, _)| key.starts_with("containerd.io/gc.ref.content.l."));
            let kept: HashSet<&str> = kept.map(|(_, digest)| digest.as_str()).collect();
            let keeps = |digest: &Digest| keeps_all || kept.contains(digest.to_string().as_str());
            let layers = manifest.layers.into_iter().map(|layer| layer.descriptor);
            into.extend(layers.filter(|layer| keeps(&layer.digest) || listed.contains_key(&layer.digest)));
        }
        Err(_) => {}
    }
    for digest in proof {
        let size = client.blob(digest)?.map(|info| info.size);
        into.extend(size.map(|size| Descriptor { media_type: Default::default(), digest, size }));
    }
    Ok(())
}
