//! How others end a connection. Invariant: an order is never lost, and of several the earliest counts.

use std::sync::{Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// The order to end one connection, whatever its peer still does with it.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    at: Mutex<Option<Instant>>,
    reader: AtomicWaker,
}

impl Cut {
    /// Ends the connection after this time: what is on its way to the peer gets there first.
    pub(crate) fn after(&self, time: Duration) {
        let wanted = Instant::now() + time;
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(wanted, |at| at.min(wanted)));
        drop(at);
        self.reader.wake();
    }

    #[cfg(test)]
    pub(crate) fn is_ordered(&self) -> bool {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// When it is to end; whoever asks is woken when that changes.
    pub(super) fn when(&self, context: &Context<'_>) -> Option<Instant> {
        self.reader.register(context.waker());
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
