//! What a node signs with its device key: to register it, and to come back with it.
//!
//! Invariant: what is signed for one purpose, node, trust domain, key, counter or question of a server is no signature for another. The encoding is
//! injective: a label of its own for each purpose, then each field with its length in front.

use crate::id::SpiffeId;
use crate::key::{KeyError, PrivateKey};
use crate::public_key::{PublicKey, SignatureScheme, verify_signature};

/// What a node claims that asks to be itself again.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryProof<'a> {
    /// Who it is; its trust domain is signed as well.
    pub agent_id: &'a SpiffeId,
    /// What the server has asked with, once.
    pub nonce: &'a [u8; 32],
    /// The key that it asks an SVID for.
    pub csr_key: &'a PublicKey,
    /// How many times it has asked for one with the device key, this time included.
    pub counter: u64,
}

impl RecoveryProof<'_> {
    /// Signs it.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn sign(&self, device_key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        device_key.sign(&self.signed())
    }

    /// Whether the holder of this device key has signed it.
    ///
    /// # Errors
    /// [`KeyError::WrongScheme`] unless the key is of P-256, [`KeyError::BadSignature`] when the signature is another's, or of something else.
    pub fn verify(&self, device_key: &PublicKey, signature: &[u8]) -> Result<(), KeyError> {
        verify(device_key, &self.signed(), signature)
    }

    fn signed(&self) -> Vec<u8> {
        encode(
            RECOVERY,
            &[
                self.agent_id.trust_domain().as_str().as_bytes(),
                self.agent_id.as_str().as_bytes(),
                self.nonce,
                self.csr_key.spki_der(),
                &self.counter.to_be_bytes(),
            ],
        )
    }
}

/// What a node claims that registers a device key: that it holds it.
#[derive(Clone, Copy, Debug)]
pub struct RegistrationProof<'a> {
    /// Who it is; its trust domain is signed as well.
    pub agent_id: &'a SpiffeId,
    /// The key to be registered.
    pub device_key: &'a PublicKey,
}

impl RegistrationProof<'_> {
    /// Signs it.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn sign(&self, device_key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        device_key.sign(&self.signed())
    }

    /// Whether the holder of the key itself has signed it.
    ///
    /// # Errors
    /// As [`RecoveryProof::verify`].
    pub fn verify(&self, signature: &[u8]) -> Result<(), KeyError> {
        verify(self.device_key, &self.signed(), signature)
    }

    fn signed(&self) -> Vec<u8> {
        encode(
            REGISTRATION,
            &[
                self.agent_id.trust_domain().as_str().as_bytes(),
                self.agent_id.as_str().as_bytes(),
                self.device_key.spki_der(),
            ],
        )
    }
}

fn verify(key: &PublicKey, signed: &[u8], signature: &[u8]) -> Result<(), KeyError> {
    verify_signature(key, SignatureScheme::EcdsaP256Sha256Asn1, signed, signature)
}

fn encode(label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut signed = label.as_bytes().to_vec();
    for field in fields {
        // No field is as long as that: IDs have 2,048 bytes at most, keys a few hundred.
        signed.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        signed.extend_from_slice(field);
    }
    signed
}

const RECOVERY: &str = "landfast device key recovery v1\n";
const REGISTRATION: &str = "landfast device key registration v1\n";

#[cfg(test)]
mod tests;
