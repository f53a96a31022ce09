//! Files that are carried beside the images: an OCI artifact, each file one of its layers.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Blob, Record, Role, RootFile, RootName};
use crate::image::{Descriptor, Digest, OCI_MANIFEST, length};

/// The name in `index.json` by which other tools find the files.
pub(crate) const FILES_NAME: &str = "files";
/// What kind of artifact they are.
pub(crate) const FILES_TYPE: &str = "application/vnd.pannier.files.v1";
/// The media type of each.
const FILE_TYPE: &str = "application/octet-stream";
const TITLE: &str = "org.opencontainers.image.title";
/// On a file that is a program.
const EXECUTABLE: &str = "io.pannier.file.executable";
/// The config of an artifact that has none (OCI image-spec, manifest.md, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

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

impl Record {
    /// The file with this name.
    pub fn file(&self, name: &FileName) -> Option<&CarriedFile> {
        let folded = name.folded();
        self.files.iter().find(|file| file.name.folded() == folded)
    }

    /// Every blob that the files need: their bytes, the documents of the artifact, what is copied to the root.
    pub fn file_blobs(&self) -> BTreeSet<Digest> {
        let mut blobs: BTreeSet<Digest> = self.files.iter().map(|file| file.digest).collect();
        if let Some(manifest) = &self.files_manifest {
            blobs.extend([manifest.digest, Digest::of(EMPTY)]);
        }
        blobs.extend(self.root.iter().map(|file| file.digest));
        blobs
    }

    /// Adds `files`, each in the place of one with its name, and makes the artifact's manifest anew.
    ///
    /// Returns the documents that the record then names. Blobs of files that were replaced stay listed, as
    /// those of images do.
    pub fn carry_files(&mut self, files: &[CarriedFile]) -> Vec<Vec<u8>> {
        for file in files {
            let folded = file.name.folded();
            self.files.retain(|there| there.name.folded() != folded);
            self.files.push(file.clone());
        }
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        let documents = self.files_documents();
        self.files_manifest = documents.first().map(|manifest| Descriptor::of(OCI_MANIFEST, manifest));
        let documents_blobs = documents.iter().map(|bytes| (Digest::of(bytes), bytes.len() as u64));
        let blobs: Vec<_> =
            files.iter().map(|file| (file.digest, file.size)).chain(documents_blobs).collect();
        self.add_file_blobs(blobs);
        documents
    }

    /// Has the carried program `name` and `readme` copied to the root; true if the program is there.
    ///
    /// The bytes of `readme` are a blob that the record then names.
    pub fn place_at_root(&mut self, name: &FileName, readme: &[u8]) -> bool {
        let Some(program) = self.file(name) else { return false };
        let program = RootFile { name: RootName::Program, digest: program.digest, size: program.size };
        let (digest, size) = (Digest::of(readme), readme.len() as u64);
        self.root = vec![program, RootFile { name: RootName::Readme, digest, size }];
        self.add_file_blobs([(digest, size)]);
        true
    }

    fn add_file_blobs(&mut self, blobs: impl IntoIterator<Item = (Digest, u64)>) {
        for (digest, size) in blobs {
            if self.blobs.iter().all(|blob| blob.digest != digest) {
                self.blobs.push(Blob { digest, size, role: Role::File });
            }
        }
        self.blobs.sort_by_key(|blob| blob.digest);
        self.name_features();
    }

    /// Drops the files of these names and makes the manifest anew; returns the documents that are then named.
    pub fn drop_files(&mut self, names: &BTreeSet<FileName>) -> Vec<Vec<u8>> {
        let dropped: BTreeSet<String> = names.iter().map(FileName::folded).collect();
        self.files.retain(|file| !dropped.contains(&file.name.folded()));
        self.carry_files(&[])
    }

    /// The artifact's manifest and its config, as they are derived from the list of files.
    pub fn files_documents(&self) -> Vec<Vec<u8>> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let layer = |file: &CarriedFile| {
            let mut annotations = json!({ TITLE: file.name });
            if file.executable {
                annotations[EXECUTABLE] = "true".into();
            }
            json!({ "mediaType": FILE_TYPE, "digest": file.digest, "size": file.size, "annotations": annotations })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": FILES_TYPE,
            "config": { "mediaType": EMPTY_TYPE, "digest": Digest::of(EMPTY), "size": EMPTY.len(), "data": "e30=" },
            "layers": self.files.iter().map(layer).collect::<Vec<_>>(),
        });
        vec![manifest.to_string().into_bytes(), EMPTY.to_vec()]
    }

    /// What is wrong with the list of files; `None` if nothing is.
    pub(super) fn files_fault(&self) -> Option<String> {
        let mut names = BTreeSet::new();
        let twice = self.files.iter().find(|file| !names.insert(file.name.folded()));
        twice.map(|file| format!("it lists two files {}", file.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> CarriedFile {
        let name = name.parse().unwrap();
        CarriedFile { name, digest: Digest::of(bytes), size: bytes.len() as u64, executable: false }
    }

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

    #[test]
    fn a_name_moves_whatever_its_case_and_old_bytes_stay_listed() {
        let mut record = Record::empty("0".repeat(32));
        record.carry_files(&[file("b", b"2"), file("A.snap", b"1")]);
        let before = record.files_manifest.clone();
        let documents = record.carry_files(&[file("a.snap", b"3")]);
        let names: Vec<&str> = record.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.snap", "b"]);
        assert_ne!(record.files_manifest, before);
        assert_eq!(record.files_manifest, Some(Descriptor::of(OCI_MANIFEST, &documents[0])));
        assert!(record.blobs.iter().any(|blob| blob.digest == Digest::of(b"1")));
        assert!(record.file_blobs().iter().all(|needed| record.blobs.iter().any(|b| b.digest == *needed)));
        assert!(!record.file_blobs().contains(&Digest::of(b"1")));
        assert_eq!(record.files_fault(), None);
    }

    #[test]
    fn what_is_written_is_read_and_two_files_of_one_name_are_refused() {
        let mut record = Record::empty("0".repeat(32));
        record.carry_files(&[file("a", b"1")]);
        assert_eq!(Record::parse(&record.to_bytes().unwrap()).unwrap(), record);
        record.files.push(file("A", b"2"));
        assert!(Record::parse(&record.to_bytes().unwrap()).is_err());
    }
}
