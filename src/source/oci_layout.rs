//! An OCI image layout, wherever its files lie (OCI image-spec, image-layout.md).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Deserialize;

use super::layout_entries::{self, Entries};
use super::{FoundReferrer, Listed, Source, find};
use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, Index, MAX_MANIFEST, Reference};
use crate::medium::Place;

/// The files that a layout consists of: in a directory, or in an archive.
pub(super) trait Files: Send + Sync {
    /// Reads a whole file; refuses one longer than `limit` bytes. `None` if it is absent.
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// A file's length in bytes; `None` if it is absent.
    fn size(&self, path: &str) -> Result<Option<u64>>;

    /// Where a file's bytes lie; `None` if it is absent.
    fn place(&self, path: &str) -> Result<Option<Place>>;

    /// A file's bytes from `offset` on; `None` if it is absent.
    fn open(&self, path: &str, offset: u64) -> Result<Option<Box<dyn Read + Send>>>;
}

/// An OCI image layout as a source.
#[derive(Debug)]
pub(super) struct OciLayout<F> {
    name: String,
    files: F,
    listed: Vec<Listed>,
    /// What refers to an image or a platform of one, with the digest it refers to.
    referrers: Vec<(Digest, FoundReferrer)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl<F: Files> OciLayout<F> {
    /// Reads `oci-layout` and `index.json`; `name` is what it is called in messages.
    pub(super) fn open(name: String, files: F) -> Result<Self> {
        let what = |file: &str| format!("{file} of {name}");
        let invalid = |file: &str, reason: String| Error::invalid(Side::Source, what(file), reason);
        let absent = |file: &str| match (name.split_once(':'), files.size("manifest.json")) {
            (Some(("oci-archive", path)), Ok(Some(_))) => Error::Usage(format!(
                "{path} has no {file}, but a manifest.json: it looks like docker-archive:{path}"
            )),
            _ => invalid(file, "it is not there, so this is no OCI layout".into()),
        };
        let text = files.read("oci-layout", 4096)?.ok_or_else(|| absent("oci-layout"))?;
        let layout: LayoutFile = json::read(&text, Keys::Own)
            .map_err(|error| invalid("oci-layout", format!("not a layout file: {error}")))?;
        if layout.image_layout_version != "1.0.0" {
            let reason = format!("layout version {:?}; 1.0.0 is understood", layout.image_layout_version);
            return Err(invalid("oci-layout", reason));
        }
        let text = files.read("index.json", MAX_MANIFEST)?.ok_or_else(|| absent("index.json"))?;
        let index = Index::parse(&text).map_err(|reason| invalid("index.json", reason))?;
        let Entries { images, referrers } = layout_entries::sort(&files, &index.manifests);
        Ok(Self { name, files, listed: without_repeats(images), referrers })
    }

    pub(super) fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Gives another list of what is there, with names that are written elsewhere.
    pub(super) fn relisted(self, listed: Vec<Listed>) -> Self {
        Self { listed: without_repeats(listed), ..self }
    }
}

/// An error sentence if one name is given to two images.
pub(super) fn refuse_ambiguous(listed: &[Listed]) -> Result<(), String> {
    let mut named: BTreeMap<&Reference, Digest> = BTreeMap::new();
    for entry in listed {
        let Some(name) = &entry.name else { continue };
        let digest = *named.entry(name).or_insert(entry.descriptor.digest);
        if digest != entry.descriptor.digest {
            return Err(format!(
                "{name} is the name of two images, {digest} and {}",
                entry.descriptor.digest
            ));
        }
    }
    Ok(())
}

/// Each pair of name and image once; an image that has a name is not listed without one as well.
fn without_repeats(listed: Vec<Listed>) -> Vec<Listed> {
    let having = |has: fn(&Listed) -> bool| {
        listed.iter().filter(|entry| has(entry)).map(|entry| entry.descriptor.digest).collect::<BTreeSet<_>>()
    };
    let (named, tagged) = (having(|entry| entry.name.is_some()), having(|entry| entry.tag.is_some()));
    let mut kept: Vec<Listed> = Vec::with_capacity(listed.len());
    let mut seen = BTreeSet::new();
    for entry in listed {
        let digest = entry.descriptor.digest;
        let superfluous = entry.name.is_none()
            && (named.contains(&digest) || (entry.tag.is_none() && tagged.contains(&digest)));
        if !superfluous && seen.insert((entry.name.clone(), entry.tag.clone(), digest)) {
            kept.push(entry);
        }
    }
    kept
}

/// The error for an image that is not listed, which says what is.
pub(super) fn not_listed(source: &str, listed: &[Listed], image: &Reference) -> Error {
    const SHOWN: usize = 5;
    let mut names: Vec<String> =
        listed.iter().filter_map(|entry| entry.name.as_ref()).map(Reference::to_string).collect();
    names.extend(listed.iter().filter_map(|entry| entry.tag.clone()));
    let nameless = listed.iter().filter(|entry| entry.name.is_none() && entry.tag.is_none()).count();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    if nameless > 0 {
        names.push(format!("{nameless} without a full name, which --as can give"));
    }
    let mut known = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    if listed.iter().any(|entry| entry.tag.is_some()) {
        known.push_str("; a bare tag gets a full name by --as REF");
    }
    Error::not_found(Side::Source, format!("{image} in {source} (there is: {known})"))
}

/// Where a layout keeps a blob.
pub(super) fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl<F: Files> Source for OciLayout<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(self.listed.clone())
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        let found = find(&self.listed, image).ok_or_else(|| not_listed(&self.name, &self.listed, image))?;
        // Of two images with one name only who asks for that one cannot be served.
        let same: Vec<Listed> =
            self.listed.iter().filter(|entry| entry.name.as_ref() == Some(image)).cloned().collect();
        refuse_ambiguous(&same).map_err(|reason| {
            Error::invalid(Side::Source, &self.name, format!("{reason}: ask for one by its digest"))
        })?;
        Ok(found.descriptor.clone())
    }

    fn referrers(&self, _: &Reference, subject: &Descriptor) -> Vec<Result<FoundReferrer>> {
        let about = self.referrers.iter().filter(|(about, _)| *about == subject.digest);
        let mut found: Vec<FoundReferrer> = Vec::new();
        for (_, referrer) in about {
            if !found.contains(referrer) {
                found.push(referrer.clone());
            }
        }
        found.into_iter().map(Ok).collect()
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        Ok(self.files.size(&blob_path(blob.digest))?.is_some())
    }

    fn place(&self, blob: &Digest) -> Result<Option<Place>> {
        self.files.place(&blob_path(*blob))
    }

    fn open_unverified(
        &self,
        image: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        self.files.open(&blob_path(blob.digest), offset)?.ok_or_else(|| self.absent(image, blob))
    }
}
