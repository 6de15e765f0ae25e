//! The one task that writes the file: batches, so that flash does not wear, off the async threads.
//!
//! Invariant: what waits is bounded while the disk fails or hangs; a batch is written once, also when a disk that hung has done its work in the
//! end; what is wrong is said once, and shown for as long as it is so.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_lifecycle::GuardedClock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::Lost;
use super::{Waiting, telemetry};
use crate::link::disk::Disk;
use crate::persist::{NodeFiles, PersistError};

/// See the module.
pub(crate) struct Writer {
    waiting: Arc<Waiting>,
    clock: GuardedClock,
    files: Arc<NodeFiles>,
    /// Nobody hands out any more.
    closed: watch::Receiver<()>,
    complaint: watch::Sender<String>,
    disk: Disk,
    batch: Option<Batch>,
    /// The last batch that was written.
    pub(super) written: Arc<AtomicU64>,
    /// Since when there is something that a power cut would take, if there is.
    unsynced: Option<Instant>,
    synced: Instant,
}

/// Lines on their way.
struct Batch {
    number: u64,
    lines: Arc<[u8]>,
}

impl Writer {
    pub(super) fn new(
        waiting: Arc<Waiting>,
        clock: GuardedClock,
        files: Arc<NodeFiles>,
        closed: watch::Receiver<()>,
        complaint: watch::Sender<String>,
    ) -> Self {
        Self {
            waiting,
            clock,
            files,
            closed,
            complaint,
            disk: Disk::default(),
            batch: None,
            written: Arc::default(),
            unsynced: None,
            synced: Instant::now(),
        }
    }

    /// Runs until `stop`, and then until what still had leave to end has handed out its last.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let waiting = Arc::clone(&self.waiting);
        while !stop.is_cancelled() {
            let fails = !self.complaint.borrow().is_empty();
            tokio::select! {
                () = stop.cancelled() => {}
                () = waiting.much.notified(), if !fails => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            self.write(stop.is_cancelled()).await;
        }
        let mut closed = self.closed.clone();
        let closed = async { while closed.changed().await.is_ok() {} };
        let _in_time = tokio::time::timeout(LAST, closed).await;
        self.write(true).await;
        Ok(())
    }

    /// Writes what waits. With `all`, to the disk itself.
    pub(super) async fn write(&mut self, all: bool) {
        let now = Instant::now();
        let due = self.unsynced.is_some() && now.duration_since(self.synced) >= SYNC_EVERY;
        self.next_batch();
        let lines = match &self.batch {
            Some(batch) => Arc::clone(&batch.lines),
            None if due || (all && self.unsynced.is_some()) => Arc::default(),
            None => return,
        };
        let number = self.batch.as_ref().map(|batch| batch.number);
        let durable = all || due;
        let (files, written) = (Arc::clone(&self.files), Arc::clone(&self.written));
        let work = move || {
            let added = files.add_hand_outs(&lines, durable);
            if let (Some(number), Ok(()) | Err(PersistError::NotDurable { .. })) = (number, &added) {
                written.store(number, Ordering::SeqCst);
            }
            added
        };
        let outcome = self.disk.run(work).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(&error)),
            Err(error) => Some(error_chain(&error)),
        };
        if number.is_some() && self.is_written() {
            self.batch = None;
            self.unsynced.get_or_insert(now);
        }
        if error.is_none() && durable {
            (self.unsynced, self.synced) = (None, now);
        }
        self.say(error);
    }

    /// The lines that are to be written next: those that could not be until now, or else what waits.
    fn next_batch(&mut self) {
        if self.is_written() {
            self.batch = None;
        }
        if self.batch.is_some() {
            return;
        }
        let lines = self.waiting.take(|| {
            let (now, quality) = self.clock.stamp();
            Lost::text(now, quality.as_str())
        });
        let number = self.written.load(Ordering::SeqCst) + 1;
        self.batch = (!lines.is_empty()).then(|| Batch {
            number,
            lines: lines.into(),
        });
    }

    fn is_written(&self) -> bool {
        let written = self.written.load(Ordering::SeqCst);
        self.batch.as_ref().is_some_and(|batch| batch.number <= written)
    }

    fn say(&self, error: Option<String>) {
        let said = match &error {
            Some(error) => format!(
                "it is not written down who is given what: {error}; SVIDs are handed out all the same, and what has no line is counted"
            ),
            None => String::new(),
        };
        let before = self.complaint.send_replace(said.clone());
        telemetry::hand_outs_fail(error.is_some());
        match (before.is_empty(), error.is_some()) {
            (true, true) => tracing::error!("{said}"),
            (false, false) => tracing::info!("it is written down again who is given what"),
            _ => {}
        }
    }
}

/// Its name in the data directory.
pub(crate) const NAME: &str = "handouts.log";
/// Nothing waits for longer, when the disk works.
const EVERY: Duration = Duration::from_secs(10);
const SYNC_EVERY: Duration = Duration::from_secs(60);
/// Longer than streams have to end.
const LAST: Duration = Duration::from_secs(4);
