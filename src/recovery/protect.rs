//! Making recovery data.

use std::collections::BTreeSet;

use reed_solomon_simd::ReedSolomonEncoder;

use super::blocks::Blocks;
use super::checksum;
use super::pages::{PageWriter, Set};
use crate::error::{Error, Result, Side};
use crate::image::Descriptor;
use crate::medium::{Medium, Replacement};
use crate::progress::{Event, Phase, Run};
use crate::record::{BLOCK, FILE, Geometry, RUN};
use crate::record::{Record, Recovery, RecoveryFile};

/// Makes the recovery data of `record`, the state that is about to be committed, and lists them in it.
///
/// `percent` is what was asked for; otherwise what the record has already is kept up. What is there and
/// right is left alone. Returns the bytes that were written. Memory: under 200 MiB.
pub(crate) fn protect(
    medium: &Medium,
    record: &mut Record,
    percent: Option<u32>,
    run: Run<'_>,
) -> Result<u64> {
    let before = record.recovery.as_ref().map(|recovery| recovery.percent);
    let Some(percent) = percent.or(before).filter(|percent| *percent > 0) else {
        record.recovery = None;
        return Ok(0);
    };
    if before == Some(percent) && record.recovery_is_current() {
        return Ok(0);
    }
    let geometry = Geometry::of(record, percent);
    record.recovery = Some(Recovery {
        percent,
        covers: record.recovery_covers(),
        block: BLOCK as u32,
        groups: geometry.groups,
        parity: geometry.parity,
        files: Vec::new(),
    });
    let mut files = Vec::new();
    for (name, replacement) in encode(medium, record, geometry, record.sequence, run)? {
        let (digest, size) = replacement.commit_as_it_is()?;
        files.push(RecoveryFile { name, digest, size });
    }
    let bytes = files.iter().map(|file| file.size).sum();
    if let Some(recovery) = &mut record.recovery {
        recovery.files = files;
    }
    Ok(bytes)
}

/// Makes the files of recovery data again that are `damaged`; the blobs have to be whole.
pub(crate) fn renew(
    medium: &Medium,
    record: &Record,
    damaged: &BTreeSet<String>,
    run: Run<'_>,
) -> Result<()> {
    let Some(recovery) = &record.recovery else { return Ok(()) };
    let sequence = recovery.files.first().and_then(|file| file.name.get(..10)?.parse().ok());
    let geometry = Geometry::of(record, recovery.percent);
    for (name, replacement) in encode(medium, record, geometry, sequence.unwrap_or(record.sequence), run)? {
        match recovery.files.iter().find(|file| file.name == name).filter(|_| damaged.contains(&name)) {
            Some(file) => {
                let (digest, size) = (file.digest, file.size);
                replacement.commit(&Descriptor { media_type: Default::default(), digest, size })?;
            }
            None => replacement.discard()?,
        }
    }
    Ok(())
}

/// Which pages are the table's: those of these blobs.
pub(super) fn table_set(recovery: &Recovery) -> Set {
    let mut set = Set::default();
    set.copy_from_slice(&recovery.covers.bytes()[..8]);
    set
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::invalid(Side::Medium, "recovery data", error)
}

/// Encodes all blobs, and returns the written files, which are still to be committed.
fn encode<'m>(
    medium: &'m Medium,
    record: &Record,
    geometry: Geometry,
    sequence: u64,
    run: Run<'_>,
) -> Result<Vec<(String, Replacement<'m>)>> {
    let Some(recovery) = &record.recovery else { return Ok(Vec::new()) };
    let name = |kind: &str, number: usize| format!("{sequence:010}.{kind}.{number}");
    run.report(Event::Phase { phase: Phase::Protecting, bytes: geometry.blocks * BLOCK, items: 0 });
    let mut blocks = Blocks::new(medium, record);
    let mut files: Vec<(String, Replacement<'m>)> = Vec::new();
    let tables = [medium.replace_recovery(&name("table", 0))?, medium.replace_recovery(&name("table", 1))?];
    let mut table = PageWriter::new(table_set(recovery), geometry.table_bytes(), tables);
    let members = geometry.members() as usize;
    let mut piece = vec![0; (RUN * BLOCK) as usize];
    let mut written = 0;
    let mut first = 0;
    while first < geometry.groups && geometry.blocks > 0 {
        let together = geometry.interleaved().min(geometry.groups - first);
        let mut parity: Vec<Vec<u8>> = Vec::new();
        for group in first..first + together {
            run.check()?;
            let mut slice = Vec::with_capacity(geometry.slice_bytes() as usize);
            let mut encoder =
                ReedSolomonEncoder::new(members, geometry.parity as usize, BLOCK as usize).map_err(failed)?;
            for place in (0..geometry.members_of(group)).step_by(RUN as usize) {
                let count = RUN.min(geometry.members_of(group) - place);
                let out = &mut piece[..(count * BLOCK) as usize];
                let mut lost = None;
                let at = geometry.block(group, place);
                blocks.read(at, count, out, |bad| lost = Some(at + bad));
                if let Some((blob, _)) = lost.and_then(|block| blocks.blob(block)) {
                    let path = medium.blob_path(&blob.digest);
                    return Err(Error::io(Side::Medium, "read", path)(
                        std::io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
                for block in out.chunks(BLOCK as usize) {
                    slice.extend_from_slice(&checksum(block));
                    encoder.add_original_shard(block).map_err(failed)?;
                }
                run.report(Event::Advanced { item: "", bytes: count * BLOCK });
            }
            // Groups differ by one run at most; what the shorter ones lack is zeros.
            for _ in geometry.members_of(group)..geometry.members() {
                slice.extend_from_slice(&[0; 8]);
                encoder.add_original_shard([0; BLOCK as usize]).map_err(failed)?;
            }
            let mut of_group = Vec::with_capacity((geometry.parity * BLOCK) as usize);
            for block in encoder.encode().map_err(failed)?.recovery_iter() {
                slice.extend_from_slice(&checksum(block));
                of_group.extend_from_slice(block);
            }
            parity.push(of_group);
            table.write(&slice)?;
        }
        for index in 0..geometry.parity as usize {
            for of_group in &parity {
                if written % FILE == 0 {
                    let name = name("parity", (written / FILE) as usize);
                    let replacement = medium.replace_recovery(&name)?;
                    files.push((name, replacement));
                }
                let Some((_, file)) = files.last_mut() else { continue };
                file.write_bytes(&of_group[index * BLOCK as usize..][..BLOCK as usize])?;
                written += 1;
            }
        }
        first += together;
    }
    files.extend([name("table", 0), name("table", 1)].into_iter().zip(table.finish()?));
    run.report(Event::PhaseEnded { phase: Phase::Protecting });
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Hasher;

    #[test]
    fn another_version_of_the_crate_gives_the_same_parity() {
        // Else nothing could be repaired on media that are in drawers.
        let mut encoder = ReedSolomonEncoder::new(300, 41, BLOCK as usize).unwrap();
        for number in 0..300_usize {
            let block: Vec<u8> =
                (0..BLOCK as usize).map(|at| (at * 31 + number * 7 + at / 97) as u8).collect();
            encoder.add_original_shard(block).unwrap();
        }
        let mut hasher = Hasher::default();
        encoder.encode().unwrap().recovery_iter().for_each(|block| hasher.update(block));
        assert_eq!(
            hasher.finish().to_string(),
            "sha256:26a496501d7d87e8a80c0ab2f9cb919a8934102fbf849fd859778f50679e8756"
        );
    }
}
