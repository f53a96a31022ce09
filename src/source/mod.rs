//! Where images come from. One file for each kind of source; all answer to [`Source`].

mod archive;
mod containerd;
mod docker_archive;
mod docker_names;
mod layout_entries;
mod local_files;
mod medium;
mod oci_archive;
mod oci_dir;
mod oci_layout;
mod open;
mod referrers;
pub mod registry;
mod resolve;
mod tar_index;
mod walk;

use std::io::Read;

use crate::content::{self, Verified};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Reference};
use crate::medium::Place;
use crate::record::CarriedFile;

pub use containerd::ContainerdSource;
pub use local_files::{LocalFiles, NamedPath};
pub use medium::MediumSource;
pub use open::{SourceSpec, open_archive, open_local};
pub use referrers::{ResolvedReferrer, referrers};
pub(crate) use resolve::find_or_explain;
pub use resolve::{
    ImageRequest, Platforms, Resolved, ResolvedLayer, ResolvedPlatform, everything, only, resolve, tagged,
};

/// An image that a source lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its full name; `None` when the source has none, or only a bare tag.
    pub name: Option<Reference>,
    /// The bare tag that it has where it has no full name.
    pub tag: Option<String>,
    /// Its index or manifest.
    pub descriptor: Descriptor,
}

/// Bytes of a layer that a source can deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The encoded layer.
    pub descriptor: Descriptor,
    /// Whether it is to be carried as it is, whatever compression was asked for.
    pub as_it_is: bool,
}

/// Something that belongs to an image: a signature, an attestation, an SBOM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundReferrer {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// What it is, where the list it was found in says so.
    pub artifact_type: Option<String>,
    /// The tag in the image's repository by which it is looked for; `None` for one that names its
    /// subject itself.
    pub tag: Option<String>,
    /// Whether it counts only if its manifest names the subject: the list it was found in is no proof.
    pub unproven: bool,
}

/// Where images come from: names to descriptors, descriptors to bytes.
///
/// `image` in the methods is the name the blob belongs to: a registry needs its repository, the
/// others do not look at it.
pub trait Source: Send + Sync {
    /// What it is called in messages, as it was given: `oci:./layout`.
    fn name(&self) -> String;

    /// Every image it has. A usage error from a source that cannot list, such as a registry.
    fn list(&self) -> Result<Vec<Listed>>;

    /// The index or manifest that `image` names at this moment.
    fn resolve(&self, image: &Reference) -> Result<Descriptor>;

    /// The digest that the tag of `image` names at this moment, whatever digest stands beside it; `None`
    /// where there is no such tag.
    fn tagged(&self, image: &Reference) -> Result<Option<Digest>> {
        match self.resolve(&image.without_redundant_digest()) {
            Ok(descriptor) => Ok(Some(descriptor.digest)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every tag of the repository that `image` is in.
    fn tags(&self, image: &Reference) -> Result<Vec<String>> {
        let listed = self.list()?;
        let names = listed.iter().filter_map(|entry| entry.name.as_ref());
        let same = names.filter(|name| name.repository() == image.repository());
        Ok(same.filter_map(|name| name.tag().map(str::to_owned)).collect())
    }

    /// Whether the blob is there. Not whether it is whole.
    fn holds(&self, image: &Reference, blob: &Descriptor) -> Result<bool>;

    /// The bytes of a blob from `offset` on, as the source gives them: neither length nor content
    /// is checked. Everything but [`open`] and [`read`] goes through those.
    fn open_unverified(
        &self,
        image: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>>;

    /// Whether reading a blob again is dear, so that a part of it is worth keeping.
    fn is_remote(&self) -> bool {
        false
    }

    /// The encodings it has of the layer `diff_id`, which the image's manifest lists as `listed`.
    fn offers(&self, diff_id: Digest, listed: &Descriptor) -> Vec<Offer> {
        let _ = diff_id;
        vec![Offer { descriptor: listed.clone(), as_it_is: false }]
    }

    /// What refers to `subject`, an index or manifest of `image`; an error for each place that could
    /// not be looked into. Empty for sources that have no way to tell.
    fn referrers(&self, image: &Reference, subject: &Descriptor) -> Vec<Result<FoundReferrer>> {
        let _ = (image, subject);
        Vec::new()
    }

    /// The files that it has beside images. Only media have any, and what is named on the command line.
    fn files(&self) -> &[CarriedFile] {
        &[]
    }

    /// The bytes of one of its files from `offset` on; neither length nor content is checked.
    fn open_file(&self, file: &CarriedFile, offset: u64) -> Result<Box<dyn Read + Send>> {
        let _ = offset;
        Err(Error::not_found(Side::Source, format!("{}: file {}", self.name(), file.name)))
    }

    /// Where the blob lies in a file of this machine; `None` where it is absent, or in no file.
    fn place(&self, blob: &Digest) -> Result<Option<Place>> {
        let _ = blob;
        Ok(None)
    }

    /// The error for a blob that it does not hold, with what is known of the reason.
    fn absent(&self, image: &Reference, blob: &Descriptor) -> Error {
        Error::not_found(Side::Source, format!("{}: blob {} of {image}", self.name(), blob.digest))
    }
}

/// Opens a blob; reading it to the end proves size and digest.
pub fn open(
    source: &dyn Source,
    image: &Reference,
    blob: &Descriptor,
) -> Result<Verified<Box<dyn Read + Send>>> {
    Ok(Verified::new(source.open_unverified(image, blob, 0)?, blob, Side::Source))
}

/// Reads a document of at most `limit` bytes and proves it.
pub fn read(source: &dyn Source, image: &Reference, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    content::read_all(source.open_unverified(image, blob, 0)?, blob, Side::Source, limit)
}

/// Finds `image` among what a source lists: by its full name, or by its digest.
///
/// A digest must be that of the listed index or manifest; a name given beside it must be one that
/// is listed for it, or the entry must have none.
pub(crate) fn find<'a>(listed: &'a [Listed], image: &Reference) -> Option<&'a Listed> {
    let Some(digest) = image.digest() else {
        return listed.iter().find(|entry| entry.name.as_ref() == Some(image));
    };
    let same_repository =
        |entry: &&Listed| entry.name.as_ref().is_none_or(|name| name.repository() == image.repository());
    listed.iter().filter(|entry| entry.descriptor.digest == digest).find(same_repository)
}
