//! How far a connection is with what it was given to send. Invariant: of a counted answer it is given a piece when what it had before has left
//! for the kernel, so that what a peer does not take stays where it is counted. A peer is judged by what its connection sends of these, not by
//! how far one answer is: several go at the pace of the link together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// Of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outflow(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// It was given something since it last had nothing left.
    busy: bool,
    /// Answers that have more: at most as many as there are requests at a time.
    waiting: Vec<Waker>,
    /// Until then what it sent was enough.
    enough: Option<Instant>,
}

impl Outflow {
    /// Ready when the connection has nothing left; else whoever asks is woken then.
    pub(crate) fn poll_free(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.state();
        if !state.busy {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// It is given a piece.
    pub(crate) fn give(&self) {
        self.state().busy = true;
    }

    /// So many bytes were taken from it. Only while it has something of an answer: signs of life are no progress.
    pub(crate) fn sent(&self, bytes: usize) {
        let mut state = self.state();
        if state.busy {
            let now = Instant::now();
            let from = state.enough.map_or(now, |enough| enough.max(now));
            let enough = from + Duration::from_secs_f64(bytes as f64 / SLOWEST);
            state.enough = Some(enough.min(now + STANDSTILL));
        }
    }

    /// Whether it sends too little for somebody who has had something to send since then.
    pub(crate) fn is_slow(&self, since: Instant, now: Instant) -> bool {
        let begun = since + STANDSTILL;
        now > self.state().enough.map_or(begun, |enough| enough.max(begun))
    }

    /// All that it was given has left.
    pub(crate) fn flushed(&self) {
        let woken = {
            let mut state = self.state();
            state.busy = false;
            std::mem::take(&mut state.waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer that takes nothing in this time is slow. A link of 64 kbit/s stands still for eleven seconds at most while it sends: the kernel asks
/// for more when a third of its [`UNSENT`](super::UNSENT) has gone.
const STANDSTILL: Duration = Duration::from_secs(15);
/// Bytes a second; who takes less is slow before long.
const SLOWEST: f64 = 4096.0;
