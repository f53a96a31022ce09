//! Where the bytes come from that are served: media, or a containerd.

mod containerd;

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::documents::Documents;
use super::page::Overview;
use super::shelf::Shelf;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MAX_MANIFEST};
use crate::record::Record;
use crate::trust::Admitted;

pub use containerd::Containerd;

/// What is served, and its bytes. Everything here may block.
pub trait Stock: Send + Sync {
    /// The names there are now, and what they point at.
    fn shelf(&self) -> Result<Arc<Shelf>>;

    /// The blob with this digest; `None` where it cannot be had. Its media type is that of the manifest or
    /// index that it is, where it was asked for as a `document`, and empty where it is none.
    fn find(&self, digest: &Digest, document: bool) -> Result<Option<Descriptor>>;

    /// The bytes of a blob from `offset` on; neither length nor content is checked.
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;

    /// Which side errors are of.
    fn side(&self) -> Side;

    /// What the page for people says.
    fn overview(&self) -> Result<Overview>;
}

/// Several media, as they were when they were opened.
#[derive(Debug)]
pub struct Media {
    media: Vec<Admitted>,
    shelf: Arc<Shelf>,
    blobs: HashMap<Digest, (Descriptor, usize)>,
    overview: Overview,
}

impl Media {
    /// Reads the documents of the media. What of them could not be read is returned with it: sentences.
    ///
    /// Errors: one has no commit record.
    pub fn new(media: Vec<Admitted>) -> Result<(Self, Vec<String>)> {
        let records: Vec<&Record> = media.iter().map(|medium| medium.committed()).collect::<Result<_>>()?;
        let mut documents = Documents::default();
        records.iter().for_each(|record| documents.note(record));
        let mut warnings = Vec::new();
        for (medium, record) in media.iter().zip(&records) {
            // A document may lie on another of the media.
            let read = |blob: &Descriptor| {
                let mut found = medium.read_blob(blob, MAX_MANIFEST);
                for other in media.iter().filter(|_| media.len() > 1) {
                    found = found.or_else(|_| other.read_blob(blob, MAX_MANIFEST));
                }
                found
            };
            for (digest, reason) in documents.read(record, read) {
                warnings.push(format!("{}: {digest} is not served: {reason}", medium.path().display()));
            }
        }
        let shelf = Shelf::of(records.iter().copied(), &documents);
        let mut blobs = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            for blob in &record.blobs {
                let plain =
                    Descriptor { media_type: Default::default(), digest: blob.digest, size: blob.size };
                let descriptor = documents.descriptor(&blob.digest).cloned().unwrap_or(plain);
                blobs.entry(blob.digest).or_insert((descriptor, place));
            }
        }
        let overview = Overview::of(&media, &records, &shelf);
        Ok((Self { blobs, shelf: Arc::new(shelf), overview, media }, warnings))
    }
}

impl Stock for Media {
    fn shelf(&self) -> Result<Arc<Shelf>> {
        Ok(self.shelf.clone())
    }

    fn find(&self, digest: &Digest, _: bool) -> Result<Option<Descriptor>> {
        let Some((blob, place)) = self.blobs.get(digest) else { return Ok(None) };
        match self.media[*place].blob_size(digest)? {
            Some(size) if size == blob.size => Ok(Some(blob.clone())),
            Some(found) => Err(Error::SizeMismatch {
                side: Side::Medium,
                what: format!("blob {digest}"),
                expected: blob.size,
                found,
            }),
            None => Err(Error::not_found(Side::Medium, self.media[*place].blob_path(digest).display())),
        }
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let place = self.blobs.get(&blob.digest).map_or(0, |(_, place)| *place);
        let mut file = self.media[place].blob_file(blob)?;
        file.skip_to(offset);
        Ok(Box::new(file))
    }

    fn side(&self) -> Side {
        Side::Medium
    }

    fn overview(&self) -> Result<Overview> {
        Ok(self.overview.clone())
    }
}
