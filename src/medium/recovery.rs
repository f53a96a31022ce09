//! The files below `.pannier/recovery`, as files; [`crate::recovery`] knows what is in them.

use std::fs::File;

use super::{BlobFile, Medium, Replacement, commits, durable};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::record::{Record, Unusable};

pub(super) const DIRECTORY: &str = ".pannier/recovery";
const KINDS: [&str; 3] = ["parity", "table", "record"];

/// Whether a file of this name is one of recovery data: `<sequence>.<kind>.<number>`.
pub(super) fn is_name(name: &str) -> bool {
    sequence_of(name).is_some()
}

/// The sequence in the name of a file of recovery data.
fn sequence_of(name: &str) -> Option<u64> {
    let mut parts = name.split('.');
    let (sequence, kind, number) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let legal = sequence.len() == 10 && digits(sequence) && digits(number) && parts.next().is_none();
    (legal && KINDS.contains(&kind)).then(|| sequence.parse().ok()).flatten()
}

/// The path of a file of recovery data beneath the root.
pub(super) fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

impl Medium {
    /// Opens a file of recovery data; `None` if it is absent or its name is not one of them.
    pub(crate) fn recovery_file(&self, name: &str) -> Result<Option<File>> {
        if !is_name(name) {
            return Ok(None);
        }
        let file = self.root.find(self.root.open_file(&path(name)))?;
        file.iter().for_each(durable::forget_cached);
        Ok(file)
    }

    /// Starts a file of recovery data.
    pub(crate) fn replace_recovery(&self, name: &str) -> Result<Replacement<'_>> {
        if !is_name(name) {
            return Err(Error::invalid(Side::Medium, name, "not the name of a file of recovery data"));
        }
        durable::make_directory(&self.root, DIRECTORY)?;
        self.replace(path(name))
    }

    /// The names of all files of recovery data, with the sequence of each.
    pub(crate) fn recovery_names(&self) -> Result<Vec<(u64, String)>> {
        let names = self.root.list(DIRECTORY)?.into_iter();
        Ok(names.filter_map(|name| Some((sequence_of(&name)?, name))).collect())
    }

    /// Removes a file of recovery data.
    pub(crate) fn remove_recovery(&self, name: &str) -> Result<()> {
        if is_name(name) { durable::remove(&self.root, &path(name)) } else { Ok(()) }
    }

    /// Opens a blob's file whatever its size is; `None` if there is none that can be opened.
    pub(crate) fn damaged_blob_file(&self, digest: &Digest) -> Option<BlobFile> {
        let file = self.open_blob_files(digest).ok().flatten()?;
        file.forget_cached();
        Some(file)
    }

    /// A file in the ingest area to keep blocks in while blobs are put together.
    pub(crate) fn scratch(&self) -> Result<File> {
        durable::create(&self.root, ".pannier/ingest/blocks.new")
    }

    /// Removes that file.
    pub(crate) fn remove_scratch(&self) -> Result<()> {
        durable::remove(&self.root, ".pannier/ingest/blocks.new")
    }

    /// Puts a commit record back under its name, byte for byte, and reads the newest again.
    ///
    /// Refused if `bytes` are no valid record of this sequence.
    pub(crate) fn restore_record(&mut self, sequence: u64, bytes: &[u8]) -> Result<()> {
        let name = commits::path(sequence);
        match Record::parse(bytes) {
            Ok(record) if record.sequence == sequence => {}
            Ok(_) => return Err(Error::invalid(Side::Medium, name, "of another sequence")),
            Err(Unusable::Damaged(reason) | Unusable::Newer(reason)) => {
                return Err(Error::invalid(Side::Medium, name, reason));
            }
        }
        let mut replacement = self.replace(name)?;
        replacement.write_bytes(bytes)?;
        replacement.commit(&Descriptor::of("", bytes))?;
        self.reload()
    }

    /// The bytes of `index.json`, if it can be read.
    pub(crate) fn index_bytes(&self) -> Option<Vec<u8>> {
        self.root.read("index.json", crate::image::MAX_MANIFEST).ok().flatten()
    }

    /// Puts `index.json` back byte for byte.
    pub(crate) fn restore_index(&self, bytes: &[u8]) -> Result<()> {
        durable::replace(&self.root, "index.json", bytes)
    }

    /// The bytes of a commit record's file; `None` if there is none that is a record.
    pub(crate) fn record_bytes(&self, sequence: u64) -> Result<Option<Vec<u8>>> {
        let bytes = match self.root.read(&commits::path(sequence), crate::limits::RECORD) {
            Err(Error::Invalid { .. }) => None,
            other => other?,
        };
        Ok(bytes.filter(|bytes| Record::parse(bytes).is_ok()))
    }

    /// The sequences of the commit records that have a file.
    pub(crate) fn commit_sequences(&self) -> Result<Vec<u64>> {
        commits::sequences(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_files_of_recovery_data() {
        assert_eq!(sequence_of("0000000012.parity.0"), Some(12));
        assert!(is_name("0000000001.table.1") && is_name("0000000001.record.0"));
        for bad in ["1.parity.0", "0000000001.parity", "0000000001.other.0", "../0000000001.table.0", ""] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
