//! The envelope of a JWT-SVID or WIT-SVID: a JWS in compact form (RFC 7515 §7.1), strictly. Invariant: one spelling only; a [`Jws`] says
//! nothing about who is speaking, only which key must have signed which bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{JwtError, MAX_TOKEN};
use crate::json;
use crate::public_key::{PublicKey, SignatureScheme, verify_signature};

/// A signed token taken apart, not yet verified, its payload not read.
///
/// [`super::verify`] is what decides about a JWT-SVID. This is the part of it that knows no claims, so that envelopes and
/// signatures can be held to test suites whose payloads are not JWT-SVIDs.
#[derive(Debug)]
pub struct Jws<'a> {
    scheme: SignatureScheme,
    key_id: String,
    payload: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart: three parts, none empty, base64url without padding; header `alg` (ES256, ES384, RS256),
    /// `kid` and `typ` only.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        Self::parse_as(Kind::Jwt, token)
    }

    /// The same for either kind of token.
    pub(crate) fn parse_as(kind: Kind, token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN {
            return Err(JwtError::TooLarge { bytes: token.len() });
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Form)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(JwtError::Form);
        }
        // The algorithm is judged before anything else of the token is read (JWT-SVID §2.1).
        let part = "header";
        let header =
            json::object(&decode(header, part)?).map_err(|source| JwtError::Json { part, source })?;
        let (scheme, key_id) = read_header(kind, &header)?;
        Ok(Self {
            scheme,
            key_id,
            payload: decode(payload, "payload")?,
            signed,
            signature: decode(signature, "signature")?,
        })
    }

    /// The key that it says has signed it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What was signed; nothing of it is to be believed before [`Jws::verify`].
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the signature with the key that [`Jws::key_id`] names.
    ///
    /// # Errors
    /// [`JwtError::Signature`] when it is wrong or the key does not fit the algorithm.
    pub fn verify(&self, key: &PublicKey) -> Result<(), JwtError> {
        verify_signature(key, self.scheme, self.signed.as_bytes(), &self.signature)
            .map_err(|source| JwtError::Signature { source })
    }
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_position| JwtError::Base64 { part })
}

/// Which standard a token claims to meet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JWT-SVID §2: no header but these three; `typ` may be absent.
    Jwt,
    /// WIT-SVID §2: `typ` is `wit+jwt`; other headers are ignored unless `crit` stands there.
    Wit,
    /// OpenID Connect Core §2, an ID token: other headers are ignored unless `crit` stands there; its key is named.
    IdToken,
}

fn read_header(kind: Kind, header: &Map<String, Value>) -> Result<(SignatureScheme, String), JwtError> {
    let scheme = match header.get("alg").and_then(Value::as_str) {
        Some("ES256") => SignatureScheme::EcdsaP256Sha256Fixed,
        Some("ES384") => SignatureScheme::EcdsaP384Sha384Fixed,
        Some("RS256") => SignatureScheme::RsaPkcs1Sha256,
        _ => return Err(JwtError::Algorithm),
    };
    let refused = |name: &str| match kind {
        Kind::Jwt => !matches!(name, "alg" | "kid" | "typ"),
        Kind::Wit | Kind::IdToken => name == "crit",
    };
    if let Some(name) = header.keys().find(|name| refused(name)) {
        return Err(JwtError::Header { name: name.clone() });
    }
    let typ = header.get("typ");
    let fits = match kind {
        Kind::Jwt => typ.is_none_or(|typ| matches!(typ.as_str(), Some("JWT" | "JOSE"))),
        Kind::Wit => typ.is_some_and(|typ| typ.as_str() == Some("wit+jwt")),
        Kind::IdToken => {
            typ.is_none_or(|typ| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")))
        }
    };
    if !fits {
        return Err(JwtError::Type);
    }
    match header.get("kid").and_then(Value::as_str) {
        Some(kid) if !kid.is_empty() => Ok((scheme, kid.to_owned())),
        _ => Err(JwtError::NoKeyId),
    }
}
