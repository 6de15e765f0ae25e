//! What the server had said before a restart.
//!
//! Invariant: it is held without the server's versions, so that a subscription brings all of it anew, and names what is gone; a poll names all
//! there is. Until then it counts as it did.

use std::sync::Arc;

use super::{Known, Record};
use crate::keeper::state::Snapshot;

impl Known {
    pub(crate) fn restore(&mut self, before: &Snapshot) {
        let records = before.entries.iter().map(|entry| {
            let record = Record {
                revision: entry.revision,
                created_at: entry.created_at,
                version: 0,
                entry: Some(Arc::clone(entry)),
            };
            (entry.id.to_string(), record)
        });
        self.entries = records.collect();
        self.own.clone_from(&before.bundle);
        self.federated.clone_from(&before.federated);
    }
}
