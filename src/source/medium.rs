//! `medium:DIR`: another medium. What is on it is carried as it is; nothing is recompressed.

use std::io::Read;
use std::path::Path;

use super::{FoundReferrer, Listed, Offer, Source, find_or_explain};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Reference};
use crate::medium::Medium;
use crate::record::{CarriedFile, Record};

/// A medium as a source.
#[derive(Debug)]
pub struct MediumSource {
    medium: Medium,
    record: Record,
}

impl MediumSource {
    /// Opens the medium at `path`, which needs a valid commit record.
    pub fn open(path: &Path) -> Result<Self> {
        let medium = Medium::open(path).map_err(as_source)?;
        let record = medium.record().cloned();
        let record = record.ok_or_else(|| {
            let reason = "no valid commit record; a plain layout is read as oci:DIR";
            Error::invalid(Side::Source, format!("medium:{}", path.display()), reason)
        })?;
        Ok(Self { medium, record })
    }

    fn open_blob(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let mut file = self.medium.blob_file(blob).map_err(as_source)?;
        file.skip_to(offset);
        Ok(Box::new(file))
    }
}

impl Source for MediumSource {
    fn name(&self) -> String {
        format!("medium:{}", self.medium.path().display())
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let listed = self.record.images.iter().flat_map(|image| {
            image.names.iter().map(|name| Listed {
                name: Some(name.clone()),
                tag: None,
                descriptor: image.original.clone(),
            })
        });
        Ok(listed.collect())
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        find_or_explain(&self.name(), &self.list()?, image)
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        Ok(self.medium.blob_size(&blob.digest).map_err(as_source)? == Some(blob.size))
    }

    fn open_unverified(&self, _: &Reference, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.open_blob(blob, offset)
    }

    fn files(&self) -> &[CarriedFile] {
        &self.record.files
    }

    fn open_file(&self, file: &CarriedFile, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.open_blob(&file.blob(), offset)
    }

    fn referrers(&self, _: &Reference, subject: &Descriptor) -> Vec<Result<FoundReferrer>> {
        let about = self.record.images.iter().flat_map(|image| &image.referrers);
        let about = about.filter(|referrer| referrer.subject == subject.digest);
        let mut referrers: Vec<FoundReferrer> = about
            .map(|referrer| FoundReferrer {
                descriptor: referrer.descriptor.clone(),
                artifact_type: referrer.artifact_type.clone(),
                tag: referrer.name.as_ref().and_then(|name| name.tag().map(str::to_owned)),
                unproven: false,
            })
            .collect();
        referrers.sort_by(|a, b| (a.descriptor.digest, &a.tag).cmp(&(b.descriptor.digest, &b.tag)));
        referrers.dedup();
        referrers.into_iter().map(Ok).collect()
    }

    fn offers(&self, diff_id: Digest, listed: &Descriptor) -> Vec<Offer> {
        let encodings = self.record.layer(&diff_id).map(|layer| layer.encodings.clone());
        let encodings = encodings.filter(|encodings| !encodings.is_empty());
        let encodings = encodings.unwrap_or_else(|| vec![listed.clone()]);
        encodings.into_iter().map(|descriptor| Offer { descriptor, as_it_is: true }).collect()
    }
}

/// The medium it is read from is the source here, not the medium that is written.
fn as_source(error: Error) -> Error {
    match error {
        Error::Io { action, path, source, .. } => Error::Io { side: Side::Source, action, path, source },
        Error::NotFound { what, .. } => Error::NotFound { side: Side::Source, what },
        Error::Invalid { what, reason, .. } => Error::Invalid { side: Side::Source, what, reason },
        Error::SizeMismatch { what, expected, found, .. } => {
            Error::SizeMismatch { side: Side::Source, what, expected, found }
        }
        other => other,
    }
}
