//! The record of what was handed out. Invariant: it holds no secret, and is bounded.

use landfast_store::StoreError;

use super::{NodeFiles, PersistError};
use crate::handouts::NAME;

impl NodeFiles {
    /// Adds these lines. Also of a node that keeps no keys (`cache = "memory"`): there are none in it.
    pub(crate) fn add_hand_outs(&self, lines: &[u8], durable: bool) -> Result<(), PersistError> {
        let added = self.store.append(NAME, lines, durable, (ASIDE, LARGEST));
        added.map_err(|source| match source {
            StoreError::NotDurable { .. } => PersistError::NotDurable {
                path: self.dir.join(NAME),
                source,
            },
            source => PersistError::Store {
                path: self.dir.join(NAME),
                source,
            },
        })
    }
}

/// What was written before.
const ASIDE: &str = "handouts.log.1";
/// Of each of the two: some ten thousand lines.
const LARGEST: u64 = 4 << 20;
