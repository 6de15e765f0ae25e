//! A link of a node that comes back. Invariant: nothing here is taken for contact with a server.

use landfast_identity::SpiffeId;

use super::Link;
use crate::keeper::state::Snapshot;

impl Link {
    /// As the node that this is, also without an SVID of its own.
    pub(crate) fn of_node(self, agent_id: Option<SpiffeId>) -> Self {
        self.status.send_modify(|status| status.agent_id = agent_id);
        self
    }

    /// As it was before a restart.
    pub(crate) fn restored(mut self, before: Option<&Snapshot>) -> Self {
        if let Some(before) = before {
            self.known.restore(before);
            self.status
                .send_modify(|status| status.last_sync = before.synced_at);
        }
        self
    }
}
