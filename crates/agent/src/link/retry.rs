//! When a renewal of the node's own SVID that failed is tried again.
//!
//! Invariant: never before the time that a busy server named; and what a taint asks for never waits for what was drawn for an ordinary renewal.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Backoff;

use super::failure::FARTHEST;

/// After a failure; nothing before one.
#[derive(Default)]
pub(super) struct Retry(Option<Pause>);

struct Pause {
    /// When there is time: half of the SVID's life is left.
    lazy: UnixTime,
    /// When an authority is tainted: it may be revoked before long, and a node whose SVID it signed has to attest again then.
    urgent: UnixTime,
}

impl Retry {
    /// Draws both. Answers when it is tried again at the earliest.
    pub(super) fn failed(&mut self, now: UnixTime, pushback: Option<Duration>) -> UnixTime {
        // By whole seconds, so never before the time that was named; and never in the same second.
        let after = |pause: Duration| now.saturating_add(pause + Duration::from_secs(1));
        let drawn = |most| Backoff::new(most, most).next();
        let urgent = after(pushback.unwrap_or_else(|| drawn(URGENT)));
        let lazy = after(pushback.unwrap_or_else(|| drawn(LAZY))).max(urgent);
        self.0 = Some(Pause { lazy, urgent });
        urgent
    }

    /// `due`, or when it is tried again if that is later.
    pub(super) fn not_before(&self, due: UnixTime, tainted: bool) -> UnixTime {
        let again = self.0.as_ref().map(|pause| match tainted {
            true => pause.urgent,
            false => pause.lazy,
        });
        again.map_or(due, |again| due.max(again))
    }

    /// The clock may have been set back to `now`.
    pub(super) fn turn_back(&mut self, now: UnixTime) {
        let latest = now.saturating_add(FARTHEST);
        if let Some(pause) = &mut self.0 {
            pause.lazy = pause.lazy.min(latest);
            pause.urgent = pause.urgent.min(latest);
        }
    }
}

/// The longest that is drawn, with full jitter.
const LAZY: Duration = Duration::from_secs(30);
const URGENT: Duration = Duration::from_secs(5);

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
        assert!(retry.not_before(at(-5000), true) <= at(-4400));
        assert_eq!(
            Retry::default().not_before(NOON, true),
            NOON,
            "nothing has failed"
        );
    }
}
