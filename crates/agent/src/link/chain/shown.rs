//! What the node shows to a server that has forgotten part of the bundle chain, as after a restoration.
//!
//! Invariant: it shows what root keys have signed, to a server that it has verified and that wants it, and now and then: whether it is taken is the
//! server's affair, and nothing here depends on it.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::chain::{Position, SignedStep};
use landfast_lifecycle::Backoff;
use landfast_proto::landfast::chain::v1::{ShowStepsRequest, chain_client::ChainClient};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use crate::link::Link;
use crate::link::failure::LinkError;
use crate::link::rpc;

/// The last steps that the node has walked, each the next of the one before, up to where it stands. Bounded by [`MAX_STEPS`] and [`MAX_BYTES`].
#[derive(Default)]
pub(in crate::link) struct Kept {
    steps: Vec<SignedStep>,
    saved: bool,
    not_before: Option<Instant>,
    /// The same for a server in quarantine, which sends all nodes away in the same second.
    in_turn: Option<Instant>,
}

impl Kept {
    /// Of what is on disk, what leads to where the node stands.
    pub(in crate::link) fn new(steps: Vec<SignedStep>, at: Option<&Position>) -> Self {
        let mut kept = Self {
            saved: true,
            ..Self::default()
        };
        if steps.last().map(SignedStep::digest) == at.map(|at| at.digest) {
            kept.walked(steps);
            kept.saved = true;
        }
        kept
    }

    #[cfg(test)]
    pub(in crate::link) fn steps(&self) -> &[SignedStep] {
        &self.steps
    }

    /// Whether a server in quarantine is shown them now: each node begins at a moment of its own within `spread`.
    fn is_in_turn(&mut self, now: Instant, spread: Duration) -> bool {
        let own = || now + Backoff::new(spread, spread).next();
        *self.in_turn.get_or_insert_with(own) <= now
    }

    /// A server serves: another quarantine is another moment.
    pub(in crate::link) fn served(&mut self) {
        self.in_turn = None;
    }

    /// The node stands on the last of these.
    pub(in crate::link) fn walked(&mut self, steps: Vec<SignedStep>) {
        for step in steps {
            let last = self.steps.last().map(SignedStep::digest);
            if last == Some(step.digest()) {
                continue;
            }
            if last.is_none() || step.step().previous != last {
                self.steps.clear();
            }
            self.steps.push(step);
            self.saved = false;
        }
        let (mut count, mut bytes) = (0, 0);
        let fits = self.steps.iter().rev().take_while(|step| {
            count += 1;
            bytes += step.to_bytes().len();
            count == 1 || (count <= MAX_STEPS && bytes <= MAX_BYTES)
        });
        let extra = self.steps.len() - fits.count();
        self.steps.drain(..extra);
    }
}

impl Link {
    /// Writes down what was walked, if that is new. What cannot be written is tried again with the next walk.
    pub(super) async fn keep_steps(&mut self, walked: Vec<SignedStep>) {
        self.kept.walked(walked);
        if self.kept.saved {
            return;
        }
        let (files, steps) = (Arc::clone(&self.files), self.kept.steps.clone());
        let saved = self.disk.run(move || files.save_steps(&steps)).await;
        self.kept.saved = matches!(saved, Ok(Ok(())));
    }

    /// A server in quarantine wants to know what it has forgotten. One that says of no quarantine has a trouble of another kind, or is from before there
    /// was a word for it, and is shown them when it answers again and its steps do not lead to where the node stands.
    pub(in crate::link) async fn show_steps_after(&mut self, error: &LinkError) {
        let wanted = matches!(
            error,
            LinkError::Refused {
                quarantined: true,
                by_server: true,
                ..
            }
        );
        let spread = self.settings.retry.1.min(SOON);
        if !wanted || self.must_attest || !self.kept.is_in_turn(Instant::now(), spread) {
            return;
        }
        let channel = self.channel.borrow().clone();
        if let (Some(channel), Some(_)) = (channel, &self.node) {
            self.show_steps(channel).await;
        }
    }

    /// Whether the server has taken them.
    pub(super) async fn show_steps(&mut self, channel: Channel) -> bool {
        let is_early = self.kept.not_before.is_some_and(|at| Instant::now() < at);
        if is_early || self.kept.steps.is_empty() {
            return false;
        }
        let steps = self.kept.steps.iter().map(|step| step.to_bytes().into());
        let request = ShowStepsRequest {
            steps: steps.collect(),
        };
        let mut client = ChainClient::new(channel);
        let shown = rpc::call_for(SHOW_STEPS, PATIENCE, client.show_steps(request)).await;
        let pause = match &shown {
            Ok(_) => AGAIN,
            // It is SPIRE's, or older.
            Err(LinkError::Refused {
                code: Code::Unimplemented,
                ..
            }) => LONG,
            Err(error) => {
                tracing::debug!(
                    error = error_chain(error),
                    "the server does not take the steps on which this node stands"
                );
                SOON
            }
        };
        self.kept.not_before = Some(Instant::now() + pause);
        let adopted = shown.is_ok_and(|shown| shown.adopted);
        if adopted {
            tracing::warn!(
                "the server had forgotten steps of the bundle chain, and has taken them from this node"
            );
        }
        adopted
    }
}

const SHOW_STEPS: &str = "ShowSteps";
/// A month of rotations with authorities of a few days.
const MAX_STEPS: usize = 32;
/// As many as one call has room for.
const MAX_BYTES: usize = 480 * 1024;
/// Nothing depends on it, and the link waits.
const PATIENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(600);
const LONG: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_is_sent_away_in_one_second_shows_within_a_minute() {
        let mut nodes: Vec<Kept> = (0..200).map(|_| Kept::default()).collect();
        let begin = Instant::now();
        let mut in_turn = |after| {
            let each = nodes.iter_mut();
            each.filter_map(|kept| kept.is_in_turn(begin + after, SOON).then_some(()))
                .count()
        };
        let [first, half, all] = [Duration::ZERO, SOON / 2, SOON].map(&mut in_turn);
        assert!(first < 10, "{first} at once");
        assert!((50..150).contains(&half), "{half} in the first half");
        assert_eq!(all, 200);
        nodes[0].served();
        assert!(!nodes[0].is_in_turn(begin + SOON, SOON), "another quarantine");
    }
}
