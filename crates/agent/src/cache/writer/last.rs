//! The last write, at the end of the process.
//!
//! Invariant: it ends soon, whatever the disk does; what was taken away has its turn before the rest of a reserve is read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Keeping, Work};

impl Keeping {
    /// What is not on disk yet, if the disk takes it soon.
    pub(super) async fn end(&mut self) {
        // What has not been read stays as it is on disk: nobody needs it any more.
        self.halt.store(true, Ordering::SeqCst);
        if let Some((running, _)) = self.at_work.take() {
            let Ok(Ok(done)) = timeout(LAST, running).await else {
                return;
            };
            self.done(done, false);
        }
        if timeout(LAST, self.hand_over()).await.is_err() {
            tracing::debug!("the rest of the reserve stays as it is on disk");
        }
        self.look();
        if !self.whole && self.plan.due().is_some() {
            self.plan.distrust_again();
        }
        let work = match self.banned {
            true => (!self.destroyed).then_some(Work::Destroy),
            false if self.heard => self.writing(true, true),
            false => None,
        };
        if let Some(work) = work {
            self.start(work);
        }
        if let Some((running, _)) = self.at_work.take()
            && let Ok(Ok(done)) = timeout(LAST, running).await
        {
            self.done(done, false);
        }
    }
}

const LAST: Duration = Duration::from_secs(2);
