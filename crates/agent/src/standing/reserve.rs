//! What is said of the reserve: how long it lasts, and until when a thief of it would be believed.
//!
//! Invariant: counted from what is held, whether or not the node is on its own: the debt is there from the first rung on.

use landfast_identity::UnixTime;

use crate::jwt::offline;
use crate::keeper::state::Snapshot;
use crate::keeper::state::reserve::LARGEST;

/// Of all entries together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// Entries that have one.
    pub(crate) entries: usize,
    /// Rungs that are not over.
    pub(crate) rungs: usize,
    /// When the first of these entries has nothing more.
    pub(crate) until: Option<UnixTime>,
    /// Entries whose reserve is by a quarter or more shorter than what is asked for.
    pub(crate) short: usize,
    /// When the last rung ends: the trust debt.
    pub(crate) debt: Option<UnixTime>,
    /// There is no room for more, though more is asked for.
    pub(crate) full: bool,
    /// There is more, which is being read from disk.
    pub(crate) reading: bool,
    /// So many offline tokens are declared that are not kept.
    pub(crate) tokens_left_out: usize,
}

impl Reserve {
    pub(crate) fn of(snapshot: &Snapshot, now: UnixTime) -> Self {
        let mut counted = Self::default();
        for (id, ladder) in snapshot.rungs.iter() {
            let left = ladder.windows().iter().filter(|window| window.ends > now).count();
            let Some(entry) = snapshot.entries.get(id).filter(|_| left > 0) else {
                continue;
            };
            counted.entries += 1;
            counted.rungs += left;
            let lasts = snapshot.lasts(entry, now).unwrap_or(now);
            counted.until = Some(counted.until.map_or(lasts, |until| until.min(lasts)));
            counted.debt = counted.debt.max(ladder.debt());
        }
        let short = snapshot.entries.iter().filter(|entry| {
            let asked = snapshot.entries.offline(entry).reserve;
            let lasts = snapshot.lasts(entry, now).unwrap_or(now);
            !entry.is_over(now) && snapshot.is_wanted(entry) && lasts.since(now) < asked.mul_f64(ENOUGH)
        });
        counted.short = short.count();
        counted.tokens_left_out = offline::left_out(snapshot);
        counted.reading = snapshot.reading;
        if counted.reading {
            // Of what is not read yet nobody knows how long it lasts.
            (counted.until, counted.short) = (None, 0);
        }
        counted.full = snapshot.reserve_is_full(LARGEST);
        counted
    }

    /// The debt in words; empty when there is none.
    pub(crate) fn in_words(&self, sealed: &str) -> String {
        let left_out = match self.tokens_left_out {
            0 => String::new(),
            left_out => format!(
                "{left_out} offline tokens are declared beyond the {} that a node keeps, and are not had; declare fewer",
                offline::MOST
            ),
        };
        let Some(debt) = self.debt else {
            return left_out;
        };
        let left_out = match left_out.as_str() {
            "" => left_out,
            more => format!("; {more}"),
        };
        let full = match self.full {
            true => format!("; no room for more: {} MiB are kept", LARGEST >> 20),
            false => String::new(),
        };
        let more = if self.reading {
            "; more are being read from disk"
        } else {
            ""
        };
        format!(
            "{} unspent SVIDs of {} identities, the last until {debt}; {sealed}{more}{full}{left_out}",
            self.rungs, self.entries
        )
    }
}

/// A reserve that is topped up lacks a step at most; of a short one that may be a lot.
const ENOUGH: f64 = 0.75;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::entry::{Entry, EntryIndex, Offline};
    use crate::testing::{NOON, entry};

    #[test]
    fn what_is_not_read_yet_is_not_called_short() {
        let asks = Entry {
            offline: Offline {
                reserve: Duration::from_secs(7200),
                ..Offline::default()
            },
            ..entry("a", "/a", &["unix:uid:1"])
        };
        let short = |reading| {
            let snapshot = Snapshot {
                entries: Arc::new(EntryIndex::new([Arc::new(asks.clone())])),
                reading,
                ..Snapshot::default()
            };
            Reserve::of(&snapshot, NOON).short
        };
        assert_eq!((short(false), short(true)), (1, 0));
    }
}
