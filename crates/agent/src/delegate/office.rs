//! What may be given of whom, whichever API asks: who asks has a right, whom it asks about has identities, and what is in both is given.
//!
//! Invariant: the right is judged anew by the newest snapshot before every message. What is given is within its list, whatever is named (T-11).

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SelectorSet, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_uds::{PinError, PinnedProcess, Pins};
use landfast_workload_api::{
    Attestor, Caller, Desk, FetchedJwt, Gauges, Given, HandOut, IdentitySource as _, Limits, Party,
    SourceError, Way,
};
use tonic::{Code, Status};

use super::asker::Asker;
use super::refusal::{Reason, not_entitled, workload};
use super::rights::{Delegates, Right};
use super::subscription::Whose;
use crate::entry::Entry;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::source::AgentSource;

/// What the services for delegates know, whichever socket they are asked on.
pub(crate) struct Office {
    delegates: Delegates,
    /// By which service.
    pub(super) way: Way,
    /// What who has no right is told.
    strangers: &'static str,
    pub(super) views: Views,
    source: Arc<AgentSource>,
    pub(super) clock: SharedClock,
    pins: Pins,
    /// Attests the processes that delegates name.
    subjects: Desk,
    /// Threads of the kernel cannot be had for a test.
    pub(super) runs_a_program: fn(&PinnedProcess) -> Result<bool, PinError>,
}

impl Office {
    pub(crate) fn new(
        delegates: Delegates,
        (way, strangers): (Way, &'static str),
        views: Views,
        source: Arc<AgentSource>,
        clock: SharedClock,
        attestor: Arc<dyn Attestor>,
    ) -> Arc<Self> {
        let limits = Limits {
            connections_total: MAX_SUBJECTS,
            ..Limits::default()
        };
        Arc::new(Self {
            delegates,
            way,
            strangers,
            views,
            source,
            clock,
            pins: Pins::default(),
            subjects: Desk::new(attestor, limits, Arc::new(Gauges::unpublished())),
            runs_a_program,
        })
    }

    /// What the asker, whose process has these selectors, may have, as things are.
    pub(super) fn right(
        &self,
        asker: &Asker,
        selectors: &SelectorSet,
        snapshot: &Snapshot,
        now: UnixTime,
    ) -> Result<Right<'_>, Status> {
        asker.still_good()?;
        let own = snapshot.entries.matching(selectors, now);
        if own.is_empty() {
            return Err(Status::permission_denied("no identity issued"));
        }
        let counting = own
            .iter()
            .map(|entry| &entry.spiffe_id)
            .filter(|id| asker.counts(id));
        if counting.clone().next().is_none() {
            return Err(Status::permission_denied(
                "the calling process is not entitled to the identity that it showed",
            ));
        }
        self.delegates
            .right(counting)
            .ok_or_else(|| Status::permission_denied(self.strangers))
    }

    /// The asker's right, once anything is known.
    pub(crate) async fn authorise(&self, asker: &Asker) -> Result<(), Status> {
        let mut published = self.views.published();
        let known = published.wait_for(|_| {
            let snapshot = self.views.snapshot();
            snapshot.synced_at.is_some() || snapshot.banned
        });
        let known = tokio::time::timeout(FIRST_ANSWER, known).await;
        if !known.is_ok_and(|known| known.is_ok()) {
            return Err(Status::unavailable("the agent is starting"));
        }
        let caller = asker.caller();
        let selectors = caller.selectors().await?;
        let now = self.now()?;
        let right = self
            .right(asker, &selectors, &self.views.snapshot(), now)
            .map(drop);
        if let Err(refusal) = &right {
            // What it lacks may be there by the next time.
            caller.forget();
            caller.complain("delegate-refused", refusal.message());
            self.denied(refusal, caller.party(&selectors));
        }
        right
    }

    /// Has it recorded that something was denied to who asked.
    pub(super) fn denied(&self, refusal: &Status, to: Party<'_>) {
        if refusal.code() == Code::PermissionDenied {
            self.source.refused(self.way, to);
        }
    }

    /// The process of this number, pinned. Only to be called for who has a right: it tells what processes there are.
    pub(crate) async fn subject(&self, asker: &Asker, pid: i32) -> Result<Caller, Status> {
        let subject = self.pinned(pid);
        if let Err(refusal) = &subject {
            let caller = asker.caller();
            self.denied(refusal, caller.party(&caller.selectors().await?));
        }
        subject
    }

