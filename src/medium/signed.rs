//! Signatures beside a commit record, and a record that is checked before it is parsed.

use std::path::Path;

use super::commits::{DIRECTORY, path, sequences};
use super::{Medium, Root, durable};
use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::limits::RECORD as MAX_RECORD;
use crate::limits::{SIGNATURE as MAX_SIGNATURE, SIGNATURES as MAX_SIGNATURES};
use crate::record::{Record, Unusable};

/// A commit record as it lies on the medium, with what lies beside it.
#[derive(Clone, Debug)]
pub struct SignedRecord {
    /// The record.
    pub record: Record,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// Its signatures, none of them checked.
    pub signatures: Vec<Vec<u8>>,
}

/// The names of a record's signatures. The first is the one that `ssh-keygen -Y sign` gives.
fn names(sequence: u64) -> impl Iterator<Item = String> {
    let more = (2..=MAX_SIGNATURES).map(move |number| format!("{sequence:010}.json.{number}.sig"));
    std::iter::once(format!("{sequence:010}.json.sig")).chain(more)
}

/// A signature beside a commit record.
#[derive(Debug)]
pub(crate) struct SignatureFile {
    /// The path of its file beneath the medium's root.
    pub(crate) name: String,
    /// The bytes of the record.
    pub(crate) record: Vec<u8>,
    /// Its bytes; `None` for one that is too long, or no file.
    pub(crate) signature: Option<Vec<u8>>,
}

impl Medium {
    /// Opens the medium at `path` if `check` accepts its newest commit record: the file's bytes and its
    /// signatures; it tells whether one of them counts. Nothing of the medium is parsed before, and the bytes that are parsed are those.
    ///
    /// There is no falling back to an older record: who damages the newest would bring back what it
    /// replaced. Errors: [`Error::Untrusted`], also when there is no record, or it cannot be read.
    pub fn open_signed(
        path_of: &Path,
        check: impl FnOnce(&[u8], &[Vec<u8>]) -> Result<bool, String>,
    ) -> Result<Self> {
        let root = Root::open(path_of)?;
        let reader = super::lock::shared(&root)?;
        let untrusted = |what: String, reason: String| Error::Untrusted {
            what: root.join(&what).display().to_string(),
            reason,
        };
        let Some(sequence) = sequences(&root)?.pop() else {
            return Err(super::without_record(&root, None));
        };
        let name = path(sequence);
        let refuse = |reason: String| untrusted(name.clone(), reason);
        let read = |name: &str, limit| match root.read(name, limit) {
            Err(Error::Invalid { reason, .. }) => Err(refuse(reason)),
            other => other,
        };
        let bytes = read(&name, MAX_RECORD)?.ok_or_else(|| refuse("it has just gone".into()))?;
        let mut signatures = Vec::new();
        for name in names(sequence) {
            signatures.extend(read(&format!("{DIRECTORY}/{name}"), MAX_SIGNATURE)?);
        }
        let authentic = check(&bytes, &signatures).map_err(refuse)?;
        let record = Record::parse(&bytes).map_err(|error| match error {
            Unusable::Damaged(reason) => refuse(reason),
            newer @ Unusable::Newer(_) => Error::unfit(root.join(&name).display(), newer),
        })?;
        if record.sequence != sequence {
            return Err(refuse(format!("its sequence is {}, which its name does not say", record.sequence)));
        }
        Ok(Self {
            record: Some((record, Digest::of(&bytes))),
            rejected: Vec::new(),
            authentic,
            ..Self::bare(root, reader)
        })
    }

