//! Messages on their way in. Invariant: before a message is waited for, what it says it will be is counted against whoever sends it.
//!
//! tonic collects a message before any handler sees it, and makes room for all of it when only its length has come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use landfast_lifecycle::spread_within;
use tonic::Status;
use tonic::body::Body;

use crate::admission::come_again;
use crate::random;

/// Bytes that one peer makes the server hold, on all its connections.
#[derive(Debug)]
pub(crate) struct Intake {
    own: AtomicUsize,
    all: Arc<Total>,
}

/// What all peers of a kind together make it hold: many that each keep to their own bound are bounded as well.
#[derive(Debug)]
pub(crate) struct Total {
    held: AtomicUsize,
    most: usize,
}

impl Total {
    pub(super) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            most,
        })
    }
}

impl Intake {
    pub(super) fn within(all: &Arc<Total>) -> Arc<Self> {
        Arc::new(Self {
            own: AtomicUsize::new(0),
            all: Arc::clone(all),
        })
    }

    /// Counts more, if it fits.
    fn add(&self, more: usize, most: usize) -> Result<(), Full> {
        let within = |held: usize, most: usize| held.checked_add(more).filter(|held| *held <= most);
        let own = self.own.fetch_update(Relaxed, Relaxed, |held| within(held, most));
        own.map_err(|_held| Full::Own)?;
        let all = self
            .all
            .held
            .fetch_update(Relaxed, Relaxed, |held| within(held, self.all.most));
        all.map(drop).map_err(|_held| {
            self.own.fetch_sub(more, Relaxed);
            Full::All
        })
    }

    fn remove(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Relaxed);
        self.all.held.fetch_sub(bytes, Relaxed);
    }
}

/// Whose bound is reached.
enum Full {
    Own,
    All,
}

/// How much a peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// In one message.
    pub(crate) message: usize,
    /// In all requests at a time.
    pub(crate) in_all: usize,
}

/// What one request holds of an intake: its largest message, until the body is done with and the answer begins.
pub(crate) struct Held {
    intake: Arc<Intake>,
    allowance: Allowance,
    bytes: AtomicUsize,
}

impl Held {
    fn message(&self, bytes: usize) -> Result<(), Status> {
        let Allowance { message, in_all } = self.allowance;
        if bytes > message {
            return Err(refused(format!(
                "a message of {bytes} bytes, where {message} are allowed"
            )));
        }
        // The one before stays counted: a handler may hold it still.
        let more = bytes.saturating_sub(self.bytes.load(Relaxed));
        self.intake.add(more, in_all).map_err(|full| match full {
            Full::Own => refused(format!(
                "more than {in_all} bytes of messages at a time; wait and try again"
            )),
            Full::All => come_again(
                refused("the server holds as many messages as it can; wait and try again".to_owned()),
                spread_within(SPREAD, &random::bytes::<8>().unwrap_or_default()) + SPREAD / 5,
            ),
        })?;
        self.bytes.fetch_add(more, Relaxed);
        Ok(())
    }
}

fn refused(why: String) -> Status {
    metrics::counter!("landfast_server_messages_refused_total").increment(1);
    Status::resource_exhausted(why)
}

impl Drop for Held {
    fn drop(&mut self) {
        self.intake.remove(self.bytes.load(Relaxed));
    }
}

/// Counts what the body brings. Keep what comes back until the request is answered.
pub(crate) fn metered(body: Body, intake: Arc<Intake>, allowance: Allowance) -> (Body, Arc<Held>) {
    let held = Arc::new(Held {
        intake,
        allowance,
        bytes: AtomicUsize::new(0),
    });
    let metered = Metered {
        body,
        held: Arc::clone(&held),
        prefix: Prefix::default(),
    };
    (Body::new(metered), held)
}

struct Metered {
    body: Body,
    held: Arc<Held>,
    prefix: Prefix,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.prefix.read(data, |length| this.held.message(length))
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Finds the lengths in a body of gRPC: one byte of flags, four of length, the message, and again.
#[derive(Default)]
struct Prefix {
    seen: usize,
    length: usize,
    /// Of the message, still to come.
    rest: usize,
}

impl Prefix {
    fn read<E>(&mut self, mut data: &[u8], mut found: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
        loop {
            let (message, after) = data.split_at(self.rest.min(data.len()));
            self.rest -= message.len();
            let Some((&byte, after)) = after.split_first() else {
                return Ok(());
            };
            data = after;
            if self.seen > 0 {
                self.length = self.length << 8 | usize::from(byte);
            }
            self.seen += 1;
            if self.seen == PREFIX {
                found(self.length)?;
                *self = Self {
                    rest: self.length,
                    ..Self::default()
                };
            }
        }
    }
}

const PREFIX: usize = 5;
/// Those who find no room come again within this time.
const SPREAD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
