//! The claims of a JWT-SVID. Invariant: what is returned was in one spelling only; nothing of it is trusted yet.

use serde_json::{Map, Value};

use super::jws::Jws;
use super::{JwtError, JwtSvid};
use crate::id::SpiffeId;
use crate::json;
use crate::unix_time::UnixTime;

/// Reads the claims of the envelope that `token` was taken apart to.
pub(super) fn claims(jws: &Jws<'_>, token: &str) -> Result<JwtSvid, JwtError> {
    let part = "payload";
    let claims = json::object(jws.payload()).map_err(|source| JwtError::Json { part, source })?;
    Ok(JwtSvid {
        id: subject(&claims)?,
        audience: audience(claims.get("aud")).ok_or(JwtError::Claim { claim: "aud" })?,
        expires_at: moment(&claims, "exp")?.ok_or(JwtError::Claim { claim: "exp" })?,
        issued_at: moment(&claims, "iat")?,
        not_before: moment(&claims, "nbf")?,
        key_id: jws.key_id().to_owned(),
        claims,
        token: token.to_owned(),
    })
}

/// The SPIFFE ID, which has a path, of `sub`.
pub(crate) fn subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtError> {
    let sub = claims
        .get("sub")
        .and_then(Value::as_str)
        .ok_or(JwtError::Claim { claim: "sub" })?;
    let id = SpiffeId::parse(sub).map_err(|source| JwtError::Subject { source })?;
    match id.path().is_empty() {
        true => Err(JwtError::NoPath),
        false => Ok(id),
    }
}

/// One string or a list of strings, none empty.
pub(crate) fn audience(aud: Option<&Value>) -> Option<Vec<String>> {
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
pub(crate) fn moment(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<UnixTime>, JwtError> {
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
