//! What refers to an image: signatures, attestations and SBOMs.

use std::sync::PoisonError;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Ask, Endpoint, Need};
use super::retry::Policy;
use super::{Inner, manifest};
use crate::error::{Error, Result, Side};
use crate::image::{Child, Descriptor, MediaKind, Reference, kind};
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
    /// a registry has none, and by cosign's tags. What cannot be asked does not end the search.
    pub(super) fn referrers(&self, image: &Reference, subject: &Descriptor) -> Vec<Result<FoundReferrer>> {
        let stem = format!("sha256-{}", subject.digest.hex());
        let mut found = Vec::new();
        let mut left = Vec::new();
        let known = match self.by_api(image, subject) {
            Ok(Some(known)) => Ok(known),
            Ok(None) => self.by_fallback_tag(image, subject, &stem),
            Err(error) => {
                left.push(Err(error));
                self.by_fallback_tag(image, subject, &stem)
            }
        };
        match known {
            Ok(known) => found.extend(known),
            Err(error) => left.push(Err(error)),
        }
        for suffix in COSIGN {
            let tag = format!("{stem}.{suffix}");
            match self.by_tag(image, &tag) {
                // cosign writes a referrer and a tag for the same manifest, if asked to.
                Ok(Some(named)) => {
                    found.retain(|other| other.descriptor.digest != named.descriptor.digest);
                    found.push(named);
                }
                Ok(None) => {}
                Err(error) => left.push(Err(error)),
            }
        }
        found.into_iter().map(Ok).chain(left).collect()
    }

    fn by_tag(&self, image: &Reference, tag: &str) -> Result<Option<FoundReferrer>> {
        if !self.has_tag(image, tag)? {
            return Ok(None);
        }
        let descriptor = self.fetch(image, Need::Resolve, tag)?;
        let (artifact_type, tag) = (None, Some(tag.to_owned()));
        Ok(Some(FoundReferrer { descriptor, artifact_type, tag, unproven: false }))
    }

    /// `None` where the registry does not have the API.
    fn by_api(&self, image: &Reference, subject: &Descriptor) -> Result<Option<Vec<FoundReferrer>>> {
        let failed = || self.without_api.lock().unwrap_or_else(PoisonError::into_inner);
        let failed_before = failed().contains(image.registry());
        let asked = self.pages(image, subject, if failed_before { 0 } else { self.policy.retries });
        if asked.is_err() {
            failed().insert(image.registry().to_owned());
        }
        asked
    }

    fn pages(
        &self,
        image: &Reference,
        subject: &Descriptor,
        retries: u32,
    ) -> Result<Option<Vec<FoundReferrer>>> {
        let policy = Policy { retries, ..self.policy.clone() };
        let mut path = format!("referrers/{}", subject.digest);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let headers = HeaderMap::new();
            let ask = Ask { method: Method::GET, repository: image.path(), path: path.clone(), headers };
            let mut one = |endpoint: &Endpoint| {
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
            };
            let (listing, next) = match policy.run(|| self.attempt(image.registry(), Need::Pull, &mut one)) {
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

    /// What the tag lists that stands in for the API (OCI distribution-spec, Referrers Tag Schema).
    ///
    /// GitLab's registry takes the tag for the digest and gives the subject itself. Anybody may have
    /// given the tag to an index of their own, so that its entries have to name the subject.
    fn by_fallback_tag(
        &self,
        image: &Reference,
        subject: &Descriptor,
        tag: &str,
    ) -> Result<Vec<FoundReferrer>> {
        let Some(FoundReferrer { descriptor, .. }) = self.by_tag(image, tag)? else {
            return Ok(Vec::new());
        };
        if descriptor.digest == subject.digest || kind(&descriptor.media_type) != MediaKind::Index {
            return Ok(Vec::new());
        }
        let bytes = self.document(image, descriptor.digest)?;
        let listing: Listing = serde_json::from_slice(&bytes).map_err(|_| {
            Error::invalid(Side::Source, image, format!("its tag {tag} is no index of referrers"))
        })?;
        let found = listing.manifests.into_iter().map(FoundReferrer::from);
        Ok(found.map(|found| FoundReferrer { unproven: true, ..found }).collect())
    }
}

impl From<Entry> for FoundReferrer {
    fn from(Entry { child, artifact_type }: Entry) -> Self {
        Self { descriptor: child.descriptor, artifact_type, tag: None, unproven: false }
    }
}

/// The query of the next page in `</v2/a/referrers/sha256:..?last=x&n=5>; rel="next"` (RFC 8288).
pub(super) fn next_page(link: &str) -> Option<String> {
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
