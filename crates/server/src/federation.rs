//! Federation: who our relationships are with, and the client that keeps their bundles fresh.
//!
//! Invariant: each relationship has a task of its own, so that no peer delays another; what the configuration names cannot be changed by
//! the API.

mod address;
mod fetch;
mod pace;
mod round;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::TaskHandle;
use landfast_identity::{Bundle, TrustDomain};
use landfast_lifecycle::SharedClock;
use landfast_tls::WebRoots;
use tokio_util::sync::CancellationToken;

pub use address::DangerNetworks;
pub(crate) use fetch::{FetchError, fetch};
pub(crate) use round::{RoundError, read_roots, system_roots};

use crate::authority::Authorities;
use crate::core::Core;
use crate::ledger::Ledger;
use crate::registry::{BundleWrite, Registry, RegistryError, Relationship, RelationshipPatch};
use standing::Standings;

/// What the configuration says about federation.
#[derive(Clone, Default, Debug)]
pub struct FederationConfig {
    /// Relationships of the file.
    pub relationships: Vec<StaticRelationship>,
    /// Where endpoints may be although by default nobody is asked there.
    pub danger_networks: DangerNetworks,
}

/// See `[[federation]]`.
#[derive(Clone, Debug)]
pub struct StaticRelationship {
    /// With whom.
    pub relationship: Relationship,
    /// What is believed until something was fetched.
    pub bundle: Option<Bundle>,
    /// Authorities for `https_web`; the system's when not given.
    pub web_roots: Option<WebRoots>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Federation(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    authorities: Arc<Authorities>,
    clock: SharedClock,
    ledger: Ledger,
    /// By name.
    statics: BTreeMap<String, Known>,
    danger: DangerNetworks,
    standings: Standings,
}

/// A relationship as the client needs it.
#[derive(Clone, Debug)]
struct Known {
    relationship: Arc<Relationship>,
    web_roots: Option<WebRoots>,
    /// It is in the database, where it may change at any time, and not in the configuration.
    stored: bool,
}

/// Why a relationship was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(
        "the federation relationship with {trust_domain} is in the server's configuration file: change it there"
    )]
    Static { trust_domain: TrustDomain },
    #[error("the registry refuses")]
    Registry {
        #[from]
        source: RegistryError,
    },
}

