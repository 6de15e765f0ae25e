//! Steps as bytes: the messages of `proto/landfast/chain/v1/chain.proto`, written here once more, since this crate stands below the generated ones.
//!
//! Invariant: what is read is bounded before it is decoded; an authority with a key of a kind that is not known here is left out, as long as another
//! is there, as in a bundle from a server.

use prost::Message;

use super::{ChainError, MAX_ROOT_KEYS, MAX_SIGNATURES, MAX_STEP, RootKey, SIGNATURE, Step};
use crate::bundle::{Bundle, JwtAuthority, X509Authority};
use crate::certificate::Certificate;
use crate::key::KeyError;
use crate::public_key::PublicKey;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;
use crate::x509_error::X509Error;

#[derive(Clone, PartialEq, Message)]
struct SignedStepWire {
    #[prost(bytes = "vec", tag = "1")]
    step: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    signatures: Vec<SignatureWire>,
}

#[derive(Clone, PartialEq, Message)]
struct SignatureWire {
    #[prost(bytes = "vec", tag = "1")]
    root_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StepWire {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "4")]
    previous: Vec<u8>,
    #[prost(uint64, tag = "5")]
    bundle_sequence: u64,
    #[prost(message, repeated, tag = "6")]
    x509_authorities: Vec<X509Wire>,
    #[prost(message, repeated, tag = "7")]
    jwt_authorities: Vec<JwtWire>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    root_keys: Vec<Vec<u8>>,
    #[prost(int64, tag = "9")]
    time: i64,
}

#[derive(Clone, PartialEq, Message)]
struct X509Wire {
    #[prost(bytes = "vec", tag = "1")]
    certificate: Vec<u8>,
    #[prost(bool, tag = "2")]
    tainted: bool,
}

#[derive(Clone, PartialEq, Message)]
struct JwtWire {
    #[prost(bytes = "vec", tag = "1")]
    public_key: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(int64, tag = "3")]
    expires_at: i64,
    #[prost(bool, tag = "4")]
    tainted: bool,
}

type Signatures = Vec<(RootKey, [u8; SIGNATURE])>;

pub(super) fn signed_in(bytes: &[u8]) -> Result<(Vec<u8>, Signatures), ChainError> {
    if bytes.len() > MAX_STEP + MAX_SIGNATURES * 128 {
        return Err(ChainError::TooLarge { bytes: bytes.len() });
    }
    let wire = SignedStepWire::decode(bytes).map_err(|source| ChainError::Form { source })?;
    if wire.signatures.len() > MAX_SIGNATURES {
        return Err(ChainError::TooManySignatures);
    }
    let read = |wire: &SignatureWire| {
        let signature = wire.signature.as_slice().try_into().ok();
        RootKey::from_bytes(&wire.root_key).zip(signature)
    };
    let signatures: Option<Signatures> = wire.signatures.iter().map(read).collect();
    let part = ChainError::Part { part: "a signature" };
    Ok((wire.step, signatures.ok_or(part)?))
}

pub(super) fn signed_out(step: &[u8], signatures: &[(RootKey, [u8; SIGNATURE])]) -> Vec<u8> {
    let signatures = signatures.iter().map(|(key, signature)| SignatureWire {
        root_key: key.as_bytes().to_vec(),
        signature: signature.to_vec(),
    });
    let wire = SignedStepWire {
        step: step.to_vec(),
        signatures: signatures.collect(),
    };
    wire.encode_to_vec()
}

pub(super) fn step_out(step: &Step) -> Vec<u8> {
    let x509 = step.bundle.x509_authorities().iter().map(|authority| X509Wire {
        certificate: authority.certificate.as_der().to_vec(),
        tainted: authority.tainted,
    });
    let jwt = step.bundle.jwt_authorities().iter().map(|authority| JwtWire {
        public_key: authority.public_key.spki_der().to_vec(),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, UnixTime::as_secs),
        tainted: authority.tainted,
    });
    let wire = StepWire {
        trust_domain: step.bundle.trust_domain().as_str().to_owned(),
        epoch: step.epoch,
        sequence: step.sequence,
        previous: step.previous.map_or_else(Vec::new, |digest| digest.to_vec()),
        bundle_sequence: step.bundle.sequence(),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        root_keys: step.root_keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        time: step.time.as_secs(),
    };
    wire.encode_to_vec()
}

pub(super) fn step_in(bytes: &[u8]) -> Result<Step, ChainError> {
    if bytes.len() > MAX_STEP {
        return Err(ChainError::TooLarge { bytes: bytes.len() });
    }
    let wire = StepWire::decode(bytes).map_err(|source| ChainError::Form { source })?;
    let part = |part| ChainError::Part { part };
    let trust_domain = TrustDomain::parse(&wire.trust_domain).map_err(|_cause| part("the trust domain"))?;
    let previous = match wire.previous.as_slice() {
        [] => None,
        digest => Some(
            digest
                .try_into()
                .map_err(|_cause| part("the digest of the step before"))?,
        ),
    };
    let bundle = Bundle::new(trust_domain)
        .with_x509_authorities(x509_in(&wire.x509_authorities)?)?
        .with_jwt_authorities(jwt_in(&wire.jwt_authorities)?)?
        .with_sequence(wire.bundle_sequence);
    Ok(Step {
        epoch: wire.epoch,
        sequence: wire.sequence,
        previous,
        bundle,
        root_keys: root_keys_in(&wire.root_keys)?,
        time: UnixTime::from_secs(wire.time),
    })
}

/// A bundle without an authority verifies no server: nobody is led there.
fn x509_in(wire: &[X509Wire]) -> Result<Vec<X509Authority>, ChainError> {
    let mut authorities = Vec::with_capacity(wire.len());
    for authority in wire {
        let certificate = match Certificate::from_der(&authority.certificate) {
            Ok(certificate) if certificate.is_ca() => certificate,
            Err(X509Error::Key {
                source: KeyError::Unsupported,
                ..
            }) => continue,
            _ => {
                return Err(ChainError::Part {
                    part: "an X.509 authority",
                });
            }
        };
        authorities.push(X509Authority {
            certificate,
            tainted: authority.tainted,
        });
    }
    match authorities.is_empty() {
        true => Err(ChainError::Part {
            part: "each X.509 authority",
        }),
        false => Ok(authorities),
    }
}

fn jwt_in(wire: &[JwtWire]) -> Result<Vec<JwtAuthority>, ChainError> {
    let mut authorities = Vec::with_capacity(wire.len());
    for authority in wire {
        let public_key = match PublicKey::from_spki_der(&authority.public_key) {
            Ok(public_key) => public_key,
            Err(KeyError::Unsupported) => continue,
            Err(_cause) => {
                return Err(ChainError::Part {
                    part: "a JWT authority",
                });
            }
        };
        authorities.push(JwtAuthority {
            key_id: authority.key_id.clone(),
            public_key,
            expires_at: (authority.expires_at != 0).then(|| UnixTime::from_secs(authority.expires_at)),
            tainted: authority.tainted,
        });
    }
    Ok(authorities)
}

fn root_keys_in(wire: &[Vec<u8>]) -> Result<Vec<RootKey>, ChainError> {
    let keys: Option<Vec<_>> = wire.iter().map(|key| RootKey::from_bytes(key)).collect();
    let keys = keys.ok_or(ChainError::Part { part: "a root key" })?;
    let mut distinct = keys.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let count = distinct.len();
    match (1..=MAX_ROOT_KEYS).contains(&count) && count == keys.len() {
        true => Ok(keys),
        false => Err(ChainError::RootKeys { count }),
    }
}
