//! Waiting between attempts. Invariant: every wait is between zero and a ceiling that doubles up to the maximum, so a fleet
//! that lost its server together does not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential back-off with full jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
    random: RandomState,
}

impl Backoff {
    /// Ceilings go from `min` to `max` (or `min`, when that is larger).
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            attempts: 0,
            random: RandomState::new(),
        }
    }

    /// How long to wait before the next attempt: anything from nothing to the present ceiling, all alike. A least wait would be the same for
    /// all whose draw falls below it, and they would come back together.
    #[expect(
        clippy::should_implement_trait,
        reason = "the contract between the crates names it so; it never ends"
    )]
    pub fn next(&mut self) -> Duration {
        let entropy = self.random.hash_one(self.attempts);
        self.next_with(entropy)
    }

    /// The same with the caller's entropy: for simulations that must repeat.
    pub fn next_with(&mut self, entropy: u64) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        let share = entropy as f64 / u64::MAX as f64;
        ceiling.mul_f64(share).min(ceiling)
    }

    /// The longest that the next wait can be.
    pub fn ceiling(&self) -> Duration {
        self.min
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(self.max)
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
        self.random = RandomState::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_and_stop_at_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let full: Vec<u64> = (0..8).map(|_| backoff.next_with(u64::MAX).as_secs()).collect();
        assert_eq!(full, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_with(u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn two_nodes_do_not_wait_alike() {
        let mut nodes: Vec<Backoff> = (0..50)
            .map(|_| Backoff::new(Duration::from_secs(60), Duration::from_secs(60)))
            .collect();
        let mut waits: Vec<Duration> = nodes.iter_mut().map(Backoff::next).collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 10, "{waits:?}");
    }

    /// A fleet of 10,000 that failed in one moment: at no moment do many come back, whatever the attempt.
    #[test]
    fn a_fleet_comes_back_evenly() {
        let mut fleet: Vec<Backoff> = (0..10_000)
            .map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(64)))
            .collect();
        for attempt in 0..7 {
            let ceiling = Duration::from_secs(1 << attempt);
            let mut parts = [0; 20];
            for node in &mut fleet {
                assert_eq!(node.ceiling(), ceiling);
                let share = node.next().as_secs_f64() / ceiling.as_secs_f64();
                parts[((share * 20.0) as usize).min(19)] += 1;
            }
            assert!(
                parts.iter().all(|among| (350..650).contains(among)),
                "{attempt}: {parts:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_outside_its_bounds(min in 1u64..10_000, max in 1u64..10_000_000, draws in proptest::collection::vec(any::<u64>(), 1..80)) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let mut backoff = Backoff::new(min, max);
            for entropy in draws {
                let ceiling = backoff.ceiling();
                let wait = backoff.next_with(entropy);
                prop_assert!(wait <= ceiling && ceiling <= max.max(min));
            }
        }
    }
}
