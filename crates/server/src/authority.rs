//! The authorities that sign: X.509, JWT and, where switched on, WIT, each prepared, active or old.
//!
//! Invariant: only the signer of an active authority is in memory and only issuance can have it; the bundle in use is the committed one.

mod above;
mod ages;
mod appended;
mod descent;
mod doubt;
mod error;
mod following;
mod force;
mod joining;
mod journal;
mod keys;
mod making;
mod orders;
mod params;
mod plan;
mod publishing;
mod reach;
mod told;
mod unheard;
mod upstream;
mod upstream_orders;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use landfast_identity::{Bundle, Certificate, Signer, UnixTime};
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;

pub use error::{AuthorityError, UpstreamFailure};
pub use keys::{DiskKeys, KeyManager, KeyManagerError, MemoryKeys};
pub use params::{AuthorityParams, KeyTypes};

pub(crate) use above::{Above, Neighbour, Root, RootTrust};
pub(crate) use appended::{AppendError, AppendedKey, AppendedRow, MAX_APPENDED, Ordered};
pub(crate) use descent::{Descent, DescentError, judge};
pub(crate) use journal::{AuthorityRow, Journal, Kind, OtherChange, Slot};
pub(crate) use orders::{Done, Order, OrderError, Standing};
pub(crate) use plan::Trust;
pub(crate) use upstream::{Seen, Signed, Upstream, UpstreamError, Wish};
pub(crate) use upstream_orders::{UpstreamOrder, UpstreamOrderError};

use crate::datastore::Datastore;
use crate::quarantine::Quarantine;
use ages::Ages;
use making::Spares;
use plan::Step;
use reach::Reach;
use told::Told;

/// The authorities of one trust domain.
pub struct Authorities {
    params: AuthorityParams,
    datastore: Arc<dyn Datastore>,
    keys: Arc<dyn KeyManager>,
    clock: SharedClock,
    /// Who signs our X.509 authorities; they sign themselves without.
    upstream: Option<Arc<dyn Upstream>>,
    reach: Reach,
    active: RwLock<Active>,
    bundle: watch::Sender<Arc<Bundle>>,
    spares: Spares,
    ages: Ages,
    /// The authority that was said to wait.
    unheard_said: Mutex<String>,
    /// The one that is prepared, and until when nodes have what reaches further than today's reserves.
    longer: Mutex<Option<(String, Option<UnixTime>)>>,
    quarantine: Arc<Quarantine>,
    told: Told,
    ticking: AtomicBool,
    swept: AtomicBool,
}

#[derive(Default)]
struct Active {
    version: u64,
    x509: Option<Arc<ActiveX509>>,
    jwt: Option<Arc<ActiveToken>>,
    wit: Option<Arc<ActiveToken>>,
}

/// The X.509 authority that signs now.
pub(crate) struct ActiveX509 {
    pub(crate) id: String,
    pub(crate) certificate: Certificate,
    /// What follows an SVID of its: itself and what is between it and the root, or nothing when it is a root.
    pub(crate) chain: Vec<Certificate>,
    /// When it, or something above it, ends.
    pub(crate) not_after: UnixTime,
    pub(crate) signer: Arc<dyn Signer>,
}

/// The JWT or WIT authority that signs now.
pub(crate) struct ActiveToken {
    pub(crate) id: String,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) signer: Arc<dyn Signer>,
}

impl Authorities {
    /// Reads the journal, finds the keys, and makes the first authorities if there are none.
    ///
    /// # Errors
    /// The key of an active or prepared authority is missing or not its own, the clock shows no time when authorities have to be made,
    /// files of the upstream authority are no good and there is nothing to sign with, or the datastore fails. A parent server that is of no
    /// use is waited for.
    pub(crate) async fn open(
        params: AuthorityParams,
        datastore: Arc<dyn Datastore>,
        keys: Arc<dyn KeyManager>,
        clock: SharedClock,
        upstream: Option<Arc<dyn Upstream>>,
    ) -> Result<Self, AuthorityError> {
        let (bundle, _) = watch::channel(Arc::new(Bundle::new(params.trust_domain.clone())));
        let authorities = Self {
            params,
            datastore,
            keys,
            clock,
            upstream,
            reach: Reach::default(),
            active: RwLock::new(Active::default()),
            bundle,
            spares: Spares::default(),
            ages: Ages::default(),
            unheard_said: Mutex::default(),
            longer: Mutex::default(),
            quarantine: Quarantine::none(),
            told: Told::default(),
            ticking: AtomicBool::new(false),
            swept: AtomicBool::new(false),
        };
        let journal = authorities.wanted_journal().await?;
        for row in journal.rows.iter().filter(|row| row.slot == Slot::Prepared) {
            authorities.signer_of(row).await?;
        }
        authorities.adopt(&journal).await?;
        match authorities.clock.now() {
            Some(now) => {
                authorities.first_tick(now).await?;
                authorities.join().await?;
            }
            None if journal.rows.is_empty() => return Err(AuthorityError::NoClock),
            None => {}
        }
        Ok(authorities)
    }

