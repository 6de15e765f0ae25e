//! When a node attests though it has an SVID, since that is of no authority that it knows.
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
            tried: false,
            had: None,
            in_vain: Backoff::new(AGAIN, LONGEST),
            not_before: None,
        }
    }
}

impl Returning {
    /// Whether this turn is one.
    pub(super) fn has_a_turn(&mut self, now: Instant, svid: &Arc<X509Svid>, is_rooted: bool) -> bool {
        if is_rooted {
            *self = Self::default();
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
}