impl Federation {
    /// Stores the bundles that the configuration begins with, where there is none yet.
    pub(crate) async fn open(
        config: &FederationConfig,
        core: &Core,
        clock: SharedClock,
    ) -> Result<Self, RegistryError> {
        let mut statics = BTreeMap::new();
        for given in &config.relationships {
            let trust_domain = &given.relationship.trust_domain;
            if core.registry.relationship(trust_domain).is_some() {
                tracing::warn!(%trust_domain, "the configuration's federation relationship stands in front of one made through the API");
            }
            if let Some(bundle) = &given.bundle {
                let begun = core
                    .registry
                    .write_federated_bundle(bundle.clone(), BundleWrite::Create)
                    .await;
                match begun {
                    Ok(_) | Err(RegistryError::BundleExists { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            let known = Known {
                relationship: Arc::new(given.relationship.clone()),
                web_roots: given.web_roots.clone(),
                stored: false,
            };
            statics.insert(trust_domain.to_string(), known);
        }
        Ok(Self(Arc::new(Inner {
            registry: Arc::clone(&core.registry),
            authorities: Arc::clone(&core.authorities),
            clock,
            ledger: core.ledger.clone(),
            statics,
            danger: config.danger_networks.clone(),
            standings: Standings::default(),
        })))
    }

    /// Keeps a task for each relationship, until it is dropped.
    pub(crate) async fn keep(self, tasks: TaskHandle) {
        let mut updates = self.0.registry.relationship_updates();
        let mut running: BTreeMap<TrustDomain, Running> = BTreeMap::new();
        let mut show = tokio::time::interval(SHOW);
        loop {
            updates.borrow_and_update();
            self.match_up(&mut running, &tasks);
            loop {
                tokio::select! {
                    changed = updates.changed() => match changed {
                        Ok(()) => break,
                        // The registry lives as long as we hold it.
                        Err(_gone) => std::future::pending().await,
                    },
                    _ = show.tick() => running.keys().for_each(|td| self.0.standings.show(td)),
                }
            }
        }
    }

    fn match_up(&self, running: &mut BTreeMap<TrustDomain, Running>, tasks: &TaskHandle) {
        let wanted: BTreeMap<TrustDomain, Known> = self
            .known()
            .into_values()
            .map(|known| (known.relationship.trust_domain.clone(), known))
            .collect();
        running.retain(|trust_domain, running| {
            let stays = wanted
                .get(trust_domain)
                .is_some_and(|known| known.relationship == running.relationship);
            if !stays {
                running.stop.cancel();
                self.0.standings.forget(trust_domain);
            }
            stays
        });
        for (trust_domain, known) in wanted {
            running.entry(trust_domain).or_insert_with_key(|trust_domain| {
                let stop = tasks.token().child_token();
                let relationship = Arc::clone(&known.relationship);
                let (peer, until) = (self.clone().follow(known), stop.clone());
                tasks.spawn_job(format!("federation {trust_domain}"), async move {
                    until.run_until_cancelled(peer).await.unwrap_or_default();
                });
                Running { relationship, stop }
            });
        }
    }

    /// Asks one endpoint at its times, for ever.
    async fn follow(self, known: Known) {
        let theirs = &known.relationship.trust_domain;
        loop {
            let outcome = self.round(&known).await;
            self.heed(&known, &outcome);
            self.0.standings.show(theirs);
            let stored = self.0.registry.federated_bundle(theirs);
            let hint = stored.and_then(|bundle| bundle.refresh_hint());
            tokio::time::sleep(pace::interval(hint, self.0.registry.trust_domain(), theirs)).await;
        }
    }

    /// Asks the endpoint of this trust domain now; `None` when there is no relationship with it.
    pub(crate) async fn refresh(&self, trust_domain: &TrustDomain) -> Option<Result<bool, RoundError>> {
        let known = match self.0.statics.get(trust_domain.as_str()) {
            Some(known) => known.clone(),
            None => Known::of(self.0.registry.relationship(trust_domain)?),
        };
        let outcome = self.round(&known).await;
        self.heed(&known, &outcome);
        Some(outcome)
    }

    /// What a relationship that is over by now had to say is nobody's concern.
    fn heed(&self, known: &Known, outcome: &Result<bool, RoundError>) {
        let trust_domain = &known.relationship.trust_domain;
        if self
            .get(trust_domain)
            .is_some_and(|present| present == known.relationship)
        {
            self.0.standings.heed(trust_domain, outcome);
        }
    }

    /// One that was made through the API, and that the configuration does not stand in front of.
    pub(crate) fn stored(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        match self.0.statics.contains_key(trust_domain.as_str()) {
            true => None,
            false => self.0.registry.relationship(trust_domain),
        }
    }

    pub(crate) fn get(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        match self.0.statics.get(trust_domain.as_str()) {
            Some(known) => Some(Arc::clone(&known.relationship)),
            None => self.0.registry.relationship(trust_domain),
        }
    }

    /// A page in the order of the names, from after `after`; 0 is one page of all. Those of the configuration are among them when that is wanted.
    pub(crate) fn list(
        &self,
        configured: bool,
        page_size: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<Relationship>>, Option<String>) {
        let all = self.known();
        let mut rest = all
            .into_iter()
            .filter(|(_, known)| configured || known.stored)
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let size = if page_size == 0 { usize::MAX } else { page_size };
        let page: Vec<_> = rest
            .by_ref()
            .take(size)
            .map(|(_, known)| known.relationship)
            .collect();
        let more = rest.next().is_some();
        let next = page
            .last()
            .filter(|_| more)
            .map(|last| last.trust_domain.to_string());
        (page, next)
    }

    pub(crate) async fn create(
        &self,
        relationship: Relationship,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<Arc<Relationship>, ChangeError> {
        if self.0.statics.contains_key(relationship.trust_domain.as_str()) {
            let trust_domain = relationship.trust_domain;
            return Err(RegistryError::RelationshipExists { trust_domain }.into());
        }
        let relationship = Arc::new(relationship);
        let begun = self
            .0
            .registry
            .create_relationship(Arc::clone(&relationship), bundle);
        begun.await?;
        Ok(relationship)
    }

    pub(crate) async fn update(
        &self,
        trust_domain: &TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, ChangeError> {
        self.changeable(trust_domain)?;
        Ok(self.0.registry.update_relationship(trust_domain, patch).await?)
    }

    pub(crate) async fn delete(&self, trust_domain: &TrustDomain) -> Result<bool, ChangeError> {
        self.changeable(trust_domain)?;
        Ok(self.0.registry.delete_relationship(trust_domain).await?)
    }

    fn changeable(&self, trust_domain: &TrustDomain) -> Result<(), ChangeError> {
        match self.0.statics.contains_key(trust_domain.as_str()) {
            true => Err(ChangeError::Static {
                trust_domain: trust_domain.clone(),
            }),
            false => Ok(()),
        }
    }

    /// All by name; the configuration's stand in front of the API's.
    fn known(&self) -> BTreeMap<String, Known> {
        let (stored, _) = self.0.registry.list_relationships(0, None);
        let mut all: BTreeMap<String, Known> = stored
            .into_iter()
            .map(|relationship| (relationship.trust_domain.to_string(), Known::of(relationship)))
            .collect();
        all.extend(self.0.statics.clone());
        all
    }
}

impl Known {
    fn of(relationship: Arc<Relationship>) -> Self {
        Self {
            relationship,
            web_roots: None,
            stored: true,
        }
    }
}

struct Running {
    relationship: Arc<Relationship>,
    stop: CancellationToken,
}

/// How often the metrics are brought up to date.
const SHOW: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests;
