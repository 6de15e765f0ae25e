//! Private keys that we generate. Invariant: EC P-256 or P-384 only; the encoded key is wiped on drop, never cloned, never printed.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::public_key::PublicKey;
use crate::{der, jwk, pem};

/// What signs: a private key in memory, or the server's key manager in front of one.
pub trait Signer: Send + Sync {
    /// The public half; EC P-256 or P-384, or RSA when it is an operator's.
    fn public_key(&self) -> PublicKey;

    /// Signs with ECDSA, ASN.1 DER: SHA-256 for P-256, SHA-384 for P-384. With RSA: PKCS#1 1.5, SHA-256.
    ///
    /// # Errors
    /// When the key cannot be used now.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// Kinds of keys that we generate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256: fast, and what every SPIFFE implementation has.
    #[default]
    EcP256,
    /// ECDSA on P-384, for who has to: signing takes twenty times as long.
    EcP384,
}

impl KeyType {
    /// As configurations and SPIRE spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::EcP256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::EcP384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }
}

impl FromStr for KeyType {
    /// What was expected.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = [Self::EcP256, Self::EcP384]
            .into_iter()
            .find(|kind| kind.as_str() == text);
        named.ok_or("ec-p256 or ec-p384")
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An EC private key.
///
/// The PKCS#8 bytes are wiped on drop. ring keeps the scalar besides, and does not wipe it: memory of a process is
/// not a place that this type can defend.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
    key_type: KeyType,
    public: PublicKey,
}

impl PrivateKey {
    /// A fresh P-256 key from the system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate() -> Result<Self, KeyError> {
        Self::generate_as(KeyType::EcP256)
    }

    /// A fresh key from the system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate_as(key_type: KeyType) -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(key_type.signing(), &SystemRandom::new())
            .map_err(|_unspecified| KeyError::Random)?;
        Self::from_pkcs8_der(document.as_ref().to_vec())
    }

    /// Reads an unencrypted PKCS#8 key that holds its public half, as OpenSSL and Go write it.
    ///
    /// # Errors
    /// When it is malformed, of another algorithm, or its halves do not belong together.
    pub fn from_pkcs8_der(der: Vec<u8>) -> Result<Self, KeyError> {
        let pkcs8 = Zeroizing::new(der);
        let random = SystemRandom::new();
        let read = |key_type: KeyType| {
            EcdsaKeyPair::from_pkcs8(key_type.signing(), &pkcs8, &random).map(|pair| (key_type, pair))
        };
        let (key_type, pair) = read(KeyType::EcP256)
            .or_else(|first| read(KeyType::EcP384).map_err(|_second| first))
            .map_err(|rejected| KeyError::Rejected {
                reason: rejected.to_string(),
            })?;
        let point = pair.public_key().as_ref();
        let public = match key_type {
            KeyType::EcP256 => PublicKey::from_p256_point(point)?,
            KeyType::EcP384 => PublicKey::from_p384_point(point)?,
        };
        Ok(Self {
            pkcs8,
            pair,
            key_type,
            public,
        })
    }

    /// Reads the first `PRIVATE KEY` block of a PEM text.
    ///
    /// # Errors
    /// When there is none, or as [`PrivateKey::from_pkcs8_der`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::first(text, pem::PRIVATE_KEY).ok_or(KeyError::NoPem)?;
        Self::from_pkcs8_der(der.to_vec())
    }

    /// The PKCS#8 encoding.
    pub fn as_pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Its kind.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// Signs with ECDSA, ASN.1 DER: SHA-256 for P-256, SHA-384 for P-384.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_unspecified| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The key as a private JWK with its `alg` (RFC 7518 §6.2.2), as the WIT profile hands keys out.
    ///
    /// # Errors
    /// When the PKCS#8 encoding is not the usual one.
    pub fn to_private_jwk(&self) -> Result<Zeroizing<String>, KeyError> {
        let scalar = self.scalar().ok_or(KeyError::Malformed)?;
        let mut members = jwk::members(&self.public);
        members.insert("alg".to_owned(), jwk::own_algorithm(&self.public).into());
        let d = Zeroizing::new(URL_SAFE_NO_PAD.encode(scalar));
        let public = Value::Object(members).to_string();
        let body = public.strip_suffix('}').ok_or(KeyError::Malformed)?;
        Ok(Zeroizing::new(format!("{body},\"d\":\"{}\"}}", *d)))
    }

    /// The private scalar, from PKCS#8 (RFC 5958 §2) and the ECPrivateKey in it (RFC 5915 §3); it has the curve's length.
    fn scalar(&self) -> Option<&[u8]> {
        let (pkcs8, _) = der::read(&self.pkcs8, der::SEQUENCE)?;
        let (_version, rest) = der::read_unsigned(pkcs8)?;
        let (_algorithm, rest) = der::read(rest, der::SEQUENCE)?;
        let (wrapped, _) = der::read(rest, der::OCTET_STRING)?;
        let (key, _) = der::read(wrapped, der::SEQUENCE)?;
        let (_version, rest) = der::read_unsigned(key)?;
        let (scalar, _) = der::read(rest, der::OCTET_STRING)?;
        let length = match self.key_type {
            KeyType::EcP256 => 32,
            KeyType::EcP384 => 48,
        };
        (scalar.len() == length).then_some(scalar)
    }

    /// The key as a `PRIVATE KEY` block.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, &self.pkcs8)
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, KeyError> {
        Self::sign(self, data)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// What can be wrong with a key or a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The encoding is broken.
    #[error("the key is malformed")]
    Malformed,
    /// Neither P-256, P-384 nor RSA.
    #[error("the key is neither EC P-256, EC P-384 nor RSA")]
    Unsupported,
    /// An RSA key that is too short to trust or too long to compute with.
    #[error("the RSA key has {bits} bits, accepted are 2048 to 8192")]
    RsaSize {
        /// Bits of its modulus.
        bits: usize,
    },
    /// An RSA key that can be factored from its public half.
    #[error(
        "the RSA key is of the kind that can be factored (ROCA, CVE-2017-15361); make one outside of that chip"
    )]
    Guessable,
    /// A private key that ring refuses.
    #[error("the private key is not a usable EC or RSA key in PKCS#8: {reason}")]
    Rejected {
        /// ring's reason.
        reason: String,
    },
    /// A PEM text without the expected block.
    #[error("the text holds no such PEM block")]
    NoPem,
    /// No random numbers, so no signature.
    #[error("the system's random source failed")]
    Random,
    /// The key is of another kind than the signature algorithm.
    #[error("the key does not fit the signature algorithm")]
    WrongScheme,
    /// The signature does not verify.
    #[error("the signature is wrong")]
    BadSignature,
    /// A signer behind [`Signer`] failed.
    #[error("the signer failed: {reason}")]
    Signer {
        /// What it said.
        reason: String,
    },
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
