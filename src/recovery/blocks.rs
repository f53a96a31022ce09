//! Blobs as one stream of blocks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::image::Digest;
use crate::medium::{BlobFile, Medium};
use crate::record::{BLOCK, FILE, Geometry};
use crate::record::{Blob, Record, Recovery};

/// The blocks of a record's blobs, in the order of the digests.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    medium: &'a Medium,
    /// Each blob that has bytes, with the number of its first block.
    blobs: Vec<(u64, &'a Blob)>,
    open: Option<(usize, Option<BlobFile>)>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(medium: &'a Medium, record: &'a Record) -> Self {
        let mut next = 0;
        let mut blobs = Vec::new();
        for blob in record.blobs.iter().filter(|blob| blob.size > 0) {
            blobs.push((next, blob));
            next += blob.size.div_ceil(BLOCK);
        }
        Self { medium, blobs, open: None }
    }

    /// The blob that a block is of, and the block's offset in it in bytes.
    pub(super) fn blob(&self, block: u64) -> Option<(&'a Blob, u64)> {
        self.at(block).map(|at| (self.blobs[at].1, (block - self.blobs[at].0) * BLOCK))
    }

    /// The number of a blob's first block, and how many it has.
    pub(super) fn range(&self, digest: &Digest) -> Option<(u64, u64)> {
        let (first, blob) = self.blobs.iter().find(|(_, blob)| blob.digest == *digest)?;
        Some((*first, blob.size.div_ceil(BLOCK)))
    }

    fn at(&self, block: u64) -> Option<usize> {
        let at = self.blobs.partition_point(|(first, _)| *first <= block).checked_sub(1)?;
        let (first, blob) = self.blobs[at];
        (block - first < blob.size.div_ceil(BLOCK)).then_some(at)
    }

    /// Reads `count` blocks from `first` on into `out`, blocks that cannot be read as zeros; calls
    /// `unreadable` for each of those with its place in `out`.
    pub(super) fn read(&mut self, first: u64, count: u64, out: &mut [u8], mut unreadable: impl FnMut(u64)) {
        out.fill(0);
        let mut block = first;
        while block < first + count {
            let Some(at) = self.at(block) else { return };
            let (start, blob) = self.blobs[at];
            let n = (start + blob.size.div_ceil(BLOCK) - block).min(first + count - block);
            let offset = (block - start) * BLOCK;
            let bytes = (blob.size - offset).min(n * BLOCK) as usize;
            let from = ((block - first) * BLOCK) as usize;
            self.read_blob(at, offset, &mut out[from..from + bytes], |place| {
                unreadable(block - first + place)
            });
            block += n;
        }
    }

    fn read_blob(&mut self, at: usize, offset: u64, out: &mut [u8], unreadable: impl FnMut(u64)) {
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            self.open = Some((at, self.medium.damaged_blob_file(&self.blobs[at].1.digest)));
        }
        let file = self.open.as_ref().and_then(|(_, file)| file.as_ref());
        read_at(file, offset, out, unreadable);
    }
}

/// Reads all of `out`, or block by block what can be read.
fn read_at(file: Option<&BlobFile>, offset: u64, out: &mut [u8], mut unreadable: impl FnMut(u64)) {
    let whole = file.is_some_and(|file| file.read_exact_at(out, offset).is_ok());
    if whole {
        return;
    }
    for (place, block) in (0..).zip(out.chunks_mut(BLOCK as usize)) {
        let read = file.is_some_and(|file| file.read_exact_at(block, offset + place * BLOCK).is_ok());
        if !read {
            block.fill(0);
            unreadable(place);
        }
    }
}

/// The parity blocks, in their files.
#[derive(Debug)]
pub(super) struct Parity {
    files: Vec<Option<File>>,
    geometry: Geometry,
}

impl Parity {
    /// Opens the files; those that are missing are as if unreadable.
    pub(super) fn open(medium: &Medium, recovery: &Recovery, geometry: Geometry) -> Self {
        let names = recovery.files.iter().map(|file| &file.name).filter(|name| name.contains(".parity."));
        let files = names.map(|name| medium.recovery_file(name).ok().flatten()).collect();
        Self { files, geometry }
    }

    /// Reads one parity block of a group; false if it cannot be read.
    pub(super) fn read(&self, group: u64, index: u64, out: &mut [u8]) -> bool {
        let place = self.geometry.parity_place(group, index);
        let file = self.files.get((place / FILE) as usize).and_then(Option::as_ref);
        file.is_some_and(|file| file.read_exact_at(out, place % FILE * BLOCK).is_ok())
    }
}
