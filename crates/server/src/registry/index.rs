//! The registry in memory. Invariant: every lookup costs what its answer costs; no map holds an object that another has lost.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use landfast_identity::{Bundle, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};

use super::agent::{AgentFilter, AgentRecord};
use super::entry::Entry;
use super::filter::EntryFilter;
use super::relationships::Relationship;
use crate::datastore::{Change, Committed, Snapshot};

/// Entries in the order of their IDs.
type ById = BTreeMap<String, Arc<Entry>>;

pub(super) struct Index {
    pub(super) revision: u64,
    /// The parent that marks a node alias.
    server: SpiffeId,
    entries: ById,
    by_parent: HashMap<SpiffeId, ById>,
    by_spiffe_id: HashMap<SpiffeId, ById>,
    /// Each node alias stands under one of its selectors: an agent that has them all has that one.
    aliases: HashMap<Selector, ById>,
    alias_at: HashMap<String, Selector>,
    agents: BTreeMap<String, Arc<AgentRecord>>,
    bundles: BTreeMap<String, Arc<Bundle>>,
    relationships: BTreeMap<String, Arc<Relationship>>,
}

impl Index {
    pub(super) fn build(server: SpiffeId, snapshot: Snapshot) -> Self {
        let mut index = Self {
            revision: snapshot.revision,
            server,
            entries: ById::new(),
            by_parent: HashMap::new(),
            by_spiffe_id: HashMap::new(),
            aliases: HashMap::new(),
            alias_at: HashMap::new(),
            agents: BTreeMap::new(),
            bundles: BTreeMap::new(),
            relationships: BTreeMap::new(),
        };
        for entry in snapshot.entries {
            index.put(Arc::new(entry));
        }
        index.agents = snapshot
            .agents
            .into_iter()
            .map(|a| (a.id.to_string(), Arc::new(a)))
            .collect();
        index.bundles = snapshot
            .bundles
            .into_iter()
            .map(|b| (b.trust_domain().to_string(), Arc::new(b)))
            .collect();
        index.relationships = snapshot
            .relationships
            .into_iter()
            .map(|r| (r.trust_domain.to_string(), Arc::new(r)))
            .collect();
        index
    }

    pub(super) fn apply(&mut self, commit: &Committed) {
        match &commit.change {
            Change::PutEntry(entry) => self.put(Arc::clone(entry)),
            Change::RemoveEntry(id) => self.remove(id),
            Change::PutAgent(agent) => {
                self.agents.insert(agent.id.to_string(), Arc::clone(agent));
            }
            Change::RemoveAgent(id) => {
                self.agents.remove(id.as_str());
            }
            Change::PutBundle(bundle) => {
                self.bundles
                    .insert(bundle.trust_domain().to_string(), Arc::clone(bundle));
            }
            Change::RemoveBundle(td) => {
                self.bundles.remove(td.as_str());
            }
            Change::PutRelationship(relationship) => {
                self.relationships
                    .insert(relationship.trust_domain.to_string(), Arc::clone(relationship));
            }
            Change::RemoveRelationship(td) => {
                self.relationships.remove(td.as_str());
            }
        }
        self.revision = commit.revision;
    }

    fn put(&mut self, entry: Arc<Entry>) {
        self.remove(&entry.id);
        let id = || entry.id.clone();
        self.by_parent
            .entry(entry.parent_id.clone())
            .or_default()
            .insert(id(), Arc::clone(&entry));
        self.by_spiffe_id
            .entry(entry.spiffe_id.clone())
            .or_default()
            .insert(id(), Arc::clone(&entry));
        if entry.parent_id == self.server
            && let Some(rarest) = entry
                .selectors
                .iter()
                .min_by_key(|s| self.aliases.get(*s).map_or(0, ById::len))
        {
            // The rarest, so that a selector that all nodes share does not collect every alias.
            self.alias_at.insert(id(), rarest.clone());
            self.aliases
                .entry(rarest.clone())
                .or_default()
                .insert(id(), Arc::clone(&entry));
        }
        self.entries.insert(id(), entry);
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        drop_from(&mut self.by_parent, &entry.parent_id, id);
        drop_from(&mut self.by_spiffe_id, &entry.spiffe_id, id);
        if let Some(selector) = self.alias_at.remove(id) {
            drop_from(&mut self.aliases, &selector, id);
        }
    }

