//! Looks at files that may lie on a file system that never answers.
//!
//! Invariant: what does not answer costs its own user at most [`PER_UID`] threads, and everybody together [`TOTAL`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::BoxError;

/// Clone to share.
#[derive(Clone)]
pub(crate) struct Threads {
    /// Only of those who have work here: bounded by the attestations there are.
    own: Arc<Mutex<HashMap<u32, Arc<Semaphore>>>>,
    all: Arc<Semaphore>,
}

/// There was no answer. A thread that waits for one keeps its place until it comes.
#[derive(Debug, thiserror::Error)]
#[error("its file system did not answer in {PATIENCE:?}")]
pub(crate) struct Stuck;

impl Threads {
    pub(crate) fn new() -> Self {
        Self {
            own: Arc::default(),
            all: Arc::new(Semaphore::new(TOTAL)),
        }
    }

    /// Does `work`, which may block, for a user.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stuck> {
        let (own, all) = (self.of(uid), Arc::clone(&self.all));
        let done = async move {
            // His own first: who waits for himself keeps nobody else waiting.
            let own = own.acquire_owned().await.ok()?;
            let all = all.acquire_owned().await.ok()?;
            let work = tokio::task::spawn_blocking(move || {
                let done = work();
                drop((own, all));
                done
            });
            work.await.ok()
        };
        let done = tokio::time::timeout(PATIENCE, done).await;
        done.ok().flatten().ok_or(Stuck)
    }

    fn of(&self, uid: u32) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.contains_key(&uid) {
            own.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = own.entry(uid);
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(PER_UID))))
    }
}

/// Whether it is forbidden to us to look, which does not pass by itself.
pub(crate) fn is_forbidden(error: &BoxError) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

const PER_UID: usize = 3;
const TOTAL: usize = 24;
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
