//! How a SPIRE server keeps account of its nodes, in its own words: a token works once, an SVID has one serial number, and a renewed one
//! counts from its first use on.

use std::collections::{HashMap, HashSet};

use landfast_identity::SpiffeId;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tonic::{Code, Status};

use crate::link::failure::denied_details;

/// The nodes a SPIRE server knows.
#[derive(Default)]
pub(crate) struct Nodes {
    tokens: HashSet<Vec<u8>>,
    known: HashMap<SpiffeId, Node>,
}

struct Node {
    /// Empty when it is banned.
    serial: String,
    renewed: String,
    reattestable: bool,
}

impl Nodes {
    /// With tokens that were generated and not used.
    pub(crate) fn with_tokens(tokens: &[&str]) -> Self {
        Self {
            tokens: tokens.iter().map(|token| token.as_bytes().to_vec()).collect(),
            known: HashMap::new(),
        }
    }

    /// `token generate`.
    pub(crate) fn generate(&mut self, token: &str) {
        self.tokens.insert(token.as_bytes().to_vec());
    }

    /// `agent ban`, of all.
    pub(crate) fn ban(&mut self) {
        for node in self.known.values_mut() {
            node.serial.clear();
            node.renewed.clear();
        }
    }

    /// `agent evict`, of all.
    pub(crate) fn evict(&mut self) {
        self.known.clear();
    }

    pub(super) fn attest(&mut self, kind: &str, payload: &[u8]) -> Result<(), Status> {
        // Gone whatever happens next: an answer that is lost cannot be had again.
        if kind == "join_token" && !self.tokens.remove(payload) {
            return Err(Status::invalid_argument(
                "failed to attest: join token does not exist or has already been used",
            ));
        }
        // Without any detail.
        match self.known.values().any(|node| node.serial.is_empty()) {
            true => Err(Status::permission_denied("failed to attest: agent is banned")),
            false => Ok(()),
        }
    }

    /// Answers whether the node may attest again.
    pub(super) fn attested(&mut self, id: &SpiffeId, serial: &str, kind: &str) -> bool {
        let reattestable = kind != "join_token";
        let node = Node {
            serial: serial.to_owned(),
            renewed: String::new(),
            reattestable,
        };
        self.known.insert(id.clone(), node);
        reattestable
    }

    pub(super) fn check(&mut self, id: &SpiffeId, serial: &str) -> Result<(), Status> {
        let Some(node) = self.known.get_mut(id) else {
            return Err(denied(Reason::AgentNotAttested));
        };
        if node.serial.is_empty() {
            return Err(denied(Reason::AgentBanned));
        }
        if node.renewed == serial {
            node.serial = std::mem::take(&mut node.renewed);
        }
        match node.serial == serial {
            true => Ok(()),
            false => Err(denied(Reason::AgentNotActive)),
        }
    }

    pub(super) fn renewed(&mut self, id: &SpiffeId, serial: &str) -> Result<(), Status> {
        let Some(node) = self.known.get_mut(id) else {
            return Err(Status::not_found("agent not found"));
        };
        if node.reattestable {
            return Err(denied(Reason::AgentMustReattest));
        }
        serial.clone_into(&mut node.renewed);
        Ok(())
    }
}

fn denied(reason: Reason) -> Status {
    let details = denied_details(reason.into()).into();
    Status::with_details(Code::PermissionDenied, "authorization denied", details)
}
