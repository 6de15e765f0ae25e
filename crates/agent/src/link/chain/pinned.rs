//! Where the node stands in the bundle chain, and when it asks for more of it.
//!
//! Invariant: the longer a chain has nothing new for what the node has seen, the less often it is asked for.

use std::time::Duration;

use landfast_identity::chain::Position;
use tokio::time::Instant;

use crate::link::status::LinkStatus;

/// Where the node stands.
pub(in crate::link) struct Pinned {
    pub(super) at: Option<Position>,
    /// Of this what is on disk.
    pub(super) saved: bool,
    pub(super) asked: Option<Asked>,
    /// No server is known by the bundle of this node, and nobody leads it to one.
    pub(super) lost: bool,
}

/// The last question.
pub(super) struct Asked {
    at: Instant,
    /// The sequence and the epoch of the bundle in use.
    with: (Option<u64>, Option<u64>),
    /// How often it was asked with these before, and led nowhere.
    pub(super) in_vain: u32,
}

impl Pinned {
    /// From what is on disk.
    pub(in crate::link) fn new(at: Option<Position>, status: &mut LinkStatus) -> Self {
        let pinned = Self {
            at,
            saved: true,
            asked: None,
            lost: false,
        };
        status.chain = pinned.in_words();
        pinned
    }

    /// In words, for `landfast agent status`.
    pub(super) fn in_words(&self) -> String {
        self.at.as_ref().map_or_else(String::new, |at| {
            let keys: Vec<_> = at.root_keys.iter().map(ToString::to_string).collect();
            format!(
                "pinned at step {}.{}, root key {}",
                at.epoch,
                at.sequence,
                keys.join(", ")
            )
        })
    }

    /// Whether it is time to ask: soon when the bundle is newer than where the node stands, or it stands nowhere; else now and then, for root keys may
    /// have changed and nothing else. A chain that stays behind, as one that waits for a root key in a safe, is asked for less and less often.
    pub(super) fn is_due(&self, bundle: Option<u64>, epoch: Option<u64>) -> bool {
        let behind = self.at.as_ref().is_none_or(|at| {
            let later = bundle.is_some_and(|sequence| sequence > at.bundle_sequence);
            later || epoch.is_some_and(|epoch| epoch > at.epoch)
        });
        let soon = !self.saved || self.lost || self.at.is_none();
        self.asked.as_ref().is_none_or(|asked| {
            let in_vain = match asked.with == (bundle, epoch) && !soon {
                true => asked.in_vain.min(MAX_DOUBLINGS),
                false => 0,
            };
            let wait = match behind || soon {
                true => (ASK_AGAIN * 2_u32.pow(in_vain)).min(LOOK_AGAIN),
                false => LOOK_AGAIN,
            };
            asked.at.elapsed() >= wait
        })
    }

    /// It is asked now.
    pub(super) fn ask(&mut self, bundle: Option<u64>, epoch: Option<u64>) {
        let before = self.asked.as_ref().filter(|asked| asked.with == (bundle, epoch));
        self.asked = Some(Asked {
            at: Instant::now(),
            with: (bundle, epoch),
            in_vain: before.map_or(0, |before| before.in_vain.saturating_add(1)),
        });
    }
}

/// Between two questions to a server that does not say what it should; twice as long after each that led nowhere.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;
/// Between two questions for nothing in particular: each brings one step.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(bundle_sequence: u64) -> Pinned {
        let at = Position {
            epoch: 5,
            sequence: 1,
            bundle_sequence,
            digest: [1; 32],
            root_keys: Vec::new(),
        };
        Pinned::new(Some(at), &mut LinkStatus::new())
    }

    /// In which minutes of so many it asks.
    async fn asks(pinned: &mut Pinned, bundle: u64, minutes: u32) -> Vec<u32> {
        let mut asked = Vec::new();
        for minute in 0..minutes {
            if pinned.is_due(Some(bundle), Some(5)) {
                pinned.ask(Some(bundle), Some(5));
                asked.push(minute);
            }
            tokio::time::advance(ASK_AGAIN).await;
        }
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_lags_is_asked_for_less_and_less_often_until_something_is_new() {
        let mut pinned = pinned(9);
        assert_eq!(
            asks(&mut pinned, 9, 200).await,
            [0, 60, 120, 180],
            "it does not lag"
        );
        let lags = asks(&mut pinned, 10, 1440).await;
        assert_eq!(lags[..7], [0, 1, 3, 7, 15, 31, 63]);
        assert!(lags.len() < 32, "{lags:?}");
        assert_eq!(
            asks(&mut pinned, 11, 8).await,
            [0, 1, 3, 7],
            "the bundle has changed: its step follows soon"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_written_and_what_is_lost_is_tried_each_minute() {
        for (saved, lost) in [(false, false), (true, true)] {
            let mut pinned = pinned(9);
            (pinned.saved, pinned.lost) = (saved, lost);
            assert_eq!(asks(&mut pinned, 9, 5).await, [0, 1, 2, 3, 4]);
        }
    }
}
