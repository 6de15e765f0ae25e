//! What this node shows the server to be let in: a join token, or a device certificate with proof of its key.
//!
//! Invariant: secrets are read when needed and wiped; a join token replaced on disk is used at the next attempt.

mod device_key;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{Certificate, PrivateKey, PublicKey, RecoveryProof, SpiffeId, parse_chain_pem};
use landfast_proto::landfast::recovery::v1 as recovery;
use prost::Message as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use device_key::DeviceKey;

/// How this node attests.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// A token that works once.
    JoinToken(TokenSource),
    /// A device certificate and proof of its key.
    X509Pop {
        /// PEM, the device's own certificate first.
        certificate: PathBuf,
        /// PEM: PKCS#8, PKCS#1 or SEC 1.
        private_key: PathBuf,
    },
}

/// Where the join token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// The configuration itself.
    Inline(Zeroizing<String>),
    /// A file, read at each attempt.
    File(PathBuf),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {expected}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The server asked for something this node cannot do.
    #[error("the server's challenge is not one of this method")]
    Challenge,
    /// No signature could be made.
    #[error("cannot sign the challenge")]
    Sign,
}

/// Evidence read from its files, ready for one attestation.
pub(crate) enum Ready {
    Token(Zeroizing<String>),
    Device {
        chain: Vec<Certificate>,
        key: DeviceKey,
    },
    /// A node that was in before, and the key that it registered then.
    Returning {
        agent_id: SpiffeId,
        device_key: Arc<PrivateKey>,
        csr_key: PublicKey,
        counter: u64,
    },
}

impl Evidence {
    /// The attestation type as SPIRE names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::JoinToken(_) => "join_token",
            Self::X509Pop { .. } => "x509pop",
        }
    }

    /// Reads what is needed. Blocks on files.
    pub(crate) fn prepare(&self) -> Result<Ready, EvidenceError> {
        match self {
            Self::JoinToken(TokenSource::Inline(token)) => Ok(Ready::Token(token.clone())),
            Self::JoinToken(TokenSource::File(path)) => {
                let text = read(path)?;
                let token = text.trim();
                if !is_token(token) {
                    return Err(EvidenceError::Content {
                        path: path.clone(),
                        expected: "join token",
                    });
                }
                Ok(Ready::Token(Zeroizing::new(token.to_owned())))
            }
            Self::X509Pop {
                certificate,
                private_key,
            } => {
                let chain = parse_chain_pem(&read(certificate)?)
                    .ok()
                    .filter(|chain| !chain.is_empty());
                let expected = "certificate in PEM";
                let chain = chain.ok_or_else(|| EvidenceError::Content {
                    path: certificate.clone(),
                    expected,
                })?;
                let key =
                    DeviceKey::from_pem(&read(private_key)?, chain[0].public_key()).map_err(|error| {
                        match error {
                            device_key::DeviceKeyError::Unknown(expected) => EvidenceError::Content {
                                path: private_key.clone(),
                                expected,
                            },
                            device_key::DeviceKeyError::Mismatch => EvidenceError::Mismatch {
                                key: private_key.clone(),
                                certificate: certificate.clone(),
                            },
                        }
                    })?;
                Ok(Ready::Device { chain, key })
            }
        }
    }
}

/// A token as servers make them or operators choose them: one word.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|b| b.is_ascii_graphic())
}

impl Ready {
    /// The first message.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self {
            Self::Token(token) => token.as_bytes().to_vec(),
            Self::Returning {
                agent_id, counter, ..
            } => recovery::Claim {
                agent_id: agent_id.to_string(),
                counter: *counter,
            }
            .encode_to_vec(),
            Self::Device { chain, .. } => {
                let certificates: Vec<String> = chain.iter().map(|c| BASE64.encode(c.as_der())).collect();
                serde_json::json!({ "certificates": certificates })
                    .to_string()
                    .into_bytes()
            }
        }
    }

    /// The answer to a challenge. A join token is never challenged.
    pub(crate) fn answer(&self, challenge: &[u8]) -> Result<Vec<u8>, EvidenceError> {
        let key = match self {
            Self::Device { key, .. } => key,
            Self::Returning {
                agent_id,
                device_key,
                csr_key,
                counter,
            } => {
                let asked = recovery::Challenge::decode(challenge).ok();
                let nonce = asked.and_then(|asked| <[u8; NONCE]>::try_from(&*asked.nonce).ok());
                let proof = RecoveryProof {
                    agent_id,
                    nonce: &nonce.ok_or(EvidenceError::Challenge)?,
                    csr_key,
                    counter: *counter,
                };
                let signature = proof.sign(device_key).map_err(|_cause| EvidenceError::Sign)?;
                let signature = signature.into();
                return Ok(recovery::Proof { signature }.encode_to_vec());
            }
            Self::Token(_) => return Err(EvidenceError::Challenge),
        };
        let challenge: Challenge =
            serde_json::from_slice(challenge).map_err(|_cause| EvidenceError::Challenge)?;
        let mut nonce = [0_u8; NONCE];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_cause| EvidenceError::Sign)?;
        let asked = match key {
            DeviceKey::Rsa(_) => challenge.rsa_signature,
            DeviceKey::Ecdsa(_) => challenge.ecdsa_signature,
        };
        let asked = asked.ok_or(EvidenceError::Challenge)?;
        let theirs = BASE64
            .decode(asked.nonce)
            .ok()
            .filter(|n| n.len() == NONCE)
            .ok_or(EvidenceError::Challenge)?;
        // Both nonces are signed, so that the server cannot choose what we sign.
        let signed = [theirs.as_slice(), &nonce].concat();
        let signature = key.sign(&signed).map_err(|()| EvidenceError::Sign)?;
        let nonce = BASE64.encode(nonce);
        let answer = match key {
            DeviceKey::Rsa(_) => {
                serde_json::json!({ "rsa_signature": { "nonce": nonce, "signature": BASE64.encode(&signature) } })
            }
            DeviceKey::Ecdsa(_) => {
                let (r, s) = signature.split_at(signature.len() / 2);
                serde_json::json!({ "ecdsa_signature": { "nonce": nonce, "r": BASE64.encode(r), "s": BASE64.encode(s) } })
            }
        };
        Ok(answer.to_string().into_bytes())
    }
}

#[derive(Serialize, Deserialize)]
struct Challenge {
    rsa_signature: Option<Asked>,
    ecdsa_signature: Option<Asked>,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    nonce: String,
}

fn read(path: &Path) -> Result<Zeroizing<String>, EvidenceError> {
    use std::io::Read as _;
    let error = |source| EvidenceError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(error)?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(error)?;
    Ok(text)
}

const NONCE: usize = 32;
const MAX_TOKEN: usize = 1024;
const MAX_FILE: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
