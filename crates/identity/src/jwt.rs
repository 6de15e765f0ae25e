//! JWT-SVIDs. Invariant: a [`JwtSvid`] from [`verify`] was signed by a JWT key of its subject's own trust domain, for
//! this audience, and had not expired.

pub(crate) mod jws;
pub(crate) mod parse;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::bundle_set::BundleSet;
use crate::der;
use crate::id::{IdError, SpiffeId};
use crate::key::{KeyError, Signer};
use crate::public_key::KeyAlgorithm;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;

pub use jws::Jws;

/// What a token is built from.
#[derive(Debug, Clone, Copy)]
pub struct JwtParams<'a> {
    /// Whose token it is; with a path.
    pub sub: &'a SpiffeId,
    /// Whom it is for; at least one, none empty.
    pub aud: &'a [String],
    /// From when on it is refused.
    pub exp: UnixTime,
    /// When it was made, back-dated for slow clocks.
    pub iat: UnixTime,
    /// Issuer URL, for those who look keys up by OIDC discovery.
    pub iss: Option<&'a str>,
    /// A name of this token, for records.
    pub jti: Option<&'a str>,
}

/// Signs a token: ES256 or ES384 by the kind of the key, header `alg`, `kid`, `typ=JWT` and nothing else, no `nbf`.
///
/// # Errors
/// When the subject has no path, the audience or key ID is empty, the times are not in order, or the signer fails.
pub fn sign(p: &JwtParams<'_>, key_id: &str, signer: &dyn Signer) -> Result<String, JwtError> {
    if p.sub.path().is_empty() {
        return Err(JwtError::NoPath);
    }
    if p.aud.is_empty() || p.aud.iter().any(String::is_empty) {
        return Err(JwtError::NoAudience);
    }
    if key_id.is_empty() {
        return Err(JwtError::NoKeyId);
    }
    if p.iat.as_secs() < 0 || p.exp <= p.iat {
        return Err(JwtError::Claim { claim: "exp" });
    }
    let mut claims =
        json!({"sub": p.sub.as_str(), "aud": p.aud, "exp": p.exp.as_secs(), "iat": p.iat.as_secs()});
    if let Some(iss) = p.iss {
        claims["iss"] = iss.into();
    }
    if let Some(jti) = p.jti {
        claims["jti"] = jti.into();
    }
    compact("JWT", key_id, &claims, signer)
}

/// Signs claims into a JWS in compact form, with `alg`, `kid` and `typ` as its header.
pub(crate) fn compact(
    typ: &str,
    key_id: &str,
    claims: &Value,
    signer: &dyn Signer,
) -> Result<String, JwtError> {
    if key_id.is_empty() {
        return Err(JwtError::NoKeyId);
    }
    let (algorithm, scalar) = match signer.public_key().algorithm() {
        KeyAlgorithm::EcP256 => ("ES256", 32),
        KeyAlgorithm::EcP384 => ("ES384", 48),
        KeyAlgorithm::Rsa => {
            return Err(JwtError::Signing {
                source: KeyError::WrongScheme,
            });
        }
    };
    let header = json!({"alg": algorithm, "kid": key_id, "typ": typ});
    let b64 = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut token = format!("{}.{}", b64(&header), b64(claims));
    let signature = signer
        .sign(token.as_bytes())
        .map_err(|source| JwtError::Signing { source })?;
    let fixed = fixed(&signature, scalar).ok_or(JwtError::Signing {
        source: KeyError::Malformed,
    })?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(fixed, &mut token);
    if token.len() > MAX_TOKEN {
        return Err(JwtError::TooLarge { bytes: token.len() });
    }
    Ok(token)
}

