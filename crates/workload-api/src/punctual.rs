//! A request body whose messages must be complete in time, and that has its user's turns while one is not.
//!
//! Invariant: the part of a message that has come is held until the deadline at most; then reading ends with an error, and what
//! was read is dropped with its reader.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::Status;

use crate::limits::Limit;

#[derive(Debug)]
pub(crate) struct PunctualBody {
    inner: tonic::body::Body,
    /// While something has to come; dropped with the body at the latest: before the request is handled.
    due: Option<Due>,
    /// Of a request of many messages, between which a client may take its time.
    many: Option<Many>,
}

#[derive(Debug)]
struct Due {
    deadline: Pin<Box<Sleep>>,
    _turns: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Many {
    arriving: Arc<Semaphore>,
    turns: u32,
    patience: Duration,
    framing: Framing,
}

impl PunctualBody {
    /// A body that is one message, begun by its headers. `None` when its user has no such number of turns left.
    pub(crate) fn one(
        inner: tonic::body::Body,
        patience: Duration,
        arriving: Arc<Semaphore>,
        turns: u32,
    ) -> Option<Self> {
        let due = Some(Due::take(arriving, turns, patience)?);
        Some(Self {
            inner,
            due,
            many: None,
        })
    }

    /// A body of many messages, the first of them begun by its headers.
    pub(crate) fn many(
        inner: tonic::body::Body,
        patience: Duration,
        arriving: Arc<Semaphore>,
        turns: u32,
    ) -> Option<Self> {
        let due = Some(Due::take(arriving.clone(), turns, patience)?);
        let many = Some(Many {
            arriving,
            turns,
            patience,
            framing: Framing::default(),
        });
        Some(Self { inner, due, many })
    }

    /// Looks at what has come: a message that has begun is due, a complete one no longer. Says whether one was completed.
    fn account(&mut self, data: &[u8]) -> Result<bool, Status> {
        let Some(many) = &mut self.many else {
            return Ok(false);
        };
        let completed = many.framing.advance(data);
        if completed {
            self.due = None;
        }
        if many.framing.is_within() && self.due.is_none() {
            let due = Due::take(many.arriving.clone(), many.turns, many.patience);
            self.due = Some(due.ok_or_else(|| crate::guard::limit_reached(Limit::IncompletePerUid))?);
        }
        Ok(completed)
    }
}

impl Due {
    fn take(arriving: Arc<Semaphore>, turns: u32, patience: Duration) -> Option<Self> {
        let _turns = arriving.try_acquire_many_owned(turns).ok()?;
        let deadline = Box::pin(tokio::time::sleep(patience));
        Some(Self { deadline, _turns })
    }
}

impl Body for PunctualBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let due = this.due.as_mut();
        // Looked at first, so that a client that always has one byte more gains nothing.
        let late = due.is_some_and(|due| due.deadline.as_mut().poll(context).is_ready());
        let frame = Pin::new(&mut this.inner).poll_frame(context);
        let data = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref(),
            _ => None,
        };
        let completed = data.map_or(Ok(false), |data| this.account(data))?;
        // What completes a message may have come in time, and waited for a reader who was busy with the one before.
        if late && !completed {
            let late = Status::deadline_exceeded("the request was not complete in time");
            return Poll::Ready(Some(Err(late)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where among the messages of gRPC a body is: each is a flag, four bytes that tell its length, and that many bytes.
#[derive(Debug, Default)]
struct Framing {
    /// Bytes of the flag and the length that have come.
    prefix: u8,
    length: u32,
    /// Bytes of the message that have not come.
    left: u32,
}

impl Framing {
    /// Whether a message was completed by `data`.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut completed = false;
        while !data.is_empty() {
            if self.left > 0 {
                let taken = data.len().min(self.left as usize);
                data = &data[taken..];
                self.left -= taken as u32;
            } else {
                // The flag is shifted out by the four bytes that follow it.
                self.length = self.length << 8 | u32::from(data[0]);
                self.prefix += 1;
                data = &data[1..];
                if self.prefix < PREFIX {
                    continue;
                }
                self.left = std::mem::take(&mut self.length);
                self.prefix = 0;
            }
            completed |= self.left == 0;
        }
        completed
    }

    fn is_within(&self) -> bool {
        self.prefix > 0 || self.left > 0
    }
}

const PREFIX: u8 = 5;

#[cfg(test)]
mod tests;
