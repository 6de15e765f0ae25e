//! How a server notices that it was put back to an older state as a whole, with its files: a snapshot of a virtual machine, say.
//!
//! Invariant: one SVID of ours that has no record is proof, for none leaves before it is recorded. What a node merely says counts when several say it.

use landfast_identity::{SpiffeId, VerifiedPeer};

use super::state::{CauseKind, Mark};
use super::{Home, Quarantine};
use crate::authority::Kind;
use crate::random::hex;
use crate::registry::{AgentFilter, Registry, Revision};

impl Quarantine {
    /// Looks whether this certificate, which verifies, is one that this server must have issued and knows nothing of.
    pub(crate) async fn look(&self, peer: &VerifiedPeer, registry: &Registry) {
        if self.home.is_none() || self.holds() {
            return;
        }
        let accepted = self.state().accepted;
        if peer.leaf.not_before().as_secs() <= accepted || !self.is_unrecorded(peer).await {
            return;
        }
        let detail = format!(
            "{} has an SVID of this server, serial {}, that begins {} and has no record here: the machine or its disk was put back",
            peer.id,
            peer.serial_hex,
            peer.leaf.not_before()
        );
        self.begin(CauseKind::RolledBack, here(registry), detail).await;
    }

    /// Whether an authority of ours has signed it, and no record says so. What cannot be looked up counts as recorded.
    pub(crate) async fn is_unrecorded(&self, peer: &VerifiedPeer) -> bool {
        let Some(home) = &self.home else { return false };
        let known = self.evidence().verdicts.get(&peer.serial_hex).copied();
        if let Some(known) = known {
            return !known;
        }
        let Some(recorded) = home.is_recorded(peer).await else {
            return false;
        };
        let mut evidence = self.evidence();
        if evidence.verdicts.len() >= VERDICTS {
            evidence.verdicts.clear();
        }
        evidence.verdicts.insert(peer.serial_hex.clone(), recorded);
        !recorded
    }

    /// A node says that it has seen a newer registry. Alone it may lie, or stop a plant by it: several have to say so, or all there are.
    pub(crate) async fn claim(&self, agent: &SpiffeId, seen: Revision, registry: &Registry) {
        if self.home.is_none() || self.holds() {
            return;
        }
        let not_banned = AgentFilter {
            banned: Some(false),
            ..AgentFilter::default()
        };
        let enough = registry.count_agents(&not_banned).clamp(1, CLAIMS);
        let who = {
            let mut evidence = self.evidence();
            if evidence.claims.len() < CLAIMS {
                evidence.claims.insert(agent.clone());
            }
            let claims: Vec<_> = evidence.claims.iter().map(ToString::to_string).collect();
            claims
        };
        if who.len() < enough {
            return;
        }
        let detail = format!(
            "{} have seen a newer registry than this, {seen} for one, which stands at {}: the machine or its disk was put back",
            who.join(", "),
            registry.revision()
        );
        self.begin(CauseKind::RolledBack, here(registry), detail).await;
    }
}

fn here(registry: &Registry) -> Mark {
    Mark::new(registry.revision(), 0)
}

impl Home {
    /// `None` when it is not known, or not ours to know.
    async fn is_recorded(&self, peer: &VerifiedPeer) -> Option<bool> {
        let signer = hex(&peer.leaf.authority_key_id()?);
        let journal = self.datastore.journal().await.ok()?;
        let mut rows = journal.rows.iter();
        // Servers below this one keep records of their own.
        rows.find(|row| row.kind == Kind::X509 && row.id == signer)?;
        let records = self.datastore.records(peer.id.clone()).await.ok()?;
        Some(records.iter().any(|record| record.serial == peer.serial_hex))
    }
}

/// So many nodes have to say it.
pub(super) const CLAIMS: usize = 3;
pub(super) const VERDICTS: usize = 1024;
