//! Commit records on the medium: finding the newest valid one, adding the next.

use super::root::Root;
use super::signed::remove_signatures;
use super::{Medium, durable};
use crate::error::{Error, OlderRecord, Result, Side};
use crate::image::Digest;
use crate::limits;
use crate::limits::RECORD as MAX_RECORD;
use crate::record::TOOL;
use crate::record::{Plugged, Record, Unusable};

pub(super) const DIRECTORY: &str = ".pannier/commits";
/// How many records stay: the newest, and what to fall back to if it rots.
const KEPT: usize = 3;
/// The largest sequence that a record's name has room for.
const MAX_SEQUENCE: u64 = 9_999_999_999;

/// A commit record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The sequence in its name.
    pub sequence: u64,
    /// Its name beneath the medium's root.
    pub name: String,
    /// Why not: a sentence.
    pub reason: String,
    /// Whether it is whole, and only of a newer version.
    pub is_newer_format: bool,
}

/// Makes a signature of a record's bytes.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>>;

type SignBytes = dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync;

/// What signs the commits of a medium.
pub(super) struct Signer(Box<SignBytes>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// A record and the digest of its file.
pub(super) type Head = (Record, Digest);

/// The newest record that is whole, and the unusable ones that were met.
///
/// An error when the newest that is whole was written by a newer version: to fall back to an older one
/// would take images away that are there.
pub(super) fn newest(root: &Root) -> Result<(Option<Head>, Vec<Rejected>)> {
    let mut newest = None;
    let mut rejected = Vec::new();
    for sequence in sequences(root)?.into_iter().rev().take(limits::RECORDS) {
        match load(root, sequence)? {
            Ok(record) if newest.is_none() => newest = Some(record),
            Ok(_) => {}
            Err(reason @ Unusable::Newer(_)) if newest.is_none() => {
                return Err(Error::unfit(root.join(&path(sequence)).display(), reason));
            }
            Err(reason) => {
                let is_newer_format = matches!(reason, Unusable::Newer(_));
                let (name, reason) = (path(sequence), reason.to_string());
                rejected.push(Rejected { sequence, name, reason, is_newer_format });
            }
        }
    }
    Ok((newest, rejected))
}

fn load(root: &Root, sequence: u64) -> Result<Result<Head, Unusable>> {
    let bytes = match root.read(&path(sequence), MAX_RECORD) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err(Unusable::Damaged("has just gone".into()))),
        Err(Error::Invalid { reason, .. }) => return Ok(Err(Unusable::Damaged(reason))),
        Err(other) => return Err(other),
    };
    Ok(Record::parse(&bytes).and_then(|record| {
        if record.sequence == sequence {
            Ok((record, Digest::of(&bytes)))
        } else {
            let reason = format!("its sequence is {}, which its name does not say", record.sequence);
            Err(Unusable::Damaged(reason))
        }
    }))
}

/// The sequences that have a file, in rising order.
pub(super) fn sequences(root: &Root) -> Result<Vec<u64>> {
    let mut sequences: Vec<u64> = root
        .list(DIRECTORY)?
        .iter()
        .filter_map(|name| name.strip_suffix(".json"))
        .filter(|number| number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|number| number.parse().ok())
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

fn file_name(sequence: u64) -> String {
    format!("{sequence:010}.json")
}

pub(super) fn path(sequence: u64) -> String {
    format!("{DIRECTORY}/{}", file_name(sequence))
}

/// The time, as records give it (RFC 3339, in seconds).
pub(crate) fn now() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(format).unwrap_or_default()
}

impl Medium {
    /// The sequence that the next commit will have: no name is ever used twice, not even that of a
    /// record that was cut off.
    pub fn next_sequence(&self) -> Result<u64> {
        match sequences(&self.root)?.last() {
            Some(&last) if last >= MAX_SEQUENCE => {
                let reason = "no further commit fits behind the last; export to an empty medium";
                Err(Error::unfit(self.path().display(), reason))
            }
            last => Ok(last.map_or(0, |last| *last).max(self.floor) + 1),
        }
    }

