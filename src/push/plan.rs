//! What of a medium goes where in a registry: a value.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use super::{Fate, Options};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Reference};
use crate::record::{Image, Record};
use crate::serve::documents::Documents;
use crate::serve::shelf::{Tag, tag_of};

/// The place in a registry below which everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The registry's host, with its port if it has one.
    pub registry: String,
    /// The path; empty for the registry's own root.
    pub prefix: String,
    /// Whether the registry of each name becomes a part of the path.
    pub with_registry: bool,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        let host = text.split('/').next().unwrap_or_default();
        if !(host.contains(['.', ':']) || host == "localhost") || text.contains("://") {
            return Err(
                "say REGISTRY[/PREFIX] with the registry's host, such as mirror.example:5000/k8s".into()
            );
        }
        let name: Reference = format!("{text}/x").parse().map_err(|error| format!("{error}"))?;
        let prefix = name.path().strip_suffix("/x").unwrap_or_default().to_owned();
        Ok(Self { registry: name.registry().to_owned(), prefix, with_registry: false })
    }
}

impl Target {
    /// Where an image of this name goes; `digest` is what it has without a tag.
    pub fn place(&self, name: &Reference, digest: Digest) -> Result<Reference> {
        let mut path = format!("{}/", self.registry);
        if !self.prefix.is_empty() {
            path += &format!("{}/", self.prefix);
        }
        if self.with_registry {
            // A port cannot be in a path.
            path += &format!("{}/", name.registry().replace(':', "-").to_lowercase());
        }
        path += name.path();
        path += &name.tag().map_or_else(|| format!("@{digest}"), |tag| format!(":{tag}"));
        path.parse().map_err(|error| Error::Usage(format!("{name} has no place there: {error}")))
    }
}

/// What becomes of a tag that is there and points elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays.
    Keep,
    /// It is overwritten.
    Overwrite,
    /// Nothing is pushed.
    Error,
}

/// A name of an image, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name on the medium.
    pub own: Reference,
    /// The name in the registry.
    pub target: Reference,
}

/// An image that is pushed.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its names.
    pub names: Vec<Name>,
    /// What the names will point at.
    pub root: Descriptor,
    /// Whether that is what upstream has under them.
    pub upstream: bool,
    /// Upstream's digest.
    pub original: Digest,
    /// All manifests and indexes, each after what it lists; the root is the last.
    pub documents: Vec<Descriptor>,
    /// Configs and layers.
    pub blobs: Vec<Descriptor>,
    /// What refers to one of the documents.
    pub referrers: Vec<PlannedReferrer>,
    /// How many refer to upstream's digest only, which the registry will not have.
    pub referrers_left: usize,
}

/// A signature, an attestation or an SBOM that is pushed.
#[derive(Clone, Debug)]
pub struct PlannedReferrer {
    /// What it is about.
    pub subject: Digest,
    /// The tag it is looked for by; `None` for one that names its subject itself.
    pub tag: Option<String>,
    /// How it is listed, where the registry does not list it itself.
    pub entry: crate::serve::shelf::Entry,
    /// Its manifests, each after what it lists.
    pub documents: Vec<Descriptor>,
    /// Its other blobs.
    pub blobs: Vec<Descriptor>,
}

