//! Reading blobs so that their bytes come from the device.

use super::device::Device;
use super::{BlobFile, Medium};
use crate::image::Descriptor;
use crate::record::{Level, Plugged};

/// Bytes of other blobs that have to pass between the writing and the reading of one, so that no drive still has
/// it in its memory: what f3 takes for the most.
pub const DRIVE_CACHE: u64 = 1 << 30;

/// How often a file is dropped from memory before it is believed to stay there.
const TRIES: usize = 5;

/// How the blobs of a medium are read so that they come from the device.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What reading everything once proves, if no file turns out to be still in memory.
    pub level: Level,
    /// Why it is not more: a sentence.
    pub limit: Option<&'static str>,
}

const IN_MEMORY: &str = "the filesystem is in memory or on a network, so there is no device to read from";
const NOT_PERMITTED: &str = "the device may not be opened, so its cache could not be dropped: run it as root, or plug the medium in again";
const STILL_CACHED: &str = "the system kept files in memory that it was told to drop";
const NOT_REPLUGGED: &str = "plug the medium in again and run `pannier verify` for V3";

impl Medium {
    /// Drops what the system has in memory of the device, as far as that is needed and permitted.
    ///
    /// For filesystems in the kernel the cached pages of each file are dropped when it is opened, which does
    /// it. One behind FUSE reads through the cache of the block device as well (measured with exFAT).
    pub(crate) fn prepare_reading(&self) -> Reading {
        let Some(device) = Device::of(self.path()) else {
            return Reading { level: Level::Read, limit: Some(IN_MEMORY) };
        };
        let is_fuse = rustix::fs::fstatfs(&self.root).is_ok_and(|stat| stat.f_type as u64 == 0x6573_5546);
        let forgot = device.forget_cached();
        if is_fuse && !forgot {
            return Reading { level: Level::Read, limit: Some(NOT_PERMITTED) };
        }
        let written = self.record().and_then(|record| record.written.as_ref());
        match (written, self.plugged()) {
            (Some(written), Some(now))
                if written.is_before(&now) && !self.may_write && !self.was_written_to_since() =>
            {
                Reading { level: Level::Replugged, limit: None }
            }
            _ => Reading { level: Level::Device, limit: Some(NOT_REPLUGGED) },
        }
    }

    /// Opens a blob's file for [`Medium::prepare_reading`]; the second answer is whether it is still in memory
    /// all the same.
    pub(crate) fn open_from_device(&self, blob: &Descriptor) -> crate::Result<(BlobFile, bool)> {
        let file = self.blob_file(blob)?;
        // Asking makes the system read ahead, which can be done before the answer: so more than once.
        let cached = (0..TRIES).all(|_| {
            file.forget_cached();
            file.is_cached()
        });
        Ok((file, cached))
    }

    /// Whether a blob was written after the newest record, as a repair does: by the times of the files.
    fn was_written_to_since(&self) -> bool {
        let time = |name: &str| self.root.open_file(name).ok()?.metadata().ok()?.modified().ok();
        let Some(record) = self.record() else { return true };
        let Some(committed) = time(&super::commits::path(record.sequence)) else { return true };
        // FAT knows even seconds only.
        let latest = committed + std::time::Duration::from_secs(2);
        let files = record.blobs.iter().map(|blob| super::blob_name(&blob.digest));
        files.into_iter().filter_map(|name| time(&name)).any(|time| time > latest)
    }

    /// By which plugging-in the medium is known now; `None` where there is no device.
    pub(crate) fn plugged(&self) -> Option<Plugged> {
        let device = Device::of(self.path())?;
        Some(Plugged { device: device.identity(self.path()), ..device.plugged()? })
    }
}

impl Reading {
    /// What it comes to if a file was still in memory.
    pub fn from_memory(self) -> Self {
        match self.level {
            Level::Written | Level::Read => self,
            _ => Self { level: Level::Read, limit: Some(STILL_CACHED) },
        }
    }
}
