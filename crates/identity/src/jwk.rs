//! Public keys as JWK (RFC 7518 §6). Invariant: coordinates have their full length; a kind we do not know is told apart from a broken key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::key::KeyError;
use crate::public_key::{KeyAlgorithm, PublicKey};

/// Reads the key of a JWK; [`KeyError::Unsupported`] for a `kty` or `crv` that we do not know.
pub(crate) fn parse(jwk: &Map<String, Value>) -> Result<PublicKey, KeyError> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(text(name).ok_or(KeyError::Malformed)?);
        decoded.map_err(|_not_base64url| KeyError::Malformed)
    };
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        if x.len() != length || y.len() != length {
            return Err(KeyError::Malformed);
        }
        Ok([&[4], &x[..], &y[..]].concat())
    };
    match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => PublicKey::from_p256_point(&point(32)?),
        (Some("EC"), Some("P-384")) => PublicKey::from_p384_point(&point(48)?),
        (Some("RSA"), _) => PublicKey::from_rsa_components(&bytes("n")?, &bytes("e")?),
        (Some("EC"), None) => Err(KeyError::Malformed),
        _ => Err(KeyError::Unsupported),
    }
}

/// Whether `alg` and `key_ops`, where present, allow to verify tokens as we would with this key.
///
/// # Errors
/// The name of the member that is of the wrong kind.
pub(crate) fn is_for_us(jwk: &Map<String, Value>, key: &PublicKey) -> Result<bool, &'static str> {
    let ours = own_algorithm(key);
    let algorithm = match jwk.get("alg") {
        None => true,
        Some(alg) => alg.as_str().ok_or("alg")? == ours,
    };
    let operation = match jwk.get("key_ops") {
        None => true,
        Some(operations) => {
            let operations = operations.as_array().ok_or("key_ops")?;
            operations.iter().any(|o| o == "verify")
        }
    };
    Ok(algorithm && operation)
}

/// The algorithm that we sign and verify tokens with by such a key.
pub(crate) fn own_algorithm(key: &PublicKey) -> &'static str {
    match key.algorithm() {
        KeyAlgorithm::EcP256 => "ES256",
        KeyAlgorithm::EcP384 => "ES384",
        KeyAlgorithm::Rsa => "RS256",
    }
}

/// `kty` and the members that belong to it.
pub(crate) fn members(key: &PublicKey) -> Map<String, Value> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let value = match (key.algorithm(), key.rsa_components()) {
        (_, Some((n, e))) => json!({"kty": "RSA", "n": b64(n), "e": b64(e)}),
        (kind, None) => {
            let (x, y) = key.raw()[1..].split_at((key.raw().len() - 1) / 2);
            let crv = if kind == KeyAlgorithm::EcP384 {
                "P-384"
            } else {
                "P-256"
            };
            json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
        }
    };
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
