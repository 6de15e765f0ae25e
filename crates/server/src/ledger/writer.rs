//! The thread that writes the ledger. Invariant: one batch is written at a time, and whoever comes meanwhile is in the next; a reply is sent when the
//! batch is on the disk, or will not be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use landfast_audit::{Actor, ActorClass, Category, Log, LogError, Outcome, Record, Recovered};
use landfast_daemon::error_chain;
use landfast_lifecycle::SharedClock;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::failures::Failures;
use super::missed::{Missed, Ticket};
use super::records::at;
use super::room::{Room, Seen};
use super::{LedgerError, OpenLedgerError, Standing};

/// Records that belong together.
pub(super) struct Work {
    pub(super) records: Vec<Record>,
    pub(super) reply: Option<oneshot::Sender<Result<(), LedgerError>>>,
    /// Of what goes on without its record when it has to.
    pub(super) ticket: Option<Arc<Ticket>>,
}

pub(super) struct Writer {
    log: Log,
    standing: Arc<Standing>,
    missed: Arc<Missed>,
    failures: Arc<Failures>,
    clock: SharedClock,
    /// Since when it fails, and how many records were refused.
    gap: Option<Gap>,
    /// The time of the last record.
    last: Option<landfast_identity::UnixTime>,
    slowest: Duration,
    signed: Instant,
    room: Room,
}

struct Gap {
    since: Option<landfast_identity::UnixTime>,
    refused: u64,
}

impl Writer {
    pub(super) fn new(
        log: Log,
        standing: Arc<Standing>,
        (missed, failures): (Arc<Missed>, Arc<Failures>),
        clock: SharedClock,
        room: Room,
    ) -> Self {
        Self {
            log,
            standing,
            missed,
            failures,
            clock,
            gap: None,
            last: None,
            slowest: Duration::ZERO,
            signed: Instant::now(),
            room,
        }
    }

