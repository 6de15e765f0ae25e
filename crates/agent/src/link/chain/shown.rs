//! What the node shows to a server that has forgotten part of the bundle chain, as after a restoration.
//!
//! Invariant: it shows what root keys have signed, to a server that it has verified, and now and then: whether it is taken is the server's affair, and
//! nothing here depends on it.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::chain::{Position, SignedStep};
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

    /// A server that answers nobody may be in a quarantine, and then wants to know what it has forgotten.
    pub(in crate::link) async fn show_steps_after(&mut self, error: &LinkError) {
        let LinkError::Refused {
            code: Code::Unavailable,
            by_server: true,
            // It is busy, and wants nothing more.
            pushback: None,
            ..
        } = error
        else {
            return;
        };
        let channel = self.channel.borrow().clone();
        if let (Some(channel), Some(_), false) = (channel, &self.node, self.must_attest) {
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
        let shown = rpc::call(SHOW_STEPS, ChainClient::new(channel).show_steps(request)).await;
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
const SOON: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(600);
const LONG: Duration = Duration::from_secs(3600);
