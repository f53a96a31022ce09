//! Making blobs again from recovery data.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;

use reed_solomon_simd::ReedSolomonDecoder;

use super::assess::{Assessment, Slice, Table};
use super::blocks::{Blocks, Parity};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::medium::Medium;
use crate::progress::{Event, Phase, Run};
use crate::record::{BLOCK, Geometry, RUN};
use crate::record::{Record, Recovery};

/// Makes the blobs `wanted` again, of those that the assessment calls recoverable.
///
/// First the bad blocks of all of them, group by group, into a file in the ingest area; then blob by
/// blob what is good of the damaged file and those blocks, hashed before it takes the blob's place.
/// Returns the blobs for which that failed. Memory: under 200 MiB.
pub(crate) fn recover(
    medium: &Medium,
    record: &Record,
    assessment: &Assessment,
    wanted: &BTreeSet<Digest>,
    run: Run<'_>,
) -> Result<BTreeMap<Digest, Error>> {
    let Some(recovery) = &record.recovery else { return Ok(BTreeMap::new()) };
    let geometry = Geometry::of(record, recovery.percent);
    let sizes: BTreeMap<Digest, u64> = record.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    let blobs: u64 = wanted.iter().filter_map(|digest| sizes.get(digest)).sum();
    let bytes =
        blobs + assessment.groups.iter().map(|group| geometry.members_of(*group) * BLOCK).sum::<u64>();
    run.report(Event::Phase { phase: Phase::Recovering, bytes, items: wanted.len() });
    let mut work = Work {
        medium,
        geometry,
        recovery,
        blocks: Blocks::new(medium, record),
        scratch: medium.scratch()?,
        restored: BTreeMap::new(),
        run,
    };
    work.blocks(assessment, wanted)?;
    let mut failed = BTreeMap::new();
    for digest in wanted {
        let Some(size) = sizes.get(digest) else { continue };
        let blob = Descriptor { media_type: Default::default(), digest: *digest, size: *size };
        match work.blob(&blob) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => drop(failed.insert(*digest, error)),
        }
    }
    medium.remove_scratch()?;
    run.report(Event::PhaseEnded { phase: Phase::Recovering });
    Ok(failed)
}

struct Work<'a> {
    medium: &'a Medium,
    geometry: Geometry,
    recovery: &'a Recovery,
    blocks: Blocks<'a>,
    scratch: std::fs::File,
    /// Where in the scratch file each block is, by its number: both in blocks.
    restored: BTreeMap<u64, u64>,
    run: Run<'a>,
}

impl Work<'_> {
    /// Makes the bad blocks of `wanted` blobs again.
    fn blocks(&mut self, assessment: &Assessment, wanted: &BTreeSet<Digest>) -> Result<()> {
        let mut table = Table::open(self.medium, self.recovery, self.geometry);
        let parity = Parity::open(self.medium, self.recovery, self.geometry);
        for group in &assessment.groups {
            self.run.check()?;
            let Some(slice) = table.slice(*group) else { continue };
            for (place, block) in self.decode(*group, &slice, &parity)? {
                let number = self.geometry.block(*group, place);
                let ours = self.blocks.blob(number).is_some_and(|(blob, _)| wanted.contains(&blob.digest));
                if ours && slice.is_data(place, &block) {
                    let at = self.restored.len() as u64;
                    let written = self.scratch.write_all_at(&block, at * BLOCK);
                    written.map_err(|source| {
                        Error::from_io(
                            Side::Medium,
                            "write",
                            self.medium.path().join(".pannier/ingest"),
                            source,
                        )
                    })?;
                    self.restored.insert(number, at);
                }
            }
        }
        Ok(())
    }

    /// The bad blocks of a group, by place; none if there are too many.
    fn decode(&mut self, group: u64, slice: &Slice, parity: &Parity) -> Result<Vec<(u64, Vec<u8>)>> {
        let failed = |error| Error::invalid(Side::Medium, "recovery data", error);
        let geometry = self.geometry;
        let (members, of_group) = (geometry.members(), geometry.members_of(group));
        let mut decoder = ReedSolomonDecoder::new(members as usize, geometry.parity as usize, BLOCK as usize)
            .map_err(failed)?;
        let mut missing = 0;
        let mut out = vec![0; (RUN * BLOCK) as usize];
        for place in (0..of_group).step_by(RUN as usize) {
            self.run.check()?;
            let count = RUN.min(of_group - place);
            let out = &mut out[..(count * BLOCK) as usize];
            self.blocks.read(geometry.block(group, place), count, out, |_| {});
            for (at, block) in (place..).zip(out.chunks(BLOCK as usize)) {
                // One that cannot be read was filled with zeros, which is right where zeros belong.
                if slice.is_data(at, block) {
                    decoder.add_original_shard(at as usize, block).map_err(failed)?;
                } else {
                    missing += 1;
                }
            }
            self.run.report(Event::Advanced { item: "", bytes: count * BLOCK });
        }
        for at in of_group..members {
            decoder.add_original_shard(at as usize, [0; BLOCK as usize]).map_err(failed)?;
        }
        let mut added = 0;
        for index in 0..geometry.parity {
            if added == missing {
                break;
            }
            if let Some(block) = slice.parity(parity, group, index) {
                decoder.add_recovery_shard(index as usize, block).map_err(failed)?;
                added += 1;
            }
        }
        if missing == 0 || added < missing {
            return Ok(Vec::new());
        }
        let decoded = decoder.decode().map_err(failed)?;
        Ok(decoded.restored_original_iter().map(|(at, block)| (at as u64, block.to_vec())).collect())
    }

    /// Puts a blob together and lets it take its place.
    fn blob(&mut self, blob: &Descriptor) -> Result<()> {
        let mut replacement = self.medium.replace_blob(&blob.digest)?;
        let (first, count) = self.blocks.range(&blob.digest).unwrap_or((0, 0));
        let mut out = vec![0; (RUN * BLOCK) as usize];
        let item = blob.digest.short();
        for at in (0..count).step_by(RUN as usize) {
            self.run.check()?;
            let n = RUN.min(count - at);
            let out = &mut out[..(n * BLOCK) as usize];
            self.blocks.read(first + at, n, out, |_| {});
            for (number, block) in (first + at..).zip(out.chunks_mut(BLOCK as usize)) {
                if let Some(place) = self.restored.get(&number) {
                    let read = self.scratch.read_exact_at(block, place * BLOCK);
                    read.map_err(|source| {
                        Error::from_io(
                            Side::Medium,
                            "read",
                            self.medium.path().join(".pannier/ingest"),
                            source,
                        )
                    })?;
                }
            }
            let bytes = (blob.size - at * BLOCK).min(n * BLOCK);
            replacement.write_bytes(&out[..bytes as usize])?;
            self.run.report(Event::Advanced { item: &item, bytes });
        }
        replacement.commit(blob)
    }
}
