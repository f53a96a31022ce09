//! From names to what has to be carried: walks indexes, manifests and configs, and proves each.

use std::collections::BTreeSet;

use super::oci_layout::refuse_ambiguous;
use super::walk::Walk;
use super::{Listed, Offer, ResolvedReferrer, Source, find};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Platform, Reference};

/// An image that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// Its name at the source.
    pub image: Reference,
    /// The name it is carried under.
    pub name: Reference,
    /// Its index or manifest, where the source's listing has said so already.
    pub descriptor: Option<Descriptor>,
}

/// Which platforms of an image are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// These, each of which must be there.
    Only(Vec<Platform>),
    /// Every one that the source holds.
    All,
}

/// An image, resolved: what it consists of. Documents that can be read again at no cost are named only.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its name at the source.
    pub image: Reference,
    /// The name it is carried under.
    pub name: Reference,
    /// The index or manifest that the name stood for.
    pub original: Descriptor,
    /// The indexes on the way to the manifests; the original first.
    pub indexes: Vec<Descriptor>,
    /// The platforms, in the order of the index.
    pub platforms: Vec<ResolvedPlatform>,
    /// Platforms that an index lists and the source does not hold, where all were asked for.
    pub absent: Vec<Platform>,
    /// What refers to it, where that is carried.
    pub referrers: Vec<ResolvedReferrer>,
    /// What the person has to know of it: sentences.
    pub warnings: Vec<String>,
}

/// One platform of a resolved image.
#[derive(Clone, Debug)]
pub struct ResolvedPlatform {
    /// The platform, as the index or else the config says.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Descriptor,
    /// The config, as the manifest lists it.
    pub config: Descriptor,
    /// The bytes of the config, where the source would have to fetch them again.
    pub config_bytes: Option<Vec<u8>>,
    /// The layers, bottom first.
    pub layers: Vec<ResolvedLayer>,
}

/// One layer of a resolved image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedLayer {
    /// What identifies it.
    pub diff_id: Digest,
    /// The blob that the manifest lists.
    pub listed: Descriptor,
    /// The blobs that the source can deliver.
    pub offers: Vec<Offer>,
}

/// Resolves one image. Reads its index, manifests and configs, and asks whether the layers are there.
///
/// Errors: the name or a platform that was asked for is absent, a blob is absent or damaged, a
/// document is ambiguous, a layer is of a kind whose content cannot be checked.
pub fn resolve(source: &dyn Source, wanted: &ImageRequest, platforms: &Platforms) -> Result<Resolved> {
    let image = &wanted.image;
    let original = match &wanted.descriptor {
        Some(descriptor) => descriptor.clone(),
        None => source.resolve(image)?,
    };
    let mut walk = Walk::over(source, image, &original, platforms)?;
    let instead = walk.instead();
    if let Some((platforms, text)) = &instead {
        walk = Walk::over(source, image, &original, platforms)?;
        walk.warnings.push(text.clone());
    }
    walk.require_platforms()?;
    let name = true_name(source, wanted, &mut walk.warnings)?;
    walk.found.shrink_to_fit();
    walk.indexes.shrink_to_fit();
    Ok(Resolved {
        image: image.clone(),
        name,
        original,
        indexes: walk.indexes,
        platforms: walk.found,
        absent: walk.absent,
        referrers: Vec::new(),
        warnings: walk.warnings,
    })
}

/// The name that an image is carried under: of `repo:tag@digest` the tag, while that names the digest.
///
/// Where the tag was moved or is gone, the digest alone is a true name, and the one that kubelet asks for.
fn true_name(source: &dyn Source, wanted: &ImageRequest, warnings: &mut Vec<String>) -> Result<Reference> {
    let (Some(digest), Some(pinned), Some(tag)) =
        (wanted.image.digest(), wanted.name.digest(), wanted.image.tag())
    else {
        return Ok(wanted.name.clone());
    };
    let tagged = wanted.name.without_redundant_digest();
    // An entry that has no name in a layout gets the one that it is asked for by.
    let nameless = |listed: &Listed| listed.name.is_none() && listed.descriptor.digest == digest;
    if !source.is_remote() && source.list()?.iter().any(nameless) {
        return Ok(tagged);
    }
    let found = match source.tagged(&wanted.image) {
        Ok(Some(found)) if found == digest => return Ok(tagged),
        Ok(Some(found)) => format!("its tag {tag} names {found} now"),
        Ok(None) => format!("its tag {tag} is not there any more"),
        Err(error @ Error::Interrupted) => return Err(error),
        Err(error) => format!("what its tag {tag} names cannot be found out: {error}"),
    };
    let name = wanted.name.with_digest(pinned);
    warnings.push(format!("{}: {found}; the digest is what is carried, as {name}", wanted.image));
    Ok(name)
}

