//! Public keys of others. Invariant: a `PublicKey` is strong enough (P-256, P-384, RSA 2048 to 8192 bits) and has one DER spelling.

use std::fmt;
use std::sync::Arc;

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::der;
use crate::key::KeyError;
use crate::roca;

/// A SubjectPublicKeyInfo of a kind and strength that we accept. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey {
    spki: Arc<[u8]>,
    algorithm: KeyAlgorithm,
    bits: usize,
    /// Where the content of the BIT STRING starts; it ends with the SPKI.
    key_at: usize,
}

/// Kinds of public keys that we accept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA with 2048 to 8192 bits.
    Rsa,
}

impl PublicKey {
    /// Reads the public half of a JWK (RFC 7517), which may be that of a private key.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki_der`].
    pub fn from_jwk(jwk: &[u8]) -> Result<Self, KeyError> {
        crate::jwk::parse(&crate::json::object(jwk).map_err(|_no_object| KeyError::Malformed)?)
    }

    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it is malformed, of another algorithm, or an RSA key outside 2048 to 8192 bits or guessable (ROCA).
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        for (algorithm, prefix, point, bits) in [
            (KeyAlgorithm::EcP256, P256_PREFIX, 65, 256),
            (KeyAlgorithm::EcP384, P384_PREFIX, 97, 384),
        ] {
            if let Some(key) = spki.strip_prefix(prefix) {
                if key.len() != point || key[0] != 4 {
                    return Err(KeyError::Malformed);
                }
                return Ok(Self {
                    spki: spki.into(),
                    algorithm,
                    bits,
                    key_at: prefix.len(),
                });
            }
        }
        let (content, after) = der::read(spki, der::SEQUENCE).ok_or(KeyError::Malformed)?;
        let Some(bit_string) = content.strip_prefix(RSA_ALGORITHM) else {
            return Err(KeyError::Unsupported);
        };
        let (key, rest) = der::read(bit_string, der::BIT_STRING).ok_or(KeyError::Malformed)?;
        let key = key.strip_prefix(&[0]).ok_or(KeyError::Malformed)?;
        if !rest.is_empty() || !after.is_empty() {
            return Err(KeyError::Malformed);
        }
        let bits = rsa_bits(key)?;
        Ok(Self {
            spki: spki.into(),
            algorithm: KeyAlgorithm::Rsa,
            bits,
            key_at: spki.len() - key.len(),
        })
    }

    pub(crate) fn from_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki_der(&[P256_PREFIX, point].concat())
    }

    pub(crate) fn from_p384_point(point: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki_der(&[P384_PREFIX, point].concat())
    }

    pub(crate) fn from_rsa_components(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let integers = [der::unsigned_integer(n), der::unsigned_integer(e)].concat();
        Self::from_rsa_pkcs1(&der::element(der::SEQUENCE, &integers))
    }

    pub(crate) fn from_rsa_pkcs1(key: &[u8]) -> Result<Self, KeyError> {
        let bit_string = der::element(der::BIT_STRING, &[&[0], key].concat());
        Self::from_spki_der(&der::element(
            der::SEQUENCE,
            &[RSA_ALGORITHM, &bit_string].concat(),
        ))
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: the name of this key in records.
    pub fn sha256(&self) -> [u8; 32] {
        crate::key::sha256(&self.spki)
    }

    /// Which kind of key this is.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Bits of the curve or of the modulus.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// SHA-1 of the bare key: RFC 5280 §4.2.1.2 method 1, a name and not a security property.
    pub fn key_id(&self) -> [u8; 20] {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, self.raw());
        let mut id = [0; 20];
        id.copy_from_slice(digest.as_ref());
        id
    }

    /// The content of the BIT STRING: the uncompressed point, or the PKCS#1 key.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.spki[self.key_at..]
    }

    /// Modulus and exponent of an RSA key.
    pub(crate) fn rsa_components(&self) -> Option<(&[u8], &[u8])> {
        matches!(self.algorithm, KeyAlgorithm::Rsa)
            .then(|| split_rsa(self.raw()))
            .flatten()
    }
}

fn split_rsa(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, after) = der::read(key, der::SEQUENCE)?;
    let (n, rest) = der::read_unsigned(content)?;
    let (e, rest) = der::read_unsigned(rest)?;
    (after.is_empty() && rest.is_empty()).then_some((n, e))
}