impl Planned {
    /// Its names, for messages.
    pub fn title(&self) -> String {
        self.names.iter().map(|name| name.own.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Images that cannot be pushed, by their names, and why.
pub type Failed = Vec<(String, Arc<Error>)>;

/// Plans the push of a record's images; those that cannot be pushed are returned with the reason.
///
/// Errors: an image that was asked for is not there; two images would have one name.
pub fn plan(record: &Record, documents: &Documents, options: &Options) -> Result<(Vec<Planned>, Failed)> {
    let (mut planned, mut failed) = (Vec::new(), Vec::new());
    for asked in &options.images {
        if !record.images.iter().any(|image| image.names.contains(asked)) {
            return Err(Error::not_found(
                Side::Medium,
                format!("image {asked}; `pannier list` shows what there is"),
            ));
        }
    }
    for image in &record.images {
        let wanted = |name: &&Reference| options.images.is_empty() || options.images.contains(name);
        let names: Vec<&Reference> = image.names.iter().filter(wanted).collect();
        if names.is_empty() {
            continue;
        }
        match plan_image(record, image, &names, documents, options)? {
            Ok(one) => planned.push(one),
            Err(error) => {
                let title: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                failed.push((title.join(", "), Arc::new(error)));
            }
        }
    }
    refuse_ambiguous(&planned)?;
    Ok((planned, failed))
}

fn plan_image(
    record: &Record,
    image: &Image,
    names: &[&Reference],
    documents: &Documents,
    options: &Options,
) -> Result<Result<Planned, Error>> {
    let refuse = |reason: String| {
        Ok(Err(Error::Refused { side: Side::Medium, action: format!("pushing {}", names[0]), reason }))
    };
    let root = match tag_of(record, image, documents) {
        Tag::At(digest) if digest == image.original.digest => &image.original,
        Tag::At(_) if options.require_original => {
            return refuse(
                "its layers are recompressed, so that it cannot arrive under upstream's digest; export it with \
                 --compression none, or leave --require-original out"
                    .into(),
            );
        }
        Tag::At(_) => &image.carried,
        Tag::Incomplete(reason) => return refuse(format!("it is not all on the medium: {reason}")),
    };
    let (order, blobs) = documents.graph(root);
    let place = |own: &&Reference| {
        options.target.place(own, root.digest).map(|target| Name { own: (*own).clone(), target })
    };
    let (about, left): (Vec<_>, Vec<_>) = image
        .referrers
        .iter()
        .partition(|referrer| order.iter().any(|document| document.digest == referrer.subject));
    let referrers = about
        .into_iter()
        .filter(|referrer| documents.complete(&referrer.descriptor))
        .map(|referrer| {
            let (documents_of, blobs) = documents.graph(&referrer.descriptor);
            PlannedReferrer {
                subject: referrer.subject,
                tag: referrer.name.as_ref().and_then(|name| name.tag().map(str::to_owned)),
                entry: documents.entry(&referrer.descriptor, referrer.artifact_type.clone()),
                documents: documents_of,
                blobs,
            }
        })
        .collect();
    Ok(Ok(Planned {
        names: names.iter().map(place).collect::<Result<_>>()?,
        upstream: root.digest == image.original.digest,
        original: image.original.digest,
        root: root.clone(),
        documents: order,
        blobs,
        referrers,
        referrers_left: left.len(),
    }))
}

fn refuse_ambiguous(planned: &[Planned]) -> Result<()> {
    let mut taken: BTreeMap<String, (&Name, Digest)> = BTreeMap::new();
    for (image, name) in planned.iter().flat_map(|image| image.names.iter().map(move |name| (image, name))) {
        if name.target.tag().is_none() {
            continue;
        }
        let target = name.target.to_string();
        let (first, digest) = taken.entry(target.clone()).or_insert((name, image.root.digest));
        if *digest != image.root.digest {
            return Err(Error::Usage(format!(
                "{} and {} would both be {target}; --with-registry keeps their registries as a part of the path",
                first.own, name.own
            )));
        }
    }
    Ok(())
}

/// What becomes of a name under which the registry has `there`, when `root` is pushed.
///
/// Errors: it points elsewhere, and that is to be an error.
pub(super) fn fate(name: &Name, there: Option<Digest>, root: Digest, existing: Existing) -> Result<Fate> {
    match (there, existing) {
        (None, _) => Ok(Fate::New),
        (Some(there), _) if there == root => Ok(Fate::Same),
        (Some(_), Existing::Keep) => Ok(Fate::Kept),
        (Some(_), Existing::Overwrite) => Ok(Fate::Overwritten),
        (Some(there), Existing::Error) => Err(Error::Refused {
            side: Side::Registry,
            action: format!("pushing {}", name.target),
            reason: format!(
                "the tag is there and points at {there}, not at {root}; --existing overwrite or keep says what is to become of it"
            ),
        }),
    }
}

/// The same error once more: those of a plan are shared with the list of all that failed.
pub(super) fn again(error: &Arc<Error>) -> Error {
    match &**error {
        Error::Refused { side, action, reason } => {
            Error::Refused { side: *side, action: action.clone(), reason: reason.clone() }
        }
        other => Error::Usage(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target: &str, with_registry: bool, name: &str) -> String {
        let target = Target { with_registry, ..target.parse().unwrap() };
        target.place(&name.parse().unwrap(), Digest::of(b"x")).unwrap().to_string()
    }

    #[test]
    fn names_go_below_the_prefix() {
        assert_eq!(place("m.io:5000", false, "nginx:1"), "m.io:5000/library/nginx:1");
        assert_eq!(place("m.io/k8s/", false, "ghcr.io/a/b:1"), "m.io/k8s/a/b:1");
        assert_eq!(place("localhost/k8s", true, "ghcr.io/a/b:1"), "localhost/k8s/ghcr.io/a/b:1");
        assert_eq!(place("m.io", true, "localhost:5000/b:1"), "m.io/localhost-5000/b:1");
        let digest = Digest::of(b"x");
        assert_eq!(place("m.io", false, &format!("a.io/b@{digest}")), format!("m.io/b@{digest}"));
        for bad in ["", "harbor", "https://m.io", "m.io/UPPER", "m.io/../x", "m.io:5000:5000"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_that_points_elsewhere_is_treated_as_asked() {
        let name = Name { own: "a.io/b:1".parse().unwrap(), target: "m.io/b:1".parse().unwrap() };
        let (root, other) = (Digest::of(b"1"), Digest::of(b"2"));
        for existing in [Existing::Keep, Existing::Overwrite, Existing::Error] {
            assert_eq!(fate(&name, None, root, existing).unwrap(), Fate::New);
            assert_eq!(fate(&name, Some(root), root, existing).unwrap(), Fate::Same);
        }
        assert_eq!(fate(&name, Some(other), root, Existing::Keep).unwrap(), Fate::Kept);
        assert_eq!(fate(&name, Some(other), root, Existing::Overwrite).unwrap(), Fate::Overwritten);
        assert!(
            fate(&name, Some(other), root, Existing::Error).unwrap_err().to_string().contains("--existing")
        );
    }
}
