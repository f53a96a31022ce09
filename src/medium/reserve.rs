//! Space that is set aside for what comes last: the commit record and `index.json`.

use std::io::Write;

use rustix::fs::FallocateFlags;

use super::{Medium, commits, durable};
use crate::error::Result;

const NAME: &str = ".pannier/ingest/reserve.new";
/// Bytes of zeros that are written at a time where space cannot be set aside otherwise.
const CHUNK: u64 = 64 << 10;

impl Medium {
    /// Sets aside what the newest record and `index.json` take and `more` bytes, so that a medium that fills up on
    /// the way can still be committed to.
    ///
    /// An error if there is less.
    pub fn reserve(&self, more: u64) -> Result<()> {
        let newest =
            self.record().map(|record| self.root.size(&commits::path(record.sequence))).transpose()?;
        let bytes = 2 * newest.flatten().unwrap_or(0) + more;
        let mut file = durable::create(&self.root, NAME)?;
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_ok() {
            return Ok(());
        }
        // FAT, and most that is behind FUSE.
        let zeros = vec![0; CHUNK as usize];
        for at in (0..bytes).step_by(CHUNK as usize) {
            let n = CHUNK.min(bytes - at) as usize;
            file.write_all(&zeros[..n]).map_err(|source| self.root.error("write", NAME, source))?;
        }
        Ok(())
    }

    /// Gives it back.
    pub fn release_reserve(&self) -> Result<()> {
        durable::remove(&self.root, NAME)
    }
}