fn rsa_bits(key: &[u8]) -> Result<usize, KeyError> {
    let (n, e) = split_rsa(key).ok_or(KeyError::Malformed)?;
    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(RSA_MIN..=RSA_MAX).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    let odd = |x: &[u8]| x.last().is_some_and(|b| b & 1 == 1);
    if !odd(n) || !odd(e) || e.len() > 4 || e == [1] {
        return Err(KeyError::Malformed);
    }
    if roca::is_guessable(n) {
        return Err(KeyError::Guessable);
    }
    Ok(bits)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {} bits)", self.algorithm, self.bits)
    }
}

/// A signature algorithm together with its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureScheme {
    /// ECDSA P-256, SHA-256, ASN.1 DER: TLS, X.509.
    EcdsaP256Sha256Asn1,
    /// ECDSA P-256, SHA-256, r‖s in 64 bytes: JWS ES256, x509pop.
    EcdsaP256Sha256Fixed,
    /// ECDSA P-256, SHA-384, ASN.1 DER.
    EcdsaP256Sha384Asn1,
    /// ECDSA P-384, SHA-256, ASN.1 DER.
    EcdsaP384Sha256Asn1,
    /// ECDSA P-384, SHA-384, ASN.1 DER.
    EcdsaP384Sha384Asn1,
    /// ECDSA P-384, SHA-384, r‖s in 96 bytes: JWS ES384.
    EcdsaP384Sha384Fixed,
    /// RSA PKCS#1 v1.5, SHA-256: JWS RS256.
    RsaPkcs1Sha256,
    /// RSA PKCS#1 v1.5, SHA-384.
    RsaPkcs1Sha384,
    /// RSA PKCS#1 v1.5, SHA-512.
    RsaPkcs1Sha512,
    /// RSA-PSS, SHA-256, a salt of any length: x509pop.
    RsaPssSha256,
}

/// Checks one signature.
///
/// # Errors
/// [`KeyError::WrongScheme`] when the key is not of the scheme's kind, [`KeyError::BadSignature`] when it does not verify.
pub fn verify_signature(
    key: &PublicKey,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), KeyError> {
    let (kind, algorithm): (KeyAlgorithm, &'static dyn VerificationAlgorithm) = match scheme {
        SignatureScheme::EcdsaP256Sha256Asn1 => (KeyAlgorithm::EcP256, &signature::ECDSA_P256_SHA256_ASN1),
        SignatureScheme::EcdsaP256Sha256Fixed => (KeyAlgorithm::EcP256, &signature::ECDSA_P256_SHA256_FIXED),
        SignatureScheme::EcdsaP256Sha384Asn1 => (KeyAlgorithm::EcP256, &signature::ECDSA_P256_SHA384_ASN1),
        SignatureScheme::EcdsaP384Sha256Asn1 => (KeyAlgorithm::EcP384, &signature::ECDSA_P384_SHA256_ASN1),
        SignatureScheme::EcdsaP384Sha384Asn1 => (KeyAlgorithm::EcP384, &signature::ECDSA_P384_SHA384_ASN1),
        SignatureScheme::EcdsaP384Sha384Fixed => (KeyAlgorithm::EcP384, &signature::ECDSA_P384_SHA384_FIXED),
        SignatureScheme::RsaPkcs1Sha256 => (KeyAlgorithm::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
        SignatureScheme::RsaPkcs1Sha384 => (KeyAlgorithm::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
        SignatureScheme::RsaPkcs1Sha512 => (KeyAlgorithm::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
        SignatureScheme::RsaPssSha256 => return verify_pss(key, message, signature),
    };
    if key.algorithm != kind {
        return Err(KeyError::WrongScheme);
    }
    UnparsedPublicKey::new(algorithm, key.raw())
        .verify(message, signature)
        .map_err(|_unspecified| KeyError::BadSignature)
}

fn verify_pss(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
    if key.algorithm != KeyAlgorithm::Rsa {
        return Err(KeyError::WrongScheme);
    }
    match crate::pss::verify_sha256(key, message, signature) {
        true => Ok(()),
        false => Err(KeyError::BadSignature),
    }
}

/// SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING of 65 bytes }, up to the point.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for secp384r1 and 97 bytes.
const P384_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// SEQUENCE { rsaEncryption, NULL }.
const RSA_ALGORITHM: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
const RSA_MIN: usize = 2048;
const RSA_MAX: usize = 8192;
