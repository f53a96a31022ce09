//! What a node's containerd holds, as it is at each moment.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Stock;
use crate::containerd::{Client, ImageRecord};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, MAX_MANIFEST, MediaKind, MediaType, OCI_INDEX, OCI_MANIFEST, kind};
use crate::serve::page::{Overview, Row};
use crate::serve::shelf::{Shelf, Tag};

/// How long a listing of the images is good: a pull asks several times within it.
const FRESH: Duration = Duration::from_millis(300);
/// Most media types that are remembered.
const REMEMBERED: usize = 10_000;

/// A containerd, one namespace of it.
pub struct Containerd {
    client: Client,
    listed: Mutex<Option<(Instant, Arc<Shelf>)>>,
    types: Mutex<HashMap<Digest, MediaType>>,
}

impl Containerd {
    /// Serves what this client sees.
    pub fn new(client: Client) -> Self {
        Self { client, listed: Mutex::default(), types: Mutex::default() }
    }

    /// Images but those that CRI names by their id.
    fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut images = self.client.list_images()?;
        images.retain(|image| !image.name.starts_with("sha256:"));
        Ok(images)
    }

    /// The media type of a manifest or an index, which containerd's content store does not know; the empty
    /// one for other blobs.
    fn document_type(&self, blob: &Descriptor) -> Result<MediaType> {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = types.get(&blob.digest) {
            return Ok(known.clone());
        }
        let found = if blob.size > MAX_MANIFEST {
            MediaType::default()
        } else {
            let reader = self.client.read_blob(blob, 0)?;
            media_type(&content::read_all(reader, blob, Side::Node, MAX_MANIFEST)?)
        };
        if types.len() >= REMEMBERED {
            types.clear();
        }
        types.insert(blob.digest, found.clone());
        Ok(found)
    }
}

/// What a document says that it is, or what its form tells.
fn media_type(bytes: &[u8]) -> MediaType {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<Descriptor>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let Ok(document) = json::read::<Document>(bytes, Keys::Manifest) else { return MediaType::default() };
    let own = document.media_type.as_deref().unwrap_or_default();
    match (kind(own), &document) {
        (MediaKind::Index | MediaKind::Manifest, _) => own.into(),
        (_, Document { manifests: Some(_), media_type: None, .. }) => OCI_INDEX.into(),
        (_, Document { config: Some(_), layers: Some(_), media_type: None, .. }) => OCI_MANIFEST.into(),
        _ => MediaType::default(),
    }
}

impl Stock for Containerd {
    fn shelf(&self) -> Result<Arc<Shelf>> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, shelf)) = &*listed
            && when.elapsed() < FRESH
        {
            return Ok(shelf.clone());
        }
        let mut shelf = Shelf::default();
        for image in self.images()? {
            if let Ok(name) = image.name.parse() {
                shelf.put(&name, Tag::At(image.target.digest));
            }
        }
        let shelf = Arc::new(shelf);
        *listed = Some((Instant::now(), shelf.clone()));
        Ok(shelf)
    }

    fn find(&self, digest: &Digest, document: bool) -> Result<Option<Descriptor>> {
        let Some(info) = self.client.blob(*digest)? else { return Ok(None) };
        let mut blob = Descriptor { media_type: MediaType::default(), digest: *digest, size: info.size };
        if document {
            blob.media_type = self.document_type(&blob)?;
        }
        Ok(Some(blob))
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.client.read_blob(blob, offset)?))
    }

    fn side(&self) -> Side {
        Side::Node
    }

    fn overview(&self) -> Result<Overview> {
        let version = self.client.version()?;
        let mut overview = Overview {
            sources: vec![vec![
                ("containerd", version.text),
                ("Namespace", self.client.namespace().to_owned()),
            ]],
            images: Vec::new(),
        };
        let mut rows: HashMap<Digest, Row> = HashMap::new();
        for image in self.images()? {
            rows.entry(image.target.digest).or_default().names.push(image.name);
        }
        for (digest, row) in rows {
            let digest = Some((digest.to_string(), None));
            overview.images.push(Row { digest, ..row });
        }
        overview.images.iter_mut().for_each(|row| row.names.sort_unstable());
        overview.images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(overview)
    }
}

impl std::fmt::Debug for Containerd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containerd").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Containerd {
    /// An error unless containerd answers.
    pub fn check(&self) -> Result<(), Error> {
        self.client.version().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_from_a_config_by_what_it_says_and_its_form() {
        let digest = Digest::of(b"");
        let config = format!(r#"{{"mediaType":"x","digest":"{digest}","size":0}}"#);
        for (text, expected) in [
            (format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#), OCI_INDEX),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), OCI_INDEX),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#), OCI_MANIFEST),
            (r#"{"architecture":"amd64","config":{"Env":[]},"rootfs":{}}"#.to_owned(), ""),
            ("{}".to_owned(), ""),
            ("\u{1f}not JSON".to_owned(), ""),
        ] {
            assert_eq!(media_type(text.as_bytes()).as_str(), expected, "{text}");
        }
    }
}
