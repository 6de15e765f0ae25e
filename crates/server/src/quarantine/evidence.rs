//! What nodes show in a quarantine. Invariant: it is only ever shown to people: a node's word gives nobody anything and takes nothing away; and
//! it is bounded.

use std::collections::{BTreeSet, HashMap};

use landfast_identity::{SpiffeId, UnixTime, VerifiedPeer};
use landfast_proto::landfast::sync::v1::SubscribeRequest;

use super::Quarantine;
use super::state::{Finding, FindingKind, MAX_FINDINGS};
use crate::push::version;
use crate::registry::{AgentRecord, Revision, View};

/// Of this process: after a restart nodes show it again.
#[derive(Default)]
pub(super) struct Evidence {
    /// At most [`MAX_FINDINGS`].
    pub(super) findings: BTreeSet<Finding>,
    /// There was no room for all of them.
    pub(super) is_cut: bool,
    /// Known nodes that have said what they hold: no more than there are.
    pub(super) heard: BTreeSet<SpiffeId>,
    /// Known nodes that have shown steps of the bundle chain: no more than there are.
    pub(super) shown: BTreeSet<SpiffeId>,
    /// Authorities of which was said that they are in force again, while there is no quarantine: no more than there were since.
    pub(super) told: BTreeSet<String>,
    /// The newest that any of them has seen.
    pub(super) newest: Option<Revision>,
    /// Nodes that have seen a newer registry than this one, while it is in no quarantine. At most [`super::notice::CLAIMS`].
    pub(super) claims: BTreeSet<SpiffeId>,
    /// Whether a serial number is in the records. At most [`super::notice::VERDICTS`].
    pub(super) verdicts: HashMap<String, bool>,
}

impl Evidence {
    fn add(&mut self, found: Vec<Finding>) {
        for finding in found {
            if self.findings.len() < MAX_FINDINGS {
                self.findings.insert(finding);
            } else if finding.kind.comes_back() && !self.findings.contains(&finding) {
                self.is_cut = true;
            }
        }
    }
}

impl Quarantine {
    /// A node has connected, with a certificate that verifies.
    pub(crate) fn saw(&self, peer: &VerifiedPeer, agent: Option<&AgentRecord>) {
        let made_at = {
            let state = self.state();
            let made = state.causes.iter().filter_map(|cause| cause.backup_made_at);
            UnixTime::from_secs(made.min().unwrap_or(0))
        };
        let begins = peer.leaf.not_before();
        let is_node = peer.id.path().starts_with(NODES);
        // One from before says nothing of what came after.
        if !is_node || begins <= made_at {
            return;
        }
        let detail = match agent {
            None => {
                format!(
                    "has an SVID that begins {begins}, and is not known here: it was enrolled since, or evicted before"
                )
            }
            Some(agent) if agent.is_banned() => {
                format!("has an SVID that begins {begins}, and is banned here: its ban was lifted since")
            }
            Some(_) => return,
        };
        self.evidence().add(vec![Finding {
            kind: FindingKind::NodeLost,
            object: peer.id.to_string(),
            detail,
        }]);
    }

    /// A node has shown steps of the bundle chain that are none of a stranger's.
    pub(crate) fn showed(&self, agent: &SpiffeId) {
        if self.holds() {
            self.evidence().shown.insert(agent.clone());
        }
    }

    /// A node says what it has seen and holds; `view` is what the registry would give it.
    pub(crate) fn heard(&self, agent: &SpiffeId, said: &SubscribeRequest, view: &View) {
        let Some(newest) = said.newest.map(|newest| Revision {
            epoch: newest.epoch,
            number: newest.number,
        }) else {
            return;
        };
        let base = {
            let state = self.state();
            let at = state.causes.iter().map(|cause| Revision {
                epoch: cause.epoch,
                number: cause.number,
            });
            at.max().unwrap_or_default()
        };
        let mut evidence = self.evidence();
        evidence.heard.insert(agent.clone());
        evidence.newest = evidence.newest.max(Some(newest));
        evidence.add(differences(agent, newest, base, said, view));
    }
}

/// What the registry would give the node again that it has seen taken away.
fn differences(
    agent: &SpiffeId,
    newest: Revision,
    base: Revision,
    said: &SubscribeRequest,
    view: &View,
) -> Vec<Finding> {
    // Who holds nothing has forgotten it, and who has seen no more than there is has nothing to say.
    if newest <= base || said.entries.is_empty() {
        return Vec::new();
    }
    let held: HashMap<&str, u64> = said
        .entries
        .iter()
        .map(|entry| (entry.id.as_str(), entry.version))
        .collect();
    // Versions are numbers of one epoch.
    let same_epoch = newest.epoch == base.epoch;
    // What was decided here since, the node cannot have heard.
    let old = view.entries.iter().filter(|entry| entry.version() <= base.number);
    let different = old.filter_map(|entry| {
        let spiffe_id = &entry.entry.spiffe_id;
        let (kind, detail) = match held.get(entry.entry.id.as_str()) {
            None => (
                FindingKind::EntryDeleted,
                format!("{spiffe_id}: at revision {newest}, {agent} did not have it any more"),
            ),
            Some(held) if same_epoch && *held != 0 && *held != version(base, entry) => (
                FindingKind::EntryChanged,
                format!("{spiffe_id}: {agent} has a version of it that is not known here"),
            ),
            Some(_) => return None,
        };
        Some(Finding {
            kind,
            object: entry.entry.id.clone(),
            detail,
        })
    });
    different.collect()
}

const NODES: &str = "/spire/agent/";
