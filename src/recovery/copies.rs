//! The copy of each commit record, and what is left to do after a commit.

use std::collections::BTreeSet;

use super::checksum;
use super::pages::{PageReader, PageWriter, Set};
use crate::error::Result;
use crate::medium::Medium;
use crate::record::Record;

/// Largest copy that is read, in bytes: a record and an `index.json`.
const MAX_COPY: u64 = 32 << 20;

/// A commit record as it was written, and the `index.json` that went with it.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    /// The record's sequence.
    pub(crate) sequence: u64,
    /// The record.
    pub(crate) record: Record,
    /// The bytes of its file.
    pub(crate) record_bytes: Vec<u8>,
    /// The bytes of `index.json`.
    pub(crate) index_bytes: Vec<u8>,
}

fn names(sequence: u64) -> [String; 2] {
    [0, 1].map(|number| format!("{sequence:010}.record.{number}"))
}

fn set(medium: &str, sequence: u64) -> Set {
    checksum(format!("{medium} {sequence}").as_bytes())
}

/// The copies that are whole or can be made whole, in rising order.
pub(crate) fn copies(medium: &Medium) -> Result<Vec<Copy>> {
    let sequences: BTreeSet<u64> =
        medium.recovery_names()?.into_iter().map(|(sequence, _)| sequence).collect();
    Ok(sequences.into_iter().filter_map(|sequence| copy(medium, sequence)).collect())
}

fn copy(medium: &Medium, sequence: u64) -> Option<Copy> {
    let files = names(sequence).map(|name| medium.recovery_file(&name).ok().flatten());
    let mut reader = PageReader::open(files, None)?;
    let length = Some(reader.message()).filter(|length| *length <= MAX_COPY)?;
    let message = reader.read(0, length)?;
    let (head, rest) = message.split_at_checked(8)?;
    let at = usize::try_from(u64::from_le_bytes(head.try_into().ok()?)).ok()?;
    let (record_bytes, index_bytes) = rest.split_at_checked(at)?;
    let record = Record::parse(record_bytes).ok().filter(|record| record.sequence == sequence)?;
    Some(Copy { sequence, record, record_bytes: record_bytes.to_vec(), index_bytes: index_bytes.to_vec() })
}

/// The records whose copy is damaged; of the newest, also one that is missing.
///
/// An older commit may be from before there were recovery data.
pub(crate) fn uncopied(medium: &Medium) -> Result<Vec<u64>> {
    let Some(newest) = medium.record().filter(|record| record.recovery.is_some()) else {
        return Ok(Vec::new());
    };
    let commits: BTreeSet<u64> = medium.commit_sequences()?.into_iter().collect();
    let there = medium.recovery_names()?.into_iter();
    let mut wanted: BTreeSet<u64> = there
        .filter(|(sequence, name)| names(*sequence).contains(name) && commits.contains(sequence))
        .map(|(sequence, _)| sequence)
        .collect();
    wanted.insert(newest.sequence);
    let mut uncopied = Vec::new();
    for sequence in wanted {
        let [first, second] = names(sequence);
        let files = [medium.recovery_file(&first)?, medium.recovery_file(&second)?];
        let whole = PageReader::open(files, Some(set(&newest.medium, sequence)))
            .is_some_and(|reader| reader.is_whole());
        let copy = copy(medium, sequence).map(|copy| copy.record_bytes);
        if !whole || copy != medium.record_bytes(sequence)? {
            uncopied.push(sequence);
        }
    }
    Ok(uncopied)
}

/// Writes the copy of the newest record and of `index.json`, and removes what belongs to older states.
///
/// After the commit, like `index.json`: a copy of what was never committed must not come back. Nothing
/// is removed while a newer record is damaged.
pub(crate) fn finish(medium: &Medium) -> Result<()> {
    let Some(record) = medium.record() else { return Ok(()) };
    if medium.rejected().iter().any(|rejected| rejected.sequence > record.sequence) {
        return Ok(());
    }
    for sequence in uncopied(medium)? {
        write(medium, record, sequence)?;
    }
    let kept: BTreeSet<u64> = match record.recovery {
        Some(_) => medium.commit_sequences()?.into_iter().collect(),
        None => BTreeSet::new(),
    };
    let listed: BTreeSet<&str> =
        record.recovery.iter().flat_map(|recovery| &recovery.files).map(|file| file.name.as_str()).collect();
    for (sequence, name) in medium.recovery_names()? {
        let copy = names(sequence).contains(&name) && kept.contains(&sequence);
        if !copy && !listed.contains(name.as_str()) {
            medium.remove_recovery(&name)?;
        }
    }
    Ok(())
}

/// Writes the copy of a record.
fn write(medium: &Medium, newest: &Record, sequence: u64) -> Result<()> {
    let Some(bytes) = medium.record_bytes(sequence)? else { return Ok(()) };
    // A copy that is damaged and can still be read is made again as it was.
    let before = copy(medium, sequence);
    let same = before.as_ref().is_some_and(|copy| copy.record_bytes == bytes);
    let current = medium.index_bytes().filter(|_| sequence == newest.sequence && !same);
    let Some(index) = current.or(before.map(|copy| copy.index_bytes)) else { return Ok(()) };
    let [first, second] = names(sequence);
    let files = [medium.replace_recovery(&first)?, medium.replace_recovery(&second)?];
    let length = 8 + bytes.len() + index.len();
    let mut writer = PageWriter::new(set(&newest.medium, sequence), length as u64, files);
    writer.write(&(bytes.len() as u64).to_le_bytes())?;
    writer.write(&bytes)?;
    writer.write(&index)?;
    for file in writer.finish()? {
        file.commit_as_it_is()?;
    }
    Ok(())
}