    /// The journal without the authorities that are switched off: with them goes what they signed.
    async fn wanted_journal(&self) -> Result<Journal, AuthorityError> {
        loop {
            let journal = self.datastore.journal().await?;
            let unwanted = |row: &AuthorityRow| !self.kinds().contains(&row.kind);
            if !journal.rows.iter().any(unwanted) {
                return Ok(journal);
            }
            let mut rows = journal.rows.clone();
            rows.retain(|row| !unwanted(row));
            if let Some(saved) = self.commit(&journal, rows, None).await? {
                tracing::warn!(
                    sequence = saved.sequence,
                    "WIT-SVIDs are switched off: their authorities are gone, and what they signed verifies no more"
                );
                return Ok(saved);
            }
        }
    }

    /// Of which there are authorities.
    fn kinds(&self) -> &'static [Kind] {
        match self.params.wit {
            true => &Kind::ALL,
            false => &[Kind::X509, Kind::Jwt],
        }
    }

    /// The same, when no X.509 authority can be made now: nothing else waits for it.
    fn unsigned_kinds(&self) -> &'static [Kind] {
        match self.params.wit {
            true => &[Kind::Jwt, Kind::Wit],
            false => &[Kind::Jwt],
        }
    }

    /// Whether WIT-SVIDs are switched on.
    pub(crate) fn has_wit(&self) -> bool {
        self.params.wit
    }

    /// The bundle of our own trust domain; its sequence grows with every change, also over restarts.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.borrow().clone()
    }

    /// Sees every change of the bundle.
    pub fn bundle_updates(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.subscribe()
    }

    /// When the active X.509 authority ends; `None` when there is none.
    pub fn active_x509_expires_at(&self) -> Option<UnixTime> {
        self.active_x509().map(|active| active.not_after)
    }

    /// Rotates by `now`: prepares at half of the active authority's life, activates at its last sixth, forgets old ones a day after
    /// the last SVID of theirs has expired. Each step is committed before it is adopted; a step that fails leaves what was.
    ///
    /// # Errors
    /// The first step that failed; the next tick tries again. An upstream authority that does not sign is no reason to leave the rest undone.
    pub(crate) async fn tick(&self, now: UnixTime, trust: Trust) -> Result<(), AuthorityError> {
        if self.ticking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _reset = ResetOnDrop(&self.ticking);
        // What was signed, and who knows which bundle, may be forgotten: no more than what cannot wait.
        let trust = match self.quarantine.holds() {
            true => Trust::Doubtful,
            false => trust,
        };
        let mut journal = self.datastore.journal().await?;
        if let Some(rows) = journal.stranded() {
            journal = match self.commit(&journal, rows, None).await? {
                Some(saved) => saved,
                None => self.datastore.journal().await?,
            };
        }
        let mut unsigned = None;
        let mut waiting = Vec::new();
        // Each step leads towards rest; more than this at once would be a bug, and the next tick goes on.
        for _ in 0..MAX_STEPS {
            self.spares.give_up_used(&journal);
            let kinds = match unsigned {
                None => self.kinds(),
                Some(_) => self.unsigned_kinds(),
            };
            let kinds: Vec<_> = kinds
                .iter()
                .copied()
                .filter(|kind| !waiting.contains(kind))
                .collect();
            let Some(step) = plan::next(&journal.rows, &kinds, (now, trust), self.params.longest_reserve)
            else {
                break;
            };
            if let Step::Activate(kind) = step
                && (journal.must_wait(kind, |row| self.ages.of(row, &*self.clock, now))
                    || self.unheard(kind, &journal, now).await?.is_some())
            {
                waiting.push(kind);
                continue;
            }
            let (rows, above) = match self.carry_out(&step, &journal, now).await {
                Err(error @ AuthorityError::Upstream(_)) => {
                    unsigned = Some(error);
                    continue;
                }
                done => done?,
            };
            let Some(saved) = self.commit(&journal, rows, above).await? else {
                // Somebody else was faster, and what was due may be so no longer: look again.
                journal = self.datastore.journal().await?;
                continue;
            };
            tracing::info!(step = %step, sequence = saved.sequence, "authorities changed");
            self.told.of(&step).await;
            journal = saved;
        }
        if trust == Trust::Steady {
            journal = self.forget_appended(journal, now).await?;
            journal = self.leave_above(journal, now).await?;
        }
        self.adopt(&journal).await?;
        if trust == Trust::Steady && !self.swept.swap(true, Ordering::AcqRel) {
            self.sweep().await;
        }
        unsigned.filter(|_| !self.reach.is_quiet()).map_or(Ok(()), Err)
    }

    /// Makes these rows the journal that follows `before`, and removes the keys of those that are no longer in it. `None` when somebody
    /// else has changed it meanwhile: then nothing has happened. All that can fail comes before the write: what is durable is in force.
    async fn commit(
        &self,
        before: &Journal,
        rows: Vec<AuthorityRow>,
        above: Option<Above>,
    ) -> Result<Option<Journal>, AuthorityError> {
        let signers = match self.signers(&rows).await {
            Ok(signers) => signers,
            // Somebody else was faster, and the keys of these rows may be gone.
            Err(_) if self.in_force() > before.version => return Ok(None),
            Err(error) => return Err(error),
        };
        let next = Journal {
            rows: rows.clone(),
            above: above.clone().unwrap_or_else(|| before.above.clone()),
            ..before.clone()
        };
        next.bundle(&self.params.trust_domain)?;
        let saved = match above {
            None => self.datastore.save_journal(before.version, rows).await?,
            Some(above) => self.datastore.save_below(before.version, rows, above).await?,
        };
        let Some(saved) = saved else {
            return Ok(None);
        };
        self.reach.said(&before.above, &saved.above);
        self.put_in_force(&saved, signers)?;
        let stays = |row: &&AuthorityRow| saved.rows.iter().any(|other| other.id == row.id);
        for gone in before.rows.iter().filter(|row| !stays(row)) {
            self.remove_key(gone.key_name.clone()).await;
        }
        Ok(Some(saved))
    }

    async fn carry_out(
        &self,
        step: &Step,
        journal: &Journal,
        now: UnixTime,
    ) -> Result<(Vec<AuthorityRow>, Option<Above>), AuthorityError> {
        let (mut rows, mut above) = (journal.rows.clone(), None);
        match step {
            Step::Prepare(kind) => {
                let made = self.prepare_in_turn(*kind, journal, now).await?;
                above = made.above;
                rows.push(made.row);
            }
            Step::Activate(kind) => plan::activate(&mut rows, *kind, now),
            Step::Resume(id) => plan::resume(&mut rows, id, now),
            Step::Retire(id) => plan::retire(&mut rows, id),
            Step::Forget(id) => rows.retain(|row| row.id != *id),
        }
        Ok((rows, above))
    }

    pub(crate) fn active_x509(&self) -> Option<Arc<ActiveX509>> {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .x509
            .clone()
    }

    pub(crate) fn active_jwt(&self) -> Option<Arc<ActiveToken>> {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .jwt
            .clone()
    }

    pub(crate) fn active_wit(&self) -> Option<Arc<ActiveToken>> {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .wit
            .clone()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Authorities({}, sequence {})",
            self.params.trust_domain,
            self.bundle().sequence()
        )
    }
}

/// A tick that is dropped half-way leaves the journal whole; the next one reads it anew.
struct ResetOnDrop<'a>(&'a AtomicBool);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

const MAX_STEPS: usize = 16;

#[cfg(test)]
mod tests;
