//! The bundles that peers are verified with, replaced while connections run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use landfast_identity::BundleSet;

/// Clones share one set. A handshake reads it at the moment it verifies its peer.
#[derive(Clone, Debug)]
pub struct BundleStore(Arc<ArcSwap<BundleSet>>);

impl BundleStore {
    /// Starts with these. An empty set verifies nobody.
    #[must_use]
    pub fn new(bundles: BundleSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(bundles)))
    }

    /// The set in force.
    #[must_use]
    pub fn load(&self) -> Arc<BundleSet> {
        self.0.load_full()
    }

    /// Puts another set in force. Connections that are open stay as they were verified.
    pub fn store(&self, bundles: BundleSet) {
        self.0.store(Arc::new(bundles));
    }
}

impl Default for BundleStore {
    fn default() -> Self {
        Self::new(BundleSet::default())
    }
}
