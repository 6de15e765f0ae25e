//! A device's own private key, which proves possession of its certificate. Invariant: only signs; the encoding is wiped.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA256, RsaKeyPair};

use crate::key::KeyError;
use crate::pem;
use crate::public_key::{PublicKey, SignatureScheme};

/// An EC P-256 or RSA key that was issued by the maker of a device or by a plant's PKI.
pub struct DeviceKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl DeviceKey {
    /// Reads the first `PRIVATE KEY` (PKCS#8) block of a PEM text: EC P-256, or RSA of 2048 to 4096 bits.
    ///
    /// # Errors
    /// When there is none, or it is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::first(text, pem::PRIVATE_KEY).ok_or(KeyError::NoPem)?;
        if let Ok(pair) =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
        {
            let public = PublicKey::from_p256_point(pair.public_key().as_ref())?;
            return Ok(Self {
                pair: Pair::Ec(pair),
                public,
            });
        }
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|e| KeyError::Rejected {
            reason: e.to_string(),
        })?;
        let public = PublicKey::from_rsa_pkcs1(pair.public_key().as_ref())?;
        Ok(Self {
            pair: Pair::Rsa(pair),
            public,
        })
    }

    /// The public half, to compare with the certificate.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// How [`DeviceKey::sign`] signs: ECDSA P-256 SHA-256 as r‖s, or RSA-PSS SHA-256.
    pub fn scheme(&self) -> SignatureScheme {
        match self.pair {
            Pair::Ec(_) => SignatureScheme::EcdsaP256Sha256Fixed,
            Pair::Rsa(_) => SignatureScheme::RsaPssSha256,
        }
    }

    /// Signs SHA-256 of the message.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair
                    .sign(&random, message)
                    .map_err(|_unspecified| KeyError::Random)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                    .map_err(|_unspecified| KeyError::Random)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}
