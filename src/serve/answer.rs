//! What is answered: a request held against what there is.

use serde::Serialize;

use super::name::Name;
use super::range::Asked;
use super::request::{MAX_PAGE, Page, Reference, Request, Wanted};
use super::shelf::{Entry, Shelf, Tag};
use crate::image::{Digest, OCI_INDEX};

/// A request that is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error code of the distribution specification.
    pub code: Code,
    /// What is wrong, for a person.
    pub message: String,
}

/// The error codes of the distribution specification that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// There is no such blob.
    BlobUnknown,
    /// A digest that is none.
    DigestInvalid,
    /// There is no such manifest.
    ManifestUnknown,
    /// A name that is none.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// A page of a size that is none.
    PaginationNumberInvalid,
    /// Who asks has not said who they are.
    Unauthorized,
    /// What there is cannot be read.
    Unknown,
    /// This registry does not do that.
    Unsupported,
}

impl Refusal {
    /// A refusal with these.
    pub fn new(status: u16, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The body that the distribution specification has for errors.
    pub fn body(&self) -> Vec<u8> {
        let error = serde_json::json!({ "code": self.code, "message": self.message });
        serde_json::json!({ "errors": [error] }).to_string().into_bytes()
    }
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is a registry.
    Ping,
    /// It works.
    Health,
    /// Counters.
    Metrics,
    /// The page for people.
    Page,
    /// A JSON document.
    Listing {
        /// Its media type.
        media_type: &'static str,
        /// Its bytes.
        body: Vec<u8>,
        /// Path and query of the next part.
        next: Option<String>,
        /// Whether only what was asked for was chosen (`OCI-Filters-Applied`).
        filtered: bool,
    },
    /// A manifest or a blob, by its digest: if its bytes can be had.
    Content {
        /// The digest.
        digest: Digest,
        /// Whether it was asked for as a manifest.
        manifest: bool,
        /// The part of it.
        range: Asked,
    },
}

/// Answers `request` from what is on the shelf.
///
/// A digest is answered under every name: its bytes prove themselves. A tag is answered where all of the
/// image is there. Errors: a [`Refusal`] that says what there is instead.
pub fn answer(shelf: &Shelf, request: &Request) -> Result<Answer, Refusal> {
    match &request.wanted {
        Wanted::Ping => Ok(Answer::Ping),
        Wanted::Health => Ok(Answer::Health),
        Wanted::Metrics => Ok(Answer::Metrics),
        Wanted::Page => Ok(Answer::Page),
        Wanted::Manifest { reference: Reference::Digest(digest), .. } => {
            Ok(Answer::Content { digest: *digest, manifest: true, range: Asked::All })
        }
        Wanted::Manifest { name, reference: Reference::Tag(tag) } => by_tag(shelf, name, tag),
        Wanted::Blob { digest, range, .. } => {
            Ok(Answer::Content { digest: *digest, manifest: false, range: *range })
        }
        Wanted::Referrers { digest, artifact_type, .. } => {
            Ok(referrers(shelf.referrers(digest), artifact_type.as_deref()))
        }
        Wanted::Tags { name, page } => {
            let repository = find(shelf, name)?;
            let tags = shelf.tags(repository).map(|(tag, _)| tag);
            let (tags, more) = cut(tags, page);
            let next = more.then(|| link(&format!("/v2/{}/tags/list", name.path()), page, &tags, name.ns()));
            let body = serde_json::json!({ "name": name.path(), "tags": tags });
            Ok(listing(body, next))
        }
        Wanted::Catalog(page) => {
            let (repositories, more) = cut(shelf.repositories(), page);
            let next = more.then(|| link("/v2/_catalog", page, &repositories, None));
            Ok(listing(serde_json::json!({ "repositories": repositories }), next))
        }
    }
}

fn by_tag(shelf: &Shelf, name: &Name, tag: &str) -> Result<Answer, Refusal> {
    let repository = find(shelf, name)?;
    match shelf.tag(repository, tag) {
        Some(Tag::At(digest)) => Ok(Answer::Content { digest: *digest, manifest: true, range: Asked::All }),
        Some(Tag::Incomplete(reason)) => Err(Refusal::new(
            404,
            Code::ManifestUnknown,
            format!("{repository}:{tag} is not all here: {reason}"),
        )),
        None => {
            let message = format!("{repository} has no tag {tag} here");
            Err(Refusal::new(404, Code::ManifestUnknown, message))
        }
    }
}

/// The repository that a name means; 404 with the candidates where it may mean several.
fn find<'a>(shelf: &'a Shelf, name: &Name) -> Result<&'a str, Refusal> {
    const SHOWN: usize = 5;
    if let Some(found) = name.candidates().iter().find_map(|candidate| shelf.repository(candidate)) {
        return Ok(found);
    }
    let unknown = |message| Err(Refusal::new(404, Code::NameUnknown, message));
    let elsewhere: Vec<&str> = shelf.repositories().filter(|known| name.is_path_of(known)).collect();
    match elsewhere.as_slice() {
        [] => unknown(format!("no image here is called {}", name.candidates().join(" or "))),
        [one] => Ok(one),
        several => {
            let shown = several[..several.len().min(SHOWN)].join(", ");
            unknown(format!("{} may be one of {shown}; name the registry too", name.path()))
        }
    }
}

