//! When a renewal of the node's own SVID that failed is tried again.
//!
//! Invariant: never before the time that a busy server named; and what a taint asks for never waits for what was drawn for an ordinary renewal.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Backoff;

/// After failures; nothing before one. Made anew after a success.
pub(super) struct Retry {
    /// When there is time: half of the SVID's life is left.
    lazy: Backoff,
    /// When an authority is tainted: it may be revoked before long, and a node whose SVID it signed has to attest again then. Grows all the
    /// same: a fleet whose servers cannot sign asks them for as long as that lasts.
    urgent: Backoff,
    pause: Option<Pause>,
}

struct Pause {
    lazy: Wait,
    urgent: Wait,
}

/// As it was drawn, and until when that is.
#[derive(Clone, Copy)]
struct Wait {
    drawn: Duration,
    until: UnixTime,
}

impl Default for Retry {
    fn default() -> Self {
        let growing = |(min, max)| Backoff::new(min, max);
        Self {
            lazy: growing(LAZY),
            urgent: growing(URGENT),
            pause: None,
        }
    }
}

impl Retry {
    /// Draws both. Answers when it is tried again at the earliest.
    pub(super) fn failed(&mut self, now: UnixTime, pushback: Option<Duration>) -> UnixTime {
        // By whole seconds, so never before the time that was named; and never in the same second.
        let wait = |pause: Duration| {
            let drawn = pause + Duration::from_secs(1);
            let until = now.saturating_add(drawn);
            Wait { drawn, until }
        };
        let urgent = pushback.unwrap_or_else(|| self.urgent.next());
        let lazy = pushback.unwrap_or_else(|| self.lazy.next()).max(urgent);
        let (urgent, lazy) = (wait(urgent), wait(lazy));
        self.pause = Some(Pause { lazy, urgent });
        urgent.until
    }

    /// `due`, or when it is tried again if that is later.
    pub(super) fn not_before(&self, due: UnixTime, tainted: bool) -> UnixTime {
        let again = self.pause.as_ref().map(|pause| match tainted {
            true => pause.urgent.until,
            false => pause.lazy.until,
        });
        again.map_or(due, |again| due.max(again))
    }

    /// The clock may have been set back to `now`: nobody waits for longer than was drawn.
    pub(super) fn turn_back(&mut self, now: UnixTime) {
        if let Some(pause) = &mut self.pause {
            for wait in [&mut pause.lazy, &mut pause.urgent] {
                wait.until = wait.until.min(now.saturating_add(wait.drawn));
            }
        }
    }
}

/// The longest that is drawn, with full jitter: after the first failure, and after many.
const LAZY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
const URGENT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOON, at};

    #[test]
    fn what_a_taint_asks_for_is_tried_again_within_seconds_and_each_node_at_its_own_time() {
        let drawn: Vec<_> = (0..200)
            .map(|_| {
                let mut retry = Retry::default();
                retry.failed(NOON, None);
                (retry.not_before(NOON, true), retry.not_before(NOON, false))
            })
            .collect();
        let among = |from, to| move |time: &UnixTime| (at(from)..=at(to)).contains(time);
        assert!(drawn.iter().map(|(urgent, _)| urgent).all(among(1, 6)));
        assert!(drawn.iter().map(|(_, lazy)| lazy).all(among(1, 31)));
        let distinct =
            |times: Vec<UnixTime>| times.into_iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(distinct(drawn.iter().map(|(urgent, _)| *urgent).collect()) >= 4);
        assert!(distinct(drawn.iter().map(|(_, lazy)| *lazy).collect()) >= 15);
    }

    #[test]
    fn a_busy_server_is_not_asked_before_the_time_that_it_named_whatever_is_tainted() {
        let mut retry = Retry::default();
        let named = Duration::from_millis(60_900);
        retry.failed(NOON, Some(named));
        for tainted in [true, false] {
            assert_eq!(retry.not_before(NOON, tainted), at(61));
            assert_eq!(retry.not_before(at(90), tainted), at(90));
        }
        retry.turn_back(at(-5000));
        for tainted in [true, false] {
            let again = retry.not_before(at(-5000), tainted);
            assert!((at(-4940)..=at(-4939)).contains(&again), "{again}");
        }
        assert_eq!(
            Retry::default().not_before(NOON, true),
            NOON,
            "nothing has failed"
        );
    }

    /// Of 10,000 nodes that cannot be renewed, each asks every 2.5 s on average at first; for as long as it lasts, that would be 4,000 calls a second.
    #[test]
    fn an_outage_that_lasts_is_asked_about_ever_less() {
        for (tainted, first, last) in [(true, 5, 30), (false, 30, 300)] {
            let mut nodes: Vec<_> = (0..100).map(|_| Retry::default()).collect();
            let mut failed = || {
                let waits = nodes.iter_mut().map(|retry| {
                    retry.failed(NOON, None);
                    retry.not_before(NOON, tainted).since(NOON).as_secs()
                });
                waits.collect::<Vec<_>>()
            };
            assert!(failed().iter().all(|wait| (1..=first + 1).contains(wait)));
            let waits = std::iter::repeat_with(failed).nth(6).unwrap();
            assert!(
                waits.iter().all(|wait| (1..=last + 1).contains(wait)),
                "{waits:?}"
            );
            let mean = waits.iter().sum::<u64>() / 100;
            assert!((last / 3..=last * 2 / 3).contains(&mean), "{mean}: {waits:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_a_renewal_its_own_wait() {
        for _ in 0..50 {
            let mut retry = Retry::default();
            retry.failed(at(7200), None);
            let waits =
                |retry: &Retry, now| [true, false].map(|tainted| retry.not_before(now, tainted).since(now));
            let drawn = waits(&retry, at(7200));
            retry.turn_back(NOON);
            assert_eq!(waits(&retry, NOON), drawn);
        }
    }
}
