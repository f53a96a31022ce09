//! What recovery data can bring back of damaged blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::blocks::{Blocks, Parity};
use super::checksum;
use super::pages::PageReader;
use super::protect::table_set;
use crate::error::Result;
use crate::image::{Digest, HashingReader};
use crate::medium::Medium;
use crate::progress::{Event, Phase, Run};
use crate::record::{BLOCK, Geometry, RUN};
use crate::record::{Record, Recovery};

/// What can be brought back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assessment {
    /// Blobs all of whose bad blocks can be made again.
    pub(crate) recoverable: BTreeSet<Digest>,
    /// Files of the recovery data themselves that are damaged or missing, and what is wrong.
    pub(crate) files: BTreeMap<String, &'static str>,
    /// Bad blocks, and how many of all groups' parity blocks were looked at and found bad.
    pub(crate) bad: (u64, u64),
    /// Groups with bad blocks that can be decoded.
    pub(super) groups: BTreeSet<u64>,
}

/// Finds the bad blocks of `damaged` blobs and the state of the recovery data of `record`.
///
/// With recovery data that are absent or out of date nothing is recoverable. Only an interruption is an
/// error.
pub(crate) fn assess(
    medium: &Medium,
    record: &Record,
    damaged: &BTreeSet<Digest>,
    run: Run<'_>,
) -> Result<Assessment> {
    let mut assessment = Assessment::default();
    let Some(recovery) = record.recovery.as_ref().filter(|_| record.recovery_is_current()) else {
        return Ok(assessment);
    };
    assessment.files = damaged_files(medium, recovery, run)?;
    if damaged.is_empty() {
        return Ok(assessment);
    }
    let geometry = Geometry::of(record, recovery.percent);
    let mut table = Table::open(medium, recovery, geometry);
    // Without checksums no block of them counts, however many the record says there are.
    if table.pages.is_none() {
        return Ok(assessment);
    }
    let parity = Parity::open(medium, recovery, geometry);
    let mut blocks = Blocks::new(medium, record);
    let mut out = vec![0; (RUN * BLOCK) as usize];
    let mut lost = BTreeSet::new();
    for group in 0..geometry.groups {
        run.check()?;
        let slice = table.slice(group);
        let mut bad = 0;
        let mut owners = BTreeSet::new();
        for place in (0..geometry.members_of(group)).step_by(RUN as usize) {
            let (first, count) = (geometry.block(group, place), RUN.min(geometry.members_of(group) - place));
            let concerned =
                |block: u64| blocks.blob(block).filter(|(blob, _)| damaged.contains(&blob.digest));
            let of: Vec<_> =
                (first..first + count).map(|block| concerned(block).map(|(b, _)| b.digest)).collect();
            if of.iter().all(Option::is_none) {
                continue;
            }
            let out = &mut out[..(count * BLOCK) as usize];
            let mut unreadable = BTreeSet::new();
            blocks.read(first, count, out, |block| {
                unreadable.insert(block);
            });
            for (at, (block, owner)) in (0..).zip(out.chunks(BLOCK as usize).zip(&of)) {
                let Some(owner) = owner else { continue };
                let good = slice.as_ref().is_some_and(|slice| slice.is_data(place + at, block));
                if !good || unreadable.contains(&at) {
                    bad += 1;
                    owners.insert(*owner);
                }
            }
        }
        if owners.is_empty() {
            continue;
        }
        let good = match &slice {
            Some(slice) => {
                (0..geometry.parity).filter(|index| slice.parity(&parity, group, *index).is_some()).count()
            }
            None => 0,
        };
        assessment.bad.0 += bad;
        assessment.bad.1 += geometry.parity - good as u64;
        if bad <= good as u64 {
            assessment.groups.insert(group);
        } else {
            lost.extend(owners);
        }
    }
    assessment.recoverable = damaged.difference(&lost).copied().collect();
    Ok(assessment)
}

/// Which of the listed files are not as they were written.
pub(crate) fn damaged_files(
    medium: &Medium,
    recovery: &Recovery,
    run: Run<'_>,
) -> Result<BTreeMap<String, &'static str>> {
    let bytes = recovery.files.iter().map(|file| file.size).sum();
    run.report(Event::Phase { phase: Phase::Verifying, bytes, items: recovery.files.len() });
    let mut damaged = BTreeMap::new();
    for listed in &recovery.files {
        run.check()?;
        let fault = match medium.recovery_file(&listed.name) {
            Ok(Some(file)) => {
                let item = &listed.name;
                // One that grows while it is read has no end.
                let file = file.take(listed.size + 1);
                let mut reader = HashingReader::new(crate::progress::Watched::new(file, item, run));
                match std::io::copy(&mut reader, &mut std::io::sink()) {
                    Ok(_) if reader.finish() == (listed.digest, listed.size) => None,
                    Ok(_) => Some("is damaged"),
                    Err(_) => Some("cannot be read"),
                }
            }
            Ok(None) => Some("is missing"),
            Err(_) => Some("cannot be opened"),
        };
        run.check()?;
        damaged.extend(fault.map(|fault| (listed.name.clone(), fault)));
    }
    run.report(Event::PhaseEnded { phase: Phase::Verifying });
    Ok(damaged)
}

/// The checksums of all blocks, group by group.
#[derive(Debug)]
pub(super) struct Table {
    pages: Option<PageReader>,
    geometry: Geometry,
}

/// The checksums of one group.
#[derive(Debug)]
pub(super) struct Slice {
    bytes: Vec<u8>,
    members: u64,
}

impl Table {
    pub(super) fn open(medium: &Medium, recovery: &Recovery, geometry: Geometry) -> Self {
        let mut names = recovery.files.iter().map(|file| &file.name).filter(|name| name.contains(".table."));
        let files = [0, 1].map(|_| names.next().and_then(|name| medium.recovery_file(name).ok().flatten()));
        let pages = PageReader::open(files, Some(table_set(recovery)));
        Self { pages: pages.filter(|pages| pages.message() == geometry.table_bytes()), geometry }
    }

    /// `None` where too little of the table is left.
    pub(super) fn slice(&mut self, group: u64) -> Option<Slice> {
        let length = self.geometry.slice_bytes();
        let bytes = self.pages.as_mut()?.read(group * length, length)?;
        Some(Slice { bytes, members: self.geometry.members() })
    }
}

impl Slice {
    /// Whether `block` is what belongs at a place of the group.
    pub(super) fn is_data(&self, place: u64, block: &[u8]) -> bool {
        let at = place as usize * 8;
        self.bytes.get(at..at + 8) == Some(&checksum(block)[..])
    }

    /// A parity block, if it can be read and is right.
    pub(super) fn parity(&self, parity: &Parity, group: u64, index: u64) -> Option<Vec<u8>> {
        let mut block = vec![0; BLOCK as usize];
        let right = parity.read(group, index, &mut block) && self.is_data(self.members + index, &block);
        right.then_some(block)
    }
}
