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

/// One that was refused.
pub(super) struct Refused {
    backoff: Backoff,
    /// When there is time.
    ordinary: Wait,
    /// While what is held was signed by a tainted authority, which may be revoked before long: it may become one during the wait.
    tainted: Wait,
}

/// As it was drawn, and until when that is.
#[derive(Clone, Copy)]
struct Wait {
    drawn: Duration,
    until: UnixTime,
}

impl Wait {
    /// A time has whole seconds: rounded down, a fifth of the first draws would be no wait at all.
    fn of(drawn: Duration, now: UnixTime) -> Self {
        let drawn = Duration::from_secs_f64(drawn.as_secs_f64().ceil());
        let until = now.saturating_add(drawn);
        Self { drawn, until }
    }
}

impl Refused {
    /// When it is to be asked for again: by whether what is held for it is tainted now.
    pub(super) fn again(&self, tainted: bool) -> UnixTime {
        match tainted {
            true => self.tainted.until,
            false => self.ordinary.until,
        }
    }
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

    /// Another one for this entry, of which something is held that is good for so long. Returns when it is to be asked for again: soon, whatever
    /// there was before, while what is held is tainted; and before that ends, so that more than one attempt is left.
    pub(super) fn refused(
        &mut self,
        id: &Arc<str>,
        now: UnixTime,
        tainted: bool,
        good_for: Option<Duration>,
    ) -> UnixTime {
        let entropy = (self.random)();
        let none = Wait::of(Duration::ZERO, now);
        let refused = self.refused.entry(Arc::clone(id)).or_insert_with(|| Refused {
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            ordinary: none,
            tainted: none,
        });
        let at_most = |longest: Duration| longest.mul_f64(share(entropy));
        let half = good_for.map_or(RETRY_MAX, |left| (left / 2).max(SHORTEST));
        let drawn = refused.backoff.next_with(entropy).min(at_most(half));
        refused.ordinary = Wait::of(drawn, now);
        refused.tainted = Wait::of(drawn.min(at_most(RETRY_TAINTED)), now);
        refused.again(tainted)
    }

    pub(super) fn of(&self, id: &str) -> Option<&Refused> {
        self.refused.get(id)
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
            for wait in [&mut refused.ordinary, &mut refused.tainted] {
                wait.until = wait.until.min(now.saturating_add(wait.drawn));
            }
        }
    }
}

/// The longest wait after the first refusal; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
const RETRY_TAINTED: Duration = Duration::from_secs(15);
/// However little is left.
const SHORTEST: Duration = Duration::from_secs(1);

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

    fn again(refusals: &Refusals, id: &str, tainted: bool) -> Option<UnixTime> {
        refusals.of(id).map(|refused| refused.again(tainted))
    }

    fn id(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn each_refusal_is_waited_out_for_a_share_of_a_time_that_doubles() {
        let mut refusals = drawing(&[1.0, 0.5, 0.25, 1.0, 0.0]);
        let mut waits = |now| refusals.refused(&id("a"), now, false, None).since(now).as_secs();
        assert_eq!([0; 5].map(|_| waits(NOON)), [5, 5, 5, 40, 0]);
        let mut refusals = drawing(&[1.0]);
        let mut waits = |now| refusals.refused(&id("a"), now, false, None).since(now).as_secs();
        assert_eq!([0; 8].map(|_| waits(NOON)), [5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn entries_that_are_refused_together_do_not_come_back_together() {
        let mut refusals = drawing(&[0.2, 0.9, 0.4]);
        let [a, b, c] = ["a", "b", "c"].map(id);
        let times = [&a, &b, &c].map(|id| refusals.refused(id, NOON, false, None));
        assert_eq!(times.map(|at| at.since(NOON).as_secs()), [1, 5, 2]);
        // Looking draws nothing.
        for _ in 0..3 {
            assert_eq!([&a, &b, &c].map(|id| again(&refusals, id, false).unwrap()), times);
        }
        refusals.over(&b);
        assert_eq!(again(&refusals, &b, false), None);
        assert_eq!(
            refusals.refused(&b, NOON, false, None).since(NOON).as_secs(),
            1,
            "from the beginning"
        );
    }

    #[test]
    fn what_a_tainted_authority_signed_never_waits_long() {
        let mut refusals = drawing(&[1.0]);
        let mut waits = |tainted| {
            refusals
                .refused(&id("a"), NOON, tainted, None)
                .since(NOON)
                .as_secs()
        };
        assert_eq!(
            [false, true, true, true, true, false].map(&mut waits),
            [5, 10, 15, 15, 15, 160]
        );
        let mut refusals = drawing(&[0.4]);
        let mut waits = |tainted| {
            refusals
                .refused(&id("a"), NOON, tainted, None)
                .since(NOON)
                .as_secs()
        };
        assert_eq!([true; 8].map(&mut waits)[7], 6, "each a share of its own");
    }

    #[test]
    fn an_authority_that_is_tainted_during_a_wait_shortens_it() {
        let mut refusals = drawing(&[1.0]);
        let a = id("a");
        for _ in 0..8 {
            refusals.refused(&a, NOON, false, None);
        }
        assert_eq!(
            [false, true].map(|tainted| again(&refusals, &a, tainted)),
            [Some(at(300)), Some(at(15))]
        );
        refusals.turn_back(at(-7200));
        assert_eq!(
            [false, true].map(|tainted| again(&refusals, &a, tainted)),
            [Some(at(-6900)), Some(at(-7185))]
        );
    }

    #[test]
    fn a_wait_ends_before_what_is_held_does() {
        let mut refusals = drawing(&[1.0]);
        for _ in 0..8 {
            refusals.refused(&id("a"), NOON, false, None);
        }
        let mut waits = |left| {
            let good_for = Some(Duration::from_secs(left));
            refusals
                .refused(&id("a"), NOON, false, good_for)
                .since(NOON)
                .as_secs()
        };
        assert_eq!([3600, 150, 75, 3, 1].map(&mut waits), [300, 75, 38, 2, 1]);
        let mut refusals = drawing(&[0.5]);
        for _ in 0..8 {
            refusals.refused(&id("a"), NOON, false, None);
        }
        let later = refusals.refused(&id("a"), NOON, false, Some(Duration::from_secs(150)));
        assert_eq!(later, at(38), "each a share of its own");
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_each_its_own_wait() {
        let mut refusals = drawing(&[0.2, 1.0]);
        let [a, b] = ["a", "b"].map(id);
        for id in [&a, &b] {
            refusals.refused(id, at(7200), false, None);
        }
        refusals.turn_back(at(0));
        let both = |refusals: &Refusals| [&a, &b].map(|id| again(refusals, id, false));
        assert_eq!(both(&refusals), [Some(at(1)), Some(at(5))]);
        refusals.turn_back(at(3));
        assert_eq!(both(&refusals)[1], Some(at(5)), "nor longer than it was");
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
