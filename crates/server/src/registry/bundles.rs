//! The registry's federated bundles. Invariant: an entry federates only with trust domains whose bundle is here.

use std::sync::Arc;

use landfast_identity::{Bundle, BundleError, TrustDomain};
use tokio::sync::watch;

use super::{Registry, RegistryError, page};

/// What must hold for a bundle to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BundleWrite {
    /// Nothing.
    Set,
    /// It is not there yet.
    Create,
    /// It is there; these parts of it are replaced.
    Update(BundleParts),
}

/// Parts of a bundle that an update replaces; the others stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundleParts {
    /// X.509 authorities.
    pub x509: bool,
    /// JWT authorities.
    pub jwt: bool,
    /// WIT authorities.
    pub wit: bool,
    /// The sequence number.
    pub sequence: bool,
    /// The refresh hint.
    pub refresh_hint: bool,
}

impl BundleParts {
    /// The whole bundle.
    pub const ALL: Self = Self {
        x509: true,
        jwt: true,
        wit: true,
        sequence: true,
        refresh_hint: true,
    };

    /// The stored bundle with these parts of the new one.
    pub(crate) fn of(self, new: &Bundle, stored: &Bundle) -> Result<Bundle, BundleError> {
        let from = |part: bool| if part { new } else { stored };
        Ok(Bundle::new(stored.trust_domain().clone())
            .with_x509_authorities(from(self.x509).x509_authorities().to_vec())?
            .with_jwt_authorities(from(self.jwt).jwt_authorities().to_vec())?
            .with_wit_authorities(from(self.wit).wit_authorities().to_vec())?
            .with_sequence(from(self.sequence).sequence())
            .with_refresh_hint(from(self.refresh_hint).refresh_hint()))
    }
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
        self.write_federated_bundle(bundle, BundleWrite::Set).await?;
        Ok(())
    }

    /// Stores the bundle of a foreign trust domain if `mode` allows it, and returns what is stored then.
    ///
    /// # Errors
    /// It is our own, [`RegistryError::BundleExists`], [`RegistryError::NoSuchBundle`], what an update makes is no bundle, or the datastore
    /// fails.
    pub async fn write_federated_bundle(
        &self,
        bundle: Bundle,
        mode: BundleWrite,
    ) -> Result<Arc<Bundle>, RegistryError> {
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
        (BundleWrite::Update(_), false) => Err(RegistryError::NoSuchBundle {
            trust_domain: trust_domain(),
        }),
        (BundleWrite::Set, _) | (BundleWrite::Create, false) | (BundleWrite::Update(_), true) => Ok(()),
    }
}
