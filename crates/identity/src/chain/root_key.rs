//! The keys that sign steps. Invariant: Ed25519 only; the encoded key is wiped, and never printed by accident.

use std::fmt;
use std::str::FromStr;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::key::KeyError;
use crate::pem;

/// The public half of a root key, by which nodes know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// From its 32 bytes; `None` for any other number.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn verifies(self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({self})")
    }
}

impl FromStr for RootKey {
    /// What was expected.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "64 hexadecimal digits, as `landfast root key` prints them";
        if text.len() != 64 || !text.is_ascii() {
            return Err(EXPECTED);
        }
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_cause| EXPECTED)?;
            // Without signs and blanks.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(EXPECTED);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_cause| EXPECTED)?;
        }
        Ok(Self(key))
    }
}

/// A root key.
pub struct RootPrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Ed25519KeyPair,
}

impl RootPrivateKey {
    /// A fresh one from the system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate() -> Result<Self, KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_unspecified| KeyError::Random)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Reads the first `PRIVATE KEY` block of a PEM text, also as OpenSSL writes it.
    ///
    /// # Errors
    /// There is none, or it is no Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_pkcs8(pem::first(text, pem::PRIVATE_KEY).ok_or(KeyError::NoPem)?)
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, &self.pkcs8)
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|rejected| KeyError::Rejected {
                reason: rejected.to_string(),
            })?;
        Ok(Self { pkcs8, pair })
    }

    /// By which nodes know it.
    pub fn public_key(&self) -> RootKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        RootKey(key)
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for RootPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPrivateKey({}, ..)", self.public_key())
    }
}
