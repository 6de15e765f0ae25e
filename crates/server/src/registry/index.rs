//! The registry in memory. Invariant: every lookup costs what its answer costs; no map holds an object that another has lost.

mod aliases;
mod groups;
mod nodes;
mod people;
mod reach;
mod table;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

#[cfg(test)]
use landfast_identity::SelectorSet;
use landfast_identity::{Bundle, SpiffeId, TrustDomain, UnixTime};

use super::agent::{AgentFilter, AgentRecord};
use super::entry::Entry;
use super::filter::EntryFilter;
use super::relationships::Relationship;
use super::revision::{Revision, Versioned};
use crate::datastore::{Change, Committed, Snapshot};
use crate::reserve::is_powerful;
use aliases::Aliases;
use groups::Groups;
use nodes::Nodes;
use people::People;
pub(crate) use reach::Concern;
use table::Table;

pub(super) struct Index {
    pub(super) revision: Revision,
    /// The parent that marks a node alias.
    server: SpiffeId,
    entries: Table<Versioned>,
    by_parent: Groups,
    by_spiffe_id: Groups,
    aliases: Aliases,
    agents: Table<AgentRecord>,
    /// By what was attested of them.
    nodes: Nodes,
    bundles: Table<Bundle>,
    relationships: Table<Relationship>,
    pub(super) people: People,
}

impl Index {
    pub(super) fn build(server: SpiffeId, snapshot: Snapshot) -> Self {
        let mut index = Self {
            revision: snapshot.revision,
            server,
            entries: Table::default(),
            by_parent: Groups::default(),
            by_spiffe_id: Groups::default(),
            aliases: Aliases::default(),
            nodes: Nodes::default(),
            agents: snapshot.agents.into_iter().collect(),
            bundles: snapshot.bundles.into_iter().collect(),
            relationships: snapshot.relationships.into_iter().collect(),
            people: snapshot.people.into_iter().collect(),
        };
        for agent in index.agents.iter() {
            index.nodes.put(agent);
        }
        let entries: Vec<_> = snapshot.entries.into_iter().map(Arc::new).collect();
        for entry in &entries {
            index.refer_to(entry);
        }
        index.entries = entries.into_iter().collect();
        index
    }

    pub(super) fn apply(&mut self, commit: &Committed) {
        match &commit.change {
            Change::PutEntry(entry) => {
                let policy = self.entries.get(&entry.id).and_then(|old| old.policy.clone());
                self.put(Versioned {
                    entry: Arc::clone(entry),
                    revision: commit.revision,
                    policy,
                });
            }
            Change::PutPolicy(policy) => {
                if let Some(old) = self.entries.get(&policy.entry_id) {
                    let with_policy = Versioned {
                        policy: Some(Arc::clone(policy)),
                        ..(**old).clone()
                    };
                    self.put(with_policy);
                }
            }
            Change::RemoveEntry(id) => self.remove(id),
            Change::PutAgent(agent) => {
                self.forget(agent.id.as_str());
                self.nodes.put(agent);
                self.agents.put(Arc::clone(agent));
            }
            Change::RemoveAgent(id) => {
                self.forget(id.as_str());
            }
            Change::PutBundle(bundle) => {
                self.bundles.put(Arc::clone(bundle));
            }
            Change::RemoveBundle(td) => {
                self.bundles.take(td.as_str());
            }
            Change::PutRelationship(relationship) => {
                self.relationships.put(Arc::clone(relationship));
            }
            Change::RemoveRelationship(td) => {
                self.relationships.take(td.as_str());
            }
            Change::PutPerson(person) => self.people.put(Arc::clone(person)),
            Change::BeginEpoch(epoch) => self.revision.epoch = *epoch,
        }
        self.revision.number = commit.revision;
    }

    fn put(&mut self, entry: Versioned) {
        self.remove(&entry.entry.id);
        let entry = Arc::new(entry);
        self.refer_to(&entry);
        self.entries.put(entry);
    }

