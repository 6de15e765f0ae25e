//! Trust bundles. Invariant: one trust domain each; at most 256 keys; the key IDs of JWT and WIT keys are not empty, and unique among them all.

mod jwks;

use std::collections::HashSet;
use std::time::Duration;

use crate::certificate::{self, Certificate};
use crate::key::KeyError;
use crate::public_key::PublicKey;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;
use crate::x509_error::X509Error;

/// An authority that signs X509-SVIDs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct X509Authority {
    /// Its CA certificate.
    pub certificate: Certificate,
    /// Whether what it signed is to be replaced; it verifies until it is removed.
    pub tainted: bool,
}

/// A key that signs JWT-SVIDs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtAuthority {
    /// The `kid` of its tokens.
    pub key_id: String,
    /// The key.
    pub public_key: PublicKey,
    /// After this it verifies nothing; JWKS documents do not say it.
    pub expires_at: Option<UnixTime>,
    /// Whether what it signed is to be replaced; it verifies until it is removed.
    pub tainted: bool,
}

/// A key that signs WIT-SVIDs (incubating). Never the same type as [`JwtAuthority`]: neither may verify the other's tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitAuthority {
    /// The `kid` of its tokens.
    pub key_id: String,
    /// The key.
    pub public_key: PublicKey,
    /// After this it verifies nothing; JWKS documents do not say it.
    pub expires_at: Option<UnixTime>,
    /// Whether what it signed is to be replaced; it verifies until it is removed.
    pub tainted: bool,
}

/// The authorities of one trust domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    trust_domain: TrustDomain,
    x509: Vec<X509Authority>,
    jwt: Vec<JwtAuthority>,
    wit: Vec<WitAuthority>,
    sequence: u64,
    refresh_hint: Option<Duration>,
}

impl Bundle {
    /// A bundle without authorities: nothing of this trust domain verifies.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509: Vec::new(),
            jwt: Vec::new(),
            wit: Vec::new(),
            sequence: 0,
            refresh_hint: None,
        }
    }

    /// The same with these X.509 authorities.
    ///
    /// # Errors
    /// When the bundle would hold more than 256 keys.
    pub fn with_x509_authorities(mut self, authorities: Vec<X509Authority>) -> Result<Self, BundleError> {
        self.x509 = authorities;
        self.within_limit()
    }

    /// The same with these JWT authorities.
    ///
    /// # Errors
    /// When a key ID is empty or stands twice, or the bundle would hold more than 256 keys.
    pub fn with_jwt_authorities(mut self, authorities: Vec<JwtAuthority>) -> Result<Self, BundleError> {
        self.jwt = authorities;
        self.distinct()?.within_limit()
    }

    /// The same with these WIT authorities (WIT-SVID §6.1: key IDs are unique across the whole bundle).
    ///
    /// # Errors
    /// When a key ID is empty or stands twice, or the bundle would hold more than 256 keys.
    pub fn with_wit_authorities(mut self, authorities: Vec<WitAuthority>) -> Result<Self, BundleError> {
        self.wit = authorities;
        self.distinct()?.within_limit()
    }

    fn distinct(self) -> Result<Self, BundleError> {
        let jwt = self.jwt.iter().map(|a| &a.key_id);
        let mut seen = HashSet::new();
        for (index, key_id) in jwt.chain(self.wit.iter().map(|a| &a.key_id)).enumerate() {
            if key_id.is_empty() {
                return Err(BundleError::NoKeyId { index });
            }
            if !seen.insert(key_id) {
                return Err(BundleError::KeyIdTwice {
                    key_id: key_id.clone(),
                });
            }
        }
        Ok(self)
    }

    /// The same with this sequence number.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Self {
        self.sequence = sequence;
        self
    }

    /// The same with this refresh hint.
    #[must_use]
    pub fn with_refresh_hint(mut self, hint: Option<Duration>) -> Self {
        self.refresh_hint = hint;
        self
    }

    fn within_limit(self) -> Result<Self, BundleError> {
        match self.x509.len() + self.jwt.len() + self.wit.len() {
            0..=MAX_KEYS => Ok(self),
            count => Err(BundleError::TooManyKeys { count }),
        }
    }

    /// Reads X.509 authorities from a PEM text.
    ///
    /// # Errors
    /// When the text is broken or holds no certificate.
    pub fn from_pem(trust_domain: TrustDomain, text: &str) -> Result<Self, BundleError> {
        let chain = certificate::parse_chain_pem(text).map_err(|source| BundleError::Pem { source })?;
        Self::new(trust_domain).with_x509_authorities(untainted(chain))
    }

    /// Reads X.509 authorities from DER certificates that stand one behind the other.
    ///
    /// # Errors
    /// When one is refused or there is none.
    pub fn from_der_concat(trust_domain: TrustDomain, der: &[u8]) -> Result<Self, BundleError> {
        let chain = certificate::parse_chain_der(der).map_err(|source| BundleError::Pem { source })?;
        Self::new(trust_domain).with_x509_authorities(untainted(chain))
    }

    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The X.509 authorities.
    pub fn x509_authorities(&self) -> &[X509Authority] {
        &self.x509
    }

    /// The JWT authorities.
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt
    }

    /// The JWT authority of this key ID.
    pub fn jwt_authority(&self, key_id: &str) -> Option<&JwtAuthority> {
        self.jwt.iter().find(|a| a.key_id == key_id)
    }

    /// The WIT authorities.
    pub fn wit_authorities(&self) -> &[WitAuthority] {
        &self.wit
    }

    /// The WIT authority of this key ID.
    pub fn wit_authority(&self, key_id: &str) -> Option<&WitAuthority> {
        self.wit.iter().find(|a| a.key_id == key_id)
    }

    /// Grows with every change of content.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often the publisher wants to be asked.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The X.509 authorities as DER one behind the other.
    pub fn x509_der_concat(&self) -> Vec<u8> {
        self.x509
            .iter()
            .flat_map(|a| a.certificate.as_der())
            .copied()
            .collect()
    }

    /// The X.509 authorities as PEM.
    pub fn to_pem(&self) -> String {
        self.x509.iter().map(|a| a.certificate.to_pem()).collect()
    }

    /// Whether both trust the same keys in the same order, whatever sequence and hint say.
    pub fn content_eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain
            && self.x509 == other.x509
            && self.jwt == other.jwt
            && self.wit == other.wit
    }
}

