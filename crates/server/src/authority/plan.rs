//! When authorities change slots. Pure. Invariant: while an active authority is valid it gives way only to one that is known, nobody is forgotten
//! while an SVID of theirs may be valid, and what is done by a wrong clock can be undone by the right one.

use std::fmt;
use std::time::Duration;

use landfast_identity::UnixTime;

use super::journal::{AuthorityRow, Kind, Slot};

/// One change of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Make the next authority, and let everybody know it.
    Prepare(Kind),
    /// The prepared one signs from now on; the active one, if any, is old.
    Activate(Kind),
    /// This old one signs again: the active one is not in its time, and this one is.
    Resume(String),
    /// This prepared one is old without having signed: it has expired, is under a tainted root, or was made by a clock that was ahead.
    Retire(String),
    /// Nothing that this one signed is valid any more.
    Forget(String),
}

/// Whether the clock is believed enough to give up for good what it says is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// It has run evenly for a while.
    Steady,
    /// It has leapt, or nobody has watched it for long, or the registry may have gone back: nothing is forgotten, and a valid authority does not give way.
    Doubtful,
}

/// What is due at `now` for authorities of these kinds; `None` is rest.
pub(super) fn next(
    rows: &[AuthorityRow],
    kinds: &[Kind],
    (now, trust): (UnixTime, Trust),
    longest: Duration,
) -> Option<Step> {
    kinds
        .iter()
        .find_map(|kind| rotation(rows, *kind, (now, trust), longest))
        .or_else(|| {
            let over = |row: &&AuthorityRow| {
                trust == Trust::Steady && row.slot == Slot::Old && now > forget_after(row)
            };
            rows.iter().find(over).map(|row| Step::Forget(row.id.clone()))
        })
}

fn rotation(
    rows: &[AuthorityRow],
    kind: Kind,
    (now, trust): (UnixTime, Trust),
    longest: Duration,
) -> Option<Step> {
    let slot = |slot| rows.iter().find(|row| row.kind == kind && row.slot == slot);
    let prepared = slot(Slot::Prepared);
    if let Some(stale) = prepared.filter(|row| now >= row.not_after || row.tainted) {
        return Some(Step::Retire(stale.id.clone()));
    }
    let Some(active) = slot(Slot::Active).filter(|row| now < row.not_after) else {
        return Some(substitute(rows, kind, now).unwrap_or_else(|| match prepared {
            Some(ahead) => Step::Retire(ahead.id.clone()),
            None => Step::Prepare(kind),
        }));
    };
    if now < active.not_before {
        // The clock was ahead when it was made, and who signed before is still good; or the clock is behind now, and nobody can sign.
        return substitute(rows, kind, now);
    }
    if active.tainted {
        // What is above it is about to go. The next one stands under what is known already, so nobody has to be waited for.
        return match prepared {
            None => Some(Step::Prepare(kind)),
            Some(ahead) => (now >= ahead.not_before).then_some(Step::Activate(kind)),
        };
    }
    let (left, life) = (
        active.not_after.since(now),
        active.not_after.since(active.created_at),
    );
    let due = Due::of(kind, life, longest);
    let late = left <= due.prepare;
    match prepared {
        None => late.then_some(Step::Prepare(kind)),
        Some(ahead) if now < ahead.not_before => late.then(|| Step::Retire(ahead.id.clone())),
        Some(next) => {
            let known = now.since(next.created_at) >= (life / 12).min(PROPAGATION);
            (trust == Trust::Steady && known && left <= due.activate).then_some(Step::Activate(kind))
        }
    }
}

/// With how much of its life left an authority gets a successor, and gives way to it.
struct Due {
    prepare: Duration,
    activate: Duration,
}

impl Due {
    /// What is signed last has to end before its authority, and until then everybody has to know the next one.
    fn of(kind: Kind, life: Duration, longest: Duration) -> Self {
        if kind != Kind::X509 || longest.is_zero() {
            return Self {
                prepare: (life / 2).min(PREPARE_CAP),
                activate: (life / 6).min(ACTIVATE_CAP),
            };
        }
        // An entry may ask for whatever fits a sixth, with a TTL of its own.
        let activate = life / 6;
        Self {
            prepare: (life / 2).min(PREPARE_CAP.max(activate + longest)),
            activate,
        }
    }
}

/// Who signs when the active one cannot: one that is in its time, best one that has signed before, for everybody knows it.
fn substitute(rows: &[AuthorityRow], kind: Kind, now: UnixTime) -> Option<Step> {
    rows.iter()
        .filter(|row| row.kind == kind && row.slot != Slot::Active && !row.tainted)
        .filter(|row| row.not_before <= now && now < row.not_after)
        .max_by_key(|row| (row.activated_at.is_some(), row.not_after))
        .map(|row| match row.slot {
            Slot::Prepared => Step::Activate(kind),
            _ => Step::Resume(row.id.clone()),
        })
}

/// Carries out [`Step::Activate`].
pub(super) fn activate(rows: &mut [AuthorityRow], kind: Kind, now: UnixTime) {
    let prepared = rows
        .iter()
        .find(|row| row.kind == kind && row.slot == Slot::Prepared);
    if let Some(id) = prepared.map(|row| row.id.clone()) {
        resume(rows, &id, now);
    }
}

/// Carries out [`Step::Resume`].
pub(super) fn resume(rows: &mut [AuthorityRow], id: &str, now: UnixTime) {
    let Some(kind) = rows.iter().find(|row| row.id == id).map(|row| row.kind) else {
        return;
    };
    for row in rows.iter_mut().filter(|row| row.kind == kind) {
        if row.id == id {
            row.slot = Slot::Active;
            row.activated_at = Some(now);
        } else if row.slot == Slot::Active {
            row.slot = Slot::Old;
        }
    }
}

/// Carries out [`Step::Retire`].
pub(super) fn retire(rows: &mut [AuthorityRow], id: &str) {
    for row in rows.iter_mut().filter(|row| row.id == id) {
        row.slot = Slot::Old;
    }
}

/// An SVID that is being signed while its authority becomes old is recorded long before this.
fn forget_after(row: &AuthorityRow) -> UnixTime {
    row.last_svid_ends
        .or(row.activated_at)
        .unwrap_or(row.created_at)
        .saturating_add(SAFETY)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(kind) => write!(f, "prepare {}", kind.as_str()),
            Self::Activate(kind) => write!(f, "activate {}", kind.as_str()),
            Self::Resume(id) => write!(f, "resume {id}"),
            Self::Retire(id) => write!(f, "retire {id}"),
            Self::Forget(id) => write!(f, "forget {id}"),
        }
    }
}

/// As SPIRE: long-lived authorities are not prepared months ahead.
const PREPARE_CAP: Duration = Duration::from_secs(30 * 86_400);
const ACTIVATE_CAP: Duration = Duration::from_secs(7 * 86_400);
/// Until then not everybody knows a new authority. It waits when the server has slept through the time to prepare one.
const PROPAGATION: Duration = Duration::from_secs(600);
const SAFETY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
