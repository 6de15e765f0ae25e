//! Agents by what was attested of them. Invariant: whom a set of selectors fits is found among those who have the rarest of them.

use std::collections::HashMap;
use std::sync::Arc;

use landfast_identity::{Selector, SelectorSet};

use super::table::Table;
use crate::registry::AgentRecord;

#[derive(Default)]
pub(super) struct Nodes(HashMap<Selector, Holders>);

/// Most selectors name one node.
enum Holders {
    One(Arc<AgentRecord>),
    Many(Table<AgentRecord>),
}

impl Nodes {
    pub(super) fn put(&mut self, agent: &Arc<AgentRecord>) {
        for selector in &agent.selectors {
            match self.0.get_mut(selector) {
                None => {
                    self.0
                        .insert(selector.clone(), Holders::One(Arc::clone(agent)));
                }
                Some(Holders::One(there)) if there.id == agent.id => *there = Arc::clone(agent),
                Some(holders) => holders.add(Arc::clone(agent)),
            }
        }
    }

    pub(super) fn take(&mut self, agent: &AgentRecord) {
        for selector in &agent.selectors {
            if self
                .0
                .get_mut(selector)
                .is_some_and(|holders| holders.remove(agent))
            {
                self.0.remove(selector);
            }
        }
    }

    /// All that have every one of these; nobody for none.
    pub(super) fn having<'a>(
        &'a self,
        wanted: &'a SelectorSet,
    ) -> impl Iterator<Item = &'a Arc<AgentRecord>> + 'a {
        let holders = wanted.iter().map(|selector| self.0.get(selector));
        // One that nobody has is the rarest of all.
        let rarest = holders.min_by_key(|holders| holders.map_or(0, Holders::len));
        let (one, many) = match rarest.flatten() {
            None => (None, None),
            Some(Holders::One(agent)) => (Some(agent), None),
            Some(Holders::Many(table)) => (None, Some(table.iter())),
        };
        let all_of = |agent: &&Arc<AgentRecord>| wanted.len() == 1 || wanted.is_subset_of(&agent.selectors);
        one.into_iter().chain(many.into_iter().flatten()).filter(all_of)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Holders {
    fn add(&mut self, agent: Arc<AgentRecord>) {
        match self {
            Self::One(there) => *self = Self::Many([Arc::clone(there), agent].into_iter().collect()),
            Self::Many(table) => {
                table.put(agent);
            }
        }
    }

    /// Whether nobody is left.
    fn remove(&mut self, agent: &AgentRecord) -> bool {
        match self {
            Self::One(there) => there.id == agent.id,
            Self::Many(table) => {
                table.take(agent.id.as_str());
                table.is_empty()
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(table) => table.len(),
        }
    }
}
