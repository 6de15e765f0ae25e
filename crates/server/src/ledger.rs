//! The ledger of this server: what it decided, signed and was told, in `landfast_audit`'s log.
//!
//! Invariant: [`Ledger::append`] returns when the records are on the disk; while they cannot be brought there, [`Ledger::check`] says so, and a record
//! of the gap is the first that is written afterwards. [`Ledger::append_or_keep`] goes on meanwhile, and then what it let go is in that gap.

mod failures;
mod key;
mod missed;
mod records;
mod room;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use landfast_audit::{Actor, ActorClass, LogError, Record};
use landfast_daemon::error_chain;
use landfast_lifecycle::SharedClock;
use landfast_store::{Store, StoreError};
use tokio::sync::oneshot;

pub(crate) use failures::Failure;
use failures::Failures;
pub use key::OpenLedgerError;
pub(crate) use key::{DIRECTORY, open};
use missed::{Missed, Ticket};
pub(crate) use records::{actor, at, changed, denied, issued, node, ordered};
use room::Room;
use writer::{Work, Writer};

/// Where records go. Clones write to the same log, which ends with the last of them.
#[derive(Clone, Default)]
pub struct Ledger(Option<Arc<Inner>>);

struct Inner {
    work: Option<SyncSender<Work>>,
    standing: Arc<Standing>,
    missed: Arc<Missed>,
    failures: Arc<Failures>,
    clock: SharedClock,
    thread: Option<JoinHandle<()>>,
    /// The data directory, and its own.
    place: OnceLock<(Store, PathBuf)>,
    /// Records of before that a start on a full disk could not put where others read them.
    held: Vec<Vec<u8>>,
}

/// Whether records can be written. Shared with the thread that writes.
#[derive(Default)]
struct Standing {
    failed: AtomicBool,
    /// Somebody has waited for [`PATIENCE`], and nothing was written since.
    slow: AtomicBool,
    /// The mark of its room that was passed; 0: none.
    mark: AtomicU64,
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
    /// Its disk takes too long.
    #[error("the ledger is slow: its disk has not answered for {} s", PATIENCE.as_secs())]
    Slow,
    /// Neither can be written that it has no record.
    #[error(
        "nor can it be written that there is no record: make room, or mend the disk of the data directory"
    )]
    Mark {
        /// Why.
        source: Arc<StoreError>,
    },
    /// Its thread is gone.
    #[error("the ledger has ended: restart the server, and see in its log why")]
    Ended,
}

impl Ledger {
    /// Records nothing: for a server that keeps everything in memory.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Writes to this log, which lies there.
    #[cfg(test)]
    pub(crate) fn of_test(
        log: landfast_audit::Log,
        (data, dir): (&Store, &Path),
        clock: SharedClock,
    ) -> Self {
        let begun = (log, landfast_audit::Recovered::default());
        let (missed, room) = (Missed::new(data.clone()), Room::new(dir, None));
        let started = Self::start(begun, clock, (missed, None), room);
        started.expect("a log of a test").lies(data, dir)
    }

    /// Writes to this log from now on, in a thread of its own.
    fn start(
        (log, recovered): (landfast_audit::Log, landfast_audit::Recovered),
        clock: SharedClock,
        (missed, before): (Missed, Option<String>),
        room: Room,
    ) -> Result<Self, OpenLedgerError> {
        let held = log.unsigned().map(<[u8]>::to_vec).collect();
        let (work, asked) = sync_channel(MOST_WAITING);
        let failures = Arc::new(Failures::default());
        let (standing, missed) = (Arc::new(Standing::default()), Arc::new(missed));
        let shared = (Arc::clone(&missed), Arc::clone(&failures));
        let mut writer = Writer::new(log, Arc::clone(&standing), shared, Arc::clone(&clock), room);
        writer.begin(recovered, before)?;
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
            missed,
            failures,
            clock,
            thread: Some(thread),
            place: OnceLock::new(),
            held,
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

    /// What was in it when this server started, and in none of its bundles then.
    pub(crate) fn held(&self) -> &[Vec<u8>] {
        self.0.as_ref().map_or(&[], |inner| &inner.held)
    }

    /// Whether it has so little room that what can wait has to.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let mark = |inner: &Inner| inner.standing.mark.load(Ordering::Acquire);
        self.0.as_ref().is_some_and(|inner| mark(inner) >= room::UPPER)
    }

