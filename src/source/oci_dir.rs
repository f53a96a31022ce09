//! `oci:DIR`: an OCI image layout in a directory.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::Source;
use super::oci_layout::{Files, OciLayout};
use crate::error::{Error, Result, Side};
use crate::medium::{Place, Root};

/// Opens the layout `path`.
///
/// Only regular files beneath it are read, never through a symbolic link.
pub(super) fn open(path: &Path) -> Result<Box<dyn Source>> {
    let name = path.display().to_string();
    let root = Root::open_as(Side::Source, path).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => Error::Usage(format!(
            "{name} is a file; an archive is given as oci-archive:{name} or docker-archive:{name}"
        )),
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Error::not_found(Side::Source, &name)
        }
        other => other,
    })?;
    Ok(Box::new(OciLayout::open(format!("oci:{name}"), root)?))
}

impl Files for Root {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        Root::read(self, path, limit)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        Root::size(self, path)
    }

    fn place(&self, path: &str) -> Result<Option<Place>> {
        let Some(file) = self.find(self.open_file(path))? else { return Ok(None) };
        let size = file.metadata().map_err(|source| self.error("examine", path, source))?.len();
        Ok(Some(Place { file, offset: 0, size }))
    }

    fn open(&self, path: &str, offset: u64) -> Result<Option<Box<dyn Read + Send>>> {
        let Some(mut file) = self.find(self.open_file(path))? else { return Ok(None) };
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(|source| self.error("read", path, source))?;
        }
        Ok(Some(Box::new(file)))
    }
}
