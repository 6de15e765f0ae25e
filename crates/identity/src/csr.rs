//! Certificate requests. Invariant: a `Csr` proves possession of a key we accept; all else it says is a wish, shown and never believed.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::id::SpiffeId;
use crate::issue::{self, IssueError};
use crate::key::{KeyError, PrivateKey};
use crate::public_key::{KeyAlgorithm, PublicKey, SignatureScheme, verify_signature};

/// A PKCS#10 request whose self-signature verified.
#[derive(Clone, Debug)]
pub struct Csr {
    public_key: PublicKey,
    uri_sans: Vec<String>,
    dns_sans: Vec<String>,
    subject_common_name: Option<String>,
}

impl Csr {
    /// Reads a DER request of at most 16 KiB and verifies its signature with the key inside.
    ///
    /// # Errors
    /// When it is too large, malformed, followed by other bytes, signed wrongly, or its key is refused.
    pub fn parse_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::TooLarge { bytes: der.len() });
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|e| CsrError::Malformed {
            detail: e.to_string(),
        })?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed {
                detail: "bytes after the request".to_owned(),
            });
        }
        let info = &request.certification_request_info;
        let public_key =
            PublicKey::from_spki_der(info.subject_pki.raw).map_err(|source| CsrError::Key { source })?;
        let scheme = scheme(
            request.signature_algorithm.algorithm.as_bytes(),
            public_key.algorithm(),
        )?;
        verify_signature(&public_key, scheme, info.raw, &request.signature_value.data)
            .map_err(|source| CsrError::Signature { source })?;
        let subject_common_name = info
            .subject
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok());
        let mut csr = Self {
            public_key,
            uri_sans: Vec::new(),
            dns_sans: Vec::new(),
            subject_common_name: subject_common_name.map(str::to_owned),
        };
        for attribute in info.iter_attributes() {
            if let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() {
                wanted
                    .extensions
                    .iter()
                    .for_each(|e| csr.note(e.parsed_extension()));
            }
        }
        Ok(csr)
    }

    fn note(&mut self, extension: &ParsedExtension<'_>) {
        if let ParsedExtension::SubjectAlternativeName(san) = extension {
            for name in &san.general_names {
                match name {
                    GeneralName::URI(uri) => self.uri_sans.push((*uri).to_owned()),
                    GeneralName::DNSName(dns) => self.dns_sans.push((*dns).to_owned()),
                    _ => {}
                }
            }
        }
    }

    /// The key whose possession is proven.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The URI SANs it asks for, of every SAN extension in it.
    pub fn uri_sans(&self) -> &[String] {
        &self.uri_sans
    }

    /// The DNS SANs it asks for.
    pub fn dns_sans(&self) -> &[String] {
        &self.dns_sans
    }

    /// The common name it asks for.
    pub fn subject_common_name(&self) -> Option<&str> {
        self.subject_common_name.as_deref()
    }
}

fn scheme(oid: &[u8], key: KeyAlgorithm) -> Result<SignatureScheme, CsrError> {
    Ok(match (oid, key) {
        (ECDSA_SHA256, KeyAlgorithm::EcP256) => SignatureScheme::EcdsaP256Sha256Asn1,
        (ECDSA_SHA256, KeyAlgorithm::EcP384) => SignatureScheme::EcdsaP384Sha256Asn1,
        (ECDSA_SHA384, KeyAlgorithm::EcP256) => SignatureScheme::EcdsaP256Sha384Asn1,
        (ECDSA_SHA384, KeyAlgorithm::EcP384) => SignatureScheme::EcdsaP384Sha384Asn1,
        (RSA_SHA256, KeyAlgorithm::Rsa) => SignatureScheme::RsaPkcs1Sha256,
        (RSA_SHA384, KeyAlgorithm::Rsa) => SignatureScheme::RsaPkcs1Sha384,
        (RSA_SHA512, KeyAlgorithm::Rsa) => SignatureScheme::RsaPkcs1Sha512,
        _ => return Err(CsrError::SignatureAlgorithm),
    })
}

/// Builds a request as SPIRE's agent does: subject `C=US, O=SPIRE`, signed with ECDSA, SHA-256 by a P-256 key and SHA-384 by a
/// P-384 one; a URI SAN and DNS SANs only when given.
///
/// # Errors
/// When a DNS name is malformed or signing fails.
pub fn build_csr(key: &PrivateKey, id: Option<&SpiffeId>, dns: &[String]) -> Result<Vec<u8>, CsrError> {
    issue::request(key, id, dns).map_err(|source| CsrError::Build { source })
}

/// Why a request is refused or cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// More than 16 KiB.
    #[error("the request has {bytes} bytes, more than accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a DER PKCS#10 request.
    #[error("the request is malformed: {detail}")]
    Malformed {
        /// Where the parser stopped.
        detail: String,
    },
    /// Its key is too weak, too large, or of an unknown kind.
    #[error("the key of the request is refused")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// Signed with an algorithm that we do not accept or that does not fit its key.
    #[error("the request is signed with an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// Not signed by its own key.
    #[error("the request is not signed by its own key")]
    Signature {
        /// Why.
        source: KeyError,
    },
    /// Ours could not be built.
    #[error("the request cannot be built")]
    Build {
        /// Why.
        source: IssueError,
    },
}

const MAX_CSR: usize = 16 * 1024;
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

#[cfg(test)]
mod tests;
