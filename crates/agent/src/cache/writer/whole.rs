//! What is on disk, when the task does not know all of it: after a start that read only what it needed, and after a fault.
//!
//! Invariant: nothing is written before it is known, or given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Keeping, RETRY, Work};
use crate::cache::plan::Change;
use crate::cache::shelf::{Manner, ShelfError};
use crate::keeper::rungs::Ladders;
use crate::keeper::state::{Rest, Snapshot};

impl Keeping {
    /// Gives the keeper the rest of the reserve, when it has come. Not to be dropped before it ends.
    pub(super) async fn hand_over(&mut self) {
        let Some((rest, complaints)) = self.read.take() else {
            return;
        };
        // What is different until now is seen as that.
        self.look();
        let there = count(&self.seen.rungs) + count(&rest.ladders);
        let Some(adopted) = self.keeper.adopt(rest).await else {
            return;
        };
        self.whole = true;
        // That is on disk as it is.
        let rungs = Arc::clone(&adopted.rungs);
        self.on_disk = Arc::clone(&rungs);
        if count(&rungs) < there {
            // Taken away before it was read.
            self.plan.note(Instant::now(), Change::Withdrawn);
        }
        let seen = Snapshot {
            rungs,
            reading: false,
            ..Snapshot::clone(&self.seen)
        };
        self.seen = Arc::new(seen);
        let complaint = complaints.join("; ");
        if !complaint.is_empty() {
            tracing::error!("{complaint}");
            self.writer_state
                .send_modify(|state| match state.complaint.is_empty() {
                    true => state.complaint = complaint,
                    false => state.complaint = format!("{}; {complaint}", state.complaint),
                });
        }
    }

    /// What is gone, or trusted no longer, does not wait on disk until all is read.
    pub(super) fn halt_for_what_is_gone(&self, now: Instant) {
        let due = self.plan.due().is_some_and(|due| due <= now);
        let taken = self.plan.has_to_take_away() || (due && self.plan.is_to_distrust());
        if !self.whole && (self.banned || (self.heard && taken)) {
            self.halt.store(true, Ordering::SeqCst);
        }
    }

    /// Before all is read an index is written only for what is trusted no longer, and then it names the rest as it was.
    pub(super) fn taking_away(&mut self, index: bool) -> Option<Work> {
        self.shelf.as_ref()?;
        let mut image = self.image().map(Box::new)?;
        if index && self.plan.distrusts() {
            image.tokens = self.tokens.held_under(self.seen.bundle.as_deref());
            let manner = Manner {
                worthless: true,
                index: true,
                both: self.plan.begin(Instant::now()),
                tokens: true,
                partly: true,
            };
            return Some(Work::Write { image, manner });
        }
        self.plan.takes_away().then_some(Work::TakeAway(image))
    }

    /// What an index could not say that was to go before all is read.
    pub(super) fn withdraw_again(&mut self, manner: Manner) {
        if manner.partly {
            self.plan.distrust_again();
        }
    }

    /// When what an index does not need is to be written.
    pub(super) fn rest(&self) -> Option<Instant> {
        let owed = self.shelf.as_ref().is_some_and(|shelf| shelf.owes_tokens(false));
        self.rest_due.or_else(|| owed.then_some(self.tokens_rested))
    }

    /// A fault of ours, in the middle of it: what is on disk is not known any more.
    pub(super) fn lost(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(%error, "writing the cache broke off; report this. It is tried again");
        self.shelf = Some((self.spare)());
        self.on_disk = Arc::default();
        self.halted = false;
        if !self.whole {
            // What of the reserve was not read is had anew; what was read stays.
            let rest = Rest {
                entries: Arc::clone(&self.seen.entries),
                ..Rest::default()
            };
            self.read = Some((rest, Vec::new()));
        }
        let now = Instant::now();
        self.tokens_due = now + RETRY;
        self.plan.failed(now, true);
        self.tell(Err(&ShelfError::BrokeOff));
    }
}

fn count(ladders: &Ladders) -> usize {
    ladders.values().map(|ladder| ladder.rungs().len()).sum()
}
