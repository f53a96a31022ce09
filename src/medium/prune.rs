//! Deleting from a medium: what is looked at before, and what goes.

use std::collections::BTreeMap;

use super::signed::remove_signatures;
use super::{Medium, blob_name, commits, delta, durable, parts};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::limits;
use crate::record::Record;

impl Medium {
    /// The sequences of the commit records that are there, in rising order, each with what it says;
    /// `None` for one that cannot be read.
    pub fn records(&self) -> Result<Vec<(u64, Option<Record>)>> {
        let mut records = Vec::new();
        for sequence in commits::sequences(&self.root)? {
            let bytes = match self.root.read(&commits::path(sequence), limits::RECORD) {
                Err(Error::Invalid { .. }) => None,
                other => other?,
            };
            records.push((sequence, bytes.and_then(|bytes| Record::parse(&bytes).ok())));
        }
        Ok(records)
    }

    /// Removes the commit records of these sequences with their signatures, and has that reach the
    /// device: afterwards nothing can bring them back.
    pub fn remove_records(&self, sequences: &[u64]) -> Result<()> {
        for sequence in sequences {
            remove_signatures(&self.root, *sequence)?;
            durable::remove(&self.root, &commits::path(*sequence))?;
        }
        durable::sync_directory(&self.root, commits::DIRECTORY)
    }

    /// The blobs that are there, as a file or in parts, and their lengths in bytes.
    pub fn blob_files(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut blobs = self.files("blobs/sha256")?;
        for digest in self.part_names()?.iter().filter_map(|name| parts::digest_of(name)) {
            if let Some(size) = self.blob_size(&digest)? {
                blobs.insert(digest, size);
            }
        }
        Ok(blobs)
    }

    /// The deltas that are there as files, and their lengths in bytes.
    pub fn delta_files(&self) -> Result<BTreeMap<Digest, u64>> {
        self.files(delta::DIRECTORY)
    }

    fn files(&self, directory: &str) -> Result<BTreeMap<Digest, u64>> {
        let mut files = BTreeMap::new();
        for name in self.root.list(directory)? {
            if let Ok(digest) = Digest::from_hex(&name)
                && let Some(size) = self.root.size(&format!("{directory}/{name}"))?
            {
                files.insert(digest, size);
            }
        }
        Ok(files)
    }

    /// Removes a delta.
    pub fn remove_delta(&self, digest: &Digest) -> Result<()> {
        durable::remove(&self.root, &delta::path(digest))
    }

    /// Reads the blob `digest` whatever is known of its size, if it is there and has at most `limit` bytes;
    /// it is hashed.
    pub fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let bytes = match self.root.read(&blob_name(digest), limit) {
            Err(Error::Invalid { .. }) => None,
            other => other?,
        };
        Ok(bytes.filter(|bytes| Digest::of(bytes) == *digest))
    }
}