    #[cfg(test)]
    pub(crate) fn fill(&self, mark: u64) {
        let inner = self.0.as_ref().expect("a ledger");
        inner.standing.mark.store(mark, Ordering::Release);
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

    /// Why nothing can be recorded, as `/ready` says it, and what left all the same.
    pub(crate) fn trouble(&self) -> Option<String> {
        let inner = self.0.as_ref()?;
        let slow = || {
            inner
                .standing
                .slow
                .load(Ordering::Acquire)
                .then_some(LedgerError::Slow)
        };
        let why = self.check().err().or_else(slow);
        let why = why.map(|error| error_chain(&error));
        match (why, inner.missed.count()) {
            (why, 0) => why,
            (why, missed) => {
                let why = why.unwrap_or_else(|| "the ledger catches up".to_owned());
                Some(format!(
                    "{why}; {missed} that are availability first, or were changes, went on without a record"
                ))
            }
        }
    }

    /// What somebody should look after before it stops anything: that it fills up.
    pub(crate) fn fills(&self) -> Option<String> {
        let mark = self.0.as_ref()?.standing.mark.load(Ordering::Acquire);
        (mark > 0).then(|| {
            format!("the ledger has more than {mark} % of its room: archive and prune it (landfast audit archive, prune), or give it more")
        })
    }

    /// Records these, together. When this returns they are on the disk.
    ///
    /// # Errors
    /// They are not, as far as anybody will be told.
    pub(crate) async fn append(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        let Some(inner) = self.0.as_ref().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        let (reply, mut done) = oneshot::channel();
        let sent = inner.send(Work {
            records,
            reply: Some(reply),
            ticket: None,
        });
        sent.map_err(|(error, _)| error)?;
        if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut done).await {
            return answer.map_err(|_gone| LedgerError::Ended)?;
        }
        inner.standing.slow.store(true, Ordering::Release);
        done.await.map_err(|_gone| LedgerError::Ended)?
    }

    /// Records these, together, or keeps them until it can: what they tell of goes on, and a mark in the data directory says so.
    ///
    /// # Errors
    /// Not even the mark can be written.
    pub(crate) async fn append_or_keep(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        let Some(inner) = self.0.as_ref().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        let (reply, mut done) = oneshot::channel();
        let ticket = Arc::new(Ticket::new(records.len()));
        let sent = inner.send(Work {
            records,
            reply: Some(reply),
            ticket: Some(Arc::clone(&ticket)),
        });
        let (missed, now) = (Arc::clone(&inner.missed), inner.clock.now());
        if let Err((_, records)) = sent {
            return blocking(move || missed.keep(now, records)).await;
        }
        // Whoever was made to wait says it for the next ones.
        let patience = match inner.standing.slow.load(Ordering::Acquire) {
            true => Duration::ZERO,
            false => PATIENCE,
        };
        if let Ok(answer) = tokio::time::timeout(patience, &mut done).await {
            return answer.map_err(|_gone| LedgerError::Ended)?;
        }
        inner.standing.slow.store(true, Ordering::Release);
        match blocking(move || missed.leave(now, &ticket)).await? {
            true => Ok(()),
            // It came just now.
            false => done.await.map_err(|_gone| LedgerError::Ended)?,
        }
    }

    /// Counts somebody of whom nothing is known but where it comes from; told of once a minute.
    pub(crate) fn failed(&self, failure: Failure, source: std::net::IpAddr, reason: &str) {
        if let Some(inner) = &self.0 {
            inner.failures.count(inner.clock.now(), failure, source, reason);
        }
    }

    /// Records what the server has done by itself, or keeps it until it can. It is done, whatever becomes of the record.
    pub(crate) async fn own(&self, records: Vec<Record>) {
        let Some(inner) = &self.0 else { return };
        let now = inner.clock.now();
        let by_the_server = |record| Record {
            actor: Actor::new(ActorClass::Server, None),
            ..at(now, record)
        };
        let records = records.into_iter().map(by_the_server).collect();
        if let Err(error) = self.append_or_keep(records).await {
            let error = error_chain(&error);
            tracing::error!(error, "what the server did has no record in the ledger");
        }
    }

    /// Records this with the next batch, and waits for nothing: of what is refused, which nobody gains by. One that finds no room is counted.
    pub(crate) fn note(&self, record: Record) {
        let Some(inner) = &self.0 else { return };
        let sent = inner.send(Work {
            records: vec![record],
            reply: None,
            ticket: None,
        });
        if sent.is_err() {
            metrics::counter!("landfast_server_ledger_left_out_total").increment(1);
        }
    }
}

impl Inner {
    /// Gives back what it does not take.
    fn send(&self, work: Work) -> Result<(), (LedgerError, Vec<Record>)> {
        let Some(sender) = &self.work else {
            return Err((LedgerError::Ended, work.records));
        };
        sender.try_send(work).map_err(|error| match error {
            TrySendError::Full(work) => (LedgerError::Behind, work.records),
            TrySendError::Disconnected(work) => (LedgerError::Ended, work.records),
        })
    }
}

/// On a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, LedgerError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_panicked| LedgerError::Ended)?;
    done.map_err(|source| LedgerError::Mark {
        source: Arc::new(source),
    })
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

    fn wrote(&self) {
        self.slow.store(false, Ordering::Release);
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

/// So long one batch may take before it is an alarm, and before what is availability first goes on without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that wait for the disk: each has a batch, and more than these are told to come again.
const MOST_WAITING: usize = 4096;

#[cfg(test)]
pub(crate) mod tests;
