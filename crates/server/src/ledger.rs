//! The ledger of this server: what it decided, signed and was told, in `landfast_audit`'s log.
//!
//! Invariant: [`Ledger::append`] returns when the records are on the disk; while they cannot be brought there, [`Ledger::check`] says so, and a record
//! of the gap is the first that is written afterwards.

mod key;
mod records;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use landfast_audit::{LogError, Record};
use landfast_daemon::error_chain;
use landfast_lifecycle::SharedClock;
use landfast_store::Store;
use tokio::sync::oneshot;

pub use key::OpenLedgerError;
pub(crate) use key::{DIRECTORY, open};
pub(crate) use records::{actor, at, changed, denied, issued, node, ordered};
use writer::{Work, Writer};

/// Where records go. Clones write to the same log, which ends with the last of them.
#[derive(Clone, Default)]
pub struct Ledger(Option<Arc<Inner>>);

struct Inner {
    work: Option<SyncSender<Work>>,
    standing: Arc<Standing>,
    thread: Option<JoinHandle<()>>,
    /// The data directory, and its own.
    place: OnceLock<(Store, PathBuf)>,
}

/// Whether records can be written. Shared with the thread that writes.
#[derive(Default)]
struct Standing {
    failed: AtomicBool,
    why: Mutex<Option<Arc<LogError>>>,
}

/// Why something was not recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The disk did not take it.
    #[error("the ledger cannot be written: make room, or mend its disk; it is tried again every second")]
    Write {
        /// Why.
        source: Arc<LogError>,
    },
    /// More wait than it takes.
    #[error("the ledger is behind: more than {MOST_WAITING} wait for its disk")]
    Behind,
    /// Its thread is gone.
    #[error("the ledger has ended: restart the server, and see in its log why")]
    Ended,
}

impl Ledger {
    /// Records nothing: for a server that keeps everything in memory.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Writes to this log from now on, in a thread of its own.
    pub(crate) fn start(
        log: landfast_audit::Log,
        recovered: landfast_audit::Recovered,
        clock: SharedClock,
    ) -> Result<Self, LogError> {
        let (work, asked) = sync_channel(MOST_WAITING);
        let standing = Arc::new(Standing::default());
        let mut writer = Writer::new(log, Arc::clone(&standing), clock);
        writer.begin(recovered)?;
        let spawned = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&asked));
        let thread = spawned.map_err(|source| LogError::CannotWrite {
            path: "(a thread)".into(),
            source,
        })?;
        Ok(Self(Some(Arc::new(Inner {
            work: Some(work),
            standing,
            thread: Some(thread),
            place: OnceLock::new(),
        }))))
    }

    /// Says where it lies, for whoever reads what is on the disk.
    pub(crate) fn lies(self, data: &Store, dir: &Path) -> Self {
        if let Some(inner) = &self.0 {
            inner.place.get_or_init(|| (data.clone(), dir.to_owned()));
        }
        self
    }

    /// The data directory, and the directory of the log.
    pub(crate) fn place(&self) -> Option<(&Store, &Path)> {
        let (data, dir) = self.0.as_ref()?.place.get()?;
        Some((data, dir))
    }

    /// Whether what happens now could be recorded, as far as is known.
    ///
    /// # Errors
    /// The last attempt failed, and none has succeeded since.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        match &self.0 {
            Some(inner) if inner.standing.failed.load(Ordering::Acquire) => Err(inner.standing.error()),
            _ => Ok(()),
        }
    }

    /// Why nothing can be recorded, as `/ready` says it.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.check().err().map(|error| error_chain(&error))
    }

    /// Records these, together. When this returns they are on the disk.
    ///
    /// # Errors
    /// They are not, as far as anybody will be told.
    pub(crate) async fn append(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        let Some(inner) = self.0.as_ref().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        let (reply, done) = oneshot::channel();
        inner.send(Work {
            records,
            reply: Some(reply),
        })?;
        done.await.map_err(|_gone| LedgerError::Ended)?
    }

    /// Records this with the next batch, and waits for nothing: of what is refused, which nobody gains by. One that finds no room is counted.
    pub(crate) fn note(&self, record: Record) {
        let Some(inner) = &self.0 else { return };
        let sent = inner.send(Work {
            records: vec![record],
            reply: None,
        });
        if sent.is_err() {
            metrics::counter!("landfast_server_ledger_left_out_total").increment(1);
        }
    }
}

impl Inner {
    fn send(&self, work: Work) -> Result<(), LedgerError> {
        let sender = self.work.as_ref().ok_or(LedgerError::Ended)?;
        sender.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => LedgerError::Behind,
            TrySendError::Disconnected(_) => LedgerError::Ended,
        })
    }
}

impl Drop for Inner {
    /// The log ends with a record that says so, and its directory is free for the next server.
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the ledger has panicked");
        }
    }
}

impl Standing {
    fn fail(&self, error: &Arc<LogError>) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(error));
        self.failed.store(true, Ordering::Release);
    }

    fn mend(&self) {
        self.failed.store(false, Ordering::Release);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn error(&self) -> LedgerError {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        why.map_or(LedgerError::Ended, |source| LedgerError::Write { source })
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Ledger"
        } else {
            "Ledger(none)"
        })
    }
}

/// Requests that wait for the disk: each has a batch, and more than these are told to come again.
const MOST_WAITING: usize = 4096;

#[cfg(test)]
pub(crate) mod tests;
