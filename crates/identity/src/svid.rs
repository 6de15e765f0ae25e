//! An X509-SVID with its key: what a workload holds. Invariant: the leaf meets X509-SVID §2-§4 and the key is its own.

use std::fmt;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::id::SpiffeId;
use crate::key::PrivateKey;
use crate::unix_time::UnixTime;
use crate::verify::{self, MAX_INTERMEDIATES};
use crate::x509_error::X509Error;

/// A leaf certificate, the intermediates above it, and the private key. Cheap to clone.
#[derive(Clone)]
pub struct X509Svid {
    id: SpiffeId,
    chain: Vec<Certificate>,
    key: Arc<PrivateKey>,
    hint: String,
}

impl X509Svid {
    /// Puts a chain, leaf first, and its key together. Whether anybody trusts the chain is not asked here.
    ///
    /// # Errors
    /// When the chain is empty or too long, the leaf breaks a rule of X509-SVID, or the key is not the leaf's.
    pub fn new(chain: Vec<Certificate>, key: impl Into<Arc<PrivateKey>>) -> Result<Self, X509Error> {
        let key = key.into();
        let leaf = chain.first().ok_or(X509Error::EmptyChain)?;
        if chain.len() > MAX_INTERMEDIATES + 1 {
            return Err(X509Error::ChainTooLong { count: chain.len() });
        }
        let id = verify::leaf_rules(leaf)?;
        if *leaf.public_key() != key.public_key() {
            return Err(X509Error::KeyMismatch);
        }
        Ok(Self {
            id,
            chain,
            key,
            hint: String::new(),
        })
    }

    /// The same with a hint for the workload.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The SPIFFE ID of the leaf.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, leaf first; never empty.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The private key.
    pub fn key(&self) -> &Arc<PrivateKey> {
        &self.key
    }

    /// The hint, or nothing.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// First second of the leaf's validity.
    pub fn not_before(&self) -> UnixTime {
        self.leaf().not_before()
    }

    /// Last second of the leaf's validity.
    pub fn not_after(&self) -> UnixTime {
        self.leaf().not_after()
    }

    /// The leaf's serial number in hex.
    pub fn serial_hex(&self) -> String {
        self.leaf().serial_hex()
    }

    /// The chain as DER one behind the other, as the Workload API sends it.
    pub fn chain_der_concat(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|c| c.as_der()).copied().collect()
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "X509Svid({}, serial {}, until {})",
            self.id,
            self.serial_hex(),
            self.not_after()
        )
    }
}

#[cfg(test)]
mod tests;
