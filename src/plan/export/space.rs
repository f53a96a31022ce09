//! Whether an export will fit, before the first byte.

use std::path::Path;

use super::super::delta::DeltaStep;
use super::super::files::FileStep;
use super::{DOCUMENTS, ExportPlan, Verdict, is_plain};
use crate::error::{Error, Result, Side};
use crate::medium::Filesystem;

impl ExportPlan {
    /// Files that will be made, at most: a layer leaves a note until the commit.
    fn files_to_write(&self) -> u64 {
        let layers = self.layers.iter().filter(|step| step.bytes() > 0).count();
        let referrers = self.referrers.iter().filter(|step| !step.present).count();
        let files = self.files.iter().filter(|step| !step.present).count();
        (2 * layers + referrers + files + DOCUMENTS * self.names.len()) as u64
    }

    /// An error unless everything will fit on `filesystem`, which `path` is on.
    ///
    /// A plain tar that is recompressed is held against the limit of free space, but not against the
    /// largest file: it shrinks to an extent that nobody knows beforehand.
    pub fn require_space(&self, filesystem: &Filesystem, path: &Path) -> Result<()> {
        if self.is_nothing() {
            return Ok(());
        }
        if filesystem.read_only {
            let read_only = std::io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(Error::from_io(Side::Medium, "write", path.to_owned(), read_only));
        }
        for FileStep { file, .. } in self.files.iter().filter(|step| !step.present) {
            if let Some(limit) = filesystem.largest_file.filter(|limit| file.size > *limit) {
                let (what, filesystem) = (format!("file {}", file.name), filesystem.name.clone());
                return Err(Error::FileTooLarge { what, size: file.size, filesystem, limit });
            }
        }
        for step in &self.layers {
            let blob = match &step.verdict {
                Verdict::Copy(pick) => &pick.blob,
                Verdict::Delta(DeltaStep { pick, recompress: false, .. }) => &pick.blob,
                Verdict::Recompress(pick) if !is_plain(&pick.blob) => &pick.blob,
                _ => continue,
            };
            if let Some(limit) = filesystem.largest_file.filter(|limit| blob.size > *limit) {
                let (what, filesystem) = (format!("layer {}", blob.digest), filesystem.name.clone());
                return Err(Error::FileTooLarge { what, size: blob.size, filesystem, limit });
            }
        }
        if let Some(free) = filesystem.files.filter(|free| self.files_to_write() > *free) {
            return Err(Error::NoFiles { path: path.to_owned(), needed: self.files_to_write(), free });
        }
        let needed = self.bytes_to_write(filesystem);
        if needed > filesystem.free {
            let path = path.to_owned();
            return Err(Error::NoSpace { side: Side::Medium, path, needed, free: filesystem.free });
        }
        Ok(())
    }
}
