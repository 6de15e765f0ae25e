//! How far a connection is with what it was given to send. Invariant: of a counted answer it is given a piece when what it had before has left
//! for the kernel, so that what a peer does not take stays where it is counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outflow(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// It was given something since it last had nothing left.
    busy: bool,
    /// Answers that have more: at most as many as there are requests at a time.
    waiting: Vec<Waker>,
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