    /// Adds a signature to the newest record. `sign` is given the file's bytes and the signatures that it
    /// has; `None` from it adds none. Returns the record's sequence, and whether one was added.
    ///
    /// A damaged newest record is not signed, nor is an older one in its place.
    pub fn sign(
        &self,
        sign: impl FnOnce(&[u8], &[Vec<u8>]) -> Result<Option<Vec<u8>>>,
    ) -> Result<(u64, bool)> {
        let record = self.committed()?;
        let digest = self.head();
        let name = path(record.sequence);
        let refuse = |reason: &str| Error::invalid(Side::Medium, self.root.join(&name).display(), reason);
        if sequences(&self.root)?.last() != Some(&record.sequence) {
            return Err(refuse("a newer commit record is there and damaged; export or repair first"));
        }
        let bytes = self.root.read(&name, MAX_RECORD)?.ok_or_else(|| refuse("it has just gone"))?;
        if Some(Digest::of(&bytes)) != digest {
            return Err(refuse("it was changed while it was read"));
        }
        let (mut signatures, mut free) = (Vec::new(), None);
        for name in names(record.sequence) {
            match self.root.read(&format!("{DIRECTORY}/{name}"), MAX_SIGNATURE)? {
                Some(signature) => signatures.push(signature),
                None => free = free.or(Some(name)),
            }
        }
        let Some(signature) = sign(&bytes, &signatures)? else { return Ok((record.sequence, false)) };
        let free = free.ok_or_else(|| {
            Error::unfit(self.root.join(&name).display(), "it has as many signatures as are read")
        })?;
        durable::write_new(&self.root, DIRECTORY, &free, &signature)?;
        Ok((record.sequence, true))
    }

    /// Every commit record that can be read, in rising order, with its signatures.
    pub fn signed_records(&self) -> Result<Vec<SignedRecord>> {
        let mut found = Vec::new();
        for sequence in sequences(&self.root)? {
            let Some(bytes) = self.record_bytes(sequence)? else { continue };
            let parsed = Record::parse(&bytes).ok().filter(|record| record.sequence == sequence);
            if let Some(record) = parsed {
                let (digest, signatures) = (Digest::of(&bytes), self.signatures_of(sequence)?);
                found.push(SignedRecord { record, bytes, digest, signatures });
            }
        }
        Ok(found)
    }

    /// The signatures beside the record of this sequence, whether it is there or not.
    pub(crate) fn signatures_of(&self, sequence: u64) -> Result<Vec<Vec<u8>>> {
        let mut signatures = Vec::new();
        for name in names(sequence) {
            match self.root.read(&format!("{DIRECTORY}/{name}"), MAX_SIGNATURE) {
                Err(Error::Invalid { .. }) => {}
                other => signatures.extend(other?),
            }
        }
        Ok(signatures)
    }

    /// Removes the commit records after `sequence` with their signatures, and goes on from that one. Their names
    /// are not used again by what this medium commits.
    pub fn start_from(&mut self, sequence: u64) -> Result<()> {
        let after: Vec<u64> = sequences(&self.root)?.into_iter().filter(|there| *there > sequence).collect();
        self.floor = self.floor.max(after.last().copied().unwrap_or(0));
        self.remove_records(&after)?;
        self.reload()
    }

    /// Whether there is a signature beside the newest record, whoever made it.
    pub fn has_signature(&self) -> Result<bool> {
        let Some(record) = self.record() else { return Ok(false) };
        for name in names(record.sequence) {
            if self.root.size(&format!("{DIRECTORY}/{name}"))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the signature of the record that comes next, which is not there yet: at no moment the
    /// newest record is one that lacks it.
    pub(super) fn sign_ahead(&self, sequence: u64, signature: &[u8]) -> Result<()> {
        match names(sequence).next() {
            Some(name) => durable::write_new(&self.root, DIRECTORY, &name, signature),
            None => Ok(()),
        }
    }

    /// The signatures beside the records that are there.
    pub(crate) fn signatures(&self) -> Result<Vec<SignatureFile>> {
        let mut found = Vec::new();
        for sequence in sequences(&self.root)? {
            let Some(record) = self.record_bytes(sequence)? else { continue };
            for name in names(sequence).map(|name| format!("{DIRECTORY}/{name}")) {
                match self.root.read(&name, MAX_SIGNATURE) {
                    Ok(Some(signature)) => {
                        found.push(SignatureFile { name, record: record.clone(), signature: Some(signature) })
                    }
                    Err(Error::Invalid { .. }) => {
                        found.push(SignatureFile { name, record: record.clone(), signature: None })
                    }
                    Ok(None) => {}
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(found)
    }
}

/// Removes the signatures of a record that has gone, or was never written.
pub(super) fn remove_signatures(root: &Root, sequence: u64) -> Result<()> {
    names(sequence).try_for_each(|name| durable::remove(root, &format!("{DIRECTORY}/{name}")))
}