    pub(super) fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        self.entries.get(id).cloned()
    }

    pub(super) fn entries<'a>(
        &'a self,
        filter: &'a EntryFilter,
        after: Option<&str>,
    ) -> impl Iterator<Item = Arc<Entry>> + 'a {
        let narrowed = match (&filter.spiffe_id, &filter.parent_id) {
            (Some(id), _) => self.by_spiffe_id.get(id),
            (None, Some(parent)) => self.by_parent.get(parent),
            (None, None) => Some(&self.entries),
        };
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_owned()));
        narrowed
            .into_iter()
            .flat_map(move |entries| entries.range((from.clone(), Bound::Unbounded)))
            .map(|(_, entry)| entry)
            .filter(|entry| filter.matches(entry))
            .cloned()
    }

    pub(super) fn of_id(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_spiffe_id.get(id).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn authorized(&self, agent: &SpiffeId, now: Option<UnixTime>) -> Vec<Arc<Entry>> {
        let Some(record) = self
            .agents
            .get(agent.as_str())
            .filter(|record| !record.is_banned())
        else {
            return Vec::new();
        };
        let mut parents = VecDeque::from([agent.clone()]);
        parents.extend(
            self.aliases_of(&record.selectors, now)
                .map(|alias| alias.spiffe_id.clone()),
        );
        let mut seen: HashSet<SpiffeId> = parents.iter().cloned().collect();
        let mut granted = BTreeMap::new();
        while let Some(parent) = parents.pop_front() {
            // What hangs under the server are aliases, and no alias is itself granted.
            if parent == self.server {
                continue;
            }
            for (id, entry) in self
                .by_parent
                .get(&parent)
                .into_iter()
                .flatten()
                .filter(|(_, e)| e.is_live(now))
            {
                granted.insert(id.as_str(), entry);
                if seen.insert(entry.spiffe_id.clone()) {
                    parents.push_back(entry.spiffe_id.clone());
                }
            }
        }
        granted.into_values().cloned().collect()
    }

    fn aliases_of<'a>(
        &'a self,
        attested: &'a SelectorSet,
        now: Option<UnixTime>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + 'a {
        attested
            .iter()
            .filter_map(|selector| self.aliases.get(selector))
            .flat_map(BTreeMap::values)
            .filter(move |alias| alias.is_live(now) && alias.selectors.is_subset_of(attested))
    }

    pub(super) fn agent(&self, id: &SpiffeId) -> Option<Arc<AgentRecord>> {
        self.agents.get(id.as_str()).cloned()
    }

    pub(super) fn agents<'a>(
        &'a self,
        filter: &'a AgentFilter,
        after: Option<&str>,
    ) -> impl Iterator<Item = Arc<AgentRecord>> + 'a {
        range(&self.agents, after)
            .filter(|agent| filter.matches(agent))
            .cloned()
    }

    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.bundles.get(trust_domain.as_str()).cloned()
    }

    pub(super) fn bundles(&self, after: Option<&str>) -> impl Iterator<Item = Arc<Bundle>> {
        range(&self.bundles, after).cloned()
    }

    pub(super) fn relationship(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        self.relationships.get(trust_domain.as_str()).cloned()
    }

    pub(super) fn relationships(&self, after: Option<&str>) -> impl Iterator<Item = Arc<Relationship>> {
        range(&self.relationships, after).cloned()
    }
}

fn range<'a, V>(
    map: &'a BTreeMap<String, V>,
    after: Option<&str>,
) -> impl Iterator<Item = &'a V> + use<'a, V> {
    let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_owned()));
    map.range((from, Bound::Unbounded)).map(|(_, value)| value)
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, ById>, key: &K, id: &str) {
    if let Some(entries) = map.get_mut(key) {
        entries.remove(id);
        if entries.is_empty() {
            map.remove(key);
        }
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
            && self.alias_at.is_empty()
    }

    /// How many aliases are looked at for an agent with these selectors.
    pub(super) fn aliases_seen(&self, attested: &SelectorSet) -> usize {
        attested
            .iter()
            .filter_map(|s| self.aliases.get(s))
            .map(BTreeMap::len)
            .sum()
    }
}
