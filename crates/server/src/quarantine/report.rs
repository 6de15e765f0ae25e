//! What an operator is shown. Invariant: what was decided again here is not among what comes back.

use std::collections::BTreeMap;

use landfast_identity::{Bundle, SpiffeId};

use super::Quarantine;
use super::state::{Cause, Ended, Finding, FindingKind};
use crate::random::hex;
use crate::registry::{AgentFilter, Registry, Revision};

/// How it stands.
pub(crate) struct Report {
    /// Empty: there is no quarantine.
    pub(crate) causes: Vec<Cause>,
    /// What is so still, each thing once.
    pub(crate) findings: Vec<Finding>,
    /// Whether the findings are all there can be.
    pub(crate) complete: bool,
    pub(crate) nodes: usize,
    pub(crate) nodes_heard: usize,
    /// Of them, that have shown steps of the bundle chain.
    pub(crate) nodes_shown: usize,
    /// The newest that a node has seen.
    pub(crate) newest: Option<Revision>,
    pub(crate) ended: Vec<Ended>,
}

impl Report {
    /// How many rights come back that were taken away.
    pub(crate) fn comes_back(&self) -> usize {
        let back = self.findings.iter().filter(|finding| finding.kind.comes_back());
        back.count()
    }

    /// What to look at before it is ended, where steps are signed: the first step of after the end leads nobody on who knows another root key, and only
    /// nodes, or the old data, can say that there is one.
    pub(crate) fn caution(&self) -> Option<&'static str> {
        let is_open = !self.causes.is_empty() && !self.complete && self.nodes_shown == 0;
        is_open.then_some(CAUTION)
    }
}

impl Quarantine {
    pub(crate) fn report(&self, registry: &Registry, bundle: &Bundle) -> Report {
        self.tell();
        let state = self.state().clone();
        let evidence = self.evidence();
        let mut findings = BTreeMap::new();
        let noted = state.causes.iter().flat_map(|cause| &cause.findings);
        for finding in noted.chain(&evidence.findings) {
            // Several nodes say the same of one entry.
            findings
                .entry((finding.kind, finding.object.clone()))
                .or_insert_with(|| finding.clone());
        }
        let base = state.causes.iter().map(|cause| cause.number).max();
        let still = |finding: &Finding| is_so(finding, base.unwrap_or(0), registry, bundle);
        Report {
            findings: findings.into_values().filter(still).collect(),
            complete: !evidence.is_cut && state.causes.iter().all(|cause| cause.complete),
            nodes: registry.count_agents(&AgentFilter::default()),
            nodes_heard: evidence.heard.len(),
            nodes_shown: evidence.shown.len(),
            newest: evidence.newest,
            causes: state.causes,
            ended: state.ended,
        }
    }
}

const CAUTION: &str = "no node has shown steps of the bundle chain yet, so a change of root keys that was lost is not known here: is the present root key in \
    place (landfast root show)? The first step after the end is signed with what lies there, and nodes that know another do not follow it; nodes show \
    theirs within ten minutes";

fn is_so(finding: &Finding, base: u64, registry: &Registry, bundle: &Bundle) -> bool {
    match finding.kind {
        FindingKind::EntryDeleted => registry.entry(&finding.object).is_some(),
        // One that was changed here was looked at.
        FindingKind::EntryChanged => registry
            .version_of(&finding.object)
            .is_some_and(|version| version <= base),
        FindingKind::NodeEvicted => {
            let agent = SpiffeId::parse(&finding.object)
                .ok()
                .and_then(|id| registry.agent(&id));
            agent.is_some_and(|agent| !agent.is_banned())
        }
        FindingKind::AuthorityGone => {
            let id = &finding.object;
            let mut x509 = bundle.x509_authorities().iter();
            let is_x509 = x509.any(|authority| {
                let key = authority.certificate.subject_key_id();
                !authority.tainted && key.is_some_and(|key| hex(&key) == *id)
            });
            let mut jwt = bundle.jwt_authorities().iter();
            let mut wit = bundle.wit_authorities().iter();
            is_x509
                || jwt.any(|authority| authority.key_id == *id && !authority.tainted)
                || wit.any(|authority| authority.key_id == *id && !authority.tainted)
        }
        FindingKind::NodeLost => true,
    }
}
