//! What the link says about itself, for `agent status`, health and metrics.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime, X509Svid};

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
    pub(crate) address: String,
    pub(crate) last_sync: Option<UnixTime>,
    pub(crate) last_error: String,
    /// What of the node's state cannot be written, and what to do; empty while all is on disk.
    pub(crate) disk: String,
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
            address: String::new(),
            last_sync: None,
            last_error: String::new(),
            disk: String::new(),
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
    }

    /// What is wrong, for people.
    pub(crate) fn complaint(&self) -> String {
        match (self.last_error.as_str(), self.disk.as_str()) {
            (error, "") => error.to_owned(),
            ("", disk) => disk.to_owned(),
            (error, disk) => format!("{error}; {disk}"),
        }
    }

    /// The ID stays, so that an operator can name the node that was banned.
    pub(crate) fn forget_node(&mut self) {
        self.agent_not_before = None;
        self.agent_not_after = None;
        self.agent_svid = None;
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
