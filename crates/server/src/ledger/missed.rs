//! What left before its record, by entries that are *availability first*, and changes that were made. Invariant: before any of it leaves a mark
//! is on the disk of the data directory, and the mark goes only when the records are in the log or counted there: who dies in between leaves the mark.

use std::sync::{Mutex, MutexGuard, PoisonError};

use landfast_audit::Record;
use landfast_identity::UnixTime;
use landfast_store::{Store, StoreError};

/// Shared by those who ask and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Where the mark is; `None`: nowhere, in tests.
    data: Option<Store>,
    /// Held while the mark is written: the disk may hang then.
    mark: Mutex<bool>,
    /// Held for moments.
    waiting: Mutex<Waiting>,
}

/// What has to be told when it can be.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    pub(super) since: Option<UnixTime>,
    /// In their order. At most [`MOST_KEPT`].
    pub(super) records: Vec<Record>,
    /// More than that: only counted.
    pub(super) lost: u64,
    /// What left while its record stood in the queue, and still does.
    in_queue: u64,
    /// All of those.
    pub(super) late: u64,
}

impl Waiting {
    fn keep(&mut self, now: Option<UnixTime>, records: Vec<Record>) {
        self.since = self.since.or(now);
        for record in records {
            match self.records.len() < MOST_KEPT {
                true => self.records.push(record),
                false => self.lost += 1,
            }
        }
    }
}

impl Missed {
    pub(super) fn new(data: Store) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }

    /// Since when a server that died had left something out; the text of its mark.
    pub(super) fn of_before(data: &Store) -> Result<Option<String>, StoreError> {
        let mark = data.read(MARK)?;
        Ok(mark.map(|text| String::from_utf8_lossy(&text).trim().chars().take(64).collect()))
    }

    /// These leave, and their records come later. Blocks on the disk.
    ///
    /// # Errors
    /// They must not leave: nothing on any disk would say so.
    pub(super) fn keep(&self, now: Option<UnixTime>, records: Vec<Record>) -> Result<(), StoreError> {
        let _marked = self.mark(now)?;
        metrics::counter!("landfast_server_ledger_unrecorded_total").increment(records.len() as u64);
        self.waiting().keep(now, records);
        Ok(())
    }

    /// The same of a batch that stood in the queue and was not written: one that has left already is told of once, by what is kept of it.
    ///
    /// # Errors
    /// As [`Missed::keep`]: it has not left, and must not.
    pub(super) fn keep_of_queue(
        &self,
        now: Option<UnixTime>,
        records: Vec<Record>,
        ticket: &Ticket,
    ) -> Result<(), StoreError> {
        let marked = self.mark(now);
        let mut waiting = self.waiting();
        match ticket.stamp(Standing::Done) {
            true => {
                let _marked = marked?;
                metrics::counter!("landfast_server_ledger_unrecorded_total").increment(ticket.records);
                waiting.keep(now, records);
            }
            // There was a mark when it left, and is.
            false => {
                waiting.in_queue = waiting.in_queue.saturating_sub(ticket.records);
                waiting.late = waiting.late.saturating_sub(ticket.records);
                waiting.keep(now, records);
            }
        }
        Ok(())
    }

    /// What this batch records leaves, though it stands in the queue still. `false`: it does not any more.
    ///
    /// # Errors
    /// As [`Missed::keep`].
    pub(super) fn leave(&self, now: Option<UnixTime>, ticket: &Ticket) -> Result<bool, StoreError> {
        let _marked = self.mark(now)?;
        let mut waiting = self.waiting();
        let left = ticket.stamp(Standing::Left);
        if left {
            waiting.since = waiting.since.or(now);
            waiting.in_queue += ticket.records;
            waiting.late += ticket.records;
            metrics::counter!("landfast_server_ledger_unrecorded_total").increment(ticket.records);
        }
        Ok(left)
    }

    /// The queue has it no more: it was written.
    pub(super) fn is_out(&self, ticket: &Ticket) {
        let mut waiting = self.waiting();
        if !ticket.stamp(Standing::Done) {
            waiting.in_queue = waiting.in_queue.saturating_sub(ticket.records);
        }
    }

    /// What is to be told now.
    pub(super) fn told(&self) -> Waiting {
        self.waiting().clone()
    }

    /// So many have left before their record, and have none yet.
    pub(super) fn count(&self) -> u64 {
        let waiting = self.waiting();
        waiting.records.len() as u64 + waiting.lost + waiting.in_queue
    }

    /// Whether there is anything to be told.
    pub(super) fn is_open(&self) -> bool {
        let waiting = self.waiting();
        !waiting.records.is_empty() || waiting.lost > 0 || waiting.late > 0
    }

    /// All of this is in the log.
    pub(super) fn settle(&self, told: &Waiting) {
        let mut waiting = self.waiting();
        let written = told.records.len().min(waiting.records.len());
        waiting.records.drain(..written);
        waiting.lost -= told.lost.min(waiting.lost);
        waiting.late -= told.late.min(waiting.late);
        if waiting.records.is_empty() && waiting.lost == 0 && waiting.late == 0 {
            waiting.since = None;
        }
    }

    /// Takes the mark away, when nothing is left that it stands for.
    pub(super) fn unmark(&self) -> Result<(), StoreError> {
        // Who holds it writes the mark just now.
        let Ok(mut marked) = self.mark.try_lock() else {
            return Ok(());
        };
        if !*marked || self.is_open() || self.count() > 0 {
            return Ok(());
        }
        if let Some(data) = &self.data {
            data.remove(MARK)?;
        }
        *marked = false;
        Ok(())
    }

    /// There is one from before.
    pub(super) fn is_marked_already(&self) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Nobody takes the mark away while this is held.
    fn mark(&self, now: Option<UnixTime>) -> Result<MutexGuard<'_, bool>, StoreError> {
        let mut marked = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if !*marked {
            if let Some(data) = &self.data {
                let since = now.map_or_else(|| "unknown".to_owned(), |now| now.to_string());
                data.replace(MARK, format!("{since}\n").as_bytes())?;
            }
            *marked = true;
            tracing::error!(
                "the ledger has a gap: what is availability first is issued, and changes are made, without a record until it can be written"
            );
        }
        Ok(marked)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a batch in the queue: who is through with it first, the one who asked or the one who writes.
#[derive(Debug)]
pub(super) struct Ticket {
    records: u64,
    standing: Mutex<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waits,
    Left,
    Done,
}

impl Ticket {
    pub(super) fn new(records: usize) -> Self {
        Self {
            records: records as u64,
            standing: Mutex::new(Standing::Waits),
        }
    }

    /// Whether nobody was first.
    fn stamp(&self, standing: Standing) -> bool {
        let mut now = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = *now == Standing::Waits;
        if is_first {
            *now = standing;
        }
        is_first
    }
}

/// In the data directory, while there may be something without its record.
const MARK: &str = "ledger.gap";
/// Of some 2 KB in memory each.
const MOST_KEPT: usize = 4096;
