//! Work on the data directory, by the link.
//!
//! Invariant: a disk that does not answer stops nothing but what is to be written; while work hangs no other is begun, so that an older
//! state never comes over a newer one, and threads do not pile up.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::failure::LinkError;
use crate::persist::PersistError;

#[derive(Default)]
pub(crate) struct Disk {
    /// What was given up.
    hangs: Option<JoinHandle<()>>,
}

impl Disk {
    /// What `work` says, or that the disk hangs: then it may still be done later.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> Result<T, PersistError> + Send + 'static,
    ) -> Result<Result<T, PersistError>, LinkError> {
        if self.hangs.as_ref().is_some_and(|work| !work.is_finished()) {
            return Ok(Err(PersistError::Hangs));
        }
        let (done, result) = oneshot::channel();
        let running = tokio::task::spawn_blocking(move || drop(done.send(work())));
        match timeout(PATIENCE, result).await {
            Ok(result) => result.map_err(|_cause| LinkError::Stopping),
            Err(_elapsed) => {
                self.hangs = Some(running);
                Ok(Err(PersistError::Hangs))
            }
        }
    }
}

/// Work that is waited for, however long it takes.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_cause| LinkError::Stopping)
}

/// A slow card with a full queue answers in less.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::testing::until;

    #[tokio::test(start_paused = true)]
    async fn while_work_hangs_no_other_is_begun() {
        let (open, gate) = mpsc::channel::<()>();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let begun = Arc::clone(&begun);
            move || {
                begun.lock().unwrap().push(name);
                Ok(())
            }
        };
        let (first, second, third) = (note("first"), note("second"), note("third"));
        let mut disk = Disk::default();
        let mut hanging = Box::pin(disk.run(move || {
            // Ends with the other end.
            assert!(gate.recv().is_err());
            first()
        }));
        assert!((&mut hanging).now_or_never().is_none());
        tokio::time::advance(PATIENCE).await;
        assert!(matches!(hanging.await, Ok(Err(PersistError::Hangs))));
        let refused = disk.run(second).await;
        assert!(matches!(refused, Ok(Err(PersistError::Hangs))));
        drop(open);
        until("it is done", || disk.hangs.as_ref().unwrap().is_finished()).await;
        assert!(matches!(disk.run(third).await, Ok(Ok(()))));
        assert_eq!(*begun.lock().unwrap(), ["first", "third"]);
    }
}
