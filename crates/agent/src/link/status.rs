//! What the link says about itself, for `agent status`, health and metrics.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime, X509Svid};

use super::revision::Revision;
use super::speaks::Told;
use crate::persist::NodeIdentity;

/// Where the node stands with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not heard from the server since the process began.
    Starting,
    /// Has no SVID of its own yet.
    Attesting,
    /// The last turn succeeded.
    Serving,
    /// The last turn failed; what is held is served.
    Disconnected,
    /// The server has banned the node; nothing is served.
    Banned,
}

impl Phase {
    /// As in `GetStatusResponse.state`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Attesting => "attesting",
            Self::Serving => "serving",
            Self::Disconnected => "disconnected",
            Self::Banned => "banned",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    pub(crate) phase: Phase,
    pub(crate) reachable: bool,
    /// The server says that it is in quarantine.
    pub(crate) quarantined: bool,
    pub(crate) address: String,
    /// When the node was last seen to be in step with its server; see [`Self::synced_at`].
    pub(crate) last_sync: Option<UnixTime>,
    /// While there is a subscription.
    pub(crate) subscribed_since: Option<UnixTime>,
    /// Why there is none; empty while there is one, and before the first try.
    pub(crate) polls_because: String,
    /// The newest revision of the server's registry that this node has ever seen.
    pub(crate) newest: Option<Revision>,
    /// What the server of the last synchronisation says that it is and can.
    pub(crate) told: Told,
    /// Which server of the list is older than that, and what to do, until it is not any more.
    pub(crate) behind: Option<(usize, String)>,
    pub(crate) last_error: String,
    /// Why the node's own SVID, which is due, is not another yet; empty otherwise.
    pub(crate) renewal: String,
    /// What of the node's state cannot be written, and what to do; empty while all is on disk.
    pub(crate) disk: String,
    /// How it is with the device key, for people; empty before the server was asked, and where there is no use for one.
    pub(crate) device_key: String,
    /// Where the node stands in the bundle chain, in words; empty until it is known.
    pub(crate) chain: String,
    /// Why the chain cannot be followed, and what to do; empty while it can, and where there is none.
    pub(crate) chain_trouble: String,
    pub(crate) agent_id: Option<SpiffeId>,
    pub(crate) agent_not_before: Option<UnixTime>,
    pub(crate) agent_not_after: Option<UnixTime>,
    pub(crate) agent_svid: Option<Arc<X509Svid>>,
}

impl LinkStatus {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Starting,
            reachable: false,
            quarantined: false,
            address: String::new(),
            last_sync: None,
            subscribed_since: None,
            polls_because: String::new(),
            newest: None,
            told: Told::default(),
            behind: None,
            last_error: String::new(),
            renewal: String::new(),
            disk: String::new(),
            device_key: String::new(),
            chain: String::new(),
            chain_trouble: String::new(),
            agent_id: None,
            agent_not_before: None,
            agent_not_after: None,
            agent_svid: None,
        }
    }

    pub(crate) fn set_node(&mut self, node: &NodeIdentity) {
        self.agent_id = Some(node.svid.id().clone());
        self.agent_not_before = Some(node.svid.not_before());
        self.agent_not_after = Some(node.svid.not_after());
        self.agent_svid = Some(Arc::clone(&node.svid));
        self.renewal.clear();
    }

    /// What is wrong, for people.
    pub(crate) fn complaint(&self) -> String {
        let behind = self.behind.as_ref().map_or("", |(_, text)| text);
        // Of the last server asked it is the last error too.
        let told = !self.last_error.is_empty() && behind.ends_with(&self.last_error);
        let behind = if told { "" } else { behind };
        let all = [
            self.last_error.as_str(),
            behind,
            &self.renewal,
            &self.disk,
            &self.chain_trouble,
        ];
        let all: Vec<_> = all.into_iter().filter(|one| !one.is_empty()).collect();
        all.join("; ")
    }

    /// Until when the node is known to have been in step with its server: now, while it is subscribed, since pings show that the connection lives.
    pub(crate) fn synced_at(&self, now: Option<UnixTime>) -> Option<UnixTime> {
        match self.subscribed_since {
            Some(_) => now.or(self.last_sync),
            None => self.last_sync,
        }
    }

    pub(crate) fn unsubscribed(&mut self, because: &str) {
        self.subscribed_since = None;
        because.clone_into(&mut self.polls_because);
    }

    /// The ID stays, so that an operator can name the node that was banned.
    pub(crate) fn forget_node(&mut self) {
        self.agent_not_before = None;
        self.agent_not_after = None;
        self.agent_svid = None;
        self.device_key.clear();
        self.renewal.clear();
    }

    /// A node that has never synchronised in this run is still starting, whatever failed.
    pub(crate) fn phase_after_failure(&self) -> Phase {
        match (self.last_sync, self.agent_id.is_some()) {
            (Some(_), _) => Phase::Disconnected,
            (None, false) => Phase::Attesting,
            (None, true) => Phase::Starting,
        }
    }
}