/// Whether a token may be asked for with this audience: the one set of limits, for who asks and for who signs. Each audience
/// is part of the token and of the key that caches it.
///
/// # Errors
/// When there is none or an empty one, or when they are too many or too long.
pub fn check_audience(audience: &[String]) -> Result<(), JwtError> {
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(JwtError::NoAudience);
    }
    let bytes: usize = audience.iter().map(String::len).sum();
    let long = audience.iter().any(|one| one.len() > MAX_AUDIENCE_BYTES);
    if audience.len() > MAX_AUDIENCES || long || bytes > MAX_AUDIENCE_BYTES_IN_ALL {
        return Err(JwtError::AudienceTooLarge);
    }
    Ok(())
}

/// SEQUENCE { r, s } to r‖s, each of this many bytes.
fn fixed(signature: &[u8], scalar: usize) -> Option<Vec<u8>> {
    let (content, after) = der::read(signature, der::SEQUENCE)?;
    let (r, rest) = der::read_unsigned(content)?;
    let (s, rest) = der::read_unsigned(rest)?;
    if !after.is_empty() || !rest.is_empty() || r.len() > scalar || s.len() > scalar {
        return None;
    }
    let mut out = vec![0; 2 * scalar];
    out[scalar - r.len()..scalar].copy_from_slice(r);
    out[2 * scalar - s.len()..].copy_from_slice(s);
    Some(out)
}

/// A JWT-SVID: the token and what it says.
#[derive(Clone)]
pub struct JwtSvid {
    id: SpiffeId,
    audience: Vec<String>,
    expires_at: UnixTime,
    issued_at: Option<UnixTime>,
    not_before: Option<UnixTime>,
    key_id: String,
    claims: Map<String, Value>,
    token: String,
}

impl JwtSvid {
    /// The subject.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whom it is for; never empty.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// From when on it is refused.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// When it says that it was made.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.issued_at
    }

    /// The key that it says has signed it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// All claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The token itself: whoever holds it is the subject.
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// Never the token: logs are not a place for bearer secrets.
impl std::fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "JwtSvid({}, for {:?}, until {})",
            self.id, self.audience, self.expires_at
        )
    }
}

/// Verifies a token for one audience at `now`, with the JWT keys of the subject's own trust domain.
///
/// Strict: compact form, at most 16 KiB, header `alg` (ES256, ES384, RS256), `kid` and `typ` only, no member twice,
/// `exp`, `nbf` and `iat` whole non-negative numbers in plain digits, no leeway. `nbf` is honoured when present. `iat`
/// is not judged: it says when a token was made, not from when it holds, and clocks of plants lag.
///
/// # Errors
/// The first rule that is broken; shape first, then key and signature, then times and audience.
pub fn verify(token: &str, bundles: &BundleSet, audience: &str, now: UnixTime) -> Result<JwtSvid, JwtError> {
    if audience.is_empty() {
        return Err(JwtError::NoAudience);
    }
    let jws = Jws::parse(token)?;
    let svid = parse::claims(&jws, token)?;
    let trust_domain = svid.id.trust_domain();
    let bundle = bundles.get(trust_domain).ok_or_else(|| JwtError::NoBundle {
        trust_domain: trust_domain.clone(),
    })?;
    let authority = bundle
        .jwt_authority(&svid.key_id)
        .ok_or_else(|| JwtError::UnknownKey {
            key_id: svid.key_id.clone(),
        })?;
    if authority.expires_at.is_some_and(|end| now >= end) {
        return Err(JwtError::KeyExpired { key_id: svid.key_id });
    }
    jws.verify(&authority.public_key)?;
    in_time(now, svid.expires_at, svid.not_before)?;
    if !svid.audience.iter().any(|a| a == audience) {
        return Err(JwtError::WrongAudience);
    }
    Ok(svid)
}

/// Whether a token with these times holds now; no leeway.
pub(crate) fn in_time(
    now: UnixTime,
    expires_at: UnixTime,
    not_before: Option<UnixTime>,
) -> Result<(), JwtError> {
    if now >= expires_at {
        return Err(JwtError::Expired { expires_at });
    }
    match not_before.filter(|start| now < *start) {
        Some(not_before) => Err(JwtError::NotYetValid { not_before }),
        None => Ok(()),
    }
}

