//! A state from before a restart. Invariant: it is what it would be had the agent gone on all the time; only failures are forgotten.

use landfast_identity::UnixTime;

use super::{Snapshot, State};

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
}
