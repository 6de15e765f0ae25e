//! The thread that writes the ledger. Invariant: one batch is written at a time, and whoever comes meanwhile is in the next; a reply is sent when the
//! batch is on the disk, or will not be.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use landfast_audit::{Actor, ActorClass, Category, Log, LogError, Outcome, Record, Recovered};
use landfast_daemon::error_chain;
use landfast_lifecycle::SharedClock;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::records::at;
use super::{LedgerError, Standing};

/// Records that belong together.
pub(super) struct Work {
    pub(super) records: Vec<Record>,
    pub(super) reply: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

pub(super) struct Writer {
    log: Log,
    standing: Arc<Standing>,
    clock: SharedClock,
    /// Since when it fails, and how many records were refused.
    gap: Option<Gap>,
    slowest: Duration,
    signed: Instant,
}

struct Gap {
    since: Option<landfast_identity::UnixTime>,
    refused: u64,
}

impl Writer {
    pub(super) fn new(log: Log, standing: Arc<Standing>, clock: SharedClock) -> Self {
        Self {
            log,
            standing,
            clock,
            gap: None,
            slowest: Duration::ZERO,
            signed: Instant::now(),
        }
    }

    /// The first record of this start.
    pub(super) fn begin(&mut self, recovered: Recovered) -> Result<(), LogError> {
        let record = self
            .own("log.started")
            .with("cut_bytes", recovered.cut)
            .with("recovered", recovered.records)
            .with("version", env!("CARGO_PKG_VERSION"));
        self.log.append(&[record])?;
        self.log.checkpoint()
    }

    /// Until the last sender is gone.
    pub(super) fn run(mut self, asked: &Receiver<Work>) {
        loop {
            let look = if self.gap.is_some() { RETRY } else { LOOK };
            match asked.recv_timeout(look) {
                Ok(first) => self.batch(gather(first, asked)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look();
        }
        let stopped = self.own("log.stopped");
        let ended = self.log.append(&[stopped]).and_then(|_| self.log.checkpoint());
        if let Err(error) = ended {
            let error = error_chain(&error);
            tracing::error!(error, "the end of the ledger could not be recorded");
        }
    }

    fn batch(&mut self, batch: Vec<Work>) {
        let (mut records, mut replies) = (Vec::new(), Vec::new());
        for work in batch {
            records.extend(work.records);
            replies.extend(work.reply);
        }
        // What was not recorded comes first, so that the gap is where it was.
        let written = match self.gap {
            Some(_) => self.end_gap().and_then(|()| self.write(&records)),
            None => self.write(&records),
        };
        let answer = written.map_err(|error| self.failed(error, records.len() as u64));
        for reply in replies {
            // Who has gone has nothing that leaves.
            let _gone = reply.send(answer.clone());
        }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), LogError> {
        let began = Instant::now();
        let committed = self.log.append(records)?;
        self.slowest = self.slowest.max(began.elapsed());
        metrics::counter!("landfast_server_ledger_records_total").increment(records.len() as u64);
        metrics::counter!("landfast_server_ledger_bytes_total").increment(committed.bytes);
        Ok(())
    }

    fn end_gap(&mut self) -> Result<(), LogError> {
        let Some(gap) = &self.gap else { return Ok(()) };
        let (since, refused) = (gap.since, gap.refused);
        let mut record = self.own("log.gap");
        if let Some(since) = since {
            record = record.with("since", since);
        }
        record.result = Outcome::Failed;
        self.write(&[record.with("refused", refused)])?;
        self.gap = None;
        self.standing.mend();
        tracing::warn!(refused, "the ledger can be written again");
        Ok(())
    }

    fn failed(&mut self, error: LogError, refused: u64) -> LedgerError {
        metrics::counter!("landfast_server_ledger_failures_total").increment(1);
        let source = Arc::new(error);
        if self.gap.is_none() {
            let error = error_chain(&*source);
            tracing::error!(
                error,
                "the ledger cannot be written: nothing is issued until it can"
            );
        }
        let since = self.clock.now();
        let gap = self.gap.get_or_insert(Gap { since, refused: 0 });
        gap.refused += refused;
        self.standing.fail(&source);
        LedgerError::Write { source }
    }

    /// What is due without anybody asking.
    fn look(&mut self) {
        if self.gap.is_some()
            && let Err(error) = self.end_gap()
        {
            self.failed(error, 0);
        }
        if self.signed.elapsed() < CHECKPOINT {
            return;
        }
        self.signed = Instant::now();
        if let Err(error) = self.log.checkpoint() {
            // What was acknowledged is as durable as before; the next one names it.
            metrics::counter!("landfast_server_ledger_failures_total").increment(1);
            let error = error_chain(&error);
            tracing::error!(error, "no checkpoint of the ledger could be signed");
        }
        metrics::gauge!("landfast_server_ledger_size_records").set(self.log.size() as f64);
        metrics::gauge!("landfast_server_ledger_unsigned_records")
            .set((self.log.size() - self.log.signed()) as f64);
        metrics::gauge!("landfast_server_ledger_slowest_commit_seconds").set(self.slowest.as_secs_f64());
        self.slowest = Duration::ZERO;
    }

    fn own(&self, kind: &'static str) -> Record {
        let record = Record::new(Category::AuditLog, kind, Actor::new(ActorClass::Server, None));
        at(self.clock.now(), record)
    }
}

/// All that wait now, up to a bound.
fn gather(first: Work, asked: &Receiver<Work>) -> Vec<Work> {
    let mut records = first.records.len();
    let mut batch = vec![first];
    while records < MOST_AT_ONCE
        && let Ok(next) = asked.try_recv()
    {
        records += next.records.len();
        batch.push(next);
    }
    batch
}

/// Between two checkpoints, when there is something new.
const CHECKPOINT: Duration = Duration::from_secs(10);
/// Between two looks whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Records in one write.
const MOST_AT_ONCE: usize = 1024;
