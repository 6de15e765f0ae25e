//! Where callers are taken in: what they are charged to, and who attests them.
//!
//! Invariant: nobody becomes a caller without being charged.

use std::sync::Arc;

use landfast_uds::PinnedProcess;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{Attestor, Caller, Gauges, Limits, connection::Connection, guard, ledger::Ledger, limits::Limit};

/// Takes callers in. One for each socket; one of its own for a service on a socket that this crate does not serve.
pub struct Desk {
    ledger: Arc<Ledger>,
    attestor: Arc<dyn Attestor>,
    /// The turns of all at attestation.
    attestations: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Desk {
    /// Opens one.
    pub fn new(attestor: Arc<dyn Attestor>, limits: Limits, gauges: Arc<Gauges>) -> Self {
        Self {
            ledger: Ledger::new(limits, gauges),
            attestor,
            attestations: Arc::new(Semaphore::new(ATTESTATIONS)),
            shutdown: CancellationToken::new(),
        }
    }

    /// Takes in one request of a process that came by another way than [`crate::serve_surface`]. It is charged as a connection of its own,
    /// until the last copy of the caller is dropped.
    ///
    /// # Errors
    /// ResourceExhausted, when a limit is reached.
    pub fn admit(&self, process: &Arc<PinnedProcess>) -> Result<Caller, Status> {
        let connection = self.connection(Arc::clone(process)).map_err(|limit| {
            self.ledger.report(limit, process);
            guard::limit_reached(limit)
        })?;
        Ok(Caller::connected(Arc::new(connection)))
    }

    /// Ends what is open.
    pub(crate) fn close(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub(crate) fn connection(&self, process: Arc<PinnedProcess>) -> Result<Connection, Limit> {
        let permit = self.ledger.connection(&process)?;
        Ok(Connection::new(
            process,
            permit,
            Arc::clone(&self.ledger),
            Arc::clone(&self.attestor),
            Arc::clone(&self.attestations),
            self.shutdown.clone(),
        ))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.close();
    }
}

const ATTESTATIONS: usize = 32;
