//! A request body that must be complete in time, and has one of its user's turns until it is.
//!
//! Invariant: the part of a message that has come is held until the deadline at most; then reading ends with an error, and what
//! was read is dropped with its reader.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tonic::Status;

#[derive(Debug)]
pub(crate) struct PunctualBody {
    inner: tonic::body::Body,
    deadline: Pin<Box<Sleep>>,
    /// Given back when the body is dropped: before the request is handled.
    _turn: OwnedSemaphorePermit,
}

impl PunctualBody {
    pub(crate) fn new(inner: tonic::body::Body, patience: Duration, turn: OwnedSemaphorePermit) -> Self {
        Self {
            inner,
            deadline: Box::pin(tokio::time::sleep(patience)),
            _turn: turn,
        }
    }
}

impl Body for PunctualBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Looked at first, so that a client that always has one byte more gains nothing.
        if self.deadline.as_mut().poll(context).is_ready() {
            let late = Status::deadline_exceeded("the request was not complete in time");
            return Poll::Ready(Some(Err(late)));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
