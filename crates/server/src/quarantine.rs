//! What a server does that may have forgotten something: a ban, a deletion, a token that was used (ADR 30).
//!
//! Invariant: while it holds, nothing is signed but the server's own SVID, and no node is told anything that comes from the registry. It holds in
//! memory before it is on disk, and it ends in memory after that is on disk: whatever fails, it goes on.

mod evidence;
mod notice;
mod report;
pub(crate) mod state;
mod steps;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use landfast_audit::{Actor, ActorClass, Category, Record};
use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_lifecycle::SharedClock;
use landfast_store::{DirFiles, Files, Store, StoreError};

pub(crate) use report::Report;

use crate::authority::{Authorities, AuthorityError};
use crate::datastore::{Datastore, DatastoreError};
use crate::ledger::Ledger;
use crate::registry::Registry;
use evidence::Evidence;
use state::{Cause, CauseKind, FILE, MARK, Mark, State};

/// Whether this server may answer from its registry, and what is known of why not.
pub(crate) struct Quarantine {
    /// `None`: nothing is kept here, or several servers keep it, which look after one another (ADR 23).
    home: Option<Home>,
    holds: AtomicBool,
    /// Of the two below: one change at a time, the writing with it.
    changing: tokio::sync::Mutex<Noted>,
    state: Mutex<State>,
    evidence: Mutex<Evidence>,
    /// Set once, before anything is answered.
    ledger: OnceLock<Ledger>,
}

struct Home {
    path: PathBuf,
    /// Not the store, whose lock would be held by a write that outlives its caller.
    files: Arc<DirFiles>,
    datastore: Arc<dyn Datastore>,
    clock: SharedClock,
}

/// What is on disk.
#[derive(Default)]
struct Noted {
    mark: Option<Mark>,
    /// The state could not be written.
    unsaved: bool,
}

/// An operator's word.
pub(crate) struct End<'a> {
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
    /// Whatever comes back may come back.
    pub(crate) accept_rollback: bool,
}

