//! When to renew. Invariant: a valid credential is never given up because a renewal failed or a clock moved; the answer
//! depends on the arguments alone.

use std::time::Duration;

use landfast_identity::UnixTime;

/// When a credential is due: half of its life, earlier or later by up to a tenth of its life, drawn from the seed (its
/// serial number), so that the answer is the same after every restart and differs from one node to the next.
pub fn renewal_due(not_before: UnixTime, not_after: UnixTime, serial_seed: &[u8]) -> UnixTime {
    let life = i128::from(not_after.since(not_before).as_secs());
    // 0.4 to 0.6 of the life, in 65536 steps.
    let share = i128::from(spread(serial_seed) >> 48);
    let after = life * (4 * 65_535 + 2 * share) / (10 * 65_535);
    not_before.saturating_add(Duration::from_secs(u64::try_from(after).unwrap_or(0)))
}

/// A share of `within`, drawn from the seed (a serial number) as [`renewal_due`] draws: what all nodes have to do at one time, each does at
/// its own.
pub fn spread_within(within: Duration, serial_seed: &[u8]) -> Duration {
    let share = u32::try_from(spread(serial_seed) >> 48).unwrap_or(0);
    within * share / 65_535
}

/// FNV-1a with a finishing mix: spreads serials evenly, is no secret and needs none.
fn spread(seed: &[u8]) -> u64 {
    let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// What the clock says about a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// Before its start: the clock is slow, or the issuer's was fast.
    NotYet,
    /// Between its start and its end, both included.
    Valid,
    /// After its end.
    Expired,
    /// There is no clock to ask.
    UnknownTime,
}

/// Compares a credential's validity with the clock.
pub fn validity(now: Option<UnixTime>, not_before: UnixTime, not_after: UnixTime) -> Validity {
    match now {
        None => Validity::UnknownTime,
        Some(now) if now < not_before => Validity::NotYet,
        Some(now) if now > not_after => Validity::Expired,
        Some(_) => Validity::Valid,
    }
}

/// What a loop does about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Try again after the back-off.
    Retry,
    /// Keep what there is; trying again now changes nothing.
    Retain,
    /// The identity is gone; attest anew.
    Reattest,
    /// Stop: only a human can mend it.
    Fatal,
}

/// What to do about one credential now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Keep using it; ask again after this long, at the latest.
    Retain {
        /// At most a minute, so that a stepped clock is noticed.
        ask_again: Duration,
    },
    /// Renew it now and keep using it meanwhile.
    Renew,
    /// Renew it now; it must not be used meanwhile.
    Replace,
}

/// When one credential is to be renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RenewalPlan {
    not_before: UnixTime,
    not_after: UnixTime,
    due: UnixTime,
}

impl RenewalPlan {
    /// The plan of a credential; the seed is its serial number.
    pub fn new(not_before: UnixTime, not_after: UnixTime, serial_seed: &[u8]) -> Self {
        Self {
            not_before,
            not_after,
            due: renewal_due(not_before, not_after, serial_seed),
        }
    }

    /// When the renewal is due.
    pub fn due(&self) -> UnixTime {
        self.due
    }

    /// When the credential ends.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// What to do at `now`, given how long to hold back after the last failed attempt (zero: not at all).
    ///
    /// Without a clock, or with one that shows a time before the credential began, it is kept: a clock that lost its
    /// battery is far more common than a credential from the future.
    pub fn decide(&self, now: Option<UnixTime>, hold_back: Duration) -> Action {
        let retain = |wait: Duration| Action::Retain {
            ask_again: wait.clamp(SHORTEST, LONGEST),
        };
        match validity(now, self.not_before, self.not_after) {
            Validity::UnknownTime | Validity::NotYet => retain(LONGEST),
            Validity::Expired => Action::Replace,
            Validity::Valid => {
                let to_due = now.map_or(LONGEST, |now| self.due.since(now));
                match (to_due.is_zero(), hold_back.is_zero()) {
                    (true, true) => Action::Renew,
                    (true, false) => retain(hold_back),
                    (false, _) => retain(to_due),
                }
            }
        }
    }
}

/// A wall-clock deadline is looked at again at least this often.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
