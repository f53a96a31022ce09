//! A file that is carried beside the images, and its name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Digest, length};

/// The media type of each.
pub(super) const FILE_TYPE: &str = "application/octet-stream";

/// The name of a carried file: letters, digits and `._+-`, at most 255 of them, the first neither a dot
/// nor a dash, the last no dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a name is none that a file is carried under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name that a file is carried under: letters, digits and ._+- only, at most 255, and no dot or dash first"
)]
pub struct FileNameError(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names have in common that a FAT filesystem takes for one.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl TryFrom<String> for FileName {
    type Error = FileNameError;

    fn try_from(name: String) -> Result<Self, FileNameError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let (first, last) = (name.bytes().next(), name.bytes().last());
        let ends = !matches!(first, None | Some(b'.' | b'-')) && last != Some(b'.');
        if ends && name.len() <= 255 && name.bytes().all(legal) {
            Ok(Self(name))
        } else {
            Err(FileNameError(name.chars().take(300).collect()))
        }
    }
}

impl std::str::FromStr for FileName {
    type Err = FileNameError;

    fn from_str(name: &str) -> Result<Self, FileNameError> {
        name.to_owned().try_into()
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file that is carried beside the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CarriedFile {
    /// Its name; no two on a medium differ in upper and lower case only.
    pub name: FileName,
    /// The digest of its bytes, which is also the name of its blob.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(deserialize_with = "length")]
    pub size: u64,
    /// Whether it is a program.
    pub executable: bool,
}

impl CarriedFile {
    /// Its blob.
    pub fn blob(&self) -> Descriptor {
        Descriptor { media_type: FILE_TYPE.into(), digest: self.digest, size: self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "a".repeat(256);
        for bad in ["", ".", "..", ".hidden", "-rf", "a/b", "../a", "a\\b", "a b", "a\0", "ä", "a.", &long] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<FileName>(bad.into()).is_err(), "{bad:?}");
        }
        for good in ["k8s.snap", "core22_1.2+x-y.assert", "A", &long[..255]] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
    }
}
