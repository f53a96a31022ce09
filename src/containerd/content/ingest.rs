//! Writing blobs: the `Write` stream, one ingest at a time.
//!
//! Every message that writes or commits names its offset: containerd takes an offset of zero, which
//! is also what an absent one decodes to, as the order to throw away what is there (containerd
//! `contentserver.go`, seen on 1.6 to 2.3).

use std::collections::HashMap;

use containerd_client::services::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::Client;
use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest};

/// Messages on their way; with 1 MiB each this bounds the memory of a stream.
const IN_FLIGHT: usize = 3;

/// What opening an ingest led to.
#[derive(Debug)]
pub enum Opened {
    /// It is open; go on at its offset.
    Ingest(Box<ContentIngest>),
    /// The namespace has the blob already, and the lease in use now holds it.
    Present,
    /// Another client writes under this name at the moment.
    Locked,
}

/// What committing led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The blob is there.
    New,
    /// Somebody else was faster: the labels were not applied, and no lease holds it yet.
    Present,
    /// Size or digest were not as announced. What was written stays until it is aborted.
    Mismatch,
}

/// An open ingest. Dropped without a commit it stays, and can be gone on with.
pub struct ContentIngest {
    client: Client,
    sender: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    reference: String,
    blob: Descriptor,
    offset: u64,
    digest: Option<Digest>,
}

impl Client {
    /// Opens the ingest `reference` for `blob`, or goes on with the one that is there.
    ///
    /// containerd hashes again what it has, at 0.4 to 1.2 GB/s, and keeps its database locked
    /// meanwhile: open once, never to poll.
    pub fn open_ingest(&self, reference: &str, blob: &Descriptor) -> Result<Opened> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let stat = WriteContentRequest {
            action: WriteAction::Stat as i32,
            r#ref: reference.to_owned(),
            total: blob.size as i64,
            expected: blob.digest.to_string(),
            ..Default::default()
        };
        let request = self.request(ReceiverStream::new(receiver));
        let mut content = self.content();
        let opened = self.block_on_long(async {
            sender.send(stat).await.map_err(|_| closed())?;
            let mut answers = content.write(request).await?.into_inner();
            let first = answers.message().await?.ok_or_else(closed)?;
            Ok::<_, Status>((answers, first))
        });
        match opened {
            Ok((answers, first)) => Ok(Opened::Ingest(Box::new(ContentIngest {
                client: self.clone(),
                sender,
                answers,
                reference: reference.to_owned(),
                blob: blob.clone(),
                offset: first.offset.max(0) as u64,
                digest: first.digest.parse().ok(),
            }))),
            Err(status) => match status.code() {
                Code::AlreadyExists => Ok(Opened::Present),
                Code::Unavailable if status.message().contains("locked") => Ok(Opened::Locked),
                _ => Err(self.failed(format!("opening ingest {reference}"), status)),
            },
        }
    }
}

impl ContentIngest {
    /// Whether containerd has ended the stream.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Bytes that are written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The digest of the bytes that were there when the ingest was opened.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Writes `data` at the offset. At most 1 MiB is good; 16 MiB less a little is the limit.
    ///
    /// Does not wait for the answer: a refusal may come with a later call. False when containerd is
    /// at another offset, so that what it has is not what was written here.
    pub fn write(&mut self, data: Vec<u8>) -> Result<bool> {
        let length = data.len() as u64;
        let message = self.message(WriteAction::Write, data, HashMap::new());
        let client = self.client.clone();
        match client.block_on_long(self.send(message)) {
            Ok(()) => {
                self.offset += length;
                Ok(true)
            }
            Err(status) if status.code() == Code::OutOfRange => Ok(false),
            Err(status) => Err(self.failed("writing to", status)),
        }
    }

    /// Makes the blob visible. All its bytes must have been written.
    pub fn commit(mut self: Box<Self>, labels: HashMap<String, String>) -> Result<Committed> {
        let message = self.message(WriteAction::Commit, Vec::new(), labels);
        let client = self.client.clone();
        let committed = client.block_on_long(async {
            self.send(message).await?;
            loop {
                match self.answers.message().await? {
                    Some(answer) if answer.action == WriteAction::Commit as i32 => return Ok(()),
                    Some(_) => {}
                    None => return Err(closed()),
                }
            }
        });
        match committed {
            Ok(()) => {
                // containerd sends the answer to a commit twice before it ends the stream.
                let Self { sender, mut answers, .. } = *self;
                drop(sender);
                let rest = async {
                    while answers.message().await?.is_some() {}
                    Ok::<_, Status>(())
                };
                // The blob is there, whatever comes after.
                let _ = client.block_on(rest);
                Ok(Committed::New)
            }
            Err(status) => match status.code() {
                Code::AlreadyExists => Ok(Committed::Present),
                // OUT_OF_RANGE: the offset is not where containerd is, so somebody else wrote.
                Code::FailedPrecondition | Code::OutOfRange => Ok(Committed::Mismatch),
                _ => Err(self.failed("committing", status)),
            },
        }
    }

    /// Sends one message, taking answers meanwhile: both directions must keep moving.
    async fn send(&mut self, message: WriteContentRequest) -> Result<(), Status> {
        loop {
            tokio::select! {
                biased;
                answer = self.answers.message() => match answer? {
                    Some(_) => {}
                    None => return Err(closed()),
                },
                permit = self.sender.reserve() => match permit {
                    Ok(permit) => {
                        permit.send(message);
                        return Ok(());
                    }
                    Err(_) => break,
                },
            }
        }
        // The stream is closed; the next answer tells why.
        Err(self.end().await)
    }

    /// Why the stream closed.
    async fn end(&mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return closed(),
                Err(status) => return status,
            }
        }
    }

    fn message(
        &self,
        action: WriteAction,
        data: Vec<u8>,
        labels: HashMap<String, String>,
    ) -> WriteContentRequest {
        WriteContentRequest {
            action: action as i32,
            r#ref: self.reference.clone(),
            total: self.blob.size as i64,
            expected: self.blob.digest.to_string(),
            offset: self.offset as i64,
            data,
            labels,
        }
    }

    fn failed(&self, doing: &str, status: Status) -> Error {
        self.client.failed(format!("{doing} ingest {}", self.reference), status)
    }
}

fn closed() -> Status {
    Status::unavailable("containerd ended the stream")
}

impl std::fmt::Debug for ContentIngest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentIngest")
            .field("reference", &self.reference)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
