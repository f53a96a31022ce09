//! Recovery data: parity on the medium, so that damage is repaired with no source at hand.
//!
//! # What is protected, and how
//!
//! All blobs that the commit record names, in the order of their digests, are one stream of **blocks** of
//! 4 KiB. Blocks do not span blobs: each begins at a multiple of 4 KiB in its file, as the sectors do that
//! go bad, and the last one is filled up with zeros. Runs of 64 blocks are dealt out in turn to **groups**
//! of at most 8192 blocks, so that a stretch of damage spreads over all groups while reading stays in
//! pieces of 256 KiB. Each group has the same number of **parity blocks** (Reed-Solomon, any of which
//! stands in for any lost block): the percentage that was asked for, and a little more, so that chance
//! does not undo a small group: twice the square root of that number, and 4.
//!
//! ```text
//! .pannier/recovery/
//!   <sequence>.parity.<n>      the parity blocks, 1 GiB a file, those of up to 16 groups interleaved
//!   <sequence>.table.0, .1     a checksum (8 bytes of sha256) of every block and every parity block
//!   <sequence>.record.0, .1    the commit record and index.json
//! ```
//!
//! The checksums tell which blocks are bad; without them parity is worth half. So the table and the copy
//! of the record are kept in **pages** that check themselves ([`pages`]), with more parity than data, dealt out to two
//! files each of which is enough by itself.
//!
//! The record lists the parity and table files with their digests, and the digest of the list of blobs
//! that they were made of. The copies of the record are not listed: they hold the record.
//!
//! # When
//!
//! An export makes the recovery data of its whole new state before it commits; the next one inherits the
//! percentage. Where the blobs stay the same the files stay as well. Files of older states are removed
//! after the commit. The same set of blobs gives the same parity and the same table.
//!
//! Nothing that comes out of a repair is believed: every blob is hashed before it takes its place.
//!
//! # Memory
//!
//! One group at a time is encoded or decoded: under 200 MiB with up to 100 %, whatever the medium's size.

mod assess;
mod blocks;
mod copies;
pub mod pages;
mod protect;
mod recover;

pub(crate) use assess::{Assessment, assess, damaged_files};
pub(crate) use copies::{Copy, copies, finish, uncopied};
pub(crate) use protect::{protect, renew};
pub(crate) use recover::recover;

use crate::image::Digest;
use crate::limits::RECOVERY_PERCENT as MAX_PERCENT;
use crate::medium::Filesystem;
use crate::record::{BLOCK, Geometry};

/// How much protection was asked for, such as `10%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

impl std::str::FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text);
        match (text, number.parse()) {
            ("none", _) => Ok(Self(0)),
            (_, Ok(percent @ 0..=MAX_PERCENT)) => Ok(Self(percent)),
            _ => Err(format!(
                "say how much in percent of the blobs, such as 10% (at most {MAX_PERCENT}%), or none"
            )),
        }
    }
}

/// Bytes that recovery data of `blobs` blobs of together `bytes` take on `filesystem`, at most, with
/// two copies of a record of up to `record` bytes.
pub fn space(blobs: u64, bytes: u64, percent: u32, record: u64, filesystem: &Filesystem) -> u64 {
    let geometry = Geometry::new(bytes.div_ceil(BLOCK) + blobs, percent);
    let pages = |bytes: u64| 2 * pages::file_bytes(bytes);
    let sum = geometry.parity_blocks() * BLOCK + pages(geometry.table_bytes()) + pages(record);
    filesystem.occupied(sum) + 8 * filesystem.block
}

/// The checksum by which a block is known.
fn checksum(block: &[u8]) -> [u8; 8] {
    let digest = Digest::of(block);
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&digest.bytes()[..8]);
    checksum
}
