//! The files beside the images as an OCI artifact, each file one of its layers.

use std::collections::BTreeSet;

use serde_json::json;

use super::files::FILE_TYPE;
use super::{Blob, CarriedFile, FileName, Record, Role, RootFile, RootName};
use crate::image::{Descriptor, Digest, OCI_MANIFEST};

/// The name in `index.json` by which other tools find the files.
pub(crate) const FILES_NAME: &str = "files";
/// What kind of artifact they are.
pub(crate) const FILES_TYPE: &str = "application/vnd.pannier.files.v1";
const TITLE: &str = "org.opencontainers.image.title";
/// On a file that is a program.
const EXECUTABLE: &str = "io.pannier.file.executable";
/// The config of an artifact that has none (OCI image-spec, manifest.md, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

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
