//! What the server has said, taken into the state. Invariant: what is not different is left as it is, so that nobody hears of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime};

use super::{Action, Note, Pushed, Reach, State, Synced};
use crate::entry::EntryIndex;

impl State {
    pub(super) fn adopt_sync(&mut self, now: UnixTime, synced: Synced, actions: &mut Vec<Action>) -> bool {
        let state = &mut self.now;
        let mut changed = state.synced_at.is_none() || state.banned;
        state.synced_at = Some(now);
        state.banned = false;
        let same = synced.entries.len() == state.entries.len()
            && synced
                .entries
                .iter()
                .all(|entry| state.entries.get(&entry.id) == Some(entry));
        if !same {
            self.replace_entries(now, EntryIndex::new(synced.entries), actions);
            changed = true;
        }
        changed |= self.replace_bundle(synced.bundle, now);
        changed | self.replace_federated(synced.federated)
    }

    /// What the step touches.
    pub(super) fn adopt_push(
        &mut self,
        now: UnixTime,
        pushed: Pushed,
        actions: &mut Vec<Action>,
    ) -> Option<Reach> {
        let mut all = self.now.synced_at.is_none() || self.now.banned;
        self.now.synced_at = Some(now);
        self.now.banned = false;
        let mut touched: HashSet<Arc<str>> = pushed.gone.iter().cloned().collect();
        touched.extend(pushed.put.iter().map(|entry| Arc::clone(&entry.id)));
        if !touched.is_empty() {
            let untouched = self
                .now
                .entries
                .iter()
                .filter(|entry| !touched.contains(&entry.id));
            let entries: Vec<_> = untouched.cloned().chain(pushed.put).collect();
            self.replace_entries(now, EntryIndex::new(entries), actions);
        }
        if let Some(bundle) = pushed.bundle {
            all |= self.replace_bundle(bundle, now);
        }
        if let Some(federated) = pushed.federated {
            all |= self.replace_federated(federated);
        }
        // Each view would be compared with each of them: of many it is cheaper to make all views anew.
        match all || touched.len() > MANY {
            true => Some(Reach::All),
            false => (!touched.is_empty()).then_some(Reach::Changed(touched)),
        }
    }

    /// Whom it reaches: who waits for what was not asked for before.
    pub(super) fn adopt_wanted(&mut self, now: UnixTime, ids: HashSet<Arc<str>>) -> Option<Reach> {
        let state = &mut self.now;
        let mut new = ids;
        new.retain(|id| state.entries.get(id).is_some_and(|entry| !state.is_wanted(entry)));
        if new.is_empty() {
            return None;
        }
        Arc::make_mut(&mut state.wanted).extend(new.iter().map(|id| (Arc::clone(id), now)));
        Some(Reach::Entries(new))
    }

    fn replace_entries(&mut self, now: UnixTime, index: EntryIndex, actions: &mut Vec<Action>) {
        let state = &mut self.now;
        for old in state.entries.iter().filter(|old| index.get(&old.id).is_none()) {
            actions.push(Action::Note(Note::Withdrawn {
                spiffe_id: old.spiffe_id.to_string(),
                reason: "its entry is gone",
            }));
        }
        if state.held.keys().any(|id| index.get(id).is_none()) {
            Arc::make_mut(&mut state.held).retain(|id, _| index.get(id).is_some());
        }
        // Made anew under the ID of another.
        let is_another = |id: &Arc<str>| {
            let both = state.entries.get(id).zip(index.get(id));
            both.is_some_and(|(old, new)| old.created_at != new.created_at)
        };
        if state.held.keys().any(is_another) {
            for (id, held) in Arc::make_mut(&mut state.held) {
                if is_another(id) {
                    *held = Arc::new(held.of_no_entry());
                }
            }
        }
        let on_demand = |id: &Arc<str>| index.get(id).is_some_and(|entry| entry.on_demand);
        if !state.wanted.keys().all(on_demand) {
            Arc::make_mut(&mut state.wanted).retain(|id, _| on_demand(id));
        }
        // What was refused before an entry was changed says nothing of what it is now.
        self.refusals.retain(|id| {
            let both = state.entries.get(id).zip(index.get(id));
            both.is_some_and(|(old, new)| {
                let same = old.revision == new.revision && old.created_at == new.created_at;
                same && old.spiffe_id == new.spiffe_id
            })
        });
        let before = std::mem::replace(&mut state.entries, Arc::new(index));
        self.fit_rungs_to_entries(&before, now);
    }

    /// Whether it is another.
    pub(super) fn replace_bundle(&mut self, bundle: Arc<Bundle>, now: UnixTime) -> bool {
        let state = &mut self.now;
        if state.bundle.as_ref().is_some_and(|old| old.content_eq(&bundle)) {
            return false;
        }
        self.taints.adopt(&bundle, now);
        state.bundle = Some(bundle);
        self.fit_rungs_to_bundle();
        true
    }

    /// Whether one of them is another.
    fn replace_federated(&mut self, federated: BTreeMap<TrustDomain, Arc<Bundle>>) -> bool {
        let state = &mut self.now;
        let same = state.federated.len() == federated.len()
            && federated
                .iter()
                .all(|(name, new)| state.federated.get(name).is_some_and(|old| old.content_eq(new)));
        if !same {
            state.federated = Arc::new(federated);
        }
        !same
    }
}

/// Entries of one step that are looked at one by one.
const MANY: usize = 32;
