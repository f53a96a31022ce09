//! A file at the root of a medium: a copy of a blob, for whoever finds the medium.

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Digest};

/// The names that there can be at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RootName {
    /// The program.
    #[serde(rename = "pannier")]
    Program,
    /// What this is, and how to import.
    #[serde(rename = "README.txt")]
    Readme,
}

impl RootName {
    /// Every one of them.
    pub(crate) const ALL: [Self; 2] = [Self::Program, Self::Readme];

    /// The name of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Program => "pannier",
            Self::Readme => "README.txt",
        }
    }
}

/// A file at the root of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootFile {
    /// Its name.
    pub name: RootName,
    /// The digest of its bytes, which are those of a blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl RootFile {
    /// The blob that it is a copy of.
    pub fn blob(&self) -> Descriptor {
        Descriptor { media_type: Default::default(), digest: self.digest, size: self.size }
    }
}