    pub(super) fn pinned(&self, pid: i32) -> Result<Caller, Status> {
        let nobodys = || {
            let message = format!("process {pid} is nobody's to ask for");
            workload(Reason::NotEntitled, message, Some(pid))
        };
        if pid == INIT || u32::try_from(pid) == Ok(std::process::id()) {
            return Err(nobodys());
        }
        let process = self.pins.open(pid).map_err(|error| not_pinned(pid, &error))?;
        match (self.runs_a_program)(&process) {
            Ok(true) => self.subjects.admit(&process),
            Ok(false) => Err(nobodys()),
            Err(error) => Err(not_pinned(pid, &error)),
        }
    }

    /// Tokens of whom is asked about, of what `chosen` leaves of all that may be given. Charged to the asker: what it asks for is not what
    /// the workload uses up, and selectors that it names must not choose who pays.
    pub(crate) async fn tokens(
        &self,
        asker: &Asker,
        whose: &Whose,
        audience: &[String],
        chosen: impl FnOnce(Vec<Arc<Entry>>) -> Vec<Arc<Entry>> + Send,
    ) -> Result<Vec<FetchedJwt>, Status> {
        let caller = asker.caller();
        let (payer, wanted) = (caller.selectors().await?, whose.selectors().await?);
        let snapshot = self.views.snapshot();
        let right = self.right(asker, &payer, &snapshot, self.now()?)?;
        let entries = chosen(granted(&snapshot, &wanted, &right, self.now()?));
        if entries.is_empty() {
            let refusal = not_entitled();
            self.denied(&refusal, caller.party(&payer));
            return Err(refusal);
        }
        let fetched = self
            .source
            .tokens_of(&entries, &payer, audience, snapshot.bundle.as_deref())
            .await
            .map_err(|error| match error {
                SourceError::NoIdentity => not_entitled(),
                SourceError::InvalidArgument(reason) => Status::invalid_argument(reason),
                SourceError::Unsupported => Status::unimplemented("JWT-SVIDs are not supported"),
                SourceError::Unavailable(reason) => {
                    caller.complain("jwt-unavailable", &reason);
                    Status::unavailable("the JWT-SVID is not available now")
                }
            })?;
        // Any of the rights may have ended while the server was asked.
        let after = self.views.snapshot();
        let right = self.right(asker, &payer, &after, self.now()?)?;
        let still = granted(&after, &wanted, &right, self.now()?);
        let kept = |entry: &Arc<Entry>| {
            still
                .iter()
                .any(|now| now.id == entry.id && now.spiffe_id == entry.spiffe_id)
        };
        if !entries.iter().all(kept) {
            return Err(not_entitled());
        }
        asker.still_the_same()?;
        whose.still_the_same()?;
        let (to, of) = (caller.party(&payer), whose.party(&wanted));
        for jwt in &fetched {
            self.hands_out(to, of, Given::Jwt(jwt));
        }
        Ok(fetched)
    }

    /// Has it noted what leaves.
    pub(super) fn hands_out(&self, to: Party<'_>, of: Option<Party<'_>>, given: Given<'_>) {
        let way = self.way;
        self.source.hand_outs.note(&HandOut { way, to, of, given });
    }

    fn now(&self) -> Result<UnixTime, Status> {
        self.clock
            .now()
            .ok_or_else(|| Status::unavailable("the system has no time of day"))
    }
}

/// The entries with these selectors that the right covers.
pub(super) fn granted(
    snapshot: &Snapshot,
    selectors: &SelectorSet,
    right: &Right<'_>,
    now: UnixTime,
) -> Vec<Arc<Entry>> {
    let mut entries = snapshot.entries.matching(selectors, now);
    entries.retain(|entry| {
        let id = &entry.spiffe_id;
        !snapshot.entries.is_privileged(id) && right.covers(id)
    });
    entries
}

/// A thread of the kernel is a process too, and root's.
fn runs_a_program(process: &PinnedProcess) -> Result<bool, PinError> {
    Ok(!process.proc_dir()?.is_kernel_thread()?)
}

fn not_pinned(pid: i32, error: &PinError) -> Status {
    match error {
        PinError::Exited { .. } => {
            workload(Reason::NotFound, format!("there is no process {pid}"), Some(pid))
        }
        other => {
            tracing::info!(
                pid,
                error = landfast_daemon::error_chain(other),
                "a process that a delegate named could not be pinned"
            );
            Status::unavailable("workload attestation failed")
        }
    }
}

/// Never a workload: in a host's namespace it is the system, in a container's what the container is.
const INIT: i32 = 1;
/// Processes that streams are open about, each stream for itself; a pidfd each at most.
pub(crate) const MAX_SUBJECTS: u32 = 1024;
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(5);