fn listing(body: serde_json::Value, next: Option<String>) -> Answer {
    let body = body.to_string().into_bytes();
    Answer::Listing { media_type: "application/json", body, next, filtered: false }
}

fn referrers<'a>(entries: impl Iterator<Item = &'a Entry>, artifact_type: Option<&str>) -> Answer {
    let wanted =
        |entry: &&Entry| artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted));
    let manifests: Vec<&Entry> = entries.filter(wanted).collect();
    let body = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    Answer::Listing {
        media_type: OCI_INDEX,
        body: body.to_string().into_bytes(),
        next: None,
        filtered: artifact_type.is_some(),
    }
}

/// The entries of one page, and whether there are more.
fn cut<'a>(entries: impl Iterator<Item = &'a str>, page: &Page) -> (Vec<&'a str>, bool) {
    let last = page.last.as_deref();
    let mut rest = entries.filter(|entry| last.is_none_or(|last| *entry > last));
    let most = page.n.unwrap_or(MAX_PAGE);
    let entries: Vec<&str> = rest.by_ref().take(most).collect();
    (entries, most > 0 && rest.next().is_some())
}

/// Where the next page is (distribution-spec, Listing Tags). Names and tags need no escaping but that of `:`.
fn link(path: &str, page: &Page, shown: &[&str], ns: Option<&str>) -> String {
    let escape = |text: &str| text.replace(':', "%3A").replace('/', "%2F");
    let last = shown.last().map(|last| escape(last)).unwrap_or_default();
    let n = page.n.unwrap_or(MAX_PAGE);
    let ns = ns.map(|ns| format!("&ns={}", escape(ns))).unwrap_or_default();
    format!("{path}?n={n}&last={last}{ns}")
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;
    use crate::image::Descriptor;

    fn shelf() -> Shelf {
        let mut shelf = Shelf::default();
        let mut put = |name: &str, tag| shelf.put(&name.parse().unwrap(), tag);
        put("docker.io/library/nginx:1.27", Tag::At(Digest::of(b"nginx")));
        put("docker.io/library/nginx:1.26", Tag::Incomplete("2 of its layers are left out".into()));
        put("ghcr.io/canonical/pause:3.10", Tag::At(Digest::of(b"pause")));
        put("ghcr.io/a/tool:1", Tag::At(Digest::of(b"tool")));
        put("quay.io/a/tool:1", Tag::At(Digest::of(b"other tool")));
        shelf.refer(
            Digest::of(b"nginx"),
            Entry {
                descriptor: Descriptor::of("m", b"signature"),
                artifact_type: Some("application/x".into()),
                annotations: Default::default(),
            },
        );
        shelf
    }

    fn ask(target: &str) -> Result<Answer, Refusal> {
        answer(&shelf(), &parse("GET", target, None).unwrap())
    }

    fn digest(target: &str) -> Result<Digest, String> {
        match ask(target) {
            Ok(Answer::Content { digest, .. }) => Ok(digest),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => {
                assert_eq!(refusal.status, 404);
                Err(refusal.message)
            }
        }
    }

    fn body(target: &str) -> (serde_json::Value, Option<String>) {
        match ask(target).unwrap() {
            Answer::Listing { body, next, .. } => (serde_json::from_slice(&body).unwrap(), next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_is_found_by_each_form_of_its_name() {
        let nginx = Digest::of(b"nginx");
        for path in ["library/nginx/manifests/1.27?ns=docker.io", "nginx/manifests/1.27"] {
            assert_eq!(digest(&format!("/v2/{path}")), Ok(nginx));
        }
        assert_eq!(digest("/v2/docker.io/library/nginx/manifests/1.27"), Ok(nginx));
        assert_eq!(digest("/v2/canonical/pause/manifests/3.10"), Ok(Digest::of(b"pause")));
        assert_eq!(digest("/v2/ghcr.io/canonical/pause/manifests/3.10"), Ok(Digest::of(b"pause")));
    }

    #[test]
    fn what_another_registry_calls_the_same_is_not_given_for_it() {
        assert!(digest("/v2/canonical/pause/manifests/3.10?ns=quay.io").unwrap_err().contains("quay.io"));
        let several = digest("/v2/a/tool/manifests/1").unwrap_err();
        assert!(several.contains("ghcr.io/a/tool, quay.io/a/tool"), "{several}");
        assert_eq!(digest("/v2/a/tool/manifests/1?ns=quay.io"), Ok(Digest::of(b"other tool")));
    }

    #[test]
    fn an_image_that_is_not_all_here_has_no_tag_and_says_why() {
        let reason = digest("/v2/nginx/manifests/1.26").unwrap_err();
        assert!(reason.contains("left out"), "{reason}");
        assert!(digest("/v2/nginx/manifests/9").unwrap_err().contains("no tag 9"));
        // The digest is asked of the store.
        let any = Digest::of(b"any");
        assert_eq!(digest(&format!("/v2/unknown/manifests/{any}")), Ok(any));
    }

    #[test]
    fn listings_come_in_pages() {
        let (tags, next) = body("/v2/nginx/tags/list");
        assert_eq!(tags, serde_json::json!({"name": "nginx", "tags": ["1.26", "1.27"]}));
        assert_eq!(next, None);
        let (tags, next) = body("/v2/library/nginx/tags/list?n=1&ns=docker.io");
        assert_eq!(tags["tags"], serde_json::json!(["1.26"]));
        let next = next.unwrap();
        assert_eq!(next, "/v2/library/nginx/tags/list?n=1&last=1.26&ns=docker.io");
        let (tags, next) = body(&next);
        assert_eq!((tags["tags"].clone(), next), (serde_json::json!(["1.27"]), None));
        assert_eq!(body("/v2/nginx/tags/list?n=0").0["tags"], serde_json::json!([]));
        let (catalog, next) = body("/v2/_catalog?n=2");
        assert_eq!(catalog["repositories"], serde_json::json!(["docker.io/library/nginx", "ghcr.io/a/tool"]));
        let (catalog, next) = body(&next.unwrap());
        assert_eq!(
            (catalog["repositories"].clone(), next),
            (serde_json::json!(["ghcr.io/canonical/pause", "quay.io/a/tool"]), None)
        );
    }

    #[test]
    fn referrers_are_chosen_by_type_and_an_unknown_subject_has_none() {
        let nginx = Digest::of(b"nginx");
        let count = |target: String| body(&target).0["manifests"].as_array().unwrap().len();
        assert_eq!(count(format!("/v2/nginx/referrers/{nginx}")), 1);
        assert_eq!(count(format!("/v2/nginx/referrers/{nginx}?artifactType=application/x")), 1);
        assert_eq!(count(format!("/v2/nginx/referrers/{nginx}?artifactType=application/y")), 0);
        assert_eq!(count(format!("/v2/nginx/referrers/{}", Digest::of(b"none"))), 0);
    }

    proptest::proptest! {
        /// Whatever is asked: it is answered or refused with a status for clients, and what is named of it by digest
        /// is a digest that was asked for or is on the shelf.
        #[test]
        fn any_request_is_answered_or_refused(
            method in "GET|HEAD|POST|[A-Z]{0,4}",
            target in "(/v2)?(/|%2[eEfF]|\\.\\.|[a-z.:@?&=%]|nginx|manifests|blobs|tags/list|sha256:[0-9a-f]{64}){0,12}",
            range in "(bytes=)?[0-9]{0,22}-?[0-9]{0,22}",
        ) {
            match parse(&method, &target, Some(&range)).and_then(|request| answer(&shelf(), &request)) {
                Ok(Answer::Content { digest, range, .. }) => {
                    proptest::prop_assert!(target.contains(&digest.hex()) || digest == Digest::of(b"nginx"));
                    for size in [0, 1, 10] {
                        if let super::super::range::Part::Some(from, to) = range.of(size) {
                            proptest::prop_assert!(from < to && to <= size);
                        }
                    }
                }
                Ok(_) => {}
                Err(refusal) => {
                    proptest::prop_assert!((400..500).contains(&refusal.status));
                    proptest::prop_assert!(serde_json::from_slice::<serde_json::Value>(&refusal.body()).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_refusal_is_written_as_registries_do() {
        let body: serde_json::Value =
            serde_json::from_slice(&Refusal::new(404, Code::ManifestUnknown, "x").body()).unwrap();
        assert_eq!(body["errors"][0]["code"], "MANIFEST_UNKNOWN");
    }
}