/// Reads a token without verifying it: for the holder of a token of its own, and to show one to a human. Never for a
/// decision about somebody else.
///
/// # Errors
/// When its shape is refused, as in [`verify`].
pub fn parse_unverified(token: &str) -> Result<JwtSvid, JwtError> {
    parse::claims(&Jws::parse(token)?, token)
}

/// Why a token is refused or cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// More than 16 KiB.
    #[error("the token has {bytes} bytes, more than accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not three parts.
    #[error("the token is not in compact form")]
    Form,
    /// A part that is not base64url, or is padded.
    #[error("the {part} is not base64url without padding")]
    Base64 {
        /// Which part.
        part: &'static str,
    },
    /// A part that is no strict JSON object.
    #[error("the {part} is no JSON object without repeated members")]
    Json {
        /// Which part.
        part: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A header other than `alg`, `kid`, `typ` (JWT-SVID §2).
    #[error("header {name:?} may not stand in a JWT-SVID")]
    Header {
        /// Its name.
        name: String,
    },
    /// An algorithm other than ES256, ES384, RS256.
    #[error("the token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// `typ` is neither JWT nor JOSE.
    #[error("the type of the token is not the one its kind has")]
    Type,
    /// `kid` is missing, empty or no string.
    #[error("the token names no key")]
    NoKeyId,
    /// A claim that is missing or of the wrong kind.
    #[error("claim {claim} is missing or of the wrong kind")]
    Claim {
        /// Its name.
        claim: &'static str,
    },
    /// `sub` is no SPIFFE ID.
    #[error("the subject is no SPIFFE ID")]
    Subject {
        /// Which rule it breaks.
        source: IdError,
    },
    /// `sub` has no path: a trust domain is nobody.
    #[error("the SPIFFE ID of the subject has no path")]
    NoPath,
    /// No audience was given.
    #[error("the audience is empty")]
    NoAudience,
    /// More or longer audiences than a token may have.
    #[error(
        "a token has at most {MAX_AUDIENCES} audiences of at most {MAX_AUDIENCE_BYTES} bytes, {MAX_AUDIENCE_BYTES_IN_ALL} bytes in all"
    )]
    AudienceTooLarge,
    /// No bundle of the subject's trust domain.
    #[error("no bundle of trust domain {trust_domain}")]
    NoBundle {
        /// The subject's.
        trust_domain: TrustDomain,
    },
    /// The subject's trust domain has no such JWT key.
    #[error("the trust domain of the subject has no JWT key {key_id:?}")]
    UnknownKey {
        /// The `kid`.
        key_id: String,
    },
    /// The key is past its time.
    #[error("the JWT key {key_id:?} has expired")]
    KeyExpired {
        /// The `kid`.
        key_id: String,
    },
    /// The signature is wrong, or the key does not fit the algorithm.
    #[error("the token is not signed by the key it names")]
    Signature {
        /// Why.
        source: KeyError,
    },
    /// At or after `exp`.
    #[error("the token expired at {expires_at}")]
    Expired {
        /// Its `exp`.
        expires_at: UnixTime,
    },
    /// Before `nbf`.
    #[error("the token is not valid before {not_before}")]
    NotYetValid {
        /// Its `nbf`.
        not_before: UnixTime,
    },
    /// For somebody else.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Signing failed.
    #[error("the token cannot be signed")]
    Signing {
        /// Why.
        source: KeyError,
    },
}

pub(crate) const MAX_TOKEN: usize = 16 * 1024;
const MAX_AUDIENCES: usize = 32;
const MAX_AUDIENCE_BYTES: usize = 2048;
/// In base64 and with everything else they fit into [`MAX_TOKEN`].
const MAX_AUDIENCE_BYTES_IN_ALL: usize = 8192;

#[cfg(test)]
mod tests;
