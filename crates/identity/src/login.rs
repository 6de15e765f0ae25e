//! What a person signs, or has said, to be let in from another machine.
//!
//! Invariant: what is signed for one trust domain, key or question of a server is none for another. The encoding is injective: a label, then each
//! field with its length in front.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::public_key::PublicKey;
use crate::trust_domain::TrustDomain;

/// What a login is bound to.
#[derive(Clone, Copy, Debug)]
pub struct LoginProof<'a> {
    /// Where: of the bundle that the person verifies the server by.
    pub trust_domain: &'a TrustDomain,
    /// What the server has asked with, once.
    pub challenge: &'a [u8],
    /// The key that the certificate is asked for.
    pub csr_key: &'a PublicKey,
}

impl LoginProof<'_> {
    /// What an SSH key signs, in the namespace [`LoginProof::NAMESPACE`].
    pub fn message(&self) -> Vec<u8> {
        let fields = [
            self.trust_domain.as_str().as_bytes(),
            self.challenge,
            self.csr_key.spki_der(),
        ];
        let mut out = LABEL.to_vec();
        for field in fields {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }

    /// What an ID token has as its `nonce`.
    pub fn nonce(&self) -> String {
        URL_SAFE_NO_PAD.encode(crate::key::sha256(&self.message()))
    }

    /// Of signatures that are made for this and nothing else.
    pub const NAMESPACE: &'static str = "login@landfast";
}

const LABEL: &[u8] = b"landfast login v1\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn each_part_counts_and_none_runs_into_another() {
        let (one, two) = (
            TrustDomain::parse("a").unwrap(),
            TrustDomain::parse("ab").unwrap(),
        );
        let keys = [
            PrivateKey::generate().unwrap().public_key(),
            PrivateKey::generate().unwrap().public_key(),
        ];
        let proof = |trust_domain, challenge, csr_key| LoginProof {
            trust_domain,
            challenge,
            csr_key,
        };
        let first = proof(&one, b"bc", &keys[0]);
        for other in [
            proof(&two, b"c", &keys[0]),
            proof(&two, b"bc", &keys[0]),
            proof(&one, b"b", &keys[0]),
            proof(&one, b"bc", &keys[1]),
        ] {
            assert_ne!(first.message(), other.message());
            assert_ne!(first.nonce(), other.nonce());
        }
        assert_eq!(first.nonce().len(), 43);
    }
}
