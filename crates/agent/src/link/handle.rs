//! How others see and hurry the link.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use super::busy::Pauses;
use super::status::LinkStatus;

/// What others may see of the link.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    pub(crate) status: watch::Receiver<LinkStatus>,
    /// The connection to ask over, while there is one.
    pub(crate) channel: watch::Receiver<Option<Channel>>,
    pub(super) nudge: Arc<Notify>,
    pub(super) pauses: Pauses,
}

impl LinkHandle {
    /// Says that a request over `channel` failed in a way that a round may explain or mend, so that the link makes one at once.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    #[cfg(test)]
    pub(crate) fn fixed(
        status: watch::Receiver<LinkStatus>,
        channel: watch::Receiver<Option<Channel>>,
    ) -> Self {
        Self {
            status,
            channel,
            nudge: Arc::default(),
            pauses: Pauses::default(),
        }
    }

    /// Takes what [`Self::nudge`] left.
    #[cfg(test)]
    pub(crate) fn was_nudged(&self) -> bool {
        use futures_util::FutureExt as _;
        self.nudge.notified().now_or_never().is_some()
    }
}