/// The images of a source that can list, each under the name it has there.
///
/// `unnamed` is the name for an image that has none; without it such an image is an error, since a
/// pod could never name it.
pub fn everything(source: &dyn Source, unnamed: Option<&Reference>) -> Result<Vec<ImageRequest>> {
    let listed = source.list()?;
    let nameless: BTreeSet<Digest> =
        listed.iter().filter(|entry| entry.name.is_none()).map(|entry| entry.descriptor.digest).collect();
    if nameless.len() > usize::from(unnamed.is_some()) {
        let what = format!("{}: {} images have no full name", source.name(), nameless.len());
        let tags: Vec<&str> = listed.iter().filter_map(|entry| entry.tag.as_deref()).collect();
        let advice = match tags.as_slice() {
            [] | [_] => "name one with --as REF".to_owned(),
            [first, ..] => format!(
                "it has the bare tags {}; export one at a time, such as {first} --as {}",
                tags.join(", "),
                example(first)
            ),
        };
        return Err(Error::invalid(Side::Source, what, advice));
    }
    refuse_ambiguous(&listed).map_err(|reason| {
        Error::invalid(Side::Source, source.name(), format!("{reason}: name the one that is wanted"))
    })?;
    let name = |entry: Listed| {
        let name = entry.name.or_else(|| unnamed.cloned())?;
        Some(ImageRequest { image: name.clone(), name, descriptor: Some(entry.descriptor) })
    };
    Ok(listed.into_iter().filter_map(name).collect())
}

/// The image that has the bare tag `tag` at a source that can list, to be carried as `name`; `None`
/// where there is none.
///
/// An error when several have it, or no name is given for it.
pub fn tagged(source: &dyn Source, tag: &str, name: Option<&Reference>) -> Result<Option<ImageRequest>> {
    let listed = source.list()?;
    let mut found = listed.iter().filter(|entry| entry.tag.as_deref() == Some(tag));
    let Some(entry) = found.next() else { return Ok(None) };
    if let Some(other) = found.find(|other| other.descriptor.digest != entry.descriptor.digest) {
        let (one, other) = (entry.descriptor.digest, other.descriptor.digest);
        let reason = format!("{tag} is the tag of two images, {one} and {other}");
        return Err(Error::invalid(Side::Source, source.name(), reason));
    }
    let Some(name) = name else {
        return Err(Error::Usage(format!(
            "{tag} in {} has no full name: give it one, such as --as {}",
            source.name(),
            example(tag)
        )));
    };
    let descriptor = Some(entry.descriptor.clone());
    Ok(Some(ImageRequest { image: name.clone(), name: name.clone(), descriptor }))
}

/// What the full name could be of an image with this bare tag.
fn example(tag: &str) -> String {
    let versioned = tag.starts_with(|c: char| c.is_ascii_digit()) || tag.starts_with('v') || tag == "latest";
    if versioned { format!("docker.io/team/app:{tag}") } else { format!("docker.io/library/{tag}:1") }
}

/// The one image of a source that can list, whatever names it has there, to be carried as `name`.
///
/// An error when there is none, or several.
pub fn only(source: &dyn Source, name: Reference) -> Result<ImageRequest> {
    let mut listed = source.list()?;
    let images: BTreeSet<Digest> = listed.iter().map(|entry| entry.descriptor.digest).collect();
    match (listed.pop(), images.len()) {
        (Some(entry), 1) => {
            let image = entry.name.unwrap_or_else(|| name.clone());
            Ok(ImageRequest { image, name, descriptor: Some(entry.descriptor) })
        }
        (_, count) => {
            let reason = format!("it has {count} images: name the one that is to be carried as {name}");
            Err(Error::invalid(Side::Source, source.name(), reason))
        }
    }
}

/// Finds `image` in a listing, with an error that says what is there instead.
pub(crate) fn find_or_explain(source: &str, listed: &[Listed], image: &Reference) -> Result<Descriptor> {
    if let Some(entry) = find(listed, image) {
        return Ok(entry.descriptor.clone());
    }
    let names: Vec<String> =
        listed.iter().filter_map(|entry| entry.name.as_ref()).map(ToString::to_string).collect();
    let has = match names.len() {
        0 => "it names no image; use --all with --as REF".to_owned(),
        1..=10 => format!("it has {}", names.join(", ")),
        n => format!("it has {n} other images, among them {}", names[..5].join(", ")),
    };
    Err(Error::not_found(Side::Source, format!("{source}: {image} ({has})")))
}