    fn refer_to(&mut self, entry: &Arc<Versioned>) {
        self.by_parent.put(&entry.entry.parent_id, Arc::clone(entry));
        self.by_spiffe_id.put(&entry.entry.spiffe_id, Arc::clone(entry));
        if entry.entry.parent_id == self.server {
            self.aliases.put(Arc::clone(entry));
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(gone) = self.entries.take(id) else {
            return;
        };
        self.by_parent.drop_from(&gone.entry.parent_id, id);
        self.by_spiffe_id.drop_from(&gone.entry.spiffe_id, id);
        if gone.entry.parent_id == self.server {
            self.aliases.take(&gone);
        }
    }

    fn forget(&mut self, agent: &str) {
        if let Some(gone) = self.agents.take(agent) {
            self.nodes.take(&gone);
        }
    }

    pub(super) fn versioned(&self, id: &str) -> Option<Arc<Versioned>> {
        self.entries.get(id).cloned()
    }

    pub(super) fn entries<'a>(
        &'a self,
        filter: &'a EntryFilter,
        after: Option<&str>,
    ) -> impl Iterator<Item = Arc<Entry>> + use<'a> {
        let (all, group) = match (&filter.spiffe_id, &filter.parent_id) {
            (Some(id), _) => (None, Some(self.by_spiffe_id.of(id, after))),
            (None, Some(parent)) => (None, Some(self.by_parent.of(parent, after))),
            (None, None) => (Some(self.entries.after(after)), None),
        };
        let (all, group) = (all.into_iter().flatten(), group.into_iter().flatten());
        all.chain(group)
            .map(|found| &found.entry)
            .filter(|entry| filter.matches(entry))
            .cloned()
    }

    pub(super) fn of_id(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Versioned>> {
        self.by_spiffe_id.of(id, None)
    }

    pub(super) fn below(&self, parent: &SpiffeId) -> impl Iterator<Item = &Arc<Versioned>> {
        self.by_parent.of(parent, None)
    }

    pub(super) fn authorized(&self, agent: &SpiffeId, now: Option<UnixTime>) -> Vec<Arc<Versioned>> {
        self.look(agent, now).0
    }

    /// And how much was looked at for it.
    fn look(&self, agent: &SpiffeId, now: Option<UnixTime>) -> (Vec<Arc<Versioned>>, usize) {
        let Some(record) = self
            .agents
            .get(agent.as_str())
            .filter(|record| !record.is_banned())
        else {
            return (Vec::new(), 0);
        };
        let (aliases, mut looked) = self.aliases.of(&record.selectors);
        let live = |entry: &&Arc<Versioned>| entry.entry.is_live(now) && self.is_answered_for(entry);
        let aliases = aliases.into_iter().filter(live);
        let mut parents: VecDeque<&SpiffeId> = aliases.map(|alias| &alias.entry.spiffe_id).collect();
        parents.push_front(agent);
        let mut seen: HashSet<&SpiffeId> = parents.iter().copied().collect();
        let mut granted = Vec::new();
        while let Some(parent) = parents.pop_front() {
            // What hangs under the server are aliases, and no alias is itself granted.
            if *parent == self.server {
                continue;
            }
            looked += 1;
            for entry in self.by_parent.of(parent, None) {
                looked += 1;
                if !live(&entry) {
                    continue;
                }
                granted.push(Arc::clone(entry));
                if seen.insert(&entry.entry.spiffe_id) {
                    parents.push_back(&entry.entry.spiffe_id);
                }
            }
        }
        // An entry has one parent, and each parent was asked once.
        granted.sort_unstable_by(|a, b| a.entry.id.cmp(&b.entry.id));
        (granted, looked)
    }

    /// An entry of a third party grants nothing while its sponsor is no active person; nor ever when it has no end, or gives power over the server. That it
    /// has neither is asked when it is made, too, of what this server has heard by then; here it is seen to.
    pub(super) fn is_answered_for(&self, entry: &Versioned) -> bool {
        let party = entry
            .policy
            .as_ref()
            .and_then(|policy| policy.third_party.as_ref());
        party.is_none_or(|party| {
            entry.entry.expires_at.is_some()
                && !is_powerful(&entry.entry)
                && self.people.is_active(&party.sponsor)
        })
    }

    pub(super) fn agent(&self, id: &SpiffeId) -> Option<Arc<AgentRecord>> {
        self.agents.get(id.as_str()).cloned()
    }

    pub(super) fn agents<'a>(
        &'a self,
        filter: &'a AgentFilter,
        after: Option<&str>,
    ) -> impl Iterator<Item = Arc<AgentRecord>> + 'a {
        self.agents
            .after(after)
            .filter(|agent| filter.matches(agent))
            .cloned()
    }

    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.bundles.get(trust_domain.as_str()).cloned()
    }

    pub(super) fn bundles(&self, after: Option<&str>) -> impl Iterator<Item = Arc<Bundle>> {
        self.bundles.after(after).cloned()
    }

    pub(super) fn relationship(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        self.relationships.get(trust_domain.as_str()).cloned()
    }

    pub(super) fn relationships(&self, after: Option<&str>) -> impl Iterator<Item = Arc<Relationship>> {
        self.relationships.after(after).cloned()
    }
}

#[cfg(test)]
impl Index {
    /// Whether no map holds any entry.
    pub(super) fn is_bare(&self) -> bool {
        self.entries.is_empty()
            && self.by_parent.is_empty()
            && self.by_spiffe_id.is_empty()
            && self.aliases.is_empty()
    }

    /// Whether nobody is looked for by selectors.
    pub(super) fn has_no_nodes(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How much is looked at for what an agent may have.
    pub(super) fn authorized_seen(&self, agent: &SpiffeId) -> usize {
        self.look(agent, None).1
    }

    /// How much is looked at to find the aliases of an agent with these selectors.
    pub(super) fn aliases_seen(&self, attested: &SelectorSet) -> usize {
        self.aliases.of(attested).1
    }
}
