//! When the cache is written: flash wears, and a burst of changes is one.
//!
//! Invariant: what was taken away is written at once, what is new within seconds. A renewal may wait, for a small part of its life: what it replaces
//! is still valid for much longer, unless its entry has changed or a tainted authority signed it. While the disk fails, it is tried again every few seconds.

mod less;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::Entry;
use crate::keeper::rungs::{Ladder, Ladders, Rung};
use crate::keeper::state::{Held, Snapshot};
use crate::keeper::taint::is_tainted;
use less::{gives_less, trusts_less};

/// What is different from what is on disk, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Nothing,
    /// A few rungs that are not on disk, or one less that is spent, or another SVID where rungs on disk stand in for it. Of the shortest of them
    /// this is the life.
    Spare(Duration),
    /// SVIDs took the place of others; of the shortest of them this is the life.
    Renewed(Duration),
    /// More of some entry's reserve than a top-up is in memory only: it is being filled.
    Filled,
    /// Something is there that was not.
    New,
    /// An entry is gone, or is for others now: its keys leave the disk at once, and the index is written as for something new.
    Gone,
    /// Something is trusted no longer.
    Withdrawn,
}

impl Change {
    /// `on_disk` is the reserve as the index has it that was written last: however little one change brings, many of them may be missing there.
    pub(super) fn between(old: &Snapshot, new: &Snapshot, on_disk: &Ladders) -> Self {
        let same_entries = Arc::ptr_eq(&old.entries, &new.entries);
        let same_bundles = new.same_bundle(old) && Arc::ptr_eq(&old.federated, &new.federated);
        if !same_bundles && trusts_less(old, new) {
            return Self::Withdrawn;
        }
        let gone = |entry: &Arc<Entry>| {
            new.entries
                .get(&entry.id)
                .is_none_or(|now| gives_less(entry, now))
        };
        if !same_entries && old.entries.iter().any(gone) {
            return Self::Gone;
        }
        let other = |entry: &Arc<Entry>| old.entries.get(&entry.id) != Some(entry);
        if !same_bundles || (!same_entries && new.entries.iter().any(other)) {
            return Self::New;
        }
        let rungs = Self::of_rungs(old, new, on_disk);
        if Arc::ptr_eq(&old.held, &new.held) {
            return rungs;
        }
        let each = new.held.iter().map(|(id, held)| match old.held.get(id) {
            None => Self::New,
            Some(before) if Arc::ptr_eq(&before.svid, &held.svid) => Self::Nothing,
            // What it replaces says what its entry does no longer, or verifies no more before long.
            Some(before) if before.revision != held.revision => Self::New,
            Some(before)
                if new
                    .bundle
                    .as_ref()
                    .is_some_and(|bundle| is_tainted(bundle, &before.svid)) =>
            {
                Self::New
            }
            Some(_) if stands_in(on_disk, id, held) => Self::Spare(held.life()),
            Some(_) => Self::Renewed(held.life()),
        });
        each.fold(rungs, Self::sooner)
    }

    fn of_rungs(old: &Snapshot, new: &Snapshot, on_disk: &Ladders) -> Self {
        if Arc::ptr_eq(&old.rungs, &new.rungs) {
            return Self::Nothing;
        }
        let none = Arc::default();
        let ids = old.rungs.keys().chain(new.rungs.keys());
        let each = ids.map(|id| {
            let of = |snapshot: &Snapshot| snapshot.rungs.get(id).cloned();
            let (before, after): (Arc<Ladder>, Arc<Ladder>) = (
                of(old).unwrap_or_else(|| Arc::clone(&none)),
                of(new).unwrap_or_else(|| Arc::clone(&none)),
            );
            if Arc::ptr_eq(&before, &after) {
                return Self::Nothing;
            }
            let begins = new.held.get(id).map(|held| held.svid.not_before());
            let stays = |ladder: &Ladder, rung: &Arc<Rung>| {
                ladder.rungs().iter().any(|other| Arc::ptr_eq(other, rung))
            };
            let spent = |rung: &Arc<Rung>| begins.is_some_and(|begins| rung.window().ends <= begins);
            let gone: Vec<_> = before
                .rungs()
                .iter()
                .filter(|rung| !stays(&after, rung))
                .collect();
            if !gone.iter().all(|rung| spent(rung)) {
                return Self::Withdrawn;
            }
            let more = after.rungs().iter().filter(|rung| !stays(&before, rung));
            match more.count() {
                0 if gone.is_empty() => Self::Nothing,
                _ if lacking(on_disk, id, &after) > a_few(&after) => Self::Filled,
                _ => Self::Spare(new.held.get(id).map_or(Duration::ZERO, |held| held.life())),
            }
        });
        each.fold(Self::Nothing, Self::sooner)
    }

    /// Of a reserve that may be needed soon.
    pub(super) fn of_what_lacks(new: &Snapshot, on_disk: &Ladders) -> Self {
        let mut each = new.rungs.iter();
        match each.any(|(id, ladder)| lacking(on_disk, id, ladder) > 0) {
            true => Self::Filled,
            false => Self::Nothing,
        }
    }

    /// The more urgent of both.
    pub(super) fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Renewed(one), Self::Renewed(two)) => Self::Renewed(one.min(two)),
            (Self::Spare(one), Self::Spare(two)) => Self::Spare(one.min(two)),
            (one, two) => one.max(two),
        }
    }

    /// How long after it, and how long after the write before it, at least.
    fn waits(self) -> Option<(Duration, Duration)> {
        match self {
            Self::Nothing => None,
            Self::Spare(life) => {
                let part = (life / 2).clamp(BURST, SPARE_LONGEST);
                Some((part, part))
            }
            Self::Renewed(life) => {
                let part = (life / PART_OF_LIFE).clamp(BURST, LONGEST);
                Some((part, part))
            }
            Self::Filled | Self::New => Some((BURST, PAUSE)),
            Self::Gone | Self::Withdrawn => Some((Duration::ZERO, BURST)),
        }
    }
}

