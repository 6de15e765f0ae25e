//! Whom we federate with, and where their bundles are published. Invariant: nobody is here twice, and never we ourselves.

use std::sync::Arc;

use landfast_identity::{Bundle, SpiffeId, TrustDomain};
use tokio::sync::watch;

use super::endpoint_url::EndpointUrl;
use super::{Registry, RegistryError, page};

/// Another trust domain and where its bundle is fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relationship {
    /// Whose bundle it is.
    pub trust_domain: TrustDomain,
    /// Where it is.
    pub url: EndpointUrl,
    /// By what the place is known.
    pub profile: Profile,
}

/// How a bundle endpoint proves what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Profile {
    /// By a certificate for its host name, of an authority that browsers or the plant trust.
    Web,
    /// By an X509-SVID.
    Spiffe {
        /// Exactly this one's.
        endpoint_id: SpiffeId,
    },
}

/// What is to change; the rest stays.
#[derive(Clone, Default, Debug)]
pub struct RelationshipPatch {
    /// The place.
    pub url: Option<EndpointUrl>,
    /// How it is known.
    pub profile: Option<Profile>,
    /// The bundle to begin anew with.
    pub bundle: Option<Arc<Bundle>>,
}

impl RelationshipPatch {
    pub(crate) fn apply(&self, old: &Relationship) -> Relationship {
        Relationship {
            trust_domain: old.trust_domain.clone(),
            url: self.url.clone().unwrap_or_else(|| old.url.clone()),
            profile: self.profile.clone().unwrap_or_else(|| old.profile.clone()),
        }
    }
}

impl Registry {
    /// The relationship with this trust domain.
    pub fn relationship(&self, trust_domain: &TrustDomain) -> Option<Arc<Relationship>> {
        self.read().relationship(trust_domain)
    }

    /// A page of relationships in the order of their trust domains, from after `after`; 0 is one page of all.
    pub fn list_relationships(
        &self,
        page_size: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<Relationship>>, Option<String>) {
        page(self.read().relationships(after), page_size, |r| {
            r.trust_domain.to_string()
        })
    }

    /// Remembers a relationship, and the bundle to begin with, if given: in one commit.
    ///
    /// # Errors
    /// It is with ourselves, there is one already, there are too many, or the datastore fails.
    pub async fn create_relationship(
        &self,
        relationship: Arc<Relationship>,
        bundle: Option<Arc<Bundle>>,
    ) -> Result<(), RegistryError> {
        self.foreign(&relationship.trust_domain)?;
        self.datastore.create_relationship(relationship, bundle).await
    }

    /// Changes a relationship; returns the new one.
    ///
    /// # Errors
    /// There is none, or the datastore fails.
    pub async fn update_relationship(
        &self,
        trust_domain: &TrustDomain,
        patch: RelationshipPatch,
    ) -> Result<Arc<Relationship>, RegistryError> {
        self.datastore
            .update_relationship(trust_domain.clone(), patch)
            .await
    }

    /// Forgets a relationship; `false` when there was none. The bundle stays: entries may federate with it.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn delete_relationship(&self, trust_domain: &TrustDomain) -> Result<bool, RegistryError> {
        self.datastore
            .delete_relationship(trust_domain.clone(), self.now()?)
            .await
    }

    /// Stores what a trust domain has published, if it is newer than what we have; `false` when we have it already. `under` is the stored
    /// relationship it was fetched by, when it was one.
    ///
    /// # Errors
    /// It is our own, [`RegistryError::OlderBundle`], [`RegistryError::OtherBundle`], [`RegistryError::RelationshipChanged`], or the
    /// datastore fails.
    pub async fn adopt_federated_bundle(
        &self,
        bundle: Bundle,
        under: Option<Arc<Relationship>>,
    ) -> Result<bool, RegistryError> {
        self.foreign(bundle.trust_domain())?;
        self.datastore.adopt_bundle(Arc::new(bundle), under).await
    }

    /// Told whenever relationships change.
    pub(crate) fn relationship_updates(&self) -> watch::Receiver<()> {
        self.index.relationships.subscribe()
    }
}

/// Whether a published bundle takes the place of the stored one (SPIFFE Federation §4.2). A document without a sequence number counts as
/// 0: it follows another one without, and never one that had a number, or leaving it out would undo what the number is for.
pub(crate) fn check_newer(stored: &Bundle, published: &Bundle) -> Result<bool, RegistryError> {
    let trust_domain = || stored.trust_domain().clone();
    let (had, has) = (stored.sequence(), published.sequence());
    if has < had {
        return Err(RegistryError::OlderBundle {
            trust_domain: trust_domain(),
            stored: had,
            published: has,
        });
    }
    let same = same_keys(stored, published);
    if has == had && has != 0 && !same {
        return Err(RegistryError::OtherBundle {
            trust_domain: trust_domain(),
            sequence: has,
        });
    }
    Ok(has > had || !same || stored.refresh_hint() != published.refresh_hint())
}

/// By what a document can say: it has neither taints nor ends, and its order means nothing.
fn same_keys(a: &Bundle, b: &Bundle) -> bool {
    let x509 = |bundle: &Bundle| {
        let mut ders: Vec<Vec<u8>> = bundle
            .x509_authorities()
            .iter()
            .map(|a| a.certificate.as_der().to_vec())
            .collect();
        ders.sort_unstable();
        ders
    };
    let tokens = |bundle: &Bundle| {
        let jwt = bundle
            .jwt_authorities()
            .iter()
            .map(|a| ("jwt", &a.key_id, &a.public_key));
        let wit = bundle
            .wit_authorities()
            .iter()
            .map(|a| ("wit", &a.key_id, &a.public_key));
        let mut keys: Vec<_> = jwt
            .chain(wit)
            .map(|(purpose, id, key)| (purpose, id.clone(), key.spki_der().to_vec()))
            .collect();
        keys.sort_unstable();
        keys
    };
    x509(a) == x509(b) && tokens(a) == tokens(b)
}

/// Each has a task and, while its endpoint is asked, some MiB.
pub(crate) const MAX_RELATIONSHIPS: usize = 256;