/// Why a quarantine goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    #[error("there is no quarantine")]
    None,
    #[error(
        "{count} decisions would come back, see landfast quarantine show: repeat them (landfast entry delete, landfast agent ban, landfast authority \
         taint), or say --accept-rollback"
    )]
    ComesBack { count: usize },
    #[error(
        "what was decided since is not known here, see landfast quarantine show: repeat bans, evictions and deletions, then say --accept-rollback"
    )]
    NotKnown,
    #[error("the clock of the server shows no time")]
    NoClock,
    #[error("a new epoch cannot be begun")]
    Epoch(#[from] DatastoreError),
    #[error("the authorities cannot be read again")]
    Authorities(#[from] AuthorityError),
    #[error("its end cannot be written down")]
    Store(#[from] StoreError),
}

impl Quarantine {
    /// Where nothing can go back.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            home: None,
            holds: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            evidence: Mutex::default(),
            ledger: OnceLock::new(),
        })
    }

    /// What the data directory says. With `initialised`, it was used before.
    pub(crate) fn open(
        store: &Store,
        initialised: bool,
        datastore: Arc<dyn Datastore>,
        clock: SharedClock,
    ) -> Result<Arc<Self>, StoreError> {
        let now = clock.now().unwrap_or(UnixTime::EPOCH);
        let (file, mark) = (store.read(FILE)?, store.read(MARK)?);
        let mut state = State::read(file.as_deref().map(Vec::as_slice), now);
        if initialised && file.is_none() && mark.is_none() {
            // By a program that noted nothing: an earlier restoration may have lost records, and nobody is to be alarmed by that now.
            state.accepted = now.as_secs();
            store.replace(FILE, &state.to_bytes())?;
        }
        let mark = mark.and_then(|bytes| {
            let read = serde_json::from_slice(&bytes);
            read.inspect_err(|error| tracing::warn!(%error, "the file {MARK} in the data directory cannot be read: how new the database has been is not known"))
                .ok()
        });
        let directory = File::open(store.path()).map_err(|source| StoreError::Directory {
            path: store.path().into(),
            source,
        })?;
        let files = DirFiles::new(directory.into());
        for cause in &state.causes {
            tracing::error!(why = cause.detail, "this server is in quarantine: {WHAT_TO_DO}");
        }
        let quarantine = Self {
            holds: AtomicBool::new(!state.causes.is_empty()),
            changing: tokio::sync::Mutex::new(Noted { mark, unsaved: false }),
            state: Mutex::new(state),
            evidence: Mutex::default(),
            ledger: OnceLock::new(),
            home: Some(Home {
                path: store.path().into(),
                files: Arc::new(files),
                datastore,
                clock,
            }),
        };
        quarantine.tell();
        Ok(Arc::new(quarantine))
    }

    /// Whether somebody may be answered from the registry.
    ///
    /// # Errors
    /// It is in quarantine: since when and why.
    pub(crate) fn check(&self) -> Result<(), DatastoreError> {
        if !self.holds.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state();
        let cause = state.causes.first();
        Err(DatastoreError::Quarantine {
            since: UnixTime::from_secs(cause.map_or(0, |cause| cause.since)),
            why: cause.map(|cause| cause.detail.clone()).unwrap_or_default(),
        })
    }

    /// Whether one can begin here.
    pub(crate) fn is_kept(&self) -> bool {
        self.home.is_some()
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// Lets a test have it, where nothing is kept.
    #[cfg(test)]
    pub(crate) fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Release);
    }

    /// Compares the database with what was noted of it, once, before anything is answered.
    pub(crate) async fn compare(&self, now: Mark) {
        let noted = self.changing.lock().await.mark;
        let Some(noted) = noted.filter(|noted| noted.is_ahead_of(&now) && !self.holds()) else {
            return;
        };
        self.begin(CauseKind::PutBack, now, format!(
            "the database is at revision {}.{} with bundle {}, and has been at {}.{} with bundle {}: it was put back without landfast-server restore",
            now.epoch, now.number, now.sequence, noted.epoch, noted.number, noted.sequence
        ))
        .await;
    }

    /// What happens to it is recorded there, and that it holds from before: after a restore, the first that is known of it.
    pub(crate) async fn record_in(&self, ledger: &Ledger) {
        let _set_once = self.ledger.set(ledger.clone());
        let causes: Vec<_> = self.state().causes.iter().map(|cause| cause.kind).collect();
        for kind in causes {
            self.record("quarantine.holds", kind).await;
        }
    }

    async fn record(&self, what: &'static str, kind: CauseKind) {
        let category = match kind {
            CauseKind::Restored | CauseKind::PutBack => Category::Backup,
            CauseKind::RolledBack | CauseKind::Unreadable => Category::System,
        };
        let actor = Actor::new(ActorClass::Server, None);
        let record = Record::new(category, what, actor).with("cause", kind.as_str());
        if let Some(ledger) = self.ledger.get() {
            ledger.own(vec![record]).await;
        }
    }

    async fn begin(&self, kind: CauseKind, at: Mark, detail: String) {
        let Some(home) = &self.home else { return };
        let mut noted = self.changing.lock().await;
        tracing::error!(why = detail, "this server goes into quarantine: {WHAT_TO_DO}");
        let bytes = {
            let mut state = self.state();
            state.begin(Cause {
                kind,
                since: home.clock.now().unwrap_or(UnixTime::EPOCH).as_secs(),
                detail,
                epoch: at.epoch,
                number: at.number,
                backup_made_at: None,
                complete: false,
                findings: Vec::new(),
            });
            state.to_bytes()
        };
        self.holds.store(true, Ordering::Release);
        self.tell();
        self.record("quarantine.began", kind).await;
        noted.unsaved = home.write(FILE, bytes).await.is_err();
    }

    /// Notes how new the registry is, where that is so; again and again.
    pub(crate) async fn keep(&self, now: Mark) {
        let Some(home) = &self.home else { return };
        let mut noted = self.changing.lock().await;
        if noted.unsaved {
            let bytes = self.state().to_bytes();
            noted.unsaved = home.write(FILE, bytes).await.is_err();
        }
        if !self.holds() && noted.mark != Some(now) && home.write(MARK, now.to_bytes()).await.is_ok() {
            noted.mark = Some(now);
        }
    }

    /// An operator has looked, and whatever is not known here is lost. From here on it is as in any registry.
    pub(crate) async fn end(
        &self,
        order: &End<'_>,
        registry: &Registry,
        authorities: &Authorities,
    ) -> Result<usize, EndError> {
        let Some(home) = self.home.as_ref().filter(|_| self.holds()) else {
            return Err(EndError::None);
        };
        let mut noted = self.changing.lock().await;
        let report = self.report(registry, &authorities.bundle());
        let count = report.comes_back();
        if !order.accept_rollback {
            match (count, report.complete) {
                (1.., _) => return Err(EndError::ComesBack { count }),
                (0, false) => return Err(EndError::NotKnown),
                (0, true) => {}
            }
        }
        let now = home.clock.now().ok_or(EndError::NoClock)?;
        // The chain may say more than what was noted here, and be of an epoch that this registry has not begun.
        let step = home.datastore.newest_step().await?;
        let (epoch, sequence) = step.map_or((0, 0), |step| {
            let step = step.step();
            (step.epoch, step.bundle.sequence())
        });
        let is_behind = epoch > registry.revision().epoch;
        if self.state().needs_epoch() || is_behind {
            let least = noted.mark.map_or(0, |mark| mark.sequence).max(sequence);
            let epoch = now.as_secs().unsigned_abs().max(epoch + 1);
            home.datastore.renew_epoch(epoch, least).await?;
            authorities.follow_journal().await?;
        }
        let mut state = self.state().clone();
        state.end(order.by, order.reason, count as u64, now);
        let mark = Mark::new(registry.revision(), authorities.bundle().sequence());
        home.write(MARK, mark.to_bytes()).await?;
        home.write(FILE, state.to_bytes()).await?;
        *noted = Noted {
            mark: Some(mark),
            unsaved: false,
        };
        *self.state() = state;
        *self.evidence() = Evidence::default();
        self.holds.store(false, Ordering::Release);
        self.tell();
        tracing::warn!(
            by = order.by,
            reason = order.reason,
            came_back = count,
            "the quarantine has ended"
        );
        Ok(count)
    }

    fn tell(&self) {
        let holds = if self.holds() { 1.0 } else { 0.0 };
        metrics::gauge!("landfast_server_quarantine").set(holds);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn evidence(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    async fn write(&self, name: &'static str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let files = Arc::clone(&self.files);
        let written = tokio::task::spawn_blocking(move || replace(&*files, name, &bytes)).await;
        let written = written.unwrap_or_else(|_stopping| Err(io::Error::other("the process ends")));
        written.map_err(|source| {
            let path = self.path.join(name);
            let error = StoreError::CannotWrite { path, source };
            tracing::error!(
                error = error_chain(&error),
                "what is known of a quarantine cannot be written"
            );
            error
        })
    }
}

/// As a store does it. Blocks on the disk.
pub(crate) fn replace(files: &dyn Files, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temp = format!(".{name}.new.tmp");
    let written = files.create_temp(&temp).and_then(|mut file| {
        files.write(&mut file, bytes)?;
        files.sync(&file)?;
        files.rename(&temp, name)?;
        files.sync_dir()
    });
    if written.is_err() {
        // Else the next attempt would fail for it.
        let _never_there = files.remove(&temp);
    }
    written
}

/// In logs, and in what is said to operators.
pub(crate) const WHAT_TO_DO: &str = "nothing is signed, and nodes are told nothing and serve what they hold, until somebody has looked: landfast \
    quarantine show";

#[cfg(test)]
mod tests;
