//! What refers to an image: signatures, attestations and SBOMs.

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Ask, Need};
use super::{Inner, manifest};
use crate::error::{Error, Result, Side};
use crate::image::{Child, Descriptor, Reference};
use crate::source::FoundReferrer;

/// Most pages of referrers that are followed.
const MAX_PAGES: usize = 100;
/// The tags under which cosign looks for what belongs to a digest.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// An index of referrers (OCI distribution-spec, Listing Referrers).
#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(flatten)]
    child: Child,
    artifact_type: Option<String>,
}

impl Inner {
    /// Lists what refers to `subject`: by the referrers API, or the tag that stands in for it where
    /// a registry has none, and by cosign's tags.
    pub(super) fn referrers(&self, image: &Reference, subject: &Descriptor) -> Result<Vec<FoundReferrer>> {
        let stem = format!("sha256-{}", subject.digest.hex());
        let mut found = match self.by_api(image, subject)? {
            Some(found) => found,
            None if self.has_tag(image, &stem)? => self.by_fallback_tag(image, &stem)?,
            None => Vec::new(),
        };
        for suffix in COSIGN {
            let tag = format!("{stem}.{suffix}");
            if self.has_tag(image, &tag)? {
                let descriptor = self.fetch(image, Need::Resolve, &tag)?;
                // cosign writes a referrer and a tag for the same manifest, if asked to.
                found.retain(|other| other.descriptor.digest != descriptor.digest);
                found.push(FoundReferrer { descriptor, artifact_type: None, tag: Some(tag) });
            }
        }
        Ok(found)
    }

    /// `None` where the registry does not have the API.
    fn by_api(&self, image: &Reference, subject: &Descriptor) -> Result<Option<Vec<FoundReferrer>>> {
        let mut path = format!("referrers/{}", subject.digest);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let headers = HeaderMap::new();
            let ask = Ask { method: Method::GET, repository: image.path(), path: path.clone(), headers };
            let page = self.run(image.registry(), Need::Pull, |endpoint| {
                let response = endpoint.send_for_any(&self.credentials, &ask)?;
                let unknown = || Error::not_found(Side::Source, "the referrers API");
                match response.status() {
                    StatusCode::OK => {}
                    // How registries answer a path that they do not know.
                    StatusCode::BAD_REQUEST
                    | StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_ACCEPTABLE
                    | StatusCode::NOT_IMPLEMENTED => return Err(unknown().into()),
                    _ => return Err(endpoint.refused(&ask, response)),
                }
                let next = response.headers().get(LINK).and_then(|value| next_page(value.to_str().ok()?));
                let what = format!("{}/{} of {}", image.path(), ask.path, endpoint.name());
                let bytes = manifest::body(endpoint, &what, response)?;
                // A server that answers anything with a page of its own does not have the API either.
                let listing: Listing = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
                Ok((listing, next))
            });
            let (listing, next) = match page {
                Ok(page) => page,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            found.extend(listing.manifests.into_iter().map(FoundReferrer::from));
            match next {
                Some(query) => path = format!("referrers/{}?{query}", subject.digest),
                None => return Ok(Some(found)),
            }
        }
        Err(Error::invalid(Side::Source, image, format!("more than {MAX_PAGES} pages of referrers")))
    }

    fn by_fallback_tag(&self, image: &Reference, tag: &str) -> Result<Vec<FoundReferrer>> {
        let descriptor = self.fetch(image, Need::Resolve, tag)?;
        let bytes = self.document(image, descriptor.digest)?;
        let listing: Listing = serde_json::from_slice(&bytes).map_err(|_| {
            Error::invalid(Side::Source, image, format!("its tag {tag} is no index of referrers"))
        })?;
        Ok(listing.manifests.into_iter().map(FoundReferrer::from).collect())
    }
}

impl From<Entry> for FoundReferrer {
    fn from(Entry { child, artifact_type }: Entry) -> Self {
        Self { descriptor: child.descriptor, artifact_type, tag: None }
    }
}

/// The query of the next page in `</v2/a/referrers/sha256:..?last=x&n=5>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(())?;
    Some(target.split_once('?')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_the_link() {
        let link = r#"</v2/a/referrers/sha256:00?last=x&n=5>; rel="next""#;
        assert_eq!(next_page(link).as_deref(), Some("last=x&n=5"));
        assert_eq!(next_page(r#"<https://a.io/x>; rel="next""#), None);
        assert_eq!(next_page(r#"</x?a=b>; rel="prev""#), None);
        assert_eq!(next_page("nonsense"), None);
    }

    #[test]
    fn a_listing_tells_the_type() {
        let text = r#"{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,
            "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "artifactType":"application/spdx+json","annotations":{"a":"b"}}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        let referrer = FoundReferrer::from(listing.manifests.into_iter().next().unwrap());
        assert_eq!(referrer.artifact_type.as_deref(), Some("application/spdx+json"));
    }
}
