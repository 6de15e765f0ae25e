//! A state from before a restart. Invariant: it is what it would be had the agent gone on all the time; only failures are forgotten.

use std::sync::Arc;

use landfast_identity::UnixTime;

use super::{Snapshot, State};
use crate::entry::EntryIndex;
use crate::keeper::rungs::Ladders;

/// What the start did not wait for.
#[derive(Default)]
pub(crate) struct Rest {
    pub(crate) ladders: Ladders,
    /// The entries that it is of, as they were then.
    pub(crate) entries: Arc<EntryIndex>,
}

impl State {
    pub(crate) fn restored(snapshot: &Snapshot) -> Self {
        let mut state = Self {
            now: snapshot.clone(),
            ..Self::default()
        };
        if let Some(bundle) = &snapshot.bundle {
            // What is tainted has been so since then at least.
            let known_since = snapshot.synced_at.unwrap_or(UnixTime::EPOCH);
            state.taints.adopt(bundle, known_since);
        }
        // It may have been written after the index that names them.
        state.fit_rungs_to_bundle();
        state
    }

    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.now
    }

    /// Whether it was waited for. What the server has taken away meanwhile does not come back with it.
    pub(super) fn adopt_rest(&mut self, now: UnixTime, rest: Rest) -> bool {
        // Also when the node was banned since: what it had before is worth nothing, whatever the server has said after that.
        if !std::mem::replace(&mut self.now.reading, false) {
            return false;
        }
        let ladders = Arc::make_mut(&mut self.now.rungs);
        for (id, more) in rest.ladders {
            let ladder = ladders.entry(id).or_default();
            *ladder = Arc::new(ladder.with(more.rungs().iter().cloned()));
        }
        self.fit_rungs_to_entries(&rest.entries, now);
        self.fit_rungs_to_bundle();
        true
    }
}
