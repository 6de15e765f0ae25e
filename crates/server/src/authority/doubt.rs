//! Whether an answer from above may be older than what is known already. Pure.
//!
//! Invariant: what another parent, or another server of ours, has said is not undone by one that lags; one that was put back wins all the same.

use std::time::Duration;

use tokio::time::Instant;

use super::above::Above;

/// What this process has last agreed to, and since when it doubts what it hears.
#[derive(Default)]
pub(super) struct Doubt {
    agreed: Option<Agreed>,
    /// The answer that is doubted, by its sequence.
    since: Option<(u64, Instant)>,
}

struct Agreed {
    sequence: u64,
    above: Above,
}

impl Doubt {
    /// Whether to wait with this answer, which says something else than what is `stored`. It is doubted when it is older than the last one, or
    /// when a server beside us (`beside`) has stored something since: that one may have heard it from a parent that is ahead of ours.
    pub(super) fn holds(
        &mut self,
        sequence: Option<u64>,
        stored: &Above,
        beside: bool,
        now: Instant,
    ) -> bool {
        let Some(sequence) = sequence else { return false };
        let older = self
            .agreed
            .as_ref()
            .is_some_and(|agreed| sequence < agreed.sequence);
        let is_new = self.agreed.as_ref().is_none_or(|agreed| agreed.above != *stored);
        if !(older || beside && is_new) {
            self.since = None;
            return false;
        }
        let since = match self.since {
            Some((of, since)) if of == sequence => since,
            _ => {
                self.since = Some((sequence, now));
                now
            }
        };
        now.saturating_duration_since(since) < CONFIRMED
    }

    /// The answer of this sequence is what is stored now.
    pub(super) fn agree(&mut self, sequence: Option<u64>, stored: &Above) {
        self.since = None;
        self.agreed = sequence.map(|sequence| Agreed {
            sequence,
            above: stored.clone(),
        });
    }

    /// We ourselves have stored something else.
    pub(super) fn said(&mut self, before: &Above, stored: &Above) {
        if let Some(agreed) = self.agreed.as_mut().filter(|agreed| agreed.above == *before) {
            agreed.above.clone_from(stored);
        }
    }
}

/// A server that lags for two seconds sends away who asks; two looks are as far apart as this.
const CONFIRMED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Neighbour;
    use crate::core::fixture::key;

    fn with(key_id: &str) -> Above {
        let authority = landfast_identity::JwtAuthority {
            key_id: key_id.to_owned(),
            public_key: key(),
            expires_at: None,
            tainted: false,
        };
        Above {
            roots: Vec::new(),
            jwt: vec![Neighbour {
                authority,
                revoked: false,
            }],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_counts_when_it_is_given_again_after_five_seconds() {
        let (mut doubt, stored) = (Doubt::default(), with("a"));
        let now = Instant::now();
        assert!(!doubt.holds(Some(8), &stored, false, now), "the first of all");
        doubt.agree(Some(8), &stored);
        assert!(!doubt.holds(Some(9), &stored, false, now));
        assert!(
            !doubt.holds(Some(8), &stored, false, now),
            "what is left to do of it"
        );
        assert!(doubt.holds(Some(7), &stored, false, now));
        assert!(doubt.holds(Some(7), &stored, false, now + Duration::from_secs(4)));
        assert!(
            doubt.holds(Some(6), &stored, false, now + CONFIRMED),
            "not the same answer"
        );
        assert!(!doubt.holds(Some(6), &stored, false, now + 2 * CONFIRMED));
        doubt.agree(Some(6), &stored);
        assert!(!doubt.holds(Some(7), &stored, false, now), "it was put back");
        assert!(!doubt.holds(None, &stored, true, now), "nobody counts");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_beside_us_has_stored_is_not_undone_at_once() {
        let (mut doubt, ours, theirs) = (Doubt::default(), with("a"), with("b"));
        let now = Instant::now();
        assert!(doubt.holds(Some(8), &ours, true, now), "nothing is known yet");
        doubt.agree(Some(8), &ours);
        assert!(!doubt.holds(Some(9), &ours, true, now));
        assert!(doubt.holds(Some(9), &theirs, true, now));
        assert!(!doubt.holds(Some(9), &theirs, true, now + CONFIRMED));
        doubt.said(&ours, &theirs);
        assert!(
            !doubt.holds(Some(9), &theirs, true, now),
            "it was we who stored it"
        );
    }
}
