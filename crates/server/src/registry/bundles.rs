//! The registry's federated bundles. Invariant: an entry federates only with trust domains whose bundle is here.

use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain};
use tokio::sync::watch;

use super::{Registry, RegistryError, page};

/// What must hold for a bundle to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BundleWrite {
    /// Nothing.
    Set,
    /// It is not there yet.
    Create,
    /// It is there.
    Update,
}

/// What deleting a bundle does to the entries that federate with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteMode {
    /// It is refused when there are any.
    Restrict,
    /// They are deleted too.
    Delete,
    /// They no longer federate with it.
    Dissociate,
}

impl Registry {
    /// The bundle of a foreign trust domain.
    pub fn federated_bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.read().bundle(trust_domain)
    }

    /// A page of foreign bundles in the order of their trust domains, from after `after`; 0 is one page of all.
    pub fn list_federated_bundles(
        &self,
        page_size: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<Bundle>>, Option<String>) {
        page(self.read().bundles(after), page_size, |b| {
            b.trust_domain().to_string()
        })
    }

    /// Stores the bundle of a foreign trust domain.
    ///
    /// # Errors
    /// It is our own, or the datastore fails.
    pub async fn set_federated_bundle(&self, bundle: Bundle) -> Result<(), RegistryError> {
        self.write_federated_bundle(bundle, BundleWrite::Set).await
    }

    /// Stores the bundle of a foreign trust domain if `mode` allows it.
    ///
    /// # Errors
    /// It is our own, [`RegistryError::BundleExists`], [`RegistryError::NoSuchBundle`], or the datastore fails.
    pub async fn write_federated_bundle(
        &self,
        bundle: Bundle,
        mode: BundleWrite,
    ) -> Result<(), RegistryError> {
        self.foreign(bundle.trust_domain())?;
        self.datastore.set_bundle(Arc::new(bundle), mode).await
    }

    /// Deletes the bundle of a foreign trust domain; `false` when there was none.
    ///
    /// # Errors
    /// It is our own, entries need it and `mode` restricts, or the datastore fails.
    pub async fn delete_federated_bundle(
        &self,
        trust_domain: &TrustDomain,
        mode: DeleteMode,
    ) -> Result<bool, RegistryError> {
        self.foreign(trust_domain)?;
        self.datastore
            .delete_bundle(trust_domain.clone(), mode, self.now()?)
            .await
    }

    /// Told whenever federated bundles change.
    pub(crate) fn bundle_updates(&self) -> watch::Receiver<()> {
        self.index.bundles.subscribe()
    }

    pub(super) fn foreign(&self, trust_domain: &TrustDomain) -> Result<(), RegistryError> {
        if *trust_domain == self.trust_domain {
            return Err(RegistryError::OwnTrustDomain {
                trust_domain: trust_domain.clone(),
            });
        }
        Ok(())
    }
}

/// Whether `mode` lets a bundle be written that exists or does not.
pub(crate) fn check_mode(
    mode: BundleWrite,
    exists: bool,
    trust_domain: &TrustDomain,
) -> Result<(), RegistryError> {
    let trust_domain = || trust_domain.clone();
    match (mode, exists) {
        (BundleWrite::Create, true) => Err(RegistryError::BundleExists {
            trust_domain: trust_domain(),
        }),
        (BundleWrite::Update, false) => Err(RegistryError::NoSuchBundle {
            trust_domain: trust_domain(),
        }),
        (BundleWrite::Set, _) | (BundleWrite::Create, false) | (BundleWrite::Update, true) => Ok(()),
    }
}
