//! Bundles by trust domain. Invariant: a bundle is only ever found under its own trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::Bundle;
use crate::trust_domain::TrustDomain;

/// The bundles that a validator knows; which one counts is decided by the peer's trust domain alone.
#[derive(Clone, Default, Debug)]
pub struct BundleSet(BTreeMap<TrustDomain, Arc<Bundle>>);

impl BundleSet {
    /// The bundle of a trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.0.get(trust_domain)
    }

    /// Puts a bundle under its own trust domain; returns the one it replaces.
    pub fn insert(&mut self, bundle: impl Into<Arc<Bundle>>) -> Option<Arc<Bundle>> {
        let bundle = bundle.into();
        self.0.insert(bundle.trust_domain().clone(), bundle)
    }

    /// Takes the bundle of a trust domain away.
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.0.remove(trust_domain)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &Arc<Bundle>)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Bundle> for BundleSet {
    fn from_iter<I: IntoIterator<Item = Bundle>>(bundles: I) -> Self {
        bundles.into_iter().map(Arc::new).collect()
    }
}

impl FromIterator<Arc<Bundle>> for BundleSet {
    fn from_iter<I: IntoIterator<Item = Arc<Bundle>>>(bundles: I) -> Self {
        let mut set = Self::default();
        for bundle in bundles {
            set.insert(bundle);
        }
        set
    }
}
