//! What all requests of one connection share: its process, its selectors, its place in the ledger.
//!
//! Invariant: a connection is attested never before its header was checked, not again while what was found is complete and led to
//! an identity, and serves nothing once its process has changed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use landfast_identity::SelectorSet;
use landfast_uds::PinnedProcess;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{Attested, Attestor, Limits, Party, ledger::ConnectionPermit, ledger::Ledger};

pub(crate) struct Connection {
    pub(crate) process: Arc<PinnedProcess>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) shutdown: CancellationToken,
    attestor: Arc<dyn Attestor>,
    /// The turns of all at attestation.
    attestations: Arc<Semaphore>,
    /// Requests of one connection share an attestation rather than make one each.
    turn: Semaphore,
    held: Mutex<Option<Arc<Held>>>,
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
        let (opened, probes, held) = (Instant::now(), Mutex::default(), Mutex::default());
        Self {
            process,
            permit,
            ledger,
            shutdown,
            attestor,
            attestations,
            turn: Semaphore::new(1),
            held,
            opened,
            probes,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.ledger.limits()
    }

    /// What is known of the process; looks at it when nothing is, or when there may be more to know.
    pub(crate) async fn attested(&self) -> Result<Arc<Held>, Status> {
        if let Some(held) = self.current() {
            return Ok(held);
        }
        let _turn = self.turn.acquire().await;
        // Another request may have attested while this one waited for its turn.
        if let Some(held) = self.current() {
            return Ok(held);
        }
        let found = self.attest().await?;
        let mut held = lock(&self.held);
        let found = Arc::new(Held::new(found, held.as_deref()));
        *held = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Lets the next request attest again: these selectors led to no identity, and what they lack may be there by then.
    pub(crate) fn forget(&self, fruitless: &Arc<Held>) {
        let mut held = lock(&self.held);
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, fruitless)) {
            *held = None;
        }
    }

    /// As [`Self::forget`], whatever is held.
    pub(crate) fn forget_all(&self) {
        *lock(&self.held) = None;
    }

    /// What was found last, good enough or not.
    pub(crate) fn last(&self) -> Option<Arc<Held>> {
        lock(&self.held).clone()
    }

    fn current(&self) -> Option<Arc<Held>> {
        self.last().filter(|held| !held.is_over())
    }

    async fn attest(&self) -> Result<Attested, Status> {
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
            Ok(Ok(found)) => {
                for what in &found.left_out {
                    self.ledger.left_out(&self.process, what);
                }
                self.still_the_same().map(|()| found)
            }
            Ok(Err(error)) => {
                self.ledger
                    .complain("attestation-failed", &self.process, &error.to_string());
                Err(failed())
            }
            Err(_elapsed) => {
                self.ledger
                    .complain("attestation-failed", &self.process, "attestation took too long");
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

    /// For records.
    pub(crate) fn party<'a>(&'a self, selectors: &'a SelectorSet) -> Party<'a> {
        let process = Some(&*self.process);
        Party { process, selectors }
    }

    pub(crate) fn probe(&self) -> Arc<Probe> {
        let probe = Arc::new(Probe {
            opened: self.opened,
            handed: AtomicU64::new(0),
        });
        probe.handed_over();
        let mut probes = lock(&self.probes);
        if probes.len() == probes.capacity() {
            probes.retain(|probe| probe.strong_count() > 0);
        }
        probes.push(Arc::downgrade(&probe));
        probe
    }

    /// Whether an answer has waited for the client for longer than `patience`.
    pub(crate) fn stalled(&self, patience: Duration) -> bool {
        let probes = lock(&self.probes);
        probes
            .iter()
            .filter_map(Weak::upgrade)
            .any(|probe| probe.waiting().is_some_and(|waiting| waiting > patience))
    }
}

/// What an attestation found, and until when that is all there is to find.
pub(crate) struct Held {
    pub(crate) selectors: SelectorSet,
    incomplete: bool,
    outdated: CancellationToken,
    at: Instant,
}

impl Held {
    /// An incomplete look adds to what was `known` and takes nothing away: the process is the same, and a name service that is slow now
    /// must not cost it the identity that it has.
    fn new(found: Attested, known: Option<&Self>) -> Self {
        let known = known.filter(|_| found.incomplete);
        let known = known.into_iter().flat_map(|known| &known.selectors);
        let selectors = match known.clone().next() {
            None => found.selectors,
            Some(_) => found.selectors.iter().chain(known).cloned().collect(),
        };
        Self {
            selectors,
            incomplete: found.incomplete,
            outdated: found.outdated,
            at: Instant::now(),
        }
    }

    /// Whether another look would look for more.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.is_cancelled()
    }

    fn is_over(&self) -> bool {
        self.is_outdated() || (self.incomplete && self.at.elapsed() >= LOOK_AGAIN)
    }

    /// Ends when it is time for another look.
    pub(crate) async fn over(&self) {
        tokio::select! {
            () = self.outdated.cancelled() => {}
            () = tokio::time::sleep_until(self.at + LOOK_AGAIN), if self.incomplete => {}
        }
    }
}

/// The attestation that follows `last`, for a stream that outlives it.
pub(crate) async fn next_attestation(connection: Arc<Connection>, last: Arc<Held>) -> Arc<Held> {
    last.over().await;
    loop {
        match connection.attested().await {
            Ok(next) => return next,
            // What was served stays valid.
            Err(_reported) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// For how long an attestation that left something out is good enough for a caller whom it gave an identity.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
