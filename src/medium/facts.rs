//! What a person should know of the place that a medium is on.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::device::Device;
use super::filesystem::{Filesystem, nearest};
use crate::error::Result;

/// The filesystem and the device that a path is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceFacts {
    /// The filesystem's usual name.
    pub filesystem: String,
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes that the smallest file takes up.
    pub cluster: u64,
    /// How many more files there can be; `None` where there is no limit but space.
    pub files_free: Option<u64>,
    /// The longest file it holds, in bytes.
    pub largest_file: Option<u64>,
    /// Whether it is mounted read-only, or its device cannot be written.
    pub read_only: bool,
    /// The device's node; the rest is known only where there is one.
    pub device: Option<PathBuf>,
    /// Whether it can be pulled out.
    pub removable: Option<bool>,
    /// Whether the kernel takes it for one without a cache, so that no flush is sent to it.
    pub write_through: Option<bool>,
}

impl PlaceFacts {
    /// Of the filesystem of `path`, or of its nearest parent that exists.
    pub fn of(path: &Path) -> Result<Self> {
        let filesystem = Filesystem::of(path)?;
        let device = Device::of(&nearest(path));
        Ok(Self {
            filesystem: filesystem.name,
            free: filesystem.free,
            cluster: filesystem.block,
            files_free: filesystem.files,
            largest_file: filesystem.largest_file,
            read_only: filesystem.read_only || device.as_ref().is_some_and(Device::is_read_only),
            removable: device.as_ref().map(Device::is_removable),
            write_through: device.as_ref().map(Device::is_write_through),
            device: device.map(|device| device.node),
        })
    }

    /// Whether what the system says of flushes may not be so.
    pub fn may_ignore_flushes(&self) -> bool {
        self.removable == Some(true) && self.write_through == Some(true)
    }
}
