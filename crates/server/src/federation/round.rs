//! One look at one endpoint: who must it be, what does it say, is that news. Invariant: a bundle is stored under the trust domain that the
//! relationship names and under no other, and what fails leaves the last good one.

use std::path::Path;
use std::sync::Arc;

use landfast_identity::{Bundle, BundleError, BundleSet, SpiffeId, TrustDomain};
use landfast_tls::{
    BundleStore, Expect, SYSTEM_ROOTS, TlsError, WebRoots, WebRootsError, spiffe_https_config,
    web_https_config,
};
use rustls::ClientConfig;

use super::fetch::{FetchError, fetch};
use super::{Federation, Known};
use crate::ledger;
use crate::registry::{Profile, RegistryError};

impl Federation {
    /// Asks, and stores what is new; `true` when there was anything.
    pub(super) async fn round(&self, known: &Known) -> Result<bool, RoundError> {
        let relationship = &known.relationship;
        let trust_domain = &relationship.trust_domain;
        let tls = match &relationship.profile {
            Profile::Web => self.web(known).await?,
            Profile::Spiffe { endpoint_id } => self.spiffe(endpoint_id)?,
        };
        tracing::debug!(%trust_domain, url = %relationship.url, profile = ?relationship.profile, "asking a bundle endpoint");
        let document = fetch(&relationship.url, &tls, &self.0.danger).await?;
        let bundle = Bundle::from_jwks(trust_domain.clone(), &document)?;
        let (sequence, x509) = (bundle.sequence(), bundle.x509_authorities().len());
        let keys = x509 + bundle.jwt_authorities().len() + bundle.wit_authorities().len();
        let under = known.stored.then(|| Arc::clone(relationship));
        let news = self.0.registry.adopt_federated_bundle(bundle, under).await?;
        if news {
            let refreshed = ledger::changed("bundle.refreshed").about(trust_domain.id());
            let refreshed = refreshed.with("keys", keys as u64).with("sequence", sequence);
            self.0.ledger.own(vec![refreshed]).await;
        }
        if news && keys == 0 {
            tracing::error!(
                %trust_domain, sequence,
                "a federated trust domain has revoked all its keys: nothing of it is trusted any more, until it publishes others"
            );
        } else if news {
            tracing::info!(%trust_domain, sequence, keys, x509, "stored the bundle that a federated trust domain published");
        }
        Ok(news)
    }

    async fn web(&self, known: &Known) -> Result<Arc<ClientConfig>, RoundError> {
        let roots = match &known.web_roots {
            Some(roots) => roots.clone(),
            None => system_roots().await?,
        };
        Ok(web_https_config(&roots, Arc::clone(&self.0.clock))?)
    }

    /// Verified with the newest bundle of the endpoint's own trust domain, which need not be the one that is fetched.
    fn spiffe(&self, endpoint_id: &SpiffeId) -> Result<Arc<ClientConfig>, RoundError> {
        let trust_domain = endpoint_id.trust_domain();
        let bundle = match trust_domain == self.0.registry.trust_domain() {
            true => Some(self.0.authorities.bundle()),
            false => self.0.registry.federated_bundle(trust_domain),
        };
        let bundle = bundle.ok_or_else(|| RoundError::NoBundle {
            trust_domain: trust_domain.clone(),
        })?;
        let bundles = BundleStore::new(BundleSet::from_iter([bundle]));
        let expect = Expect::Exactly(endpoint_id.clone());
        Ok(spiffe_https_config(expect, bundles, Arc::clone(&self.0.clock))?)
    }
}

/// Read each time: the system replaces the file as authorities come and go.
pub(crate) async fn system_roots() -> Result<WebRoots, RoundError> {
    for path in SYSTEM_ROOTS {
        match tokio::fs::read(path).await {
            Ok(text) => {
                return WebRoots::from_pem(&text).map_err(|source| RoundError::Roots { path, source });
            }
            Err(error) => tracing::debug!(path, %error, "no authorities of hosts here"),
        }
    }
    Err(RoundError::NoRoots)
}

/// Whether a file of authorities can be used.
pub(crate) fn read_roots(path: &Path) -> Result<WebRoots, String> {
    let text = std::fs::read(path).map_err(|error| format!("a readable file: {error}"))?;
    WebRoots::from_pem(&text).map_err(|error| format!("certificates in PEM: {error}"))
}

/// Why there is nothing new to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error("no document was fetched")]
    Fetch {
        #[from]
        source: FetchError,
    },
    #[error("the published document is no bundle that can be used")]
    Document {
        #[from]
        source: BundleError,
    },
    #[error("the published bundle is not stored")]
    Refused {
        #[from]
        source: RegistryError,
    },
    #[error(
        "there is no bundle of {trust_domain} to verify the bundle endpoint with: landfast bundle set gives one"
    )]
    NoBundle { trust_domain: TrustDomain },
    #[error("this system has no file of authorities for https: install ca-certificates, or name web_roots")]
    NoRoots,
    #[error("the authorities for https in {path} cannot be used")]
    Roots {
        path: &'static str,
        source: WebRootsError,
    },
    #[error("TLS cannot be set up")]
    Tls {
        #[from]
        source: TlsError,
    },
}

impl RoundError {
    /// What a caller is told: which step failed, in our words, never in the peer's.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Fetch { source } => source.to_string(),
            Self::Refused { source } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the peer went back on what it had published (T-27).
    pub(super) fn is_rollback(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                source: RegistryError::OlderBundle { .. } | RegistryError::OtherBundle { .. }
            }
        )
    }
}
