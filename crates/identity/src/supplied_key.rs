//! A private key that an operator hands us: that of an authority above ours. Invariant: only signs; the encoding is wiped.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};

use crate::der;
use crate::key::{KeyError, KeyType, PrivateKey, Signer};
use crate::pem;
use crate::public_key::PublicKey;

/// An EC P-256, EC P-384 or RSA key (2048 to 4096 bits) from a file.
pub struct SuppliedKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Pkcs8(PrivateKey),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SuppliedKey {
    /// Reads the first private key of a PEM text that is not encrypted: PKCS#8, SEC 1 or PKCS#1.
    ///
    /// # Errors
    /// When there is none, or it is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if let Some(der) = pem::first(text, pem::PRIVATE_KEY) {
            return match RsaKeyPair::from_pkcs8(&der) {
                Ok(pair) => Self::rsa(pair),
                Err(_not_rsa) => PrivateKey::from_pkcs8_der(der.to_vec()).map(|key| Self {
                    public: key.public_key(),
                    pair: Pair::Pkcs8(key),
                }),
            };
        }
        if let Some(der) = pem::first(text, EC_PRIVATE_KEY) {
            return Self::from_sec1(&der);
        }
        let der = pem::first(text, RSA_PRIVATE_KEY).ok_or(KeyError::NoPem)?;
        let pair = RsaKeyPair::from_der(&der).map_err(|refused| KeyError::Rejected {
            reason: refused.to_string(),
        })?;
        Self::rsa(pair)
    }

    fn rsa(pair: RsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_rsa_pkcs1(pair.public_key().as_ref())?;
        Ok(Self {
            pair: Pair::Rsa(pair),
            public,
        })
    }

    /// An ECPrivateKey with its public half (RFC 5915 §3).
    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let (scalar, point) = sec1_parts(der).ok_or(KeyError::Malformed)?;
        let key_type = match scalar.len() {
            32 => KeyType::EcP256,
            48 => KeyType::EcP384,
            _ => return Err(KeyError::Unsupported),
        };
        let (signing, public) = match key_type {
            KeyType::EcP256 => (
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                PublicKey::from_p256_point(point)?,
            ),
            KeyType::EcP384 => (
                &ECDSA_P384_SHA384_ASN1_SIGNING,
                PublicKey::from_p384_point(point)?,
            ),
        };
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(signing, scalar, point, &SystemRandom::new())
                .map_err(|refused| KeyError::Rejected {
                    reason: refused.to_string(),
                })?;
        Ok(Self {
            pair: Pair::Ec(pair),
            public,
        })
    }
}

impl Signer for SuppliedKey {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Pkcs8(key) => key.sign(data),
            Pair::Ec(pair) => {
                let signature = pair
                    .sign(&random, data)
                    .map_err(|_unspecified| KeyError::Random)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, data, &mut signature)
                    .map_err(|_unspecified| KeyError::Random)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for SuppliedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuppliedKey(..)")
    }
}

fn sec1_parts(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, after) = der::read(input, der::SEQUENCE)?;
    let (version, rest) = der::read_unsigned(key)?;
    let (scalar, mut rest) = der::read(rest, der::OCTET_STRING)?;
    if let Some((_curve, further)) = der::read(rest, PARAMETERS) {
        rest = further;
    }
    let (wrapped, rest) = der::read(rest, PUBLIC_KEY)?;
    let (bits, end) = der::read(wrapped, der::BIT_STRING)?;
    let whole = version == [1] && after.is_empty() && rest.is_empty() && end.is_empty();
    whole
        .then(|| bits.strip_prefix(&[0]))
        .flatten()
        .map(|point| (scalar, point))
}

const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";
/// `[0] EXPLICIT` and `[1] EXPLICIT`.
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_key::{SignatureScheme, verify_signature};

    /// What the vectors have in PKCS#8, in the older spellings: PKCS#8 wraps them (RFC 5208 §5).
    fn older(pkcs8: &str, label: &str) -> String {
        let der = pem::first(pkcs8, pem::PRIVATE_KEY).unwrap();
        let (content, _) = der::read(&der, der::SEQUENCE).unwrap();
        let (_version, rest) = der::read_unsigned(content).unwrap();
        let (_algorithm, rest) = der::read(rest, der::SEQUENCE).unwrap();
        let (inner, _) = der::read(rest, der::OCTET_STRING).unwrap();
        pem::encode(label, inner).to_string()
    }

    #[test]
    fn every_spelling_of_every_kind_signs() {
        let rsa = include_str!("../../../tests/vectors/keys/rsa-2048.pem");
        let p256 = PrivateKey::generate().unwrap().to_pem();
        let p384 = PrivateKey::generate_as(KeyType::EcP384).unwrap().to_pem();
        for (pkcs8, label, scheme) in [
            (rsa, RSA_PRIVATE_KEY, SignatureScheme::RsaPkcs1Sha256),
            (&p256, EC_PRIVATE_KEY, SignatureScheme::EcdsaP256Sha256Asn1),
            (&p384, EC_PRIVATE_KEY, SignatureScheme::EcdsaP384Sha384Asn1),
        ] {
            let old = older(pkcs8, label);
            let keys = [pkcs8, old.as_str()].map(|text| SuppliedKey::from_pem(text).unwrap());
            assert_eq!(keys[0].public_key(), keys[1].public_key());
            for key in keys {
                let signature = key.sign(b"m").unwrap();
                verify_signature(&key.public_key(), scheme, b"m", &signature).unwrap();
                assert!(verify_signature(&key.public_key(), scheme, b"n", &signature).is_err());
            }
        }
    }

    #[test]
    fn what_is_no_key_or_has_halves_of_two_is_refused() {
        let pem = |key: &PrivateKey| older(&key.to_pem(), EC_PRIVATE_KEY);
        let (one, two) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let (one, two) = (pem(&one), pem(&two));
        let der = |text: &str| pem::first(text, EC_PRIVATE_KEY).unwrap().to_vec();
        let (mut mixed, other) = (der(&one), der(&two));
        let at = mixed.len() - 65;
        mixed[at..].copy_from_slice(&other[at..]);
        for text in [
            String::new(),
            pem::encode(EC_PRIVATE_KEY, &mixed).to_string(),
            pem::encode(EC_PRIVATE_KEY, &der(&one)[..40]).to_string(),
            pem::encode(RSA_PRIVATE_KEY, b"no key").to_string(),
            pem::encode(pem::PRIVATE_KEY, b"no key").to_string(),
            pem::encode("ENCRYPTED PRIVATE KEY", b"no key").to_string(),
        ] {
            assert!(SuppliedKey::from_pem(&text).is_err(), "{text}");
        }
        assert_eq!(
            format!("{:?}", SuppliedKey::from_pem(&one).unwrap()),
            "SuppliedKey(..)"
        );
    }
}
