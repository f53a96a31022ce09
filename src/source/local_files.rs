//! Files of this machine that are to be carried beside images.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Listed, Source};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Hasher, Reference};
use crate::progress::{Run, Stoppable};
use crate::record::{CarriedFile, FileName};

/// A file and the name that it is to be carried under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// The name.
    pub name: FileName,
    /// Where the file is.
    pub path: PathBuf,
}

impl std::str::FromStr for NamedPath {
    type Err = String;

    /// `PATH`, whose last component is the name, or `NAME=PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((name, path)) = text.split_once('=')
            && let Ok(name) = name.parse()
            && !path.is_empty()
        {
            return Ok(Self { name, path: path.into() });
        }
        let path = PathBuf::from(text);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.parse().map_err(|error| format!("{error}; NAME=PATH gives it another"))?;
        Ok(Self { name, path })
    }
}

/// Files of this machine, hashed.
#[derive(Debug, Default)]
pub struct LocalFiles {
    files: Vec<CarriedFile>,
    /// In the order of `files`.
    paths: Vec<PathBuf>,
}

impl LocalFiles {
    /// Reads and hashes every file once.
    ///
    /// Errors: a name that is given twice (usage), a file that cannot be read, or that is none.
    pub fn open(named: &[NamedPath], run: Run<'_>) -> Result<Self> {
        let mut names = BTreeSet::new();
        let mut local = Self::default();
        for NamedPath { name, path } in named {
            if !names.insert(name.folded()) {
                let text = format!("two files would be carried as {name}; NAME=PATH gives another name");
                return Err(Error::Usage(text));
            }
            let file = open(path)?;
            let metadata = file.metadata().map_err(Error::io(Side::Source, "examine", path))?;
            let mut hasher = Hasher::default();
            let mut reader = Stoppable(file, run);
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = reader.read(&mut buffer);
                let n = n.map_err(|error| Error::from_io(Side::Source, "read", path.clone(), error))?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
            }
            let size = hasher.count();
            let executable = metadata.permissions().mode() & 0o111 != 0;
            local.files.push(CarriedFile { name: name.clone(), digest: hasher.finish(), size, executable });
            local.paths.push(path.clone());
        }
        Ok(local)
    }
}

/// Opens a regular file; a link is followed, since the person named it.
fn open(path: &Path) -> Result<File> {
    let metadata = path.metadata().map_err(Error::io(Side::Source, "open", path))?;
    if metadata.is_dir() {
        let reason = "a directory: pack it (`tar -czf NAME.tar.gz DIRECTORY`) and carry that, or name its files one by one";
        return Err(Error::invalid(Side::Source, path.display(), reason));
    }
    if !metadata.is_file() {
        return Err(Error::invalid(Side::Source, path.display(), "not a regular file"));
    }
    File::open(path).map_err(Error::io(Side::Source, "open", path))
}

impl Source for LocalFiles {
    fn name(&self) -> String {
        "the files".into()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(Vec::new())
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        Err(Error::not_found(Side::Source, image))
    }

    fn holds(&self, _: &Reference, _: &Descriptor) -> Result<bool> {
        Ok(false)
    }

    fn open_unverified(&self, image: &Reference, blob: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
        Err(self.absent(image, blob))
    }

    fn files(&self) -> &[CarriedFile] {
        &self.files
    }

    fn open_file(&self, file: &CarriedFile, offset: u64) -> Result<Box<dyn Read + Send>> {
        let at = self.files.iter().position(|own| own.digest == file.digest);
        let path = at.and_then(|at| self.paths.get(at));
        let path = path.ok_or_else(|| Error::not_found(Side::Source, &file.name))?;
        let mut opened = open(path)?;
        opened.seek(SeekFrom::Start(offset)).map_err(Error::io(Side::Source, "read", path))?;
        Ok(Box::new(Unchanging { inner: opened, left: file.size.saturating_sub(offset), path: path.clone() }))
    }
}

/// A file that was hashed before: one that has become shorter or longer since is refused by its name.
#[derive(Debug)]
struct Unchanging {
    inner: File,
    left: u64,
    path: PathBuf,
}

impl Read for Unchanging {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self
            .inner
            .read(buffer)
            .map_err(|source| Error::from_io(Side::Source, "read", self.path.clone(), source))?;
        if n as u64 > self.left || (n == 0 && self.left > 0 && !buffer.is_empty()) {
            let reason = "was changed while it was carried; run the same command again";
            return Err(Error::invalid(Side::Source, self.path.display(), reason).into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_its_name_unless_another_is_said() {
        let named = |text: &str| text.parse::<NamedPath>().map(|n| (n.name.to_string(), n.path));
        assert_eq!(named("/a/k8s.snap"), Ok(("k8s.snap".into(), "/a/k8s.snap".into())));
        assert_eq!(named("k8s.snap=/a/b=c"), Ok(("k8s.snap".into(), "/a/b=c".into())));
        // What stands before the sign is no name, so all of it is the path, whose name is refused.
        assert!(named("a/b=c").unwrap_err().contains("NAME=PATH"));
        assert!(named("/").is_err() && named("").is_err() && named("x=").is_err());
    }
}
