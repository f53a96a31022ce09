//! The medium: a directory that is an OCI image layout, and a commit record that says what is on it.
//!
//! ```text
//! MEDIUM/
//!   oci-layout, index.json      a plain layout that other tools read; index.json is derived
//!   blobs/sha256/<64 hex>       manifests, configs, layers
//!   .pannier/commits/*.json     the state after each export, under a fresh name each; the only commit point
//!   .pannier/deltas/<64 hex>    layers as what differs from another one; made with the first of them
//!   .pannier/parts/             blobs that are longer than a file here may be, in parts; where asked for
//!   .pannier/ingest/            unfinished blobs, and which layer a finished one encodes
//!   pannier, README.txt         a program that reads the medium, where asked for; copies of blobs
//!   .pannier/results/           what nodes that imported it said, where their configuration lets them
//!   .pannier/recovery/          parity and copies of the newest records, where asked for
//! ```

mod adopted;
mod commits;
mod delta;
mod destination;
mod device;
pub(crate) mod durable;
mod facts;
mod filesystem;
mod index;
mod ingest;
mod level;
mod lock;
mod looked_at;
mod parts;
mod prune;
mod recovery;
mod replacement;
mod reserve;
mod results;
mod root;
mod root_files;
mod signed;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::fs::OFlags;

use crate::content::{self, Verified};
use crate::error::{Error, NoMedium, Result, Side};
use crate::image::{Descriptor, Digest};
use crate::record::Record;

pub use adopted::Place;
#[cfg(feature = "cli")]
pub(crate) use commits::now;
pub use commits::{Rejected, Sign};
pub use destination::{Destination, Occupant};
pub use device::{Device, Mount};
pub use facts::PlaceFacts;
pub use filesystem::Filesystem;
pub use index::{ForeignEntry, IndexState, IndexWritten};
pub use ingest::{Finished, Ingest};
pub use level::{DRIVE_CACHE, Reading};
pub use lock::Lock;
pub use parts::BlobFile;
pub use replacement::Replacement;
pub use results::write_result;
pub(crate) use root::Root;
pub(crate) use signed::SignatureFile;
pub use signed::SignedRecord;

/// The content of `oci-layout` (OCI image-spec, image-layout.md).
const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
/// The directories of a medium, parents first.
const DIRECTORIES: [&str; 5] = ["blobs", "blobs/sha256", ".pannier", ".pannier/commits", ".pannier/ingest"];

/// An open medium and the newest valid commit record on it.
#[derive(Debug)]
pub struct Medium {
    root: Root,
    record: Option<commits::Head>,
    rejected: Vec<Rejected>,
    authentic: bool,
    /// Held for as long as what the record names may be read.
    reader: Option<Lock>,
    /// Bytes after which a new blob goes on in another file.
    part_size: Option<u64>,
    /// Bytes that were written since the last time that any were brought to the device.
    unsynced: AtomicU64,
    /// Where the blobs are, if not in the directory.
    adopted: Option<adopted::Adopted>,
    /// The largest sequence that was dropped.
    floor: u64,
    /// Whether it was locked to be written: what is read back then may just have been.
    may_write: bool,
    /// What signs commits that are given no signature of their own.
    signer: Option<commits::Signer>,
    /// How many blobs of the record are missing, once one was.
    missing: OnceLock<usize>,
}

