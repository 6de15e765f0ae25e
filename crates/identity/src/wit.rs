//! WIT-SVIDs (WIT-SVID, incubating, as of spiffe/spiffe 665a28f). Invariant: a [`WitSvid`] from [`verify`] was signed by a WIT key of its
//! subject's own trust domain and had not expired; whoever shows it has still to prove that it holds the key in it.

use serde_json::{Map, Value, json};

use crate::bundle_set::BundleSet;
use crate::id::SpiffeId;
use crate::json;
use crate::jwk;
use crate::jwt::jws::{Jws, Kind};
use crate::jwt::parse::{moment, subject};
use crate::jwt::{JwtError, compact, in_time};
use crate::key::Signer;
use crate::public_key::{KeyAlgorithm, PublicKey};
use crate::unix_time::UnixTime;

/// What a WIT-SVID says.
#[derive(Debug, Clone, Copy)]
pub struct WitParams<'a> {
    /// Whose it is; with a path.
    pub sub: &'a SpiffeId,
    /// The workload's key: whoever shows the token proves that it holds this.
    pub key: &'a PublicKey,
    /// How the workload signs with it; one of [`algorithms`].
    pub algorithm: &'a str,
    /// When it ends.
    pub exp: UnixTime,
    /// When it was made.
    pub iat: UnixTime,
    /// Who made it; not a discovery URL (WIT-SVID §3.7).
    pub iss: Option<&'a str>,
}

/// The algorithms that a key can be used with (WIT-SVID §2.3), the usual one first.
pub fn algorithms(key: &PublicKey) -> &'static [&'static str] {
    match key.algorithm() {
        KeyAlgorithm::EcP256 => &["ES256"],
        KeyAlgorithm::EcP384 => &["ES384"],
        KeyAlgorithm::Rsa => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    }
}

/// Signs a token: header `alg`, `kid`, `typ=wit+jwt` and nothing else; no `aud` and no `nbf`.
///
/// # Errors
/// When the subject has no path, the algorithm is not one of the key's, the times are not in order, or the signer fails.
pub fn sign(p: &WitParams<'_>, key_id: &str, signer: &dyn Signer) -> Result<String, JwtError> {
    if p.sub.path().is_empty() {
        return Err(JwtError::NoPath);
    }
    if p.iat.as_secs() < 0 || p.exp <= p.iat {
        return Err(JwtError::Claim { claim: "exp" });
    }
    if !algorithms(p.key).contains(&p.algorithm) {
        return Err(JwtError::Algorithm);
    }
    let mut confirmed = jwk::members(p.key);
    confirmed.insert("alg".to_owned(), p.algorithm.into());
    let mut claims = json!({
        "sub": p.sub.as_str(), "exp": p.exp.as_secs(), "iat": p.iat.as_secs(), "cnf": {"jwk": confirmed},
    });
    if let Some(iss) = p.iss {
        claims["iss"] = iss.into();
    }
    compact("wit+jwt", key_id, &claims, signer)
}

/// A WIT-SVID: the token and what it says.
#[derive(Clone)]
pub struct WitSvid {
    id: SpiffeId,
    key: PublicKey,
    algorithm: String,
    expires_at: UnixTime,
    not_before: Option<UnixTime>,
    key_id: String,
    token: String,
}

impl WitSvid {
    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The key that whoever shows the token must prove to hold, for example with a workload proof token (WIT-SVID §4, §7.1).
    pub fn confirmation_key(&self) -> &PublicKey {
        &self.key
    }

    /// The algorithm of that proof.
    pub fn confirmation_algorithm(&self) -> &str {
        &self.algorithm
    }

    /// When it ends.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// The authority that it says has signed it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The token, in compact form.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl std::fmt::Debug for WitSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WitSvid({}, until {})", self.id, self.expires_at)
    }
}

/// Verifies a token, with the bundle of its subject's trust domain and no other. **This is half of the check**: the caller then has to see
/// a proof that the sender holds [`WitSvid::confirmation_key`]; a WIT-SVID is never a bearer token.
///
/// # Errors
/// The first rule that is broken.
pub fn verify(token: &str, bundles: &BundleSet, now: UnixTime) -> Result<WitSvid, JwtError> {
    let jws = Jws::parse_as(Kind::Wit, token)?;
    let svid = read(&jws, token)?;
    let trust_domain = svid.id.trust_domain();
    let bundle = bundles.get(trust_domain).ok_or_else(|| JwtError::NoBundle {
        trust_domain: trust_domain.clone(),
    })?;
    let unknown = || JwtError::UnknownKey {
        key_id: svid.key_id.clone(),
    };
    let authority = bundle.wit_authority(&svid.key_id).ok_or_else(unknown)?;
    if authority.expires_at.is_some_and(|end| now >= end) {
        return Err(JwtError::KeyExpired { key_id: svid.key_id });
    }
    jws.verify(&authority.public_key)?;
    in_time(now, svid.expires_at, svid.not_before)?;
    Ok(svid)
}

/// Reads a token without believing it: for display, and for an agent that has it from its own server.
///
/// # Errors
/// The first rule of form that is broken.
pub fn parse_unverified(token: &str) -> Result<WitSvid, JwtError> {
    read(&Jws::parse_as(Kind::Wit, token)?, token)
}

fn read(jws: &Jws<'_>, token: &str) -> Result<WitSvid, JwtError> {
    let part = "payload";
    let claims = json::object(jws.payload()).map_err(|source| JwtError::Json { part, source })?;
    if claims.contains_key("aud") {
        return Err(JwtError::Claim { claim: "aud" }); // §3.8: it would be taken for a bearer token
    }
    let (key, algorithm) = confirmation(&claims).ok_or(JwtError::Claim { claim: "cnf" })?;
    Ok(WitSvid {
        id: subject(&claims)?,
        key,
        algorithm,
        expires_at: moment(&claims, "exp")?.ok_or(JwtError::Claim { claim: "exp" })?,
        not_before: moment(&claims, "nbf")?,
        key_id: jws.key_id().to_owned(),
        token: token.to_owned(),
    })
}

/// `cnf.jwk` with an `alg` that its key can have (§3.2).
fn confirmation(claims: &Map<String, Value>) -> Option<(PublicKey, String)> {
    let jwk = claims.get("cnf")?.get("jwk")?.as_object()?;
    let key = jwk::parse(jwk).ok()?;
    let algorithm = jwk.get("alg")?.as_str()?;
    let known = algorithms(&key).contains(&algorithm);
    known.then(|| (key, algorithm.to_owned()))
}

#[cfg(test)]
mod tests;
