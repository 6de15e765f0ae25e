//! `x509pop`: a device certificate, with proof that the node holds its key.
//!
//! Wire: `{"certificates":[base64 DER, leaf first]}`, then a challenge with a nonce, answered with a nonce of the node's own and a
//! signature over both. Invariant: the certificate that names the node is the one whose path was verified and whose key signed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{
    Certificate, KeyAlgorithm, Selector, SelectorSet, SignatureScheme, SpiffeId, TrustDomain, UnixTime,
    X509Error, verify_external_chain, verify_signature,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::turnstile::Turnstile;
use super::{Attested, Challenge, Evidence};
use crate::api::status::internal;
use crate::random::hex;

/// Attests devices of known makers.
pub(crate) struct X509Pop {
    roots: Arc<[Certificate]>,
    max_intermediates: usize,
    turnstile: Turnstile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    certificates: Vec<String>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    rsa_signature: Option<Nonce>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecdsa_signature: Option<Nonce>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nonce {
    nonce: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    rsa_signature: Option<RsaAnswer>,
    ecdsa_signature: Option<EcdsaAnswer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RsaAnswer {
    nonce: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EcdsaAnswer {
    nonce: String,
    r: String,
    s: String,
}

impl X509Pop {
    pub(crate) fn new(roots: &[Certificate], max_intermediates: usize) -> Self {
        Self {
            roots: roots.into(),
            max_intermediates,
            turnstile: Turnstile::new(),
        }
    }

    pub(super) async fn attest(
        &self,
        evidence: &Evidence<'_>,
        challenge: &mut dyn Challenge,
    ) -> Result<Attested, Status> {
        let payload: Payload = json(evidence.payload)?;
        if payload.certificates.is_empty() {
            return Err(refused("no certificate to attest"));
        }
        if payload.certificates.len() > self.max_intermediates + 1 {
            return Err(refused("too many certificates"));
        }
        let chain = payload
            .certificates
            .iter()
            .map(|text| base64(text))
            .collect::<Result<Vec<_>, _>>()?;
        let rules = Rules {
            roots: Arc::clone(&self.roots),
            max_intermediates: self.max_intermediates,
            now: evidence.now,
        };
        let shown = self.turnstile.pass(move || {
            let leaf = rules.verify(&chain, &rules.roots);
            leaf.map(|leaf| (leaf, chain, rules))
        });
        let (leaf, chain, rules) = shown
            .await?
            .map_err(|error| not_proved(&format!("certificate verification failed: {error}")))?;
        self.prove(&leaf, challenge).await?;
        let trust_domain = evidence.trust_domain.clone();
        let (leaf, selectors) = self
            .turnstile
            .pass(move || {
                let selectors = rules.selectors(&leaf, &chain, &trust_domain);
                selectors.map(|selectors| (leaf, selectors))
            })
            .await??;
        let name = hex(&leaf.fingerprint_sha1());
        let agent_id = SpiffeId::agent(evidence.trust_domain, "x509pop", &name);
        let agent_id = agent_id.map_err(|_cause| internal("a fingerprint that is no path"))?;
        Ok(Attested {
            agent_id,
            selectors,
            can_reattest: true,
            returned: None,
            approval: None,
        })
    }

    /// The node holds the key of this certificate.
    async fn prove(&self, leaf: &Certificate, challenge: &mut dyn Challenge) -> Result<(), Status> {
        let mut nonce = [0_u8; NONCE];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_unspecified| internal("the random source failed"))?;
        let asked = Nonce {
            nonce: BASE64.encode(nonce),
        };
        let is_rsa = leaf.public_key().algorithm() == KeyAlgorithm::Rsa;
        let asked = match is_rsa {
            true => Asked {
                rsa_signature: Some(asked),
                ..Asked::default()
            },
            false => Asked {
                ecdsa_signature: Some(asked),
                ..Asked::default()
            },
        };
        let asked = serde_json::to_vec(&asked).map_err(|_cause| internal("a challenge that is no JSON"))?;
        let answer = challenge.ask(asked).await?;
        if answer.len() > MAX_ANSWER {
            return Err(refused("challenge response too large"));
        }
        let answer: Answer = json(&answer)?;
        let (theirs, scheme, signature) = match (is_rsa, answer.rsa_signature, answer.ecdsa_signature) {
            (true, Some(rsa), None) => (rsa.nonce, SignatureScheme::RsaPssSha256, base64(&rsa.signature)?),
            (false, None, Some(ec)) => {
                let scheme = match leaf.public_key().algorithm() {
                    KeyAlgorithm::EcP384 => SignatureScheme::EcdsaP384Sha256Asn1,
                    _ => SignatureScheme::EcdsaP256Sha256Asn1,
                };
                (ec.nonce, scheme, ecdsa_der(&base64(&ec.r)?, &base64(&ec.s)?)?)
            }
            _ => return Err(refused("the challenge response is not of the key's kind")),
        };
        let theirs = base64(&theirs)?;
        if theirs.len() != NONCE {
            return Err(refused("the nonce of the response does not have 32 bytes"));
        }
        let signed = [nonce.as_slice(), &theirs].concat();
        verify_signature(leaf.public_key(), scheme, &signed, &signature)
            .map_err(|_bad| not_proved("the challenge response does not verify"))
    }
}

/// What a chain is judged by.
struct Rules {
    roots: Arc<[Certificate]>,
    max_intermediates: usize,
    now: UnixTime,
}

impl Rules {
    fn verify(&self, chain: &[Vec<u8>], roots: &[Certificate]) -> Result<Certificate, X509Error> {
        let der: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        verify_external_chain(&der, roots, self.now, self.max_intermediates)
    }

    /// What the verified certificates say, in SPIRE's forms.
    fn selectors(
        &self,
        leaf: &Certificate,
        chain: &[Vec<u8>],
        trust_domain: &TrustDomain,
    ) -> Result<SelectorSet, Status> {
        let mut values = vec![format!("serialnumber:{}", leaf.serial_hex())];
        if let Some(name) = leaf.common_name() {
            values.push(format!("subject:cn:{name}"));
        }
        // An authority is named only if the path needs it: a certificate that was merely sent along says nothing.
        for at in 1..chain.len() {
            let mut without = chain.to_vec();
            without.remove(at);
            if self.verify(&without, &self.roots).is_err() {
                let authority = Certificate::from_der(&chain[at])
                    .map_err(|_cause| internal("a certificate read twice differs"))?;
                values.push(format!("ca:fingerprint:{}", hex(&authority.fingerprint_sha1())));
            }
        }
        for root in self.roots.iter() {
            if self.verify(chain, std::slice::from_ref(root)).is_ok() {
                values.push(format!("ca:fingerprint:{}", hex(&root.fingerprint_sha1())));
            }
        }
        let prefix = format!("x509pop://{trust_domain}/");
        for uri in leaf.uri_sans() {
            if let Some((key, value)) = uri.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')) {
                values.push(format!("san:{key}:{value}"));
            }
        }
        // A name that is no selector (control characters, say) is left out rather than refusing the device.
        Ok(values
            .iter()
            .filter_map(|value| Selector::new("x509pop", value).ok())
            .collect())
    }
}

/// What was shown is well-formed, but proves nothing.
fn not_proved(what: &str) -> Status {
    Status::permission_denied(format!("failed to attest: {what}"))
}

fn refused(what: &str) -> Status {
    Status::invalid_argument(format!("failed to attest: {what}"))
}

/// Strict: duplicate or unknown members and trailing data are errors.
fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Status> {
    serde_json::from_slice(bytes).map_err(|_cause| refused("malformed JSON"))
}

fn base64(text: &str) -> Result<Vec<u8>, Status> {
    BASE64.decode(text).map_err(|_cause| refused("malformed base64"))
}

/// SEQUENCE { INTEGER r, INTEGER s } of two big-endian numbers.
fn ecdsa_der(r: &[u8], s: &[u8]) -> Result<Vec<u8>, Status> {
    let mut body = Vec::with_capacity(r.len() + s.len() + 6);
    for number in [r, s] {
        let first = number.iter().position(|byte| *byte != 0);
        let digits = first
            .map(|at| &number[at..])
            .filter(|digits| digits.len() <= MAX_SCALAR);
        let digits = digits.ok_or_else(|| refused("the challenge response does not verify"))?;
        let sign = usize::from(digits[0] & 0x80 != 0);
        // At most 49, so one byte of length is enough here, and below too.
        body.extend([0x02, u8::try_from(digits.len() + sign).unwrap_or(0)]);
        body.extend(std::iter::repeat_n(0, sign));
        body.extend(digits);
    }
    let mut der = vec![0x30, u8::try_from(body.len()).unwrap_or(0)];
    der.extend(body);
    Ok(der)
}

const NONCE: usize = 32;
const MAX_ANSWER: usize = 8 * 1024;
/// Bytes of a P-384 scalar.
const MAX_SCALAR: usize = 48;

#[cfg(test)]
mod tests;
