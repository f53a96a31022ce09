//! The tags of a repository (OCI distribution-spec, Listing Tags).

use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;

use super::endpoint::{Ask, Need};
use super::referrers::next_page;
use super::{Inner, manifest};
use crate::error::{Error, Result, Side};
use crate::image::Reference;

/// Most pages that are followed; a page has what the registry thinks fit, a hundred or more.
const MAX_PAGES: usize = 2000;

#[derive(Deserialize)]
struct Listing {
    /// Null where there are none.
    tags: Option<Vec<String>>,
}

impl Inner {
    /// Every tag of the repository that `image` is in.
    pub(super) fn tags(&self, image: &Reference) -> Result<Vec<String>> {
        let mut path = "tags/list?n=1000".to_owned();
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let headers = HeaderMap::new();
            let ask = Ask { method: Method::GET, repository: image.path(), path: path.clone(), headers };
            let (listing, next) = self.run(image.registry(), Need::Resolve, |endpoint| {
                let response = endpoint.send(&self.credentials, &ask)?;
                let next = response.headers().get(LINK).and_then(|value| next_page(value.to_str().ok()?));
                let what = format!("the tags of {} at {}", image.path(), endpoint.name());
                let bytes = manifest::body(endpoint, &what, response)?;
                let listing: Listing = serde_json::from_slice(&bytes)
                    .map_err(|error| Error::invalid(Side::Source, &what, format!("no list: {error}")))?;
                Ok((listing, next))
            })?;
            tags.extend(listing.tags.unwrap_or_default());
            match next {
                Some(query) => path = format!("tags/list?{query}"),
                None => return Ok(tags),
            }
        }
        let what = format!("the tags of {}", image.repository());
        Err(Error::invalid(Side::Source, what, format!("more than {MAX_PAGES} pages")))
    }
}
