//! What was seen of a process last, for while it cannot be looked at again.
//!
//! Invariant: an older look stands in only for one that failed for now, never for a refusal.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::SelectorSet;
use landfast_workload_api::Caller;
use tonic::{Code, Status};

#[derive(Default)]
pub(super) struct Seen(Mutex<Look>);

#[derive(Default)]
struct Look {
    selectors: Option<SelectorSet>,
    missed: bool,
}

impl Seen {
    /// This look, or the last one that succeeded if it only failed for now: as on the Workload API, what was given stays.
    pub(super) fn or_last(&self, look: Result<SelectorSet, Status>) -> Result<SelectorSet, Status> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match look {
            Ok(found) => {
                *last = Look {
                    selectors: Some(found.clone()),
                    missed: false,
                };
                Ok(found)
            }
            Err(status) if status.code() == Code::Unavailable => {
                last.missed = true;
                last.selectors.clone().ok_or(status)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Ends when it is time to look at `process` again: the last look failed, or left something out. Never, if nothing was missed.
    pub(super) async fn look_again(&self, process: Option<&Caller>) {
        let missed = self.0.lock().unwrap_or_else(PoisonError::into_inner).missed;
        match process {
            // Not at once, though what is held is over: that would be a loop.
            _ if missed => tokio::time::sleep(LOOK_AGAIN).await,
            Some(process) => process.outdated().await,
            None => std::future::pending().await,
        }
    }
}

/// As the Workload API does.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
