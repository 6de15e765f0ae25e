//! For how long authorities have been there. Invariant: of one that this process has made no leap of the wall clock shortens the wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Clock;
use tokio::time::Instant;

use super::journal::AuthorityRow;

/// When this process has made its authorities, the latest last.
#[derive(Default)]
pub(super) struct Ages(Mutex<Vec<(String, Instant)>>);

impl Ages {
    /// It is ready to be stored from now on, whatever was waited for before.
    pub(super) fn made(&self, id: &str, now: Instant) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A key that was not committed is used again.
        made.retain(|(known, _)| known != id);
        if made.len() >= MOST {
            made.remove(0);
        }
        made.push((id.to_owned(), now));
    }

    /// By the monotonic clock where it was made by this process, else by the wall.
    pub(super) fn of(&self, row: &AuthorityRow, clock: &dyn Clock, now: UnixTime) -> Duration {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match made.iter().find(|(id, _)| *id == row.id) {
            Some((_, at)) => clock.monotonic().saturating_duration_since(*at),
            None => now.since(row.created_at),
        }
    }
}

/// Nobody makes as many in half a minute; of those before them the wall clock is asked.
const MOST: usize = 64;