impl Medium {
    /// Opens the medium at `path` for reading; nothing is written to it. Nothing is deleted from it while it
    /// is open.
    ///
    /// An error unless there is a layout or a commit record; [`Error::Locked`] while something is deleted.
    pub fn open(path: &Path) -> Result<Self> {
        let nothing = |why| Error::NoMedium { path: path.to_owned(), why };
        let root = match Root::open(path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(nothing(looked_at::absent(path)));
            }
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
                return Err(nothing(looked_at::no_directory(path)));
            }
            other => other?,
        };
        // Before the record is read: what it names stays.
        let reader = lock::shared(&root)?;
        Self::examine(root, reader)?.ok_or_else(|| nothing(looked_at::directory(path)))
    }

    /// Opens the medium at `path` if there is one; `None` for a directory that is none, or absent.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        match Root::open(path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Self::examine(other?, None),
        }
    }

    fn examine(root: Root, reader: Option<Lock>) -> Result<Option<Self>> {
        let (record, rejected) = commits::newest(&root)?;
        if record.is_none() && rejected.is_empty() && root.size("oci-layout")?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { record, rejected, ..Self::bare(root, reader) }))
    }

    fn bare(root: Root, reader: Option<Lock>) -> Self {
        Self {
            root,
            record: None,
            rejected: Vec::new(),
            authentic: false,
            reader,
            part_size: None,
            unsynced: AtomicU64::new(0),
            adopted: None,
            floor: 0,
            may_write: false,
            signer: None,
            missing: OnceLock::new(),
        }
    }

    /// Opens the medium at `path` for an export, making whatever is missing of it.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(Side::Medium, "create", path))?;
        let root = Root::open(path)?;
        for directory in DIRECTORIES {
            durable::make_directory(&root, directory)?;
        }
        // An export that was cut off right here leaves the beginning of it.
        let there = root.find(root.open_file("oci-layout"))?.is_some();
        let begun = || matches!(root.read("oci-layout", 64), Ok(Some(b)) if OCI_LAYOUT.starts_with(&b));
        if !there || (begun() && root.size("oci-layout")? != Some(OCI_LAYOUT.len() as u64)) {
            durable::write_new(&root, ".", "oci-layout", OCI_LAYOUT)?;
        }
        let (record, rejected) = commits::newest(&root)?;
        Ok(Self { record, rejected, ..Self::bare(root, None) })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        self.adopted.as_ref().map_or_else(|| self.root.path(), adopted::Adopted::path)
    }

    /// The newest valid commit record; `None` before the first export.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().map(|(record, _)| record)
    }

    /// The newest valid commit record, for whoever can do nothing without one.
    ///
    /// Errors: [`Error::NoMedium`], which tells a medium whose records are all damaged from one to which
    /// an export was begun and never finished, and from the layout of another tool.
    pub fn committed(&self) -> Result<&Record> {
        match &self.record {
            Some((record, _)) => Ok(record),
            None => Err(without_record(&self.root, self.rejected.first())),
        }
    }

    /// Whether somebody's signature over the record counted when it was opened.
    pub fn is_authentic(&self) -> bool {
        self.authentic
    }

    /// Commit records that are newer than [`Medium::record`] or should be beside it, but cannot be
    /// used: damaged, or left by an export that was cut off while it wrote them.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// An error if its path leads elsewhere by now: it was unmounted, or another one was put in its place.
    /// Everything is written beneath the handle that was opened first, so nothing went to the wrong one.
    pub fn require_same(&self) -> Result<()> {
        let own =
            rustix::fs::fstat(&self.root).map_err(|errno| self.root.error("examine", ".", errno.into()))?;
        match rustix::fs::stat(self.path()) {
            Ok(now) if (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino) => Ok(()),
            _ => Err(Error::Swapped { path: self.path().to_owned() }),
        }
    }

    /// Looks for the newest record again.
    fn reload(&mut self) -> Result<()> {
        (self.record, self.rejected) = commits::newest(&self.root)?;
        self.authentic = false;
        Ok(())
    }

    /// Opens a blob for reading. Its size is compared at once; reading it to the end proves the rest.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<Verified<BlobFile>> {
        Ok(Verified::new(self.blob_file(blob)?, blob, Side::Medium))
    }

    /// Reads a blob of at most `limit` bytes and proves it.
    pub fn read_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        content::read_all(self.blob_file(blob)?, blob, Side::Medium, limit)
    }

    /// The length of the blob `digest`, going by its file or files; `None` if there is none.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        if let Some(adopted) = &self.adopted {
            return adopted.size(digest);
        }
        match self.root.size(&blob_name(digest))? {
            None => self.size_of_parts(digest),
            there => Ok(there),
        }
    }

    /// Opens the file of a blob whose size is right. Its content is not proven.
    pub(crate) fn blob_file(&self, blob: &Descriptor) -> Result<BlobFile> {
        let (name, found) = match delta::file_name(blob) {
            _ if let Some(adopted) = &self.adopted => (blob_name(&blob.digest), adopted.open(&blob.digest)?),
            Some(name) => {
                let file = self.root.find(self.root.open_file(&name))?;
                let file = file.map(|file| BlobFile::new(vec![file])).transpose();
                let found = file.map_err(|source| self.root.error("examine", &name, source))?;
                (name, found)
            }
            None => (blob_name(&blob.digest), self.open_blob_files(&blob.digest)?),
        };
        let Some(file) = found else { return Err(self.missing(blob.digest, &name)) };
        if file.size() != blob.size {
            let (what, found) = (format!("blob {}", blob.digest), file.size());
            return Err(Error::SizeMismatch { side: Side::Medium, what, expected: blob.size, found });
        }
        Ok(file)
    }

    /// The error for a blob that is not there: how many of the record's are not.
    fn missing(&self, blob: Digest, name: &str) -> Error {
        let Some(record) = self.record() else {
            return Error::not_found(Side::Medium, self.root.join(name).display());
        };
        let is_missing = |blob: &Digest| matches!(self.blob_size(blob), Ok(None));
        let count = || record.blobs.iter().filter(|blob| is_missing(&blob.digest)).count();
        let missing = *self.missing.get_or_init(count);
        Error::BlobMissing { path: self.path().to_owned(), blob, missing, of: record.blobs.len() }
    }

    /// The names of all files in the directory of blobs.
    pub fn blob_names(&self) -> Result<Vec<String>> {
        self.root.list("blobs/sha256")
    }

    /// The path of a blob, for messages.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(&blob_name(digest))
    }

    /// What `oci-layout` should hold but does not; `None` when it is right.
    pub fn layout_fault(&self) -> Result<Option<&'static str>> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let bytes = match self.root.read("oci-layout", 4096) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Some("is missing")),
            Err(Error::Invalid { .. }) => return Ok(Some("is no small file")),
            Err(other) => return Err(other),
        };
        match serde_json::from_slice::<Layout>(&bytes) {
            Ok(layout) if layout.image_layout_version == "1.0.0" => Ok(None),
            _ => Ok(Some("does not say imageLayoutVersion 1.0.0")),
        }
    }

    /// Brings everything written so far to the device.
    pub fn sync(&self) -> Result<()> {
        durable::barrier(&self.root)
    }
}

/// What a medium is whose `newest` record is unusable, or that has none.
fn without_record(root: &Root, newest: Option<&Rejected>) -> Error {
    let is_there = |name: &str| root.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY).is_ok();
    let why = match newest {
        Some(Rejected { name, reason, .. }) => NoMedium::AllDamaged {
            newest: name.clone(),
            reason: reason.clone(),
            recovery: is_there(recovery::DIRECTORY),
        },
        None if is_there(".pannier") => NoMedium::Unfinished,
        None if index::has_ours(root) => NoMedium::Unhidden,
        None => NoMedium::OtherLayout,
    };
    Error::NoMedium { path: root.path().to_owned(), why }
}

/// The path of a blob beneath the root, built from the decoded digest.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
