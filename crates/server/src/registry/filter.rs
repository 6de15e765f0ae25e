//! Which entries a list is asked for. Invariant: an unset field matches everything.

use std::collections::BTreeSet;

use landfast_identity::{SelectorSet, SpiffeId, TrustDomain};

use super::entry::Entry;

/// How a set must relate to the given one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MatchKind {
    /// Equal to it.
    Exact,
    /// Not empty and within it.
    Subset,
    /// Holding all of it.
    Superset,
    /// Sharing at least one with it.
    Any,
}

impl MatchKind {
    pub(crate) fn holds(self, found: &SelectorSet, given: &SelectorSet) -> bool {
        match self {
            Self::Exact => found == given,
            Self::Subset => !found.is_empty() && found.is_subset_of(given),
            Self::Superset => given.is_subset_of(found),
            Self::Any => found.iter().any(|s| given.contains(s)),
        }
    }

    fn holds_domains(self, found: &[TrustDomain], given: &[TrustDomain]) -> bool {
        let found: BTreeSet<_> = found.iter().collect();
        let given: BTreeSet<_> = given.iter().collect();
        match self {
            Self::Exact => found == given,
            Self::Subset => !found.is_empty() && found.is_subset(&given),
            Self::Superset => found.is_superset(&given),
            Self::Any => !found.is_disjoint(&given),
        }
    }
}

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Granting this identity.
    pub spiffe_id: Option<SpiffeId>,
    /// Under this parent.
    pub parent_id: Option<SpiffeId>,
    /// With selectors that match these.
    pub selectors: Option<(SelectorSet, MatchKind)>,
    /// With federated trust domains that match these.
    pub federates_with: Option<(Vec<TrustDomain>, MatchKind)>,
    /// With this hint.
    pub hint: Option<String>,
    /// For subordinate servers, or not.
    pub downstream: Option<bool>,
}

impl EntryFilter {
    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| *id == entry.spiffe_id)
            && self.parent_id.as_ref().is_none_or(|id| *id == entry.parent_id)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(set, kind)| kind.holds(&entry.selectors, set))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|(given, kind)| kind.holds_domains(&entry.federates_with, given))
            && self.hint.as_ref().is_none_or(|h| *h == entry.hint)
            && self.downstream.is_none_or(|d| d == entry.downstream)
    }
}
