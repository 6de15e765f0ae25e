//! What the option `[margo]` of the trust domain says of IDs. Invariant: with it on, an ID below `/margo/` is one principal of this trust domain:
//! no administrator, no server, no group of nodes, and of no other domain's making.

use landfast_identity::{KeyAlgorithm, PublicKey, SpiffeId};

use super::entry::{Entry, EntryDraft};
use super::validate::EntryError;

/// What IDs below `/margo/` are. Others are never concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MargoPaths {
    /// IDs as all others.
    #[default]
    Ordinary,
    /// Those of Margo principals.
    Reserved,
}

impl MargoPaths {
    /// Whether the rules hold for this ID. `/margo` itself has nobody below it and is as all others.
    pub(crate) fn concern(self, id: &SpiffeId) -> bool {
        self == Self::Reserved && id.path().starts_with(PREFIX)
    }

    /// Whether an entry may be.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check_entry(self, entry: &EntryDraft) -> Result<(), EntryError> {
        self.check(Facts {
            id: &entry.spiffe_id,
            parent: &entry.parent_id,
            admin: entry.admin,
            downstream: entry.downstream,
            federates: !entry.federates_with.is_empty(),
        })
    }

    /// The same, of one that is stored.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check_stored(self, entry: &Entry) -> Result<(), EntryError> {
        self.check(Facts {
            id: &entry.spiffe_id,
            parent: &entry.parent_id,
            admin: entry.admin,
            downstream: entry.downstream,
            federates: !entry.federates_with.is_empty(),
        })
    }

    fn check(self, entry: Facts<'_>) -> Result<(), EntryError> {
        let alias = *entry.parent == SpiffeId::server(entry.id.trust_domain());
        let broken = [
            (entry.admin, "it cannot administer the server"),
            (entry.downstream, "it cannot run a server below this one"),
            (alias, GROUP),
            (
                entry.federates,
                "it believes its own trust domain alone, so it cannot federate",
            ),
        ];
        match broken.into_iter().find(|(broken, _)| *broken) {
            Some((_, what)) if self.concern(entry.id) => Err(refused(entry.id, what)),
            _ => Ok(()),
        }
    }

    /// Whether nodes may be known by this ID.
    ///
    /// # Errors
    /// It is a principal's.
    pub(crate) fn check_alias(self, id: &SpiffeId) -> Result<(), EntryError> {
        match self.concern(id) {
            true => Err(refused(id, GROUP)),
            false => Ok(()),
        }
    }

    /// Whether a certificate of this ID may have this key: ECDSA on P-256 or P-384, or RSA from 3072 bits.
    ///
    /// # Errors
    /// Verifiers would refuse it.
    pub(crate) fn check_key(self, id: &SpiffeId, key: &PublicKey) -> Result<(), EntryError> {
        let weak = key.algorithm() == KeyAlgorithm::Rsa && key.bits() < RSA_BITS;
        match weak && self.concern(id) {
            true => Err(refused(id, "its RSA key must have at least 3072 bits")),
            false => Ok(()),
        }
    }
}

/// What the rules look at.
struct Facts<'a> {
    id: &'a SpiffeId,
    parent: &'a SpiffeId,
    admin: bool,
    downstream: bool,
    federates: bool,
}

fn refused(id: &SpiffeId, what: &'static str) -> EntryError {
    EntryError::Margo { id: id.clone(), what }
}

const PREFIX: &str = "/margo/";
const GROUP: &str = "it cannot stand for nodes";
const RSA_BITS: usize = 3072;

#[cfg(test)]
mod tests;
