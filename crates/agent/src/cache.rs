//! The sealed cache: what the agent holds, on disk, so that a restart without a server costs nobody an identity (ADR 26).
//!
//! Invariant: what cannot be opened whole is never used, never taken for nothing without a word, and not overwritten before the server has made
//! it worthless. No key is on disk but sealed.

mod key;
mod plan;
mod shelf;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain};

use crate::jwt::{Key, Token};
use crate::keeper::state::Snapshot;
use crate::link::revision::Revision;
use crate::persist::BANNED;
pub(crate) use shelf::Shelf;
pub(crate) use start::{Begun, Own, whose};
pub(crate) use state::CacheState;
pub(crate) use writer::Writer;

/// All that is kept.
#[derive(Clone)]
pub(crate) struct Image {
    /// Whose it is.
    pub(crate) agent_id: SpiffeId,
    /// Digest of the operator's bootstrap bundle, as for the node's own files.
    pub(crate) bootstrap: String,
    pub(crate) newest: Option<Revision>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) tokens: Vec<(Key, Token)>,
}

/// Where a node's cache is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) key: PathBuf,
    /// The operator has said where the key is: then a key that is missing may be on a medium that is not there, and none is made beside it.
    pub(crate) key_elsewhere: bool,
    /// Beside them while a ban is not done with, see `persist::BANNED`.
    pub(crate) ban: PathBuf,
    pub(crate) trust_domain: TrustDomain,
}

impl Place {
    pub(crate) fn new(data_dir: &Path, seal_key: Option<&Path>, trust_domain: &TrustDomain) -> Self {
        Self {
            dir: data_dir.join(DIRECTORY),
            key: seal_key.map_or_else(|| data_dir.join(KEY), Path::to_owned),
            key_elsewhere: seal_key.is_some(),
            ban: data_dir.join(BANNED),
            trust_domain: trust_domain.clone(),
        }
    }
}

/// What was found at the start.
pub(crate) struct Found {
    /// What can be used; it is of this node.
    pub(crate) image: Option<Image>,
    /// What is wrong, for people; empty when nothing is.
    pub(crate) complaints: Vec<String>,
}

/// In the data directory.
const DIRECTORY: &str = "cache";
const KEY: &str = "seal-key";
