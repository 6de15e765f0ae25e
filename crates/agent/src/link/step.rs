//! A step of a subscription, put together from its messages.
//!
//! Invariant: no more of an unfinished step is kept than a node can have, and no message of one may be empty or late: a server cannot let
//! it grow or wait for ever.

use std::time::Duration;

use landfast_proto::landfast::sync::v1 as wire;
use prost::Message as _;
use tokio::time::Instant;

use super::failure::{Denial, LinkError};
use super::revision::Revision;
use super::sync::{MAX_ENTRIES, too_many};

/// What the server says at once.
pub(super) struct Step {
    /// What the node has after it.
    pub(super) revision: Revision,
    pub(super) put: Vec<wire::AuthorizedEntry>,
    pub(super) gone: Vec<wire::Tombstone>,
    pub(super) bundles: Vec<wire::CurrentBundle>,
    pub(super) bundles_gone: Vec<String>,
}

/// The messages of a step that has not ended yet.
#[derive(Default)]
pub(super) struct Parts {
    so_far: wire::SubscribeResponse,
    bytes: usize,
    /// For the next message: a slow link has that long for each. `None` between two steps: the server may be silent for days.
    deadline: Option<Instant>,
}

impl Parts {
    /// Of the first step, which comes also when it says nothing.
    pub(super) fn awaited() -> Self {
        Self {
            deadline: Some(Instant::now() + PATIENCE),
            ..Self::default()
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes a message in, and answers the step that it ends.
    pub(super) fn add(&mut self, mut message: wire::SubscribeResponse) -> Result<Option<Step>, LinkError> {
        match wire::Standing::try_from(message.standing) {
            Ok(wire::Standing::Good) => {}
            Ok(wire::Standing::Evicted) => return Err(LinkError::Told(Denial::MustReattest)),
            Ok(wire::Standing::Banned) => return Err(LinkError::Told(Denial::Banned)),
            Err(_unknown) => {
                return Err(LinkError::protocol(
                    SUBSCRIBE,
                    "it names a standing that is not known here",
                ));
            }
        }
        let bytes = message.encoded_len();
        if message.more && says_nothing(&message) {
            return Err(LinkError::protocol(
                SUBSCRIBE,
                "an empty message that promises more",
            ));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_STEP {
            return Err(LinkError::protocol(
                SUBSCRIBE,
                format!("one step of more than {MAX_STEP} bytes"),
            ));
        }
        let so_far = &mut self.so_far;
        so_far.put.append(&mut message.put);
        so_far.gone.append(&mut message.gone);
        so_far.bundles.append(&mut message.bundles);
        so_far.bundles_gone.append(&mut message.bundles_gone);
        if so_far.put.len() > MAX_ENTRIES || so_far.gone.len() > MAX_ENTRIES {
            return Err(too_many(SUBSCRIBE));
        }
        if message.more {
            self.deadline = Some(Instant::now() + PATIENCE);
            return Ok(None);
        }
        let whole = std::mem::take(self).so_far;
        let revision = message
            .revision
            .as_ref()
            .ok_or_else(|| LinkError::protocol(SUBSCRIBE, "a step without a revision"))?;
        Ok(Some(Step {
            revision: revision.into(),
            put: whole.put,
            gone: whole.gone,
            bundles: whole.bundles,
            bundles_gone: whole.bundles_gone,
        }))
    }
}

fn says_nothing(message: &wire::SubscribeResponse) -> bool {
    message.put.is_empty()
        && message.gone.is_empty()
        && message.bundles.is_empty()
        && message.bundles_gone.is_empty()
}

pub(super) const SUBSCRIBE: &str = "Subscribe";
/// As long as for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// 65,536 entries of ordinary size are a third of it.
const MAX_STEP: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(more: bool) -> wire::SubscribeResponse {
        wire::SubscribeResponse {
            revision: Some(Revision { epoch: 1, number: 2 }.into()),
            gone: vec![wire::Tombstone {
                entry_id: "a".to_owned(),
                revision: 2,
            }],
            more,
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_whole_with_its_last_message_and_not_before() {
        let mut parts = Parts::awaited();
        assert!(parts.deadline().is_some(), "the first step comes in any case");
        assert!(parts.add(message(false)).unwrap().is_some());
        assert!(parts.deadline().is_none(), "a silent server is not late");
        assert!(parts.add(message(true)).unwrap().is_none());
        tokio::time::advance(PATIENCE / 2).await;
        assert!(parts.add(message(true)).unwrap().is_none());
        assert_eq!(parts.deadline(), Some(Instant::now() + PATIENCE));
        let step = parts.add(message(false)).unwrap().unwrap();
        assert_eq!(
            (step.gone.len(), step.revision),
            (3, Revision { epoch: 1, number: 2 })
        );
        assert!(parts.deadline().is_none());
        assert_eq!(parts.add(message(false)).unwrap().unwrap().gone.len(), 1);
    }

    #[tokio::test]
    async fn an_endless_step_ends() {
        let mut parts = Parts::default();
        let empty = wire::SubscribeResponse {
            more: true,
            ..Default::default()
        };
        assert!(parts.add(empty).is_err(), "of nothing");
        let mut parts = Parts::default();
        let many = wire::SubscribeResponse {
            gone: vec![wire::Tombstone::default(); 1000],
            more: true,
            ..Default::default()
        };
        let taken = (0..1000).take_while(|_| parts.add(many.clone()).is_ok()).count();
        assert_eq!(taken, MAX_ENTRIES / 1000, "of entries");
        let mut parts = Parts::default();
        let large = wire::SubscribeResponse {
            bundles_gone: vec!["x".repeat(1 << 20)],
            more: true,
            ..Default::default()
        };
        let taken = (0..1000).take_while(|_| parts.add(large.clone()).is_ok()).count();
        assert!(taken < 64, "of bytes: {taken}");
    }

    #[tokio::test]
    async fn a_step_says_what_it_leads_to() {
        let mut parts = Parts::default();
        let without = wire::SubscribeResponse {
            revision: None,
            ..message(false)
        };
        assert!(parts.add(without).is_err());
    }

    #[tokio::test]
    async fn how_the_node_stands_counts_before_anything_else_in_the_message() {
        let standing = |standing: i32| {
            let said = Parts::default().add(wire::SubscribeResponse {
                standing,
                ..message(false)
            });
            said.err().map(|error| error.denial())
        };
        assert_eq!(standing(0), None);
        assert_eq!(standing(1), Some(Some(Denial::MustReattest)));
        assert_eq!(standing(2), Some(Some(Denial::Banned)));
        assert_eq!(
            standing(3),
            Some(None),
            "an unknown one is no denial, and not good either"
        );
    }
}
