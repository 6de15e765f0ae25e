//! Where in the history of the registry something stands. Invariant: of two revisions of one registry, the greater one is the newer.

use std::sync::Arc;

use super::entry::Entry;
use super::policy::EntryPolicy;

/// A place in the history of a registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision {
    /// Grows when a registry begins, or is restored from a backup.
    pub epoch: u64,
    /// Grows with every change.
    pub number: u64,
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// An entry, what it has beside SPIRE's fields, and when both last changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Versioned {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The number of its last change.
    pub revision: u64,
    /// Its policy; `None`: the defaults.
    pub policy: Option<Arc<EntryPolicy>>,
}

impl Versioned {
    /// Grows with every change of entry or policy.
    pub fn version(&self) -> u64 {
        let policy = self.policy.as_ref().map_or(0, |policy| policy.revision);
        self.revision.max(policy)
    }
}

/// What an agent may have for its workloads, as it was at one revision.
#[derive(Clone, PartialEq, Debug)]
pub struct Authorized {
    /// Of the whole registry.
    pub revision: Revision,
    /// In the order of their IDs.
    pub entries: Vec<Arc<Versioned>>,
}
