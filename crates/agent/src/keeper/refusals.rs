//! When an entry whose SVID the server refused is asked for again.
//!
//! Invariant: each refusal is waited out for a time that is drawn once, for it alone: a fleet that was refused together does not come back
//! together, and looking at a time does not change it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Backoff;

/// Entries that were refused last. At most as many as there are entries.
pub(super) struct Refusals {
    refused: HashMap<Arc<str>, Refused>,
    /// Where the draws come from.
    random: Box<dyn FnMut() -> u64 + Send>,
}

struct Refused {
    backoff: Backoff,
    /// As it was drawn.
    wait: Duration,
    again: UnixTime,
}

impl Default for Refusals {
    fn default() -> Self {
        let (random, mut draws) = (RandomState::new(), 0_u64);
        Self::drawing(move || {
            draws = draws.wrapping_add(1);
            random.hash_one(draws)
        })
    }
}

impl Refusals {
    pub(super) fn drawing(random: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self {
            refused: HashMap::new(),
            random: Box::new(random),
        }
    }

    /// Another one for this entry. Returns when it is to be asked for again: soon, whatever there was before, while what is held for it was signed
    /// by a tainted authority, which may be revoked before long.
    pub(super) fn refused(&mut self, id: &Arc<str>, now: UnixTime, tainted: bool) -> UnixTime {
        let entropy = (self.random)();
        let refused = self.refused.entry(Arc::clone(id)).or_insert_with(|| Refused {
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            wait: Duration::ZERO,
            again: now,
        });
        // A time has whole seconds: rounded down, a fifth of the first draws would be no wait at all.
        let drawn = refused.backoff.next_with(entropy);
        let longest = if tainted {
            RETRY_TAINTED.mul_f64(share(entropy))
        } else {
            RETRY_MAX
        };
        refused.wait = Duration::from_secs_f64(drawn.min(longest).as_secs_f64().ceil());
        refused.again = now.saturating_add(refused.wait);
        refused.again
    }

    /// When this one is to be asked for again, if it was refused.
    pub(super) fn again(&self, id: &str) -> Option<UnixTime> {
        self.refused.get(id).map(|refused| refused.again)
    }

    /// It was signed.
    pub(super) fn over(&mut self, id: &str) {
        self.refused.remove(id);
    }

    /// Forgets those of other entries than these.
    pub(super) fn retain(&mut self, stays: impl Fn(&Arc<str>) -> bool) {
        self.refused.retain(|id, _| stays(id));
    }

    pub(super) fn forget(&mut self) {
        self.refused.clear();
    }

    /// The clock was set back: nobody waits for the difference, nor for longer than was drawn.
    pub(super) fn turn_back(&mut self, now: UnixTime) {
        for refused in self.refused.values_mut() {
            refused.again = refused.again.min(now.saturating_add(refused.wait));
        }
    }
}

/// The longest wait after the first refusal; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
const RETRY_TAINTED: Duration = Duration::from_secs(15);

/// What was drawn, from 0 to 1.
fn share(entropy: u64) -> f64 {
    entropy as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOON, at};

    /// Shares of the longest wait, one after the other, and then again.
    fn drawing(shares: &'static [f64]) -> Refusals {
        let mut shares = shares.iter().cycle();
        Refusals::drawing(move || (shares.next().unwrap() * u64::MAX as f64) as u64)
    }

    fn id(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn each_refusal_is_waited_out_for_a_share_of_a_time_that_doubles() {
        let mut refusals = drawing(&[1.0, 0.5, 0.25, 1.0, 0.0]);
        let mut waits = |now| refusals.refused(&id("a"), now, false).since(now).as_secs();
        assert_eq!([0; 5].map(|_| waits(NOON)), [5, 5, 5, 40, 0]);
        let mut refusals = drawing(&[1.0]);
        let mut waits = |now| refusals.refused(&id("a"), now, false).since(now).as_secs();
        assert_eq!([0; 8].map(|_| waits(NOON)), [5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn entries_that_are_refused_together_do_not_come_back_together() {
        let mut refusals = drawing(&[0.2, 0.9, 0.4]);
        let [a, b, c] = ["a", "b", "c"].map(id);
        let again = [&a, &b, &c].map(|id| refusals.refused(id, NOON, false));
        assert_eq!(again.map(|at| at.since(NOON).as_secs()), [1, 5, 2]);
        // Looking draws nothing.
        for _ in 0..3 {
            assert_eq!([&a, &b, &c].map(|id| refusals.again(id).unwrap()), again);
        }
        refusals.over(&b);
        assert_eq!(refusals.again(&b), None);
        assert_eq!(
            refusals.refused(&b, NOON, false).since(NOON).as_secs(),
            1,
            "from the beginning"
        );
    }

    #[test]
    fn what_a_tainted_authority_signed_never_waits_long() {
        let mut refusals = drawing(&[1.0]);
        let mut waits = |tainted| refusals.refused(&id("a"), NOON, tainted).since(NOON).as_secs();
        assert_eq!(
            [false, true, true, true, true, false].map(&mut waits),
            [5, 10, 15, 15, 15, 160]
        );
        let mut refusals = drawing(&[0.4]);
        let mut waits = |tainted| refusals.refused(&id("a"), NOON, tainted).since(NOON).as_secs();
        assert_eq!([true; 8].map(&mut waits)[7], 6, "each a share of its own");
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_each_its_own_wait() {
        let mut refusals = drawing(&[0.2, 1.0]);
        let [a, b] = ["a", "b"].map(id);
        for id in [&a, &b] {
            refusals.refused(id, at(7200), false);
        }
        refusals.turn_back(at(0));
        assert_eq!([&a, &b].map(|id| refusals.again(id)), [Some(at(1)), Some(at(5))]);
        refusals.turn_back(at(3));
        assert_eq!(refusals.again(&b), Some(at(5)), "nor longer than it was");
    }

    #[test]
    fn the_draws_of_two_agents_differ() {
        let mut agents: Vec<_> = (0..50).map(|_| Refusals::default()).collect();
        let mut shares: Vec<_> = agents.iter_mut().map(|agent| (agent.random)()).collect();
        shares.sort_unstable();
        shares.dedup();
        assert!(shares.len() > 45);
    }
}
