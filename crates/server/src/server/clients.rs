//! The bundles that clients are verified with: our own, and those of the trust domains that some of `admin_ids` are of. Invariant: a change of
//! either is in force with the next message; other trust domains have no bundle here.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, TrustDomain};
use landfast_tls::BundleStore;
use tokio::sync::watch;

use crate::core::Core;
use crate::federation::FederationConfig;
use crate::registry::{Profile, Registry};

pub(super) struct Clients {
    pub(super) store: BundleStore,
    own: watch::Receiver<Arc<Bundle>>,
    /// Whose administrators we have, beside our own.
    foreign: BTreeSet<TrustDomain>,
    federated: watch::Receiver<()>,
    registry: Arc<Registry>,
}

impl Clients {
    pub(super) fn new(core: &Core, admin_ids: &[SpiffeId], federation: &FederationConfig) -> Self {
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
        for trust_domain in clients.by_the_web(federation) {
            tracing::warn!(%trust_domain, "admin_ids names administrators of a trust domain whose bundle is fetched by https_web: whoever gets a \
                certificate for the host of its endpoint can become one of them; fetch it by https_spiffe, or bring it with landfast bundle set");
        }
        clients.put_in_force();
        clients
    }

    /// Those whose keys come from whoever has a certificate for a host name.
    fn by_the_web(&self, federation: &FederationConfig) -> Vec<&TrustDomain> {
        let is_web = |domain: &TrustDomain| {
            let stored = self.registry.relationship(domain);
            let of_the_file = federation.relationships.iter().map(|made| &made.relationship);
            of_the_file
                .filter(|relationship| relationship.trust_domain == *domain)
                .chain(stored.as_deref())
                .any(|relationship| relationship.profile == Profile::Web)
        };
        self.foreign.iter().filter(|domain| is_web(domain)).collect()
    }

    /// And whoever is told of changes looks after that.
    fn put_in_force(&self) {
        let federated = self
            .foreign
            .iter()
            .filter_map(|domain| self.registry.federated_bundle(domain));
        let own = self.own.borrow().clone();
        self.store.store(federated.chain([own]).collect());
        self.registry.wake_everybody();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::Rig;
    use crate::federation::StaticRelationship;
    use crate::registry::{EndpointUrl, Relationship};

    fn with(trust_domain: &str, profile: Profile) -> Relationship {
        Relationship {
            trust_domain: TrustDomain::parse(trust_domain).unwrap(),
            url: EndpointUrl::parse("https://bundle.test/").unwrap(),
            profile,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn administrators_whose_keys_come_by_a_web_certificate_are_known_as_such() {
        let rig = Rig::new().await;
        let endpoint_id = SpiffeId::parse("spiffe://spiffe.test/server").unwrap();
        let spiffe = Profile::Spiffe { endpoint_id };
        for made in [
            with("stored.test", Profile::Web),
            with("spiffe.test", spiffe),
            with("nobody.test", Profile::Web),
        ] {
            let made = rig.core.registry.create_relationship(Arc::new(made), None).await;
            made.unwrap();
        }
        let of_the_file = StaticRelationship {
            relationship: with("file.test", Profile::Web),
            bundle: None,
            web_roots: None,
        };
        let federation = FederationConfig {
            relationships: vec![of_the_file],
            ..FederationConfig::default()
        };
        let admins = [
            "stored.test",
            "spiffe.test",
            "file.test",
            "by-hand.test",
            "plant.test",
        ];
        let admins = admins.map(|domain| SpiffeId::parse(&format!("spiffe://{domain}/ops")).unwrap());
        let clients = Clients::new(&rig.core, &admins, &federation);
        let by_the_web = clients.by_the_web(&federation);
        let names: Vec<_> = by_the_web.iter().map(|domain| domain.as_str()).collect();
        assert_eq!(names, ["file.test", "stored.test"]);
    }
}
