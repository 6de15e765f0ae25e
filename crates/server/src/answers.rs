//! Answers on their way to agents: what synchronisations and subscriptions make the server hold until it is taken.
//!
//! Invariant: before an answer is made there is room for it, as it stands and as it is sent; it is counted until the kernel has all of it, or it is
//! given up. Memory is bounded however many agents ask for much and take nothing.

mod body;
mod budget;
mod size;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use landfast_identity::SpiffeId;
use tonic::{Request, Status};

use crate::endpoints::{Cut, Outflow, TlsPeer};

pub(crate) use body::paced;
pub(crate) use budget::{Budget, Reservation};
pub(crate) use size::{of_bundle, of_entry, of_page};

/// The way of one answer. Goes along in its extensions, for [`paced`].
#[derive(Clone)]
pub(crate) struct Way(Arc<Inner>);

struct Inner {
    budget: Budget,
    agent: SpiffeId,
    /// None in a test.
    line: Option<Line>,
    held: Mutex<Held>,
}

/// The connection of an answer.
#[derive(Clone, Default)]
pub(crate) struct Line {
    pub(crate) cut: Arc<Cut>,
    pub(crate) outflow: Arc<Outflow>,
}

/// What is counted for what is under way now.
#[derive(Default)]
struct Held {
    /// Until what was given to the connection has gone.
    passing: Vec<Reservation>,
    /// As long as there is an answer.
    lasting: Option<Reservation>,
}

impl Way {
    /// Of the answer to this request of an agent.
    pub(crate) fn of<T>(budget: &Budget, agent: &SpiffeId, request: &Request<T>) -> Self {
        let line = request.extensions().get::<TlsPeer>().map(|tls| Line {
            cut: tls.cut(),
            outflow: tls.outflow(),
        });
        Self::along(budget, agent, line)
    }

    pub(crate) fn along(budget: &Budget, agent: &SpiffeId, line: Option<Line>) -> Self {
        Self(Arc::new(Inner {
            budget: budget.clone(),
            agent: agent.clone(),
            line,
            held: Mutex::default(),
        }))
    }

    /// Room for a message of about so many bytes, which then is there twice: as it stands, and as it is sent. To be asked for where
    /// whoever asks is sure to go on: room that was given to somebody who waits for the peer is lost to others.
    ///
    /// # Errors
    /// ResourceExhausted with when to come again.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Reservation, Status> {
        let Inner {
            budget, agent, line, ..
        } = &*self.0;
        budget.reserve(agent, twice(bytes), line.clone()).await
    }

    /// Whether one answer in one message may have so many bytes: nobody keeps the others waiting for so long.
    pub(crate) fn may_be_one(&self, bytes: usize) -> bool {
        twice(bytes) <= self.0.budget.most_of_one()
    }

    /// Counts until what is given to the connection next has gone.
    pub(crate) fn hold(&self, reservation: Reservation) {
        self.held().passing.push(reservation);
    }

    /// Counts as long as there is an answer.
    pub(crate) fn hold_to_the_end(&self, reservation: Reservation) {
        self.held().lasting = Some(reservation);
    }

    fn poll_free(&self, waker: &Waker) -> Poll<()> {
        let line = self.0.line.as_ref();
        line.map_or(Poll::Ready(()), |line| line.outflow.poll_free(waker))
    }

    /// The connection is given a piece.
    fn give(&self) {
        if let Some(line) = &self.0.line {
            line.outflow.give();
        }
    }

    fn let_others(&self) {
        if let Some(line) = &self.0.line {
            line.outflow.flushed();
        }
    }

    fn gone(&self) {
        // Dropped when the lock is free again.
        let _gone = std::mem::take(&mut self.held().passing);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it stands, and as it is sent.
fn twice(bytes: usize) -> usize {
    bytes.saturating_mul(2)
}

#[cfg(test)]
mod tests;
