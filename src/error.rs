//! Errors, by what the person in front of the machine can do about them.

mod reasons;
mod units;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::image::Digest;
use crate::record::Level;
use crate::trust::Refusal;

pub use reasons::{Lacking, NoMedium, OlderRecord};
pub(crate) use units::size;

/// Which side of the carrying failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where images come from: a registry, containerd, a layout or an archive.
    Source,
    /// The removable medium.
    Medium,
    /// The containerd that images are put into.
    Node,
    /// The registry that images are pushed to.
    Registry,
    /// The machine that the command runs on: its files, its keys, its standard output.
    Here,
}

impl Side {
    /// How a message about this side begins: `medium: `, and nothing for the machine itself.
    fn prefix(self) -> String {
        if self == Self::Here { String::new() } else { format!("{self}: ") }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Medium => "medium",
            Self::Node => "node",
            Self::Registry => "registry",
            Self::Here => "this machine",
        })
    }
}

/// What went wrong. The message never repeats its cause; the chain is printed once, by the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for is not there.
    #[error("{}not found: {what}", side.prefix())]
    NotFound {
        /// Where it was looked for.
        side: Side,
        /// An image, a blob, a path.
        what: String,
    },
    /// Bytes are not what their digest says.
    #[error("{}{what} is damaged: its bytes have digest {found}, expected {expected}", side.prefix())]
    DigestMismatch {
        /// Where the bytes came from.
        side: Side,
        /// The blob or file.
        what: String,
        /// The digest it is listed under.
        expected: Digest,
        /// The digest of the bytes that were read.
        found: Digest,
    },
    /// A blob that the medium's record names is not there.
    #[error(
        "medium: blob {blob} is missing; {missing} of {of} blobs {} missing on {}",
        if *missing == 1 { "is" } else { "are" },
        path.display()
    )]
    BlobMissing {
        /// The medium.
        path: PathBuf,
        /// The blob that was to be read.
        blob: Digest,
        /// How many blobs are missing of those that the record names.
        missing: usize,
        /// How many it names.
        of: usize,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error("{}{what} is damaged: {found} bytes long, expected {expected}", side.prefix())]
    SizeMismatch {
        /// Where the bytes came from.
        side: Side,
        /// The blob or file.
        what: String,
        /// The size it is listed with, in bytes.
        expected: u64,
        /// The size found; when longer than expected, at least this many.
        found: u64,
    },
    /// A document or stream that cannot be accepted.
    #[error("{}{what}: {reason}", side.prefix())]
    Invalid {
        /// Where it came from.
        side: Side,
        /// The document, blob or file.
        what: String,
        /// A sentence, free of the document's bytes.
        reason: String,
    },
    /// A directory that is no medium which can be read.
    #[error("medium: {}: {why}", path.display())]
    NoMedium {
        /// The directory.
        path: PathBuf,
        /// What it is instead.
        why: NoMedium,
    },
    /// The newest commit record is damaged, and an older one that is whole may lack what it brought.
    #[error("medium: {}: {older}", path.display())]
    Older {
        /// The medium.
        path: PathBuf,
        /// Which exports.
        older: Box<OlderRecord>,
    },
    /// The medium is sound, and cannot take or give what is asked of it.
    #[error("medium: {what}: {reason}")]
    Unfit {
        /// The medium, or a file on it.
        what: String,
        /// A sentence.
        reason: String,
    },
    /// An operating system call failed.
    #[error("{}cannot {action} {}", side.prefix(), path.display())]
    Io {
        /// The side the path belongs to.
        side: Side,
        /// A verb: `read`, `write`, `create`, `sync`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It would not fit; found out before the first byte.
    #[error("{}{} needs {}, {} are free", side.prefix(), path.display(), size(*needed), size(*free))]
    NoSpace {
        /// The side that is too small.
        side: Side,
        /// The path on the filesystem that is too small.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A blob is larger than a file can be on the medium's filesystem.
    #[error("medium: {what} takes up to {}, but a file on {filesystem} holds at most {}", units::size(*size), units::size(*limit))]
    FileTooLarge {
        /// The layer.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The filesystem's name.
        filesystem: String,
        /// The largest file it holds, in bytes.
        limit: u64,
    },
    /// The filesystem has no room for as many files as are needed, whatever its free space.
    #[error("medium: {} has room for {free} more files, up to {needed} are needed", path.display())]
    NoFiles {
        /// The medium.
        path: PathBuf,
        /// Files needed, at most.
        needed: u64,
        /// Files that it still has room for.
        free: u64,
    },
    /// What was written to the medium is not what is read from it.
    #[error("medium: {damaged} of {total} blobs read back are not what was written: {first}")]
    NotKept {
        /// How many blobs are wrong.
        damaged: usize,
        /// How many were read.
        total: usize,
        /// What is wrong with the first of them.
        first: Box<Error>,
    },
    /// Another process works on the medium.
    #[error("medium: {} is in use by another pannier", path.display())]
    Locked {
        /// The medium.
        path: PathBuf,
    },
    /// containerd or a registry cannot be reached, or went away.
    #[error("{}{address} cannot be reached", side.prefix())]
    Unreachable {
        /// Which side.
        side: Side,
        /// The socket or host.
        address: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// containerd or a registry answered with an error.
    #[error("{}{action} failed: {reason}", side.prefix())]
    Refused {
        /// Which side.
        side: Side,
        /// What was asked of it.
        action: String,
        /// Its answer.
        reason: String,
    },
    /// Less is proven of a medium than was required.
    #[error("medium: verified as {reached} only, {required} is required: {reason}")]
    Unproven {
        /// What is proven.
        reached: Level,
        /// What was to be.
        required: Level,
        /// Why it is not: a sentence.
        reason: String,
    },
    /// A medium is not unmounted, since it is in use.
    #[error("medium: {} is in use and was not ejected{}", path.display(), by(holders))]
    Busy {
        /// Where it is mounted.
        path: PathBuf,
        /// Who uses it, as far as it can be seen.
        holders: Vec<String>,
    },
    /// In the middle of the work the path no longer leads to the medium that it began on.
    #[error("medium: {} is not the medium any more that this began on", path.display())]
    Swapped {
        /// The path.
        path: PathBuf,
    },
    /// The medium was made for nodes that hold more than this one does.
    #[error("node: lacks {0}")]
    Lacking(Box<Lacking>),
    /// The medium was made for nodes that hold a layer, and this one's is damaged.
    #[error(
        "node: blob {blob} is damaged; it holds layer {layer} of {image}, which the medium was made without"
    )]
    LackingDamaged {
        /// The names of the image.
        image: String,
        /// The layer, by its diff_id.
        layer: Digest,
        /// The blob.
        blob: Digest,
    },
    /// Nobody whose word counts has signed the medium as it is.
    #[error("medium: {what} is not to be trusted: {reason}")]
    Untrusted {
        /// The commit record.
        what: String,
        /// A sentence, free of the medium's bytes.
        reason: String,
    },
    /// None of several media has room for an image.
    #[error("medium: {place} has no room for {image}: it takes up to {}, {} are free", size(*needed), size(*free))]
    NoRoom {
        /// The medium that it has to be on, or that there is none.
        place: String,
        /// The image.
        image: String,
        /// Bytes that it takes, where it comes closest to fitting.
        needed: u64,
        /// Bytes free there.
        free: u64,
    },
    /// The medium is not taken, for whom it is for, for its age, or for what its signers may not bring.
    #[error("medium: {what} is not taken: {refusal}")]
    NotTaken {
        /// The medium.
        what: String,
        /// Why.
        refusal: Refusal,
    },
    /// Nobody whose word counts has signed an inventory.
    #[error("source: {what} is not to be trusted: {reason}")]
    UntrustedInventory {
        /// The file.
        what: String,
        /// A sentence, free of the file's bytes.
        reason: String,
    },
    /// The person or the system asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error and what caused it, in one line.
    pub(crate) fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Wraps a failed system call; for use in `map_err`.
    pub fn io(side: Side, action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::from_io(side, action, path, source)
    }

    /// Like [`Error::io`]; an error of ours that travelled inside an [`io::Error`] comes out as it was.
    pub fn from_io(side: Side, action: &'static str, path: PathBuf, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Io { side, action, path, source },
        }
    }

    /// Something that cannot be accepted, as it came from `side`.
    pub fn invalid(side: Side, what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Invalid { side, what: what.to_string(), reason: reason.to_string() }
    }

    /// The medium is sound, and cannot take or give what is asked of it.
    pub fn unfit(what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Unfit { what: what.to_string(), reason: reason.to_string() }
    }

    /// Whether bytes turned out not to be what they should.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. } | Self::SizeMismatch { .. } | Self::Invalid { .. })
    }

    /// Whether the medium's filesystem itself is damaged: what the system says of it.
    pub fn is_filesystem_damage(&self) -> bool {
        use rustix::io::Errno;
        let Self::Io { side: Side::Medium, source, .. } = self else { return false };
        let damage = [Errno::UCLEAN.raw_os_error(), Errno::BADMSG.raw_os_error()];
        source.raw_os_error().is_some_and(|errno| damage.contains(&errno))
    }

    /// Whether the medium is full, or its quota used up.
    pub fn is_medium_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let Self::Io { side: Side::Medium, source, .. } = self else { return false };
        matches!(source.kind(), StorageFull | QuotaExceeded)
    }

    /// Whether going on with other images is useless: the medium or the node itself failed, or
    /// someone asked to stop.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::Locked { .. }
                | Self::NoSpace { .. }
                | Self::NoFiles { .. }
                | Self::Swapped { .. }
                | Self::Io { side: Side::Medium, .. }
        )
    }

    /// Something that is not there.
    pub fn not_found(side: Side, what: impl fmt::Display) -> Self {
        Self::NotFound { side, what: what.to_string() }
    }
}

fn by(holders: &[String]) -> String {
    if holders.is_empty() { String::new() } else { format!(": {}", holders.join(", ")) }
}

impl From<Error> for io::Error {
    /// Lets an error of ours pass through code that only knows [`io::Error`], such as a decoder.
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
