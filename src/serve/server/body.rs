//! The body of an answer: bytes that are there, or a blob that is read and proven while it is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::super::proof::Proven;
use super::{Access, Shared};

/// What a request is answered with, and what is written to the log when that is over.
pub(super) struct Outgoing {
    content: Content,
    left: u64,
    log: Log,
}

enum Content {
    Bytes(Bytes),
    /// The next piece is being read: one ahead of what is sent.
    Reading(JoinHandle<(Box<Proven>, io::Result<Option<Bytes>>)>),
    Over,
}

impl Outgoing {
    /// Bytes that are there.
    pub(super) fn bytes(bytes: impl Into<Bytes>, log: Log) -> Self {
        let bytes = bytes.into();
        Self { left: bytes.len() as u64, content: Content::Bytes(bytes), log }
    }

    /// A blob, or the part of one that `proven` gives, which is `length` bytes long.
    pub(super) fn proven(proven: Proven, length: u64, log: Log) -> Self {
        Self { content: read(Box::new(proven)), left: length, log }
    }
}

/// Reads off the threads of connections: a medium may be slow.
fn read(mut proven: Box<Proven>) -> Content {
    Content::Reading(tokio::task::spawn_blocking(move || {
        let piece = proven.next_piece();
        (proven, piece)
    }))
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let piece = match &mut this.content {
            Content::Over => return Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Over;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
            Content::Reading(reading) => match ready!(Pin::new(reading).poll(context)) {
                Ok((proven, Ok(Some(piece)))) => {
                    this.content = read(proven);
                    Ok(Some(piece))
                }
                Ok((_, Ok(None))) => {
                    this.content = Content::Over;
                    Ok(None)
                }
                Ok((_, Err(error))) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        match piece {
            Ok(Some(piece)) => {
                let length = piece.len() as u64;
                this.left = this.left.saturating_sub(length);
                this.log.sent(length);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => {
                this.content = Content::Over;
                this.log.damaged(&error);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Over => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            // The end proves what was sent: it is waited for.
            Content::Reading(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.left > 0 && self.log.is_of_body() {
            self.log.cut("the client went away, or took nothing for too long");
        }
    }
}

/// Writes a request to the access log when it is dropped: when its answer is over.
pub(super) struct Log {
    shared: Arc<Shared>,
    access: Access,
    since: Instant,
}

impl Log {
    pub(super) fn new(shared: Arc<Shared>, access: Access) -> Self {
        Self { shared, access, since: Instant::now() }
    }

    pub(super) fn status(&mut self, status: u16) {
        self.access.status = status;
    }

    pub(super) fn user(&mut self, user: Option<String>) {
        self.access.user = user;
    }

    /// A note for whoever reads the log, such as why something was refused.
    pub(super) fn cut(&mut self, reason: &str) {
        self.access.cut.get_or_insert_with(|| reason.to_owned());
    }

    fn is_of_body(&self) -> bool {
        self.access.method != "HEAD"
    }

    fn sent(&mut self, bytes: u64) {
        self.access.sent += bytes;
        self.shared.metrics.sent(bytes);
    }

    fn damaged(&mut self, error: &io::Error) {
        let own = error.get_ref().and_then(|inner| inner.downcast_ref::<crate::Error>());
        if own.is_some_and(crate::Error::is_damage) {
            self.shared.metrics.damaged();
        }
        self.cut(&error.to_string());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.access.took = self.since.elapsed();
        self.shared.metrics.answered(self.access.status, self.access.took);
        (self.shared.told)(self.access.clone());
    }
}
