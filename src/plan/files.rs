//! What an export does about files beside the images.

use std::collections::BTreeSet;

use crate::image::Digest;
use crate::record::{CarriedFile, Record};

/// Which of an export's sources a file is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOrigin {
    /// The files that were named.
    Named,
    /// The source of the images.
    Source,
}

/// What is to be done about a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileVerdict {
    /// The medium has this file under this name.
    Unchanged,
    /// The name is new on the medium.
    New,
    /// The name stood for another file and moves to this one.
    Moved,
}

/// A file in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStep {
    /// The file.
    pub file: CarriedFile,
    /// Where it is read from.
    pub origin: FileOrigin,
    /// What happens to its name.
    pub verdict: FileVerdict,
    /// Whether its bytes are on the medium, or come with a file before it.
    pub present: bool,
}

impl FileStep {
    /// Bytes that are read for it.
    pub fn bytes(&self) -> u64 {
        if self.present { 0 } else { self.file.size }
    }
}

/// Plans the carrying of `named` files, and of those of the source under other names.
///
/// `record` is the medium's newest, `there` are the blobs whose files are on it.
pub fn files(
    named: &[CarriedFile],
    of_source: &[CarriedFile],
    record: Option<&Record>,
    there: &BTreeSet<Digest>,
) -> Vec<FileStep> {
    let mut names = BTreeSet::new();
    let mut coming = there.clone();
    let named = named.iter().map(|file| (file, FileOrigin::Named));
    let all = named.chain(of_source.iter().map(|file| (file, FileOrigin::Source)));
    all.filter(|(file, _)| names.insert(file.name.folded()))
        .map(|(file, origin)| {
            let verdict = match record.and_then(|record| record.file(&file.name)) {
                Some(there) if there == file => FileVerdict::Unchanged,
                Some(_) => FileVerdict::Moved,
                None => FileVerdict::New,
            };
            let present = !coming.insert(file.digest);
            FileStep { file: file.clone(), origin, verdict, present }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::medium::Filesystem;
    use crate::plan::{ExportPlan, MediumState};

    fn file(name: &str, bytes: &[u8]) -> CarriedFile {
        let name = name.parse().unwrap();
        CarriedFile { name, digest: Digest::of(bytes), size: bytes.len() as u64, executable: false }
    }

    #[test]
    fn bytes_are_carried_once_and_a_named_file_goes_before_the_sources() {
        let mut record = Record::empty("0".repeat(32));
        record.carry_files(&[file("same", b"same"), file("moves", b"old")]);
        let there = BTreeSet::from([Digest::of(b"same")]);
        let named = [file("same", b"same"), file("MOVES", b"new"), file("copy", b"new")];
        let steps = files(&named, &[file("moves", b"source's"), file("more", b"m")], Some(&record), &there);
        let seen: Vec<_> =
            steps.iter().map(|s| (s.file.name.as_str(), s.origin, s.verdict, s.bytes())).collect();
        assert_eq!(
            seen,
            [
                ("same", FileOrigin::Named, FileVerdict::Unchanged, 0),
                ("MOVES", FileOrigin::Named, FileVerdict::Moved, 3),
                ("copy", FileOrigin::Named, FileVerdict::New, 0),
                ("more", FileOrigin::Source, FileVerdict::New, 1),
            ]
        );
    }

    #[test]
    fn a_file_that_the_filesystem_cannot_hold_is_refused_before_the_first_byte() {
        let fat = |free| Filesystem {
            name: "FAT32".into(),
            free,
            block: 32768,
            files: None,
            largest_file: Some(u64::from(u32::MAX)),
            read_only: false,
        };
        let mut plan = ExportPlan::new(&[], &MediumState::default(), None);
        let large = CarriedFile { size: 1 << 32, ..file("disk.img", b"") };
        plan.files = files(&[large], &[], None, &BTreeSet::new());
        let path = std::path::Path::new("/media/stick");
        let refused = plan.require_space(&fat(1 << 40), path).unwrap_err();
        assert!(matches!(&refused, Error::FileTooLarge { what, .. } if what == "file disk.img"), "{refused}");
        plan.files[0].file.size -= 1;
        plan.require_space(&fat(1 << 40), path).unwrap();
        let full = plan.require_space(&fat(1 << 32), path).unwrap_err();
        assert!(matches!(full, Error::NoSpace { .. }), "{full}");
    }
}