fn untainted(chain: Vec<Certificate>) -> Vec<X509Authority> {
    chain
        .into_iter()
        .map(|certificate| X509Authority {
            certificate,
            tainted: false,
        })
        .collect()
}

/// Why a document is no bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// More than 1 MiB.
    #[error("the bundle has {bytes} bytes, more than accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More than 256 keys.
    #[error("the bundle has {count} keys, more than accepted")]
    TooManyKeys {
        /// How many.
        count: usize,
    },
    /// Not strict JSON.
    #[error("the bundle is no JSON object without repeated members")]
    Json {
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A member that is missing or of the wrong kind.
    #[error("member {member} of the bundle is missing or of the wrong kind")]
    Member {
        /// Which.
        member: &'static str,
    },
    /// A JWT or WIT key without `kid` (JWT-SVID §6.1, WIT-SVID §6.1).
    #[error("token key {index} of the bundle has no key ID")]
    NoKeyId {
        /// Its place among the keys.
        index: usize,
    },
    /// Two JWT or WIT keys with one `kid`.
    #[error("key ID {key_id:?} stands twice in the bundle")]
    KeyIdTwice {
        /// Which.
        key_id: String,
    },
    /// A broken or weak JWT or WIT key.
    #[error("key {index} of the bundle is refused")]
    Key {
        /// Its place among the keys.
        index: usize,
        /// Why.
        source: KeyError,
    },
    /// A broken authority certificate.
    #[error("the certificate of key {index} of the bundle is refused")]
    Certificate {
        /// Its place among the keys.
        index: usize,
        /// Why.
        source: X509Error,
    },
    /// A broken PEM or DER list.
    #[error("the list of certificates is refused")]
    Pem {
        /// Why.
        source: X509Error,
    },
}

pub(crate) const MAX_KEYS: usize = 256;

#[cfg(test)]
mod tests;