    /// Which export is read, where the record of a newer one is damaged.
    pub fn older(&self) -> Option<OlderRecord> {
        let record = self.record()?;
        let newer = self.rejected().iter().find(|rejected| rejected.sequence > record.sequence)?;
        Some(OlderRecord {
            damaged: newer.sequence,
            name: newer.name.clone(),
            reason: newer.reason.clone(),
            whole: record.sequence,
            created: record.created.clone(),
            images: record.images.len(),
        })
    }

    /// The digest of the newest valid record's file.
    pub fn head(&self) -> Option<Digest> {
        self.record.as_ref().map(|(_, digest)| *digest)
    }

    /// Says in `record` what it follows, when, where and by what it was made, and which of its blobs are in parts;
    /// that it was verified is for whoever does so to say.
    pub fn stamp(&self, record: &mut Record) -> Result<()> {
        self.note_parts(record)?;
        record.name_features();
        record.previous = self.head();
        record.created = now();
        if let Some(lane) = &mut record.lane {
            let seconds = time::OffsetDateTime::now_utc().unix_timestamp();
            lane.issue(u64::try_from(seconds).unwrap_or(0));
        }
        record.tool = TOOL.into();
        let written = self.plugged();
        let device = |plugged: &Option<Plugged>| plugged.as_ref().and_then(|plugged| plugged.device);
        if let (Some(head), Some(now)) = (self.record(), device(&written))
            && device(&head.written).is_some_and(|then| then != now)
            && record.medium == head.medium
        {
            // It lies on another device, or elsewhere on it: what it was copied from may go on as well.
            record.part_from_original(head.sequence, crate::unique::id());
        }
        record.written = written;
        record.verified = None;
        Ok(())
    }

    /// Writes `record` under its fresh name and brings it to the device: the commit point.
    ///
    /// Everything it names must be on the device already. Older records beyond a few are removed
    /// afterwards, never before.
    pub fn commit(&mut self, record: Record) -> Result<()> {
        let signer = self.signer.take();
        let committed = match &signer {
            Some(Signer(sign)) => self.commit_signed(record, Some(&**sign)),
            None => self.commit_signed(record, None),
        };
        self.signer = signer;
        committed
    }

    /// Has every commit signed by `sign`, ahead of its record: cut off at any moment, the newest record is signed.
    pub fn sign_commits(&mut self, sign: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'static) {
        self.signer = Some(Signer(Box::new(sign)));
    }

    /// Like [`Medium::commit`]; the signature that `sign` makes of the record's bytes is on the device
    /// before the record is.
    pub fn commit_signed(&mut self, record: Record, sign: Option<Sign<'_>>) -> Result<()> {
        let name = file_name(record.sequence);
        let bytes = record.to_bytes().map_err(|error| Error::invalid(Side::Medium, &name, error))?;
        if bytes.len() as u64 > MAX_RECORD {
            let reason =
                format!("the set is too large for one medium: its record takes {} bytes", bytes.len());
            return Err(Error::unfit(&name, reason));
        }
        // What an export left that was cut off before it wrote the record.
        remove_signatures(&self.root, record.sequence)?;
        if let Some(sign) = sign {
            self.sign_ahead(record.sequence, &sign(&bytes)?)?;
        }
        durable::write_new(&self.root, DIRECTORY, &name, &bytes)?;
        self.record = Some((record, Digest::of(&bytes)));
        // What an export left that was cut off while it wrote its record is damage no more.
        for rejected in self.rejected.drain(..).filter(|rejected| !rejected.is_newer_format) {
            durable::remove(&self.root, &rejected.name)?;
            remove_signatures(&self.root, rejected.sequence)?;
        }
        let sequences = sequences(&self.root)?;
        for old in &sequences[..sequences.len().saturating_sub(KEPT)] {
            durable::remove(&self.root, &path(*old))?;
            remove_signatures(&self.root, *old)?;
        }
        Ok(())
    }
}
