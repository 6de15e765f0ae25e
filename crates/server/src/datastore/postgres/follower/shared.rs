//! How the database stands, for all threads. Invariant: what was read longer ago than [`STALE`] counts as old, whatever it was.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::position::Position;
use crate::datastore::{CommitListener, DatastoreError};

/// What other threads see.
pub(in super::super) struct Shared {
    pub(super) listener: OnceLock<Arc<dyn CommitListener>>,
    /// What the last snapshot stood at: a listener that comes goes on from there.
    loaded: Mutex<Position>,
    standing: Mutex<Standing>,
    /// A write has failed.
    pub(in super::super) doubt: Notify,
    /// The journal has another version.
    pub(in super::super) journal: Notify,
    /// A write has found no room, and no probe has found any since.
    pub(in super::super) full: AtomicBool,
}

pub(super) struct Standing {
    pub(super) read_at: Instant,
    pub(super) trouble: Option<DatastoreError>,
    pub(super) journal: u64,
    pub(super) journal_at: Instant,
}

impl Shared {
    pub(in super::super) fn new() -> Self {
        let now = Instant::now();
        Self {
            listener: OnceLock::new(),
            loaded: Mutex::default(),
            standing: Mutex::new(Standing {
                read_at: now,
                trouble: None,
                journal: 0,
                journal_at: now,
            }),
            doubt: Notify::new(),
            journal: Notify::new(),
            full: AtomicBool::new(false),
        }
    }

    pub(in super::super) fn follow(&self, listener: Arc<dyn CommitListener>) {
        if self.listener.set(listener).is_err() {
            tracing::error!("the datastore has a listener already");
        }
    }

    /// Whether what the listener knows, and a journal of this version, are what is stored, but for moments.
    pub(in super::super) fn standing(&self, journal: u64) -> Result<(), DatastoreError> {
        let standing = self.lock();
        let for_good = standing.trouble.as_ref().is_some_and(lasts);
        let old = standing.read_at.elapsed() >= STALE;
        let behind = standing.journal > journal && standing.journal_at.elapsed() >= STALE;
        if !old && !behind && !for_good {
            return Ok(());
        }
        let why = standing.trouble.clone();
        Err(why.unwrap_or(DatastoreError::Behind))
    }

    /// Whether the database cannot be read, and what is known counts as old.
    pub(super) fn is_gone(&self) -> bool {
        let standing = self.lock();
        standing.trouble.is_some() && standing.read_at.elapsed() >= STALE
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn loaded(&self) -> MutexGuard<'_, Position> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is so until somebody does something about it.
pub(super) fn lasts(error: &DatastoreError) -> bool {
    matches!(error, DatastoreError::Fenced) || lost(error)
}

/// Whether it is so until the database with everything is back.
pub(super) fn lost(error: &DatastoreError) -> bool {
    matches!(
        error,
        DatastoreError::WentBack { .. } | DatastoreError::JournalWentBack { .. }
    )
}

/// Without a look at the feed for this long what we know may be stale. Agents are to be with another server within five seconds.
pub(super) const STALE: Duration = Duration::from_millis(2000);
