//! What lies at the root of a medium for whoever finds it: a program that reads it, and a few lines that
//! say so. Copies of blobs, since a blob's name tells a person nothing; made again from them.

use std::fs::File;
use std::io;

use super::Medium;
use crate::content::Verified;
use crate::error::{Error, Result, Side};
use crate::record::{RootFile, RootName};

impl Medium {
    /// What is wrong with a file at the root; `None` if it is what the record says. Reads all of it.
    pub fn root_fault(&self, file: &RootFile) -> Result<Option<&'static str>> {
        let name = file.name.as_str();
        let opened = match self.root.find(self.root.open_file(name)) {
            Ok(None) => return Ok(Some("is missing")),
            Ok(Some(opened)) => opened,
            Err(Error::Invalid { .. }) => return Ok(Some("is no regular file")),
            Err(other) => return Err(other),
        };
        let copied = io::copy(&mut Verified::new(opened, &file.blob(), Side::Medium), &mut io::sink());
        match copied.map_err(|error| Error::from_io(Side::Medium, "read", self.root.join(name), error)) {
            Ok(_) => Ok(None),
            Err(error) if error.is_damage() => Ok(Some("has other bytes than the commit record says")),
            Err(other) => Err(other),
        }
    }

    /// Opens a file at the root; reading it to its end proves it.
    pub(crate) fn open_root_file(&self, file: &RootFile) -> Result<Verified<File>> {
        Ok(Verified::new(self.root.open_file(file.name.as_str())?, &file.blob(), Side::Medium))
    }

    /// Whether something is at the root under this name that no record of ours put there, and that is not
    /// what `file` says.
    pub fn is_taken(&self, file: &RootFile) -> Result<bool> {
        let ours = self.record().is_some_and(|record| record.root_file(file.name).is_some());
        Ok(!ours && !matches!(self.root_fault(file)?, None | Some("is missing")))
    }

    /// Writes those of the record's files at the root that are missing, or have another size; with `all`
    /// those as well that have other bytes.
    ///
    /// Each is copied from its blob, brought to the device and read back before it gets its name.
    pub fn write_root_files(&self, all: bool) -> Result<()> {
        for file in self.record().iter().flat_map(|record| &record.root) {
            let there = matches!(self.root.size(file.name.as_str()), Ok(Some(size)) if size == file.size);
            if !there || (all && self.root_fault(file)?.is_some()) {
                self.write_root_file(file)?;
            }
        }
        Ok(())
    }

    /// Writes one file at the root anew, from its blob.
    pub fn write_root_file(&self, file: &RootFile) -> Result<()> {
        let mut replacement = self.replace(file.name.as_str().into())?;
        let copied = io::copy(&mut self.open_blob(&file.blob())?, &mut replacement);
        if let Err(error) = copied {
            replacement.discard()?;
            let path = self.blob_path(&file.digest);
            return Err(Error::from_io(Side::Medium, "copy", path, error));
        }
        if file.name == RootName::Program {
            replacement.make_executable();
        }
        replacement.commit(&file.blob())
    }
}
