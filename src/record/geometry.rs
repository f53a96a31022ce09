//! Where each block of the blobs and its parity are in the recovery data: arithmetic.

use super::Record;
use crate::image::{Digest, Hasher};

/// Bytes of a block: what a sector or a page of flash takes with it.
pub(crate) const BLOCK: u64 = 4096;
/// Blocks that are dealt out together, so that one group is read in pieces of 256 KiB.
pub(crate) const RUN: u64 = 64;
/// Blocks of a group, at most, up to a run more.
const GROUP: u64 = 8192;
/// Parity blocks of the groups that are interleaved, at most: 64 MiB are held for them.
const INTERLEAVED: u64 = 16384;
/// Parity blocks of one file: 1 GiB, which every filesystem holds.
pub(crate) const FILE: u64 = 1 << 18;

/// How the blocks of a medium are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// How many blocks there are.
    pub blocks: u64,
    /// How many groups.
    pub groups: u64,
    /// Parity blocks of each group.
    pub parity: u64,
}

impl Geometry {
    /// The geometry for `blocks` blocks with `percent` of parity.
    pub fn new(blocks: u64, percent: u32) -> Self {
        let groups = blocks.div_ceil(GROUP).max(1);
        let mut geometry = Self { blocks, groups, parity: 0 };
        let asked = (geometry.members() * u64::from(percent)).div_ceil(100);
        if asked > 0 {
            geometry.parity = asked + 2 * asked.isqrt() + 4;
        }
        geometry
    }

    /// The geometry for the blobs of `record`.
    pub fn of(record: &Record, percent: u32) -> Self {
        Self::new(record.blobs.iter().map(|blob| blob.size.div_ceil(BLOCK)).sum(), percent)
    }

    /// Blocks of the largest group, which is the first.
    pub fn members(&self) -> u64 {
        self.members_of(0)
    }

    /// Blocks of one group.
    pub fn members_of(&self, group: u64) -> u64 {
        let runs = self.blocks / RUN;
        let full = runs / self.groups + u64::from(group < runs % self.groups);
        let rest = if runs % self.groups == group { self.blocks % RUN } else { 0 };
        full * RUN + rest
    }

    /// The block at `place` of a group.
    pub fn block(&self, group: u64, place: u64) -> u64 {
        ((place / RUN) * self.groups + group) * RUN + place % RUN
    }

    /// The group of a block, and its place there.
    pub fn place(&self, block: u64) -> (u64, u64) {
        let run = block / RUN;
        (run % self.groups, run / self.groups * RUN + block % RUN)
    }

    /// How many parity blocks there are in all.
    pub fn parity_blocks(&self) -> u64 {
        self.groups * self.parity
    }

    /// How many groups have their parity interleaved.
    pub fn interleaved(&self) -> u64 {
        (INTERLEAVED / self.parity.max(1)).clamp(1, 16)
    }

    /// Where the `index`th parity block of a group is among all.
    pub fn parity_place(&self, group: u64, index: u64) -> u64 {
        let first = group / self.interleaved() * self.interleaved();
        let together = self.interleaved().min(self.groups - first);
        first * self.parity + index * together + (group - first)
    }

    /// Bytes of one group's checksums.
    pub fn slice_bytes(&self) -> u64 {
        (self.members() + self.parity) * 8
    }

    /// Bytes of all checksums.
    pub fn table_bytes(&self) -> u64 {
        self.groups * self.slice_bytes()
    }
}

impl Record {
    /// The digest of the list of blobs: what recovery data say that they were made of.
    pub(crate) fn recovery_covers(&self) -> Digest {
        let mut hasher = Hasher::default();
        for blob in &self.blobs {
            hasher.update(format!("{} {}\n", blob.digest, blob.size).as_bytes());
        }
        hasher.finish()
    }

    /// Whether the recovery data were made of the blobs as the record lists them.
    pub fn recovery_is_current(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| {
            let geometry = Geometry::of(self, recovery.percent);
            recovery.covers == self.recovery_covers()
                && u64::from(recovery.block) == BLOCK
                && (recovery.groups, recovery.parity) == (geometry.groups, geometry.parity)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_block_has_one_place_and_every_parity_block_too() {
        for blocks in [0, 1, 63, 64, 65, 8191, 8192, 8193, 16384, 50_000, 200_001] {
            let geometry = Geometry::new(blocks, 10);
            let members: u64 = (0..geometry.groups).map(|group| geometry.members_of(group)).sum();
            assert_eq!(members, blocks);
            for block in 0..blocks {
                let (group, place) = geometry.place(block);
                assert!(group < geometry.groups && place < geometry.members_of(group), "{blocks} {block}");
                assert!(place < geometry.members());
                assert_eq!(geometry.block(group, place), block);
            }
            let places: BTreeSet<u64> = (0..geometry.groups)
                .flat_map(|group| (0..geometry.parity).map(move |index| geometry.parity_place(group, index)))
                .collect();
            assert_eq!(places.len() as u64, geometry.parity_blocks());
            assert!(places.last().is_none_or(|last| *last + 1 == geometry.parity_blocks()));
        }
    }

    #[test]
    fn what_is_asked_for_is_given_and_a_small_group_gets_a_little_more() {
        assert_eq!(Geometry::new(10, 10).parity, 1 + 2 + 4);
        assert_eq!(Geometry::new(8192, 10).parity, 820 + 2 * 28 + 4);
        assert_eq!(Geometry::new(0, 10).parity, 0);
        assert_eq!(Geometry::new(100, 0).parity, 0);
    }

    #[test]
    fn a_stretch_of_damage_spreads_over_all_groups() {
        let geometry = Geometry::new(1 << 20, 10);
        let stretch = geometry.blocks / 20;
        let mut hit = vec![0; geometry.groups as usize];
        for block in 1_000..1_000 + stretch {
            hit[geometry.place(block).0 as usize] += 1;
        }
        assert!(hit.iter().all(|hit| *hit <= geometry.parity), "{hit:?}");
    }
}
