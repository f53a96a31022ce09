//! `oci-archive:FILE`: an OCI image layout in a tar, plain or compressed.

use std::path::Path;

use super::Source;
use super::archive::Archive;
use super::oci_layout::OciLayout;
use crate::error::Result;
use crate::progress::Stop;

/// Opens the archive `path`, as `skopeo copy oci-archive:` and `ctr images export` write it.
pub(super) fn open(path: &Path, stop: &Stop) -> Result<Box<dyn Source>> {
    let archive = Archive::open(path, stop)?;
    Ok(Box::new(OciLayout::open(format!("oci-archive:{}", path.display()), archive)?))
}
