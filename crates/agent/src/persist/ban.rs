//! The end of a node's keys, over a power cut.
//!
//! Invariant: the node's own SVID is the last to go, or a mark is there when it goes. With the one the server says again that the node is banned,
//! the other says it without a server: so a start goes on with a ban that was interrupted, until nothing is left.

use super::{DEVICE, IDENTITY, NodeFiles, PENDING, PersistError};

impl NodeFiles {
    /// Removes every key of the node from disk; one that stays does not keep the others. The cache is another's to destroy, who then removes the mark.
    pub(crate) fn destroy_keys(&self) -> Result<(), PersistError> {
        let marked = self.mark();
        let (pending, device) = (self.remove(PENDING), self.remove(DEVICE));
        let identity = self.remove(IDENTITY);
        if let Err(error) = marked.or_else(|_full| self.mark()) {
            // There may be room now. If not, keys go before marks.
            tracing::warn!(
                error = landfast_daemon::error_chain(&error),
                "it cannot be written down that this node is banned: a restart before its cache is destroyed would leave it"
            );
        }
        identity.and(pending).and(device)
    }

    /// Whether a ban was interrupted: then nothing of before is used.
    pub(crate) fn was_banned(&self) -> Result<bool, PersistError> {
        Ok(self.read(BANNED)?.is_some())
    }

    /// Goes on with one. A key that was made since is not of those that go: with it an SVID may have been asked for when the ban was lifted. Device keys
    /// are made by nodes that are in, so one that is there is of before.
    pub(crate) fn go_on_with_ban(&self) -> Result<(), PersistError> {
        match self.store.list() {
            Ok(names) if names.iter().all(|name| name != IDENTITY) => self.remove(DEVICE),
            _ => self.destroy_keys(),
        }
    }

    /// Writes down that this node is banned.
    pub(crate) fn mark(&self) -> Result<(), PersistError> {
        self.store
            .replace(BANNED, b"")
            .map_err(|source| PersistError::Store {
                path: self.dir.join(BANNED),
                source,
            })
    }
}

/// There while this node is banned and its keys may not all be gone; empty.
pub(crate) const BANNED: &str = "banned";
