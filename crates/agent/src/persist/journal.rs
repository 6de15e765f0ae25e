//! The journal's file, and what was seen of ledgers. Invariant: neither holds a secret; what is damaged is put aside, never lost.

use landfast_store::StoreError;
use zeroize::Zeroizing;

use super::{NodeFiles, PersistError};

impl NodeFiles {
    /// The journal as it was written.
    pub(crate) fn journal(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PersistError> {
        self.read(JOURNAL)
    }

    /// Adds these lines, durably.
    pub(crate) fn add_to_journal(&self, lines: &[u8]) -> Result<(), PersistError> {
        let added = self.store.append(JOURNAL, lines, true, (DAMAGED, u64::MAX));
        added.map_err(|source| self.not_written(JOURNAL, source))
    }

    pub(crate) fn replace_journal(&self, bytes: &[u8]) -> Result<(), PersistError> {
        let replaced = self.store.replace(JOURNAL, bytes);
        replaced.map_err(|source| self.not_written(JOURNAL, source))
    }

    /// Keeps one that was damaged for whoever looks into it.
    pub(crate) fn put_journal_aside(&self, bytes: &[u8]) -> Result<(), PersistError> {
        let replaced = self.store.replace(DAMAGED, bytes);
        replaced.map_err(|source| self.not_written(DAMAGED, source))
    }

    pub(crate) fn ledgers_seen(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PersistError> {
        self.read(SEEN)
    }

    pub(crate) fn save_ledgers_seen(&self, bytes: &[u8]) -> Result<(), PersistError> {
        let replaced = self.store.replace(SEEN, bytes);
        replaced.map_err(|source| self.not_written(SEEN, source))
    }

    fn not_written(&self, name: &str, source: StoreError) -> PersistError {
        let path = self.dir.join(name);
        PersistError::Store { path, source }
    }
}

/// What waits for the server.
const JOURNAL: &str = "journal.log";
const DAMAGED: &str = "journal.log.damaged";
/// The last checkpoint of each ledger.
const SEEN: &str = "ledgers-seen.json";
