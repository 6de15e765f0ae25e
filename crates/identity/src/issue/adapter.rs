//! Our keys as rcgen wants them. Invariant: a certificate leaves only when it was read back, and the signer's own error is never lost.

use std::cell::RefCell;

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};

use super::IssueError;
use crate::certificate::Certificate;
use crate::key::{KeyError, Signer};
use crate::public_key::{KeyAlgorithm, PublicKey};

/// Lets rcgen sign with our `Signer`, and keeps the signer's own error, for which rcgen has no place.
pub(super) struct Adapter<'a> {
    signer: &'a dyn Signer,
    public: PublicKey,
    failed: RefCell<Option<KeyError>>,
}

impl<'a> Adapter<'a> {
    pub(super) fn new(signer: &'a dyn Signer) -> Result<Self, IssueError> {
        Ok(Self {
            signer,
            public: signer.public_key(),
            failed: RefCell::new(None),
        })
    }

    pub(super) fn own_error(&self) -> Result<(), IssueError> {
        self.failed
            .take()
            .map_or(Ok(()), |source| Err(IssueError::Signing { source }))
    }

    pub(super) fn finish(
        &self,
        built: Result<rcgen::Certificate, rcgen::Error>,
    ) -> Result<Certificate, IssueError> {
        self.own_error()?;
        let built = built.map_err(|source| IssueError::Build { source })?;
        Certificate::from_der(built.der()).map_err(|source| IssueError::ReadBack { source })
    }
}

impl PublicKeyData for Adapter<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.raw()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        signature_algorithm(&self.public)
    }
}

impl SigningKey for Adapter<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|e| {
            self.failed.replace(Some(e));
            rcgen::Error::RemoteKeyError
        })
    }
}

pub(super) struct SubjectKey<'a>(pub(super) &'a PublicKey);

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        signature_algorithm(self.0)
    }
}

fn signature_algorithm(key: &PublicKey) -> &'static SignatureAlgorithm {
    match key.algorithm() {
        KeyAlgorithm::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyAlgorithm::Rsa => &rcgen::PKCS_RSA_SHA256,
    }
}
