//! The shape of a JWT-SVID. Invariant: what is returned was in one spelling only; nothing of it is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{JwtError, JwtSvid, MAX_TOKEN};
use crate::id::SpiffeId;
use crate::json;
use crate::public_key::SignatureScheme;
use crate::unix_time::UnixTime;

/// A token taken apart.
pub(super) struct Parsed<'a> {
    pub(super) svid: JwtSvid,
    pub(super) scheme: SignatureScheme,
    /// Header and payload as signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

pub(super) fn token(token: &str) -> Result<Parsed<'_>, JwtError> {
    if token.len() > MAX_TOKEN {
        return Err(JwtError::TooLarge { bytes: token.len() });
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
    let (header, payload) = signed.split_once('.').ok_or(JwtError::Form)?;
    if payload.contains('.') || header.is_empty() || payload.is_empty() || signature.is_empty() {
        return Err(JwtError::Form);
    }
    // The algorithm is judged before anything else of the token is read (JWT-SVID §2.1).
    let (scheme, key_id) = read_header(&part(header, "header")?)?;
    let claims = part(payload, "payload")?;
    let signature = decode(signature, "signature")?;
    Ok(Parsed {
        svid: read_claims(claims, key_id, token)?,
        scheme,
        signed,
        signature,
    })
}

fn part(text: &str, part: &'static str) -> Result<Map<String, Value>, JwtError> {
    json::object(&decode(text, part)?).map_err(|source| JwtError::Json { part, source })
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_position| JwtError::Base64 { part })
}

fn read_header(header: &Map<String, Value>) -> Result<(SignatureScheme, String), JwtError> {
    let scheme = match header.get("alg").and_then(Value::as_str) {
        Some("ES256") => SignatureScheme::EcdsaP256Sha256Fixed,
        Some("ES384") => SignatureScheme::EcdsaP384Sha384Fixed,
        Some("RS256") => SignatureScheme::RsaPkcs1Sha256,
        _ => return Err(JwtError::Algorithm),
    };
    if let Some(name) = header
        .keys()
        .find(|name| !matches!(name.as_str(), "alg" | "kid" | "typ"))
    {
        return Err(JwtError::Header { name: name.clone() });
    }
    if header
        .get("typ")
        .is_some_and(|typ| !matches!(typ.as_str(), Some("JWT" | "JOSE")))
    {
        return Err(JwtError::Type);
    }
    match header.get("kid").and_then(Value::as_str) {
        Some(kid) if !kid.is_empty() => Ok((scheme, kid.to_owned())),
        _ => Err(JwtError::NoKeyId),
    }
}

fn read_claims(claims: Map<String, Value>, key_id: String, token: &str) -> Result<JwtSvid, JwtError> {
    let sub = claims
        .get("sub")
        .and_then(Value::as_str)
        .ok_or(JwtError::Claim { claim: "sub" })?;
    let id = SpiffeId::parse(sub).map_err(|source| JwtError::Subject { source })?;
    if id.path().is_empty() {
        return Err(JwtError::NoPath);
    }
    Ok(JwtSvid {
        id,
        audience: audience(claims.get("aud")).ok_or(JwtError::Claim { claim: "aud" })?,
        expires_at: moment(&claims, "exp")?.ok_or(JwtError::Claim { claim: "exp" })?,
        issued_at: moment(&claims, "iat")?,
        not_before: moment(&claims, "nbf")?,
        key_id,
        claims,
        token: token.to_owned(),
    })
}

/// One string or a list of strings, none empty.
fn audience(aud: Option<&Value>) -> Option<Vec<String>> {
    let list = match aud? {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => several
            .iter()
            .map(|a| a.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    (!list.is_empty() && list.iter().all(|a| !a.is_empty())).then_some(list)
}

/// RFC 7519 allows fractions and exponents; we accept plain digits only, so that there is nothing to round and a token
/// means the same second everywhere.
fn moment(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<UnixTime>, JwtError> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    match value.as_u64() {
        Some(secs @ 0..=LAST_SECOND) => Ok(Some(UnixTime::from_secs(secs as i64))),
        _ => Err(JwtError::Claim { claim }),
    }
}

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;
