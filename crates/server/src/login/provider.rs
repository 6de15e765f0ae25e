//! OIDC providers whose word is taken. Invariant: their keys come over HTTPS from where the issuer itself says; nobody can have them asked more often
//! than every ten seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::oidc::{ExpectedIdToken, OidcKeys, key_of_id_token, verify_id_token};
use landfast_identity::{JwtError, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_tls::{TlsError, WebRoots, web_https_config};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::federation::{DangerNetworks, FetchError, RoundError, fetch, system_roots};
use crate::people::OidcSubject;
use crate::registry::{EndpointUrl, UrlError};

/// See `[[oidc]]`.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Its `iss`, to the letter; an https URL.
    pub issuer: String,
    /// What it knows the command line as: a public client.
    pub client_id: String,
    /// Authorities of its host's certificate; the system's when not given.
    pub web_roots: Option<WebRoots>,
}

/// One of them, with the keys it was last seen with.
pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    danger: DangerNetworks,
    clock: SharedClock,
    known: Mutex<Known>,
    /// Who asks it, asks alone.
    turn: Semaphore,
}

#[derive(Default)]
struct Known {
    /// With when they were fetched.
    keys: Option<(Arc<OidcKeys>, Instant)>,
    asked: Option<Instant>,
}

impl Known {
    fn fresh(&self) -> Option<Arc<OidcKeys>> {
        let keys = self.keys.as_ref().filter(|(_, at)| at.elapsed() < FRESH);
        keys.map(|(keys, _)| Arc::clone(keys))
    }
}

/// Why its word is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("the ID token is not what it has to be")]
    Token {
        #[from]
        source: JwtError,
    },
    #[error("the provider's subject is none that can be a login")]
    Subject,
    #[error("the provider's documents cannot be fetched")]
    Fetch {
        #[from]
        source: FetchError,
    },
    #[error("this is no URL that can be asked")]
    Url {
        #[from]
        source: UrlError,
    },
    #[error("the provider's discovery document is none, or of another issuer")]
    Discovery,
    #[error("there are no authorities to verify the provider's host by")]
    Roots { source: Box<RoundError> },
    #[error("TLS cannot be set up")]
    Tls {
        #[from]
        source: TlsError,
    },
    #[error("the provider was asked a moment ago, and had no keys: try again in ten seconds")]
    Soon,
    #[error("the server is ending")]
    Ending,
}

impl ProviderError {
    /// Whether it is the token that is no good, and not what is between us and the provider.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Token { .. } | Self::Subject)
    }
}

impl Provider {
    pub(crate) fn new(config: ProviderConfig, danger: DangerNetworks, clock: SharedClock) -> Self {
        Self {
            config,
            danger,
            clock,
            known: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// Whom the token names, if it is this provider's answer to what was asked.
    pub(crate) async fn verify(
        &self,
        token: &str,
        nonce: &str,
        now: UnixTime,
    ) -> Result<OidcSubject, ProviderError> {
        let key = key_of_id_token(token)?;
        let keys = self.keys(&key).await?;
        let expected = ExpectedIdToken {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce,
        };
        let subject = verify_id_token(token, &keys, expected, now)?;
        OidcSubject::new(&self.config.issuer, &subject).ok_or(ProviderError::Subject)
    }

    /// The keys, among them this one if the provider has it. Whoever's key is known waits for nobody.
    async fn keys(&self, key: &str) -> Result<Arc<OidcKeys>, ProviderError> {
        if let Some(keys) = self.known().fresh().filter(|keys| keys.has(key)) {
            return Ok(keys);
        }
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|_closed| ProviderError::Ending)?;
        {
            // Who had the turn before may have fetched it.
            let mut known = self.known();
            match known.fresh() {
                Some(keys) if keys.has(key) => return Ok(keys),
                keys if known.asked.is_some_and(|at| at.elapsed() < PAUSE) => {
                    return keys.ok_or(ProviderError::Soon);
                }
                _ => known.asked = Some(Instant::now()),
            }
        }
        let fetched = self.fetch().await;
        if let Err(error) = &fetched {
            let error = error_chain(error);
            tracing::warn!(
                error,
                issuer = self.config.issuer,
                "the keys of an OIDC provider cannot be had"
            );
        }
        let keys = Arc::new(fetched?);
        self.known().keys = Some((Arc::clone(&keys), Instant::now()));
        Ok(keys)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<OidcKeys, ProviderError> {
        let roots = match &self.config.web_roots {
            Some(roots) => roots.clone(),
            None => system_roots().await.map_err(|source| ProviderError::Roots {
                source: Box::new(source),
            })?,
        };
        let tls = web_https_config(&roots, Arc::clone(&self.clock))?;
        let issuer = &self.config.issuer;
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let document = fetch(&EndpointUrl::parse(&url)?, &tls, &self.danger).await?;
        let document: Discovery =
            serde_json::from_slice(&document).map_err(|_no_json| ProviderError::Discovery)?;
        // OpenID Connect Discovery §4.3.
        if document.issuer != *issuer {
            return Err(ProviderError::Discovery);
        }
        let keys = fetch(&EndpointUrl::parse(&document.jwks_uri)?, &tls, &self.danger).await?;
        Ok(OidcKeys::from_jwks(&keys)?)
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Then they are fetched again, whether or not there is a new one: one that was taken back is believed so long.
const FRESH: Duration = Duration::from_secs(600);
/// Between two times that it is asked.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
