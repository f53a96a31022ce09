//! Why a medium cannot be used: values that errors carry.

use std::fmt;
use std::path::PathBuf;

use crate::image::Digest;
use crate::record::Basis;

/// What a directory is that is no medium which can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMedium {
    /// There is nothing under this path.
    Absent,
    /// A file, or something else that is no directory.
    File,
    /// A file that is a tar, or compressed as tars are.
    Archive,
    /// A block device.
    Device,
    /// Nothing, but without the kind before it (`oci:`, `medium:`) the path leads somewhere.
    Prefixed {
        /// The path without it.
        path: PathBuf,
    },
    /// A file or directory on a medium.
    Inside {
        /// The medium.
        medium: PathBuf,
    },
    /// A directory, in which there is a medium.
    Above {
        /// The medium.
        medium: PathBuf,
    },
    /// An empty directory.
    Empty,
    /// A directory with neither `oci-layout` nor `.pannier`.
    Nothing,
    /// An export was begun, and no export has ever been committed.
    Unfinished,
    /// The images of a medium, without the hidden directory `.pannier`.
    Unhidden,
    /// An OCI image layout of another tool: Pannier has committed nothing to it.
    OtherLayout,
    /// Commit records are there, and each of them is damaged.
    AllDamaged {
        /// The newest one, beneath the medium's root.
        newest: String,
        /// What is wrong with it: a sentence.
        reason: String,
        /// Whether recovery data are on the medium, which have copies of records.
        recovery: bool,
    },
}

impl fmt::Display for NoMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is nothing here"),
            Self::File => f.write_str("not a medium: this is no directory"),
            Self::Archive => f.write_str("this is an archive; a medium is a directory"),
            Self::Device => f.write_str("this is a device; a medium is the directory that it is mounted at"),
            Self::Prefixed { path } => {
                write!(f, "there is nothing here; a medium is given as a path alone: {}", path.display())
            }
            Self::Inside { medium } => write!(f, "this is a part of the medium {}", medium.display()),
            Self::Above { medium } => {
                write!(f, "not a medium itself; there is one in it: {}", medium.display())
            }
            Self::Empty => f.write_str("this directory is empty"),
            Self::Unhidden => f.write_str("a copy of a medium without its hidden directory .pannier"),
            Self::Nothing => f.write_str("not a medium: it has neither oci-layout nor .pannier"),
            Self::Unfinished => f.write_str("an export to it was begun and never finished"),
            Self::OtherLayout => f.write_str("an OCI layout of another tool: it has no commit record"),
            Self::AllDamaged { newest, reason, .. } => {
                write!(f, "every commit record is damaged; the newest, {newest}: {reason}")
            }
        }
    }
}

/// The newest commit record that is whole, where a newer one is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderRecord {
    /// The export whose record is damaged.
    pub damaged: u64,
    /// The name of that record, beneath the medium's root.
    pub name: String,
    /// What is wrong with it: a sentence.
    pub reason: String,
    /// The newest export whose record is whole.
    pub whole: u64,
    /// When that one was committed (RFC 3339).
    pub created: String,
    /// How many images it has.
    pub images: usize,
}

impl fmt::Display for OlderRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { damaged, name, reason, whole, created, images } = self;
        let s = if *images == 1 { "" } else { "s" };
        write!(
            f,
            "export {damaged} cannot be read ({name}: {reason}); the newest that can is export {whole} of {created}, \
             with {images} image{s}"
        )
    }
}

/// What a node lacks of what a medium counts on.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// The names of the image.
    pub image: String,
    /// The layer, by its diff_id.
    pub layer: Digest,
    /// The layer of the image that is to be rebuilt from it; `None` where it is one itself.
    pub rebuilds: Option<Digest>,
    /// What the medium rests on.
    pub rests_on: Vec<Basis>,
    /// How many layers it lacks besides.
    pub more: usize,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, layer, rebuilds, more, .. } = self;
        let more = match more {
            0 => String::new(),
            1 => " (and one more)".into(),
            more => format!(" (and {more} more)"),
        };
        match rebuilds {
            Some(rebuilt) => {
                write!(f, "layer {layer}{more}, from which layer {rebuilt} of {image} is to be rebuilt")
            }
            None => write!(f, "layer {layer}{more} of {image}, which the medium was made without"),
        }
    }
}