    /// The first record of this start, and that there was a gap which nobody lived to count. Where the disk takes neither, the server starts in a gap, and
    /// these are the first that stand behind it: a full disk must not take from a start what it does not take from a server that runs.
    pub(super) fn begin(
        &mut self,
        recovered: Recovered,
        before: Option<String>,
    ) -> Result<(), OpenLedgerError> {
        let started = self
            .own("log.started")
            .with("cut_bytes", recovered.cut)
            .with("recovered", recovered.records)
            .with("version", env!("CARGO_PKG_VERSION"));
        let started = match self.room.pruned() {
            0 => started,
            first => started.with("first_record", first),
        };
        let uncounted = before.map(|since| {
            self.missed.is_marked_already();
            let gap = self.own("log.gap").with("since", since).with("uncounted", true);
            Record {
                result: Outcome::Failed,
                ..gap
            }
        });
        let first: Vec<_> = std::iter::once(started).chain(uncounted).collect();
        match self.log.append(&first) {
            Ok(_) => {}
            Err(error @ LogError::CannotWrite { .. }) => {
                let kept = self.missed.keep(self.clock.now(), first);
                kept.map_err(|source| OpenLedgerError::Mark { source })?;
                self.failed(&Arc::new(error), 0);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.sign();
        Ok(())
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
        let mut last = self.failures.due(self.clock.now(), true);
        last.push(self.own("log.stopped"));
        let ended = self.end_gap().and_then(|()| self.log.append(&last));
        let ended = ended.and_then(|_| self.log.checkpoint());
        self.unmark();
        if let Err(error) = ended {
            let error = error_chain(&error);
            tracing::error!(error, "the end of the ledger could not be recorded");
        }
    }

    fn batch(&mut self, batch: Vec<Work>) {
        let (mut records, mut asked) = (Vec::new(), Vec::with_capacity(batch.len()));
        for work in batch {
            asked.push((work.records.len(), work.reply, work.ticket));
            records.extend(work.records);
        }
        self.in_order(&mut records);
        // What was not recorded comes first, so that the gap is where it was.
        let written = self.end_gap().and_then(|()| self.write(&records));
        let failed = written.err().map(Arc::new);
        self.standing.wrote();
        if let Some(source) = &failed {
            let strict = asked.iter().filter(|(_, _, ticket)| ticket.is_none());
            let refused = strict.map(|(records, ..)| *records as u64).sum();
            self.failed(source, refused);
        }
        let mut records = records.into_iter();
        for (count, reply, ticket) in asked {
            let own = records.by_ref().take(count);
            let answer = match (&failed, ticket) {
                (None, ticket) => {
                    own.for_each(drop);
                    if let Some(ticket) = ticket {
                        self.missed.is_out(&ticket);
                    }
                    Ok(())
                }
                (Some(_), Some(ticket)) => {
                    let kept = self
                        .missed
                        .keep_of_queue(self.clock.now(), own.collect(), &ticket);
                    kept.map_err(|source| LedgerError::Mark {
                        source: Arc::new(source),
                    })
                }
                (Some(source), None) => {
                    own.for_each(drop);
                    let source = Arc::clone(source);
                    Err(LedgerError::Write { source })
                }
            };
            // Who has gone has nothing that leaves.
            let _gone = reply.map(|reply| reply.send(answer));
        }
    }

    /// Those who come at the same moment have read the clock one after the other, and stand here in any order: the time of the last one is that of the
    /// next, so that only a clock that was set looks like one. What nodes have sent has their time.
    fn in_order(&mut self, records: &mut [Record]) {
        for record in records
            .iter_mut()
            .filter(|record| !record.kind.starts_with("agent."))
        {
            let Some(time) = &mut record.time else { continue };
            if let Some(last) = self
                .last
                .filter(|last| *time < *last && last.since(*time) <= SAME_MOMENT)
            {
                *time = last;
            }
            self.last = Some(*time);
        }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), LogError> {
        let began = Instant::now();
        let committed = self.log.append(records)?;
        self.slowest = self.slowest.max(began.elapsed());
        self.room.grew(committed.bytes);
        metrics::counter!("landfast_server_ledger_records_total").increment(records.len() as u64);
        metrics::counter!("landfast_server_ledger_bytes_total").increment(committed.bytes);
        Ok(())
    }

    /// The gap, and behind it what was kept of it, in one batch: all of it is in the log, or all of it is told again.
    fn end_gap(&mut self) -> Result<(), LogError> {
        if self.gap.is_none() && !self.missed.is_open() {
            return Ok(());
        }
        let missed = self.missed.told();
        let refused = self.gap.as_ref().map_or(0, |gap| gap.refused);
        let gap_since = self.gap.as_ref().and_then(|gap| gap.since);
        let mut record = self.own("log.gap").with("refused", refused);
        // Either may have begun first; a clock that was set makes no other order.
        if let Some(since) = gap_since.into_iter().chain(missed.since).min() {
            record = record.with("since", since);
        }
        let kept = missed.records.len() as u64;
        for (name, count) in [
            ("late", missed.late),
            ("lost", missed.lost),
            ("written_after", kept),
        ] {
            if count > 0 {
                record = record.with(name, count);
            }
        }
        record.result = Outcome::Failed;
        let all: Vec<_> = std::iter::once(record)
            .chain(missed.records.iter().cloned())
            .collect();
        self.write(&all)?;
        self.gap = None;
        self.missed.settle(&missed);
        self.standing.mend();
        let (late, lost) = (missed.late, missed.lost);
        tracing::warn!(refused, kept, late, lost, "the ledger can be written again");
        Ok(())
    }

    fn failed(&mut self, source: &Arc<LogError>, refused: u64) {
        metrics::counter!("landfast_server_ledger_failures_total").increment(1);
        if self.gap.is_none() {
            let error = error_chain(&**source);
            tracing::error!(
                error,
                "the ledger cannot be written: until it can nothing is issued but what is availability first"
            );
        }
        let since = self.clock.now();
        let gap = self.gap.get_or_insert(Gap { since, refused: 0 });
        gap.refused += refused;
        self.standing.fail(source);
    }

    fn unmark(&self) {
        if let Err(error) = self.missed.unmark() {
            let error = error_chain(&error);
            tracing::warn!(
                error,
                "the mark of a gap that is over stays: the next start tells of it again"
            );
        }
    }

    /// What is due without anybody asking.
    fn look(&mut self) {
        if let Err(error) = self.end_gap() {
            self.failed(&Arc::new(error), 0);
        }
        self.unmark();
        self.tell_of_failures();
        metrics::gauge!("landfast_server_ledger_unrecorded_records").set(self.missed.count() as f64);
        if self.signed.elapsed() < CHECKPOINT {
            return;
        }
        self.signed = Instant::now();
        self.look_at_room();
        self.sign();
        metrics::gauge!("landfast_server_ledger_size_records").set(self.log.size() as f64);
        metrics::gauge!("landfast_server_ledger_unsigned_records")
            .set((self.log.size() - self.log.signed()) as f64);
        metrics::gauge!("landfast_server_ledger_slowest_commit_seconds").set(self.slowest.as_secs_f64());
        self.slowest = Duration::ZERO;
    }

    fn sign(&mut self) {
        if let Err(error) = self.log.checkpoint() {
            // What was acknowledged is as durable as before; the next one names it.
            metrics::counter!("landfast_server_ledger_failures_total").increment(1);
            let error = error_chain(&error);
            tracing::error!(error, "no checkpoint of the ledger could be signed");
        }
    }

    /// Denials: while nothing can be written they are counted as refused.
    fn tell_of_failures(&mut self) {
        let records = self.failures.due(self.clock.now(), false);
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.write(&records) {
            self.failed(&Arc::new(error), records.len() as u64);
        }
    }

    /// Alarmed and recorded: 70 and 90 percent, and that somebody has pruned it.
    fn look_at_room(&mut self) {
        let (used, seen) = self.room.look();
        if let Some(used) = used {
            metrics::gauge!("landfast_server_ledger_used_percent").set(used as f64);
        }
        self.standing.mark.store(self.room.mark(), Ordering::Release);
        for seen in seen {
            let record = match seen {
                Seen::Above { mark, used } => {
                    tracing::error!(
                        used_percent = used,
                        "the ledger fills up: archive and prune it, or give it room"
                    );
                    self.own("log.fills")
                        .with("mark", mark)
                        .with("used_percent", used)
                }
                Seen::Below { used } => {
                    tracing::info!(used_percent = used, "the ledger has room again");
                    self.own("log.fills")
                        .with("mark", 0_u64)
                        .with("used_percent", used)
                }
                Seen::Pruned { before } => {
                    tracing::info!(first_record = before, "the ledger was pruned");
                    self.own("log.pruned").with("first_record", before)
                }
            };
            // In a gap nothing is lost by it: the next look tells of the same standing.
            if let Err(error) = self.write(&[record]) {
                self.failed(&Arc::new(error), 0);
            }
        }
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
/// From when a caller has read the clock until its record is here.
const SAME_MOMENT: Duration = Duration::from_secs(3);
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Records in one write.
const MOST_AT_ONCE: usize = 1024;
