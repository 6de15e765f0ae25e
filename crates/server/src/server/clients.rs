//! The bundles that clients are verified with: our own, and those of the trust domains that some of `admin_ids` are of. Invariant: a change of
//! either is in force with the next message; other trust domains have no bundle here.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, TrustDomain};
use landfast_tls::BundleStore;
use tokio::sync::watch;

use crate::core::Core;
use crate::registry::Registry;

pub(super) struct Clients {
    pub(super) store: BundleStore,
    own: watch::Receiver<Arc<Bundle>>,
    /// Whose administrators we have, beside our own.
    foreign: BTreeSet<TrustDomain>,
    federated: watch::Receiver<()>,
    registry: Arc<Registry>,
}

impl Clients {
    pub(super) fn new(core: &Core, admin_ids: &[SpiffeId]) -> Self {
        let ours = core.registry.trust_domain();
        let domains = admin_ids.iter().map(SpiffeId::trust_domain);
        let clients = Self {
            store: BundleStore::default(),
            own: core.authorities.bundle_updates(),
            foreign: domains.filter(|domain| *domain != ours).cloned().collect(),
            federated: core.registry.bundle_updates(),
            registry: Arc::clone(&core.registry),
        };
        for trust_domain in &clients.foreign {
            if clients.registry.federated_bundle(trust_domain).is_none() {
                tracing::warn!(%trust_domain, "admin_ids names administrators of a trust domain whose bundle is not here: they cannot \
                    connect until a federation relationship or landfast bundle set brings it");
            }
        }
        clients.put_in_force();
        clients
    }

    fn put_in_force(&self) {
        let federated = self
            .foreign
            .iter()
            .filter_map(|domain| self.registry.federated_bundle(domain));
        let own = self.own.borrow().clone();
        self.store.store(federated.chain([own]).collect());
    }

    /// Follows both, for ever.
    pub(super) async fn keep(mut self) {
        loop {
            let changed = tokio::select! {
                changed = self.own.changed() => {
                    let sequence = self.own.borrow_and_update().sequence();
                    metrics::gauge!("landfast_server_bundle_sequence")
                        .set(f64::from(u32::try_from(sequence).unwrap_or(u32::MAX)));
                    changed
                }
                changed = self.federated.changed() => changed,
            };
            if changed.is_err() {
                // Both senders live as long as the API: wait for the end.
                std::future::pending::<()>().await;
            }
            self.put_in_force();
        }
    }
}
