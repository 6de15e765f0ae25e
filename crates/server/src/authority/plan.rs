//! When authorities change slots. Pure. Invariant: while an active authority is valid it gives way only to one that is known, and nobody is forgotten
//! while an SVID of theirs may be valid.

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
    /// Nothing that this one signed is valid any more, or it never signed and has expired.
    Forget(String),
}

/// What is due at `now`; `None` is rest.
pub(super) fn next(rows: &[AuthorityRow], now: UnixTime) -> Option<Step> {
    [Kind::X509, Kind::Jwt]
        .into_iter()
        .find_map(|kind| rotation(rows, kind, now))
        .or_else(|| {
            let over = |row: &&AuthorityRow| row.slot == Slot::Old && now > forget_after(row);
            rows.iter().find(over).map(|row| Step::Forget(row.id.clone()))
        })
}

fn rotation(rows: &[AuthorityRow], kind: Kind, now: UnixTime) -> Option<Step> {
    let slot = |slot| rows.iter().find(|row| row.kind == kind && row.slot == slot);
    let prepared = slot(Slot::Prepared);
    if let Some(stale) = prepared.filter(|row| now >= row.not_after) {
        return Some(Step::Forget(stale.id.clone()));
    }
    let left = slot(Slot::Active).map(|active| {
        let life = active.not_after.since(active.created_at);
        (active.not_after.since(now), life)
    });
    match (left, prepared) {
        (None, None) => Some(Step::Prepare(kind)),
        (None, Some(_)) => Some(Step::Activate(kind)),
        (Some((left, life)), None) => (left <= (life / 2).min(PREPARE_CAP)).then_some(Step::Prepare(kind)),
        (Some((left, life)), Some(next)) => {
            let known = now.since(next.created_at) >= (life / 12).min(PROPAGATION) || left.is_zero();
            (known && left <= (life / 6).min(ACTIVATE_CAP)).then_some(Step::Activate(kind))
        }
    }
}

/// Carries out [`Step::Activate`].
pub(super) fn activate(rows: &mut [AuthorityRow], kind: Kind, now: UnixTime) {
    for row in rows.iter_mut().filter(|row| row.kind == kind) {
        match row.slot {
            Slot::Active => row.slot = Slot::Old,
            Slot::Prepared => {
                row.slot = Slot::Active;
                row.activated_at = Some(now);
            }
            Slot::Old => {}
        }
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
