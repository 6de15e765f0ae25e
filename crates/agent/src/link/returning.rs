//! When a node attests though it has an SVID: that is of no authority that it knows, or servers hang up whenever it is shown, as those do that have
//! given up its authority while the node was away and could not hear of it.
//!
//! Invariant: in no two turns one after the other; and where the server's bundle does not have what the server signs with, so that another SVID is no
//! better, more and more seldom.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::X509Svid;
use landfast_lifecycle::Backoff;
use tokio::time::Instant;

/// What came of it until now.
pub(super) struct Returning {
    /// Turns without a success that ended with the server hanging up before it said anything.
    hung_up: u32,
    /// The last turn tried.
    tried: bool,
    /// What the node had then.
    had: Option<Arc<X509Svid>>,
    in_vain: Backoff,
    not_before: Option<Instant>,
}

impl Default for Returning {
    fn default() -> Self {
        Self {
            hung_up: 0,
            tried: false,
            had: None,
            in_vain: Backoff::new(AGAIN, LONGEST),
            not_before: None,
        }
    }
}

impl Returning {
    /// A server was verified, was shown the SVID, and hung up.
    pub(super) fn hung_up(&mut self) {
        self.hung_up = self.hung_up.saturating_add(1);
    }

    /// A server has taken the SVID.
    pub(super) fn heard(&mut self) {
        self.hung_up = 0;
    }

    /// Whether this turn is one. `is_rooted`: as far as the node knows, its SVID is of an authority that is believed.
    pub(super) fn has_a_turn(&mut self, now: Instant, svid: &Arc<X509Svid>, is_rooted: bool) -> bool {
        if is_rooted && self.hung_up < MOST_HUNG_UP {
            *self = Self {
                hung_up: self.hung_up,
                ..Self::default()
            };
            return false;
        }
        if std::mem::take(&mut self.tried) {
            return false;
        }
        if self.had.as_ref().is_some_and(|had| !Arc::ptr_eq(had, svid)) {
            // It was let in. With one that fails, a server that cannot be reached, the turns have pauses of their own.
            self.not_before = Some(now + self.in_vain.next());
            self.had = Some(Arc::clone(svid));
        }
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return false;
        }
        self.had = Some(Arc::clone(svid));
        self.tried = true;
        true
    }
}

/// So often a server may hang up by accident: it restarts, or the way to it is bad.
const MOST_HUNG_UP: u32 = 3;
/// The longest pause after the first time; it doubles.
const AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ca, NOON, at, id};

    /// How often in an hour with a turn each second, when `attest` says what the node has after it.
    fn attempts(mut attest: impl FnMut(Arc<X509Svid>) -> (Arc<X509Svid>, bool)) -> usize {
        let begin = Instant::now();
        let ca = Ca::new("unknown");
        let (mut returning, mut rooted) = (Returning::default(), false);
        let mut svid = ca.svid(&id("/spire/agent/one"), NOON, at(3600));
        let each = (0..3600).filter(|second| {
            let has = returning.has_a_turn(begin + Duration::from_secs(*second), &svid, rooted);
            if has {
                (svid, rooted) = attest(Arc::clone(&svid));
            }
            has
        });
        each.count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_signs_with_what_its_bundle_lacks_is_asked_more_and_more_seldom() {
        let ca = Ca::new("unknown");
        let in_vain = attempts(|_| (ca.svid(&id("/spire/agent/one"), NOON, at(3600)), false));
        // Pauses are drawn from nothing up to twice as much each time.
        assert!((2..60).contains(&in_vain), "{in_vain} in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_reached_is_tried_in_each_other_turn_until_it_lets_the_node_in() {
        assert_eq!(attempts(|svid| (svid, false)), 1800);
        let ca = Ca::new("known");
        let good = attempts(|_| (ca.svid(&id("/spire/agent/one"), NOON, at(3600)), true));
        assert_eq!(good, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_hang_up_on_an_svid_that_looks_good_are_asked_to_let_the_node_in() {
        let ca = Ca::new("revoked meanwhile");
        let svid = ca.svid(&id("/spire/agent/one"), NOON, at(3600));
        let mut returning = Returning::default();
        let turns: Vec<bool> = (0..6)
            .map(|_| {
                let has = returning.has_a_turn(Instant::now(), &svid, true);
                returning.hung_up();
                has
            })
            .collect();
        assert_eq!(turns, [false, false, false, true, false, true]);
        returning.heard();
        let has = returning.has_a_turn(Instant::now(), &svid, true);
        assert!(!has, "what it has is taken");
    }
}