/// Rungs of this entry that are not on disk.
fn lacking(on_disk: &Ladders, id: &str, ladder: &Arc<Ladder>) -> usize {
    let Some(there) = on_disk.get(id) else {
        return ladder.rungs().len();
    };
    if Arc::ptr_eq(there, ladder) {
        return 0;
    }
    let there: HashSet<*const Rung> = there.rungs().iter().map(Arc::as_ptr).collect();
    let missing = ladder.rungs().iter();
    missing.filter(|rung| !there.contains(&Arc::as_ptr(rung))).count()
}

/// How many rungs of it may wait: of a short one four would be all of it.
fn a_few(ladder: &Ladder) -> usize {
    A_FEW.min(ladder.rungs().len() / 2)
}

/// Whether what is on disk lasts for as long as this.
fn stands_in(on_disk: &Ladders, id: &str, held: &Held) -> bool {
    let until = on_disk
        .get(id)
        .and_then(|ladder| ladder.covers(held.received(), None));
    until.is_some_and(|until| held.svid.not_after() <= until)
}

/// What is to be written, and when.
#[derive(Debug, Default)]
pub(super) struct Plan {
    due: Option<Instant>,
    /// Both places of the index.
    both: bool,
    /// It tells of something that is trusted no longer.
    withdrawn: bool,
    /// Keys of what is gone are on disk.
    gone: bool,
    last: Option<Instant>,
    /// When what was written for something new is worn off the day's share.
    worn_until: Option<Instant>,
}

impl Plan {
    pub(super) fn note(&mut self, now: Instant, change: Change) {
        let Some((after, pause)) = change.waits() else {
            return;
        };
        let rested = matches!(change, Change::New | Change::Gone)
            .then(|| self.rested())
            .flatten();
        let free = self
            .last
            .map_or(now, |last| (last + pause).max(rested.unwrap_or(last)));
        let due = free.max(now + after);
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        // An index that is passed over gives way to the other: that one had better know of it too.
        self.both |= change >= Change::New;
        self.gone |= change == Change::Gone;
        self.withdrawn |= change == Change::Withdrawn;
    }

    /// Whether keys are to leave the disk though the index has to wait. Says it once.
    pub(super) fn takes_away(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }

    /// Whether tokens may be on disk that are not to be used any more. Says it once.
    pub(super) fn distrusts(&mut self) -> bool {
        std::mem::take(&mut self.withdrawn)
    }

    pub(super) fn has_to_take_away(&self) -> bool {
        self.gone
    }

    pub(super) fn is_to_distrust(&self) -> bool {
        self.withdrawn
    }

    /// What [`Self::distrusts`] said could not be written, or there will be no other occasion for what is due.
    pub(super) fn distrust_again(&mut self) {
        self.withdrawn = true;
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is being written. Answers whether into both places.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.due = None;
        self.gone = false;
        self.last = Some(now);
        std::mem::take(&mut self.both)
    }

    /// So many bytes were written for something new, or taken away.
    pub(super) fn wore(&mut self, now: Instant, bytes: u64) {
        let share = share(bytes, BYTES_A_DAY);
        let until = self.worn_until.map_or(now, |until| until.max(now)) + share;
        self.worn_until = Some(until.min(now + DAY));
    }

    /// When something new may be written as far as the flash is concerned: a few are at once whatever their size, many share the day, and
    /// none waits for long.
    fn rested(&self) -> Option<Instant> {
        let latest = self.last? + NEW_LONGEST;
        Some(self.worn_until?.checked_sub(AT_ONCE)?.min(latest))
    }

    /// It could not be written.
    pub(super) fn failed(&mut self, now: Instant, both: bool) {
        self.both |= both;
        self.due = Some(now + RETRY);
    }
}

/// How long after so many bytes of tokens others may be written.
pub(super) fn after_tokens(bytes: u64) -> Duration {
    share(bytes, TOKENS_A_DAY).clamp(TOKENS_EVERY, NEW_LONGEST)
}

/// The part of a day that so many bytes are of what may be written in it.
fn share(bytes: u64, a_day: f64) -> Duration {
    let share = DAY.as_secs_f64() * (bytes as f64 / a_day);
    Duration::from_secs_f64(share.min(DAY.as_secs_f64()))
}

/// Of the life of an SVID that may pass before it is on disk.
const PART_OF_LIFE: u32 = 12;
const LONGEST: Duration = Duration::from_secs(600);
/// What is on disk of a reserve lasts for long: another rung at its end, or an SVID that a rung stands in for, may come with whatever else comes.
const SPARE_LONGEST: Duration = Duration::from_secs(1800);
/// Rungs of an entry that are a top-up; more fill a gap.
const A_FEW: usize = 4;
/// What comes within this time comes together.
const BURST: Duration = Duration::from_secs(1);
/// Between two writes for something new; so much of a reserve that is being filled is lost with the power.
const PAUSE: Duration = Duration::from_secs(5);
/// What news may wear the flash by, of the 20 MB that 20 entries may.
const BYTES_A_DAY: f64 = 10_000_000.0;
const TOKENS_A_DAY: f64 = 5_000_000.0;
/// Tokens come and go; those of the last minutes are worth little.
pub(super) const TOKENS_EVERY: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// The part of a day's share that may be spent at once.
const AT_ONCE: Duration = Duration::from_secs(3600);
const NEW_LONGEST: Duration = Duration::from_secs(3600);
pub(super) const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
