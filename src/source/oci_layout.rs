//! An OCI image layout, wherever its files lie (OCI image-spec, image-layout.md).

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;

use super::{Listed, Source, find};
use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{Child, Descriptor, Digest, Index, MAX_MANIFEST, MediaKind, Reference, kind};

/// The files that a layout consists of: in a directory, or in an archive.
pub(super) trait Files: Send + Sync {
    /// Reads a whole file; refuses one longer than `limit` bytes. `None` if it is absent.
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// A file's length in bytes; `None` if it is absent.
    fn size(&self, path: &str) -> Result<Option<u64>>;

    /// A file's bytes from `offset` on; `None` if it is absent.
    fn open(&self, path: &str, offset: u64) -> Result<Option<Box<dyn Read + Send>>>;
}

/// An OCI image layout as a source.
#[derive(Debug)]
pub(super) struct OciLayout<F> {
    name: String,
    files: F,
    listed: Vec<Listed>,
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
        let listed = index.manifests.iter().filter_map(listed).collect::<Vec<_>>();
        refuse_ambiguous(&listed).map_err(|reason| invalid("index.json", reason))?;
        let listed = without_repeats(listed);
        Ok(Self { name, files, listed })
    }

    pub(super) fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Gives another list of what is there, with names that are written elsewhere.
    pub(super) fn relisted(self, listed: Vec<Listed>) -> Self {
        Self { listed: without_repeats(listed), ..self }
    }
}

/// The entry as an image; `None` for what is neither an index nor a manifest.
fn listed(child: &Child) -> Option<Listed> {
    let wanted = matches!(kind(&child.descriptor.media_type), MediaKind::Index | MediaKind::Manifest);
    wanted.then(|| Listed { name: full_name(&child.annotations), descriptor: child.descriptor.clone() })
}

/// The full name that an entry's annotations give it.
///
/// `org.opencontainers.image.ref.name` is a bare tag as often as a name; containerd and Docker write
/// the name beside it as `io.containerd.image.name`.
fn full_name(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    let containerd = annotations.get("io.containerd.image.name");
    let named = annotations.get("org.opencontainers.image.ref.name");
    [containerd, named].into_iter().flatten().find_map(|text| {
        let bare_tag = !text.contains(['/', ':', '@']);
        if bare_tag { None } else { text.parse().ok() }
    })
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
    let mut kept: Vec<Listed> = Vec::with_capacity(listed.len());
    let mut seen = std::collections::BTreeSet::new();
    let named: std::collections::BTreeSet<Digest> =
        listed.iter().filter(|entry| entry.name.is_some()).map(|entry| entry.descriptor.digest).collect();
    for entry in listed {
        let superfluous = entry.name.is_none() && named.contains(&entry.descriptor.digest);
        if !superfluous && seen.insert((entry.name.clone(), entry.descriptor.digest)) {
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
    let nameless = listed.iter().filter(|entry| entry.name.is_none()).count();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    if nameless > 0 {
        names.push(format!("{nameless} without a full name, which --as can give"));
    }
    let known = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
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
        Ok(found.descriptor.clone())
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        Ok(self.files.size(&blob_path(blob.digest))?.is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(annotations: &[(&str, &str)]) -> Option<String> {
        let map = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        full_name(&map).map(|name| name.to_string())
    }

    #[test]
    fn containerds_name_counts_before_the_ref_name_and_a_bare_tag_is_no_name() {
        const CONTAINERD: &str = "io.containerd.image.name";
        const REF: &str = "org.opencontainers.image.ref.name";
        assert_eq!(named(&[(CONTAINERD, "quay.io/a/b:1"), (REF, "c.io/d:2")]).unwrap(), "quay.io/a/b:1");
        assert_eq!(named(&[(CONTAINERD, "NOT A NAME"), (REF, "c.io/d:2")]).unwrap(), "c.io/d:2");
        assert_eq!(named(&[(REF, "nginx:1.22")]).unwrap(), "docker.io/library/nginx:1.22");
        assert_eq!(named(&[(REF, "library/nginx")]).unwrap(), "docker.io/library/nginx:latest");
        for tag in ["latest", "v1", "1.22", "", "../../etc", "a\u{1b}[31m:1"] {
            assert_eq!(named(&[(REF, tag)]), None, "{tag:?}");
        }
        assert_eq!(named(&[]), None);
    }
}
