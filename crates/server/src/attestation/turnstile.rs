//! Turns for what strangers make the server compute.
//!
//! Invariant: however many attest, they take one core at most, off the async threads, and who waits is one of a bounded number.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::api::status::internal;

/// One turn, and places to wait for it.
pub(crate) struct Turnstile {
    turn: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// Does it when its turn comes. Who goes away while waiting gives the place back.
    ///
    /// # Errors
    /// Unavailable when all places are taken.
    pub(crate) async fn pass<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_full| {
            Status::unavailable("too many nodes attest at this moment; try again in some seconds")
        })?;
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_closed| internal("a semaphore is closed"))?;
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (place, turn);
        tokio::task::spawn_blocking(move || {
            let _held = held;
            work()
        })
        .await
        .map_err(|_stopped| internal("attestation was interrupted"))
    }
}

/// At 5 ms each, which no chain exceeds that a stranger can make, the last one waits little more than a second.
const PLACES: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_at_a_time_and_no_more_than_there_are_places() {
        let turnstile = Arc::new(Turnstile::new());
        let (open, gate) = mpsc::channel::<()>();
        let inside = Arc::new(AtomicUsize::new(0));
        let first = turnstile.pass(move || gate.recv().is_err());
        let mut others = tokio::task::JoinSet::new();
        let mut first = Box::pin(first);
        // It has its turn, and keeps it.
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, &mut first)
                .await
                .is_err()
        );
        for _ in 1..PLACES {
            let (turnstile, inside) = (Arc::clone(&turnstile), Arc::clone(&inside));
            others.spawn(async move {
                turnstile
                    .pass(move || {
                        let with = inside.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        with
                    })
                    .await
            });
        }
        while turnstile.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = turnstile.pass(|| ()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        drop(open);
        assert!(first.await.unwrap());
        while let Some(done) = others.join_next().await {
            assert_eq!(done.unwrap().unwrap(), 0, "somebody else was inside");
        }
        assert_eq!(turnstile.places.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn who_goes_away_gives_the_place_back() {
        let turnstile = Turnstile::new();
        let _busy = turnstile.turn.acquire().await;
        {
            let waiting = turnstile.pass(|| ());
            let waited = tokio::time::timeout(std::time::Duration::from_millis(1), waiting).await;
            assert!(waited.is_err());
        }
        assert_eq!(turnstile.places.available_permits(), PLACES);
    }
}
