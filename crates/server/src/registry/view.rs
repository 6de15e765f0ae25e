//! What an agent is to have, whole. Invariant: all of one view is of one moment.

use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, UnixTime};

use super::{AgentRecord, Registry, Revision, Versioned};

/// What concerns an agent, but for the bundle of our own trust domain, which has a history of its own.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) revision: Revision,
    /// `None`: it never attested, or was evicted.
    pub(crate) agent: Option<Arc<AgentRecord>>,
    /// In the order of their IDs; none for who is banned.
    pub(crate) entries: Vec<Arc<Versioned>>,
    /// Of the trust domains that they federate with, in the order of their names.
    pub(crate) bundles: Vec<Arc<Bundle>>,
    /// When the first of the entries ends, or of those by which it has them.
    pub(crate) ends: Option<UnixTime>,
}

impl Registry {
    /// What this agent is to have now.
    pub(crate) fn view(&self, agent: &SpiffeId) -> View {
        let now = self.clock.now();
        self.read().view(agent, now)
    }
}
