//! What all requests of one connection share: its process, its selectors, its place in the ledger.
//!
//! Invariant: a connection is attested at most once with success, never before its header was checked, and serves nothing once
//! its process has changed.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use landfast_identity::SelectorSet;
use landfast_uds::PinnedProcess;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{Attestor, Limits, ledger::ConnectionPermit, ledger::Ledger};

pub(crate) struct Connection {
    pub(crate) process: Arc<PinnedProcess>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) shutdown: CancellationToken,
    attestor: Arc<dyn Attestor>,
    /// The turns of all at attestation.
    attestations: Arc<Semaphore>,
    selectors: OnceCell<SelectorSet>,
    opened: Instant,
    /// Bounded by the streams a connection may have: dead ones are swept when it has doubled.
    probes: Mutex<Vec<Weak<Probe>>>,
}

impl Connection {
    pub(crate) fn new(
        process: Arc<PinnedProcess>,
        permit: ConnectionPermit,
        ledger: Arc<Ledger>,
        attestor: Arc<dyn Attestor>,
        attestations: Arc<Semaphore>,
        shutdown: CancellationToken,
    ) -> Self {
        let (opened, probes, selectors) = (Instant::now(), Mutex::default(), OnceCell::new());
        Self {
            process,
            permit,
            ledger,
            shutdown,
            attestor,
            attestations,
            selectors,
            opened,
            probes,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.ledger.limits()
    }

    /// The selectors of the process, attested at the first call.
    pub(crate) async fn selectors(&self) -> Result<SelectorSet, Status> {
        self.selectors.get_or_try_init(|| self.attest()).await.cloned()
    }

    async fn attest(&self) -> Result<SelectorSet, Status> {
        let work = async {
            let (Ok(_own), Ok(_all)) = (
                self.permit.attestations().acquire().await,
                self.attestations.acquire().await,
            ) else {
                return Err(crate::AttestError {
                    reason: "the turns at attestation have ended".to_owned(),
                });
            };
            self.attestor.attest(&self.process).await
        };
        let failed = || Status::unavailable("workload attestation failed");
        match tokio::time::timeout(self.limits().attestation, work).await {
            Ok(Ok(selectors)) => self.still_the_same().map(|()| selectors),
            Ok(Err(error)) => {
                self.ledger
                    .complain("attestation-failed", &self.process, &error.to_string());
                Err(failed())
            }
            Err(_elapsed) => {
                tracing::warn!(
                    pid = self.process.pid(),
                    uid = self.process.uid(),
                    "workload attestation took too long"
                );
                Err(failed())
            }
        }
    }

    /// Looks at the process now. To be called before anything is handed out.
    pub(crate) fn still_the_same(&self) -> Result<(), Status> {
        match self.process.is_unchanged() {
            true => Ok(()),
            false => Err(changed()),
        }
    }

    pub(crate) fn probe(&self) -> Arc<Probe> {
        let probe = Arc::new(Probe {
            opened: self.opened,
            handed: AtomicU64::new(0),
        });
        probe.handed_over();
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() == probes.capacity() {
            probes.retain(|probe| probe.strong_count() > 0);
        }
        probes.push(Arc::downgrade(&probe));
        probe
    }

    /// Whether an answer has waited for the client for longer than `patience`.
    pub(crate) fn stalled(&self, patience: Duration) -> bool {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes
            .iter()
            .filter_map(Weak::upgrade)
            .any(|probe| probe.waiting().is_some_and(|waiting| waiting > patience))
    }
}

pub(crate) fn changed() -> Status {
    Status::permission_denied("the process has changed since it connected")
}

/// Notices an answer that its client does not take: the HTTP/2 stack asks for more only when there is room in the window.
#[derive(Debug)]
pub(crate) struct Probe {
    opened: Instant,
    /// Milliseconds since `opened`, plus one; 0 when nothing waits.
    handed: AtomicU64,
}

impl Probe {
    pub(crate) fn handed_over(&self) {
        self.handed
            .store(self.opened.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    pub(crate) fn taken(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }

    fn waiting(&self) -> Option<Duration> {
        let since = self.handed.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.opened.elapsed().saturating_sub(Duration::from_millis(since)))
    }
}
