//! The content store: what blobs there are, reading them, and their labels.

use std::collections::HashMap;
use std::io::{self, Read};

use containerd_client::services::v1 as api;
use prost_types::FieldMask;
use tonic::Streaming;

use super::Client;
use super::client::MAX_MESSAGE;
use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest};

mod ingest;

pub use ingest::{Committed, ContentIngest, Opened};

/// What containerd's database says of a blob. The file may be damaged or gone all the same.
#[derive(Clone, Debug)]
pub struct BlobInfo {
    /// The digest.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// All labels.
    pub labels: HashMap<String, String>,
}

/// An unfinished blob.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The name it was opened with.
    pub reference: String,
    /// Bytes there.
    pub offset: u64,
}

impl Client {
    fn content(&self) -> api::content_client::ContentClient<tonic::transport::Channel> {
        api::content_client::ContentClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// What is known of a blob in this namespace.
    pub fn blob(&self, digest: Digest) -> Result<Option<BlobInfo>> {
        let request = self.request(api::InfoRequest { digest: digest.to_string() });
        let mut content = self.content();
        let answer = self.find(|| format!("asking for blob {digest}"), content.info(request))?;
        Ok(answer.and_then(|answer| answer.info).and_then(blob_info))
    }

    /// Every blob of this namespace. Blobs that are not named by sha256 are left out.
    pub fn blobs(&self) -> Result<Vec<BlobInfo>> {
        let mut blobs = Vec::new();
        self.each_blob(|info| blobs.push(info))?;
        Ok(blobs)
    }

    /// The same, one after the other: the labels of all of them take a few KiB each.
    pub fn each_blob(&self, mut seen: impl FnMut(BlobInfo)) -> Result<()> {
        let request = self.request(api::ListContentRequest { filters: Vec::new() });
        let mut content = self.content();
        let mut stream = self.call(|| "listing blobs".into(), content.list(request))?;
        loop {
            match self.block_on(stream.message()) {
                Ok(Some(page)) => page.info.into_iter().filter_map(blob_info).for_each(&mut seen),
                Ok(None) => return Ok(()),
                Err(status) => return Err(self.failed("listing blobs".into(), status)),
            }
        }
    }

    /// The bytes of a blob from `offset` on, unverified.
    ///
    /// [`Error::NotFound`] when the database has no such blob, or its file is gone: containerd says
    /// either only here, `blob` does not look at the file.
    pub fn read_blob(&self, blob: &Descriptor, offset: u64) -> Result<ContentReader> {
        let reader = |stream| ContentReader { client: self.clone(), stream, buffer: Vec::new(), position: 0 };
        if offset >= blob.size && offset > 0 {
            return Ok(reader(None));
        }
        let message =
            api::ReadContentRequest { digest: blob.digest.to_string(), offset: offset as i64, size: 0 };
        let request = self.request(message);
        let mut content = self.content();
        let stream = self.call(|| format!("reading blob {}", blob.digest), content.read(request))?;
        let mut reader = reader(Some(stream));
        // The first message tells whether there is a file at all.
        reader
            .fill()
            .map_err(|error| Error::from_io(self.side(), "read", blob.digest.to_string().into(), error))?;
        Ok(reader)
    }

    /// Whether the file of a blob is there, with at least the bytes that it should have.
    pub fn blob_is_readable(&self, blob: &Descriptor) -> Result<bool> {
        let (offset, size) = (blob.size.saturating_sub(1), blob.size.min(1));
        let message = api::ReadContentRequest {
            digest: blob.digest.to_string(),
            offset: offset as i64,
            size: size as i64,
        };
        let request = self.request(message);
        let mut content = self.content();
        let action = || format!("reading blob {}", blob.digest);
        let answer = self.block_on(async {
            let mut stream = content.read(request).await?.into_inner();
            stream.message().await
        });
        match answer {
            Ok(Some(part)) => Ok(part.data.len() as u64 == size),
            Ok(None) => Ok(size == 0),
            Err(status) => match self.failed(action(), status) {
                gone @ Error::Unreachable { .. } => Err(gone),
                Error::NotFound { .. } | Error::Refused { .. } => Ok(false),
                other => Err(other),
            },
        }
    }

    /// Sets labels of a blob, each by itself; an empty value removes one.
    ///
    /// Key and value together are at most 4096 bytes (containerd, `labels/validate.go`).
    pub fn label_blob<'a>(
        &self,
        digest: Digest,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<()> {
        let labels: HashMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = api::Info { digest: digest.to_string(), labels, ..Default::default() };
        let message = api::UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        let request = self.request(message);
        let mut content = self.content();
        self.call(|| format!("labelling blob {digest}"), content.update(request)).map(drop)
    }

    /// Drops a blob from this namespace. Its file stays until the garbage collection.
    pub fn delete_blob(&self, digest: Digest) -> Result<()> {
        let request = self.request(api::DeleteContentRequest { digest: digest.to_string() });
        let mut content = self.content();
        self.find(|| format!("deleting blob {digest}"), content.delete(request)).map(drop)
    }

    /// Unfinished blobs of this namespace whose name starts with `prefix`. Reads no data.
    pub fn partials(&self, prefix: &str) -> Result<Vec<Partial>> {
        let filters = vec![format!("ref~=\"^{prefix}\"")];
        let request = self.request(api::ListStatusesRequest { filters });
        let mut content = self.content();
        let answer = self.call(|| "listing unfinished blobs".into(), content.list_statuses(request))?;
        let partial =
            |status: api::Status| Partial { reference: status.r#ref, offset: status.offset.max(0) as u64 };
        Ok(answer.statuses.into_iter().map(partial).collect())
    }

    /// Bytes there of the unfinished blob `reference`, by the size of its file only.
    pub fn partial(&self, reference: &str) -> Result<Option<u64>> {
        let request = self.request(api::StatusRequest { r#ref: reference.to_owned() });
        let mut content = self.content();
        let answer = self.find(|| format!("asking for ingest {reference}"), content.status(request))?;
        Ok(answer.and_then(|answer| answer.status).map(|status| status.offset.max(0) as u64))
    }

    /// Throws an unfinished blob away.
    pub fn abort(&self, reference: &str) -> Result<()> {
        let request = self.request(api::AbortRequest { r#ref: reference.to_owned() });
        let mut content = self.content();
        self.find(|| format!("aborting ingest {reference}"), content.abort(request)).map(drop)
    }
}

fn blob_info(info: api::Info) -> Option<BlobInfo> {
    let digest = info.digest.parse().ok()?;
    Some(BlobInfo { digest, size: u64::try_from(info.size).ok()?, labels: info.labels })
}

/// Reads one blob; neither length nor content is checked.
pub struct ContentReader {
    client: Client,
    stream: Option<Streaming<api::ReadContentResponse>>,
    buffer: Vec<u8>,
    position: usize,
}

impl ContentReader {
    /// Takes the next message; an empty buffer afterwards means the end.
    fn fill(&mut self) -> io::Result<()> {
        self.position = 0;
        self.buffer.clear();
        while self.buffer.is_empty() {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            match self.client.block_on(stream.message()) {
                Ok(Some(message)) => self.buffer = message.data,
                Ok(None) => self.stream = None,
                Err(status) => return Err(self.client.failed("reading a blob".into(), status).into()),
            }
        }
        Ok(())
    }
}

impl Read for ContentReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.position == self.buffer.len() {
            self.fill()?;
        }
        let n = into.len().min(self.buffer.len() - self.position);
        into[..n].copy_from_slice(&self.buffer[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

impl std::fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader").finish_non_exhaustive()
    }
}
