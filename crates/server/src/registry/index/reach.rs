//! Whom a change concerns: up from an entry to the agents that may have it. Invariant: what a change takes away is looked for before it, and
//! what it gives after it; the cost is that of the answer.
//!
//! The way up may be walked later, when further changes have been applied: whatever closed a way meanwhile was a change too, and concerned
//! the same agents.

use std::collections::HashSet;
use std::sync::Arc;

use landfast_identity::{SelectorSet, SpiffeId, TrustDomain, UnixTime};

use super::Index;
use crate::datastore::Change;
use crate::registry::Versioned;
use crate::registry::view::View;

/// What has been touched.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Concern {
    /// This agent, or what hangs directly under it.
    Agent(SpiffeId),
    /// This agent has used its renewed SVID: the one with this serial is over.
    Renewed(SpiffeId, String),
    /// What hangs under this ID.
    Below(SpiffeId),
    /// The nodes that have all of these.
    Having(SelectorSet),
    /// This federated bundle.
    Federated(TrustDomain),
}

impl Index {
    /// Whom it concerns by what is there now; asked before a change and after it.
    pub(in crate::registry) fn concerned(&self, change: &Change) -> Vec<Concern> {
        match change {
            Change::PutEntry(entry) => self.by_entry(&entry.id),
            Change::PutPolicy(policy) => self.by_entry(&policy.entry_id),
            Change::RemoveEntry(id) => self.by_entry(id),
            Change::PutAgent(new) => match self.agents.get(new.id.as_str()) {
                Some(old) if old.serial == new.serial && old.selectors == new.selectors => Vec::new(),
                Some(old) if old.new_serial.as_ref() == Some(&new.serial) => {
                    vec![Concern::Renewed(new.id.clone(), old.serial.clone())]
                }
                _ => vec![Concern::Agent(new.id.clone())],
            },
            Change::RemoveAgent(id) => vec![Concern::Agent(id.clone())],
            Change::PutBundle(bundle) => vec![Concern::Federated(bundle.trust_domain().clone())],
            Change::RemoveBundle(trust_domain) => vec![Concern::Federated(trust_domain.clone())],
            // Who is told of an epoch is told by whoever begins it.
            // Persons change seldom, so their third parties are looked for among all.
            Change::PutPerson(person) => self.sponsored(&person.reference.to_string()),
            Change::PutRelationship(_) | Change::RemoveRelationship(_) | Change::BeginEpoch(_) => Vec::new(),
        }
    }

    /// Of what this person answers for.
    fn sponsored(&self, reference: &str) -> Vec<Concern> {
        let is_sponsor = |entry: &&Arc<Versioned>| {
            let party = entry
                .policy
                .as_ref()
                .and_then(|policy| policy.third_party.as_ref());
            party.is_some_and(|party| party.sponsor == reference)
        };
        let sponsored = self.entries.iter().filter(is_sponsor);
        sponsored
            .flat_map(|entry| self.by_entry(&entry.entry.id))
            .collect()
    }

    fn by_entry(&self, id: &str) -> Vec<Concern> {
        let Some(found) = self.entries.get(id) else {
            return Vec::new();
        };
        let parent = &found.entry.parent_id;
        if *parent == self.server {
            return vec![Concern::Having(found.entry.selectors.clone())];
        }
        let mut concerns = Vec::new();
        if parent.is_agent() {
            concerns.push(Concern::Agent(parent.clone()));
        }
        if self.by_spiffe_id.of(parent, None).next().is_some() {
            concerns.push(Concern::Below(parent.clone()));
        }
        concerns
    }

    /// The agents that may have what hangs under this ID. Also by entries that have expired: it does no harm.
    pub(in crate::registry) fn agents_above(&self, id: &SpiffeId) -> HashSet<SpiffeId> {
        let mut found = HashSet::new();
        let mut seen = HashSet::from([id]);
        let mut ways = vec![id];
        while let Some(id) = ways.pop() {
            if self.agents.get(id.as_str()).is_some() {
                found.insert(id.clone());
            }
            for above in self.by_spiffe_id.of(id, None) {
                let entry = &above.entry;
                if entry.parent_id == self.server {
                    found.extend(self.nodes.having(&entry.selectors).map(|agent| agent.id.clone()));
                } else if seen.insert(&entry.parent_id) {
                    ways.push(&entry.parent_id);
                }
            }
        }
        found
    }

    pub(in crate::registry) fn agents_having(&self, selectors: &SelectorSet) -> Vec<SpiffeId> {
        self.nodes
            .having(selectors)
            .map(|agent| agent.id.clone())
            .collect()
    }

    /// See [`View`].
    pub(in crate::registry) fn view(&self, agent: &SpiffeId, now: Option<UnixTime>) -> View {
        let entries = self.authorized(agent, now);
        let agent = self.agent(agent);
        let (aliases, _) = agent
            .as_ref()
            .map(|agent| self.aliases.of(&agent.selectors))
            .unwrap_or_default();
        let end = |entry: &Arc<Versioned>| {
            let end = entry.entry.expires_at;
            end.filter(|_| entry.entry.is_live(now))
        };
        let ends = entries.iter().chain(aliases).filter_map(end).min();
        let mut bundles: Vec<_> = entries
            .iter()
            .flat_map(|entry| &entry.entry.federates_with)
            .collect();
        bundles.sort_unstable();
        bundles.dedup();
        View {
            revision: self.revision,
            bundles: bundles.into_iter().filter_map(|name| self.bundle(name)).collect(),
            agent,
            entries,
            ends,
        }
    }
}
