//! Who makes a request, for services beside the Workload API.
//!
//! Invariant: selectors are those of the pinned process, and as fresh as the Workload API would have them.

use std::sync::Arc;

use landfast_identity::SelectorSet;
use landfast_uds::PinnedProcess;
use tonic::Status;

use crate::{
    Party,
    connection::{self, Connection},
};

/// The process that makes a request. Clone to share.
#[derive(Clone)]
pub struct Caller(Arc<Connection>);

impl Caller {
    pub(crate) fn connected(connection: Arc<Connection>) -> Self {
        Self(connection)
    }

    /// The process.
    pub fn process(&self) -> &Arc<PinnedProcess> {
        &self.0.process
    }

    /// For records, with what is known of it by now.
    pub fn party<'a>(&'a self, selectors: &'a SelectorSet) -> Party<'a> {
        self.0.party(selectors)
    }

    /// What is known of it. Attests it when nothing is, or when there may be more to know; else costs nothing.
    ///
    /// # Errors
    /// Unavailable, when it cannot be attested; PermissionDenied, when it has changed.
    pub async fn selectors(&self) -> Result<SelectorSet, Status> {
        let held = self.0.attested().await?;
        Ok(held.selectors.clone())
    }

    /// Ends when another look would find more than [`Self::selectors`] did last, or may. Never, when nothing is held.
    pub async fn outdated(&self) {
        match self.0.last() {
            Some(held) => held.over().await,
            None => std::future::pending().await,
        }
    }

    /// Lets the next request attest it again: what was found led to no right.
    pub fn forget(&self) {
        self.0.forget_all();
    }

    /// Looks at the process now. To be called before anything is handed out.
    ///
    /// # Errors
    /// PermissionDenied, when it has changed.
    pub fn still_the_same(&self) -> Result<(), Status> {
        self.0.still_the_same()
    }

    /// Ends when nothing more may be sent to it, with the reason.
    pub async fn over(&self) -> Status {
        tokio::select! {
            _ = self.0.process.changed() => connection::changed(),
            () = self.0.shutdown.cancelled() => Status::unavailable("the agent is shutting down"),
        }
    }

    /// Logs what went wrong for it, of each kind once in a while.
    pub fn complain(&self, kind: &'static str, reason: &str) {
        self.0.ledger.complain(kind, &self.0.process, reason);
    }
}
