//! Blobs that lie where another tool put them, read as those of a medium.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::parts::BlobFile;
use super::{Medium, Root};
use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::record::Record;

/// Where the bytes of a blob lie: a part of a file.
#[derive(Debug)]
pub struct Place {
    /// The file.
    pub file: File,
    /// Where in it the blob begins, in bytes.
    pub offset: u64,
    /// How long the blob is, in bytes.
    pub size: u64,
}

type Find = dyn Fn(&Digest) -> Result<Option<Place>> + Send + Sync;

/// A way to blobs that are in no directory of a medium.
#[derive(Clone)]
pub(super) struct Adopted {
    path: PathBuf,
    find: Arc<Find>,
}

impl fmt::Debug for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Adopted {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok((self.find)(digest)?.map(|place| place.size))
    }

    pub(super) fn open(&self, digest: &Digest) -> Result<Option<BlobFile>> {
        let place = (self.find)(digest)?;
        Ok(place.map(|Place { file, offset, size }| BlobFile::within(file, offset, size)))
    }
}

impl Medium {
    /// What another tool wrote at `path`, as a medium with this record, which is believed: it was made here.
    /// Nothing can be written to it. `find` says where a blob lies.
    pub(crate) fn adopt(
        path: &Path,
        record: Record,
        find: impl Fn(&Digest) -> Result<Option<Place>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let root = Root::open_as(Side::Source, if path.is_dir() { path } else { above })?;
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Error::invalid(Side::Source, path.display(), error))?;
        Ok(Self {
            record: Some((record, Digest::of(&bytes))),
            adopted: Some(Adopted { path: path.to_owned(), find: Arc::new(find) }),
            ..Self::bare(root, None)
        })
    }
}
