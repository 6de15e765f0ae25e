//! ID tokens of OpenID Connect providers. Invariant: a subject that comes out of [`verify_id_token`] is one that this provider has named, to this
//! client, in answer to this question, and not too long ago.

use serde_json::{Map, Value};

use crate::json;
use crate::jwk;
use crate::jwt::jws::{Jws, Kind};
use crate::jwt::parse::{audience, moment};
use crate::jwt::{JwtError, in_time};
use crate::public_key::PublicKey;
use crate::unix_time::UnixTime;

/// The keys of a provider: the document that its `jwks_uri` leads to (RFC 7517 §5).
#[derive(Clone, Debug)]
pub struct OidcKeys(Vec<(String, PublicKey)>);

impl OidcKeys {
    /// Reads the document. Keys of a kind that we do not verify with, and those that are not for signatures, are left out.
    ///
    /// # Errors
    /// When it is none, or one of its keys is broken.
    pub fn from_jwks(document: &[u8]) -> Result<Self, JwtError> {
        let part = "document of keys";
        let document = json::object(document).map_err(|source| JwtError::Json { part, source })?;
        let keys = document.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or(JwtError::Claim { claim: "keys" })?;
        if keys.len() > MAX_KEYS {
            return Err(JwtError::Claim { claim: "keys" });
        }
        Ok(Self(
            keys.iter().filter_map(|key| named(key.as_object()?)).collect(),
        ))
    }

    /// Whether there is a key of this name.
    pub fn has(&self, key_id: &str) -> bool {
        self.of(key_id).next().is_some()
    }

    /// Two of one name are nobody's fault: both are tried.
    fn of(&self, key_id: &str) -> impl Iterator<Item = &PublicKey> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key_id)
            .map(|(_, key)| key)
    }
}

fn named(jwk: &Map<String, Value>) -> Option<(String, PublicKey)> {
    let name = jwk.get("kid")?.as_str()?.to_owned();
    let signs = jwk.get("use").is_none_or(|used| used == "sig");
    let key = jwk::parse(jwk).ok().filter(|_| signs)?;
    jwk::is_for_us(jwk, &key).ok().filter(|fits| *fits)?;
    Some((name, key))
}

/// What a token has to say.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedIdToken<'a> {
    /// Who says it.
    pub issuer: &'a str,
    /// To whom.
    pub client_id: &'a str,
    /// In answer to what.
    pub nonce: &'a str,
}

/// The key that a token says has signed it: for who has to fetch it first.
///
/// # Errors
/// When the token is no JWS in compact form.
pub fn key_of_id_token(token: &str) -> Result<String, JwtError> {
    Jws::parse_as(Kind::IdToken, token).map(|jws| jws.key_id().to_owned())
}

/// The `sub` of a token that is what it has to be (OpenID Connect Core §3.1.3.7): ES256, ES384 or RS256 by one of these keys.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_id_token(
    token: &str,
    keys: &OidcKeys,
    expected: ExpectedIdToken<'_>,
    now: UnixTime,
) -> Result<String, JwtError> {
    let jws = Jws::parse_as(Kind::IdToken, token)?;
    let unknown = || JwtError::UnknownKey {
        key_id: jws.key_id().to_owned(),
    };
    let mut verified = Err(unknown());
    for key in keys.of(jws.key_id()) {
        verified = jws.verify(key);
        if verified.is_ok() {
            break;
        }
    }
    verified?;
    let part = "payload";
    let claims = json::object(jws.payload()).map_err(|source| JwtError::Json { part, source })?;
    let text = |claim: &'static str| claims.get(claim).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(JwtError::Claim { claim: "iss" });
    }
    let audience = audience(claims.get("aud")).ok_or(JwtError::Claim { claim: "aud" })?;
    // Of a token for several, the one that it was made for is named.
    let made_for = claims.get("azp").map(|azp| azp == expected.client_id);
    let alone = audience.len() == 1 && made_for != Some(false);
    if !audience.iter().any(|one| one == expected.client_id) || !(alone || made_for == Some(true)) {
        return Err(JwtError::WrongAudience);
    }
    let expires_at = moment(&claims, "exp")?.ok_or(JwtError::Claim { claim: "exp" })?;
    moment(&claims, "iat")?.ok_or(JwtError::Claim { claim: "iat" })?;
    in_time(now, expires_at, moment(&claims, "nbf")?)?;
    if text("nonce") != Some(expected.nonce) {
        return Err(JwtError::Claim { claim: "nonce" });
    }
    let subject = text("sub").ok_or(JwtError::Claim { claim: "sub" })?;
    Ok(subject.to_owned())
}

const MAX_KEYS: usize = 64;

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::jwt::compact;
    use crate::key::{KeyType, PrivateKey};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const EXPECTED: ExpectedIdToken<'_> = ExpectedIdToken {
        issuer: "https://id.plant.test",
        client_id: "landfast",
        nonce: "what was asked",
    };

    fn claims() -> Value {
        json!({"iss": "https://id.plant.test", "sub": "jo", "aud": "landfast", "exp": 1_800_000_060, "iat": 1_799_999_990, "nonce": "what was asked",
            "email": "jo@plant.test"})
    }

    fn document(key: &PrivateKey, name: &str) -> Value {
        let mut jwk = jwk::members(&key.public_key());
        jwk.insert("kid".to_owned(), name.into());
        jwk.insert("use".to_owned(), "sig".into());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "other"}, jwk]})
    }

    fn keys(document: &Value) -> OidcKeys {
        OidcKeys::from_jwks(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_token_that_answers_names_its_subject() {
        for kind in [KeyType::EcP256, KeyType::EcP384] {
            let key = PrivateKey::generate_as(kind).unwrap();
            let keys = keys(&document(&key, "one"));
            assert!(keys.has("one") && !keys.has("other"));
            let token = compact("JWT", "one", &claims(), &key).unwrap();
            assert_eq!(key_of_id_token(&token).unwrap(), "one");
            assert_eq!(verify_id_token(&token, &keys, EXPECTED, NOW).unwrap(), "jo");
        }
    }

    #[test]
    fn each_rule_is_held_to() {
        let key = PrivateKey::generate().unwrap();
        let known = keys(&document(&key, "one"));
        let judge = |claims: &Value| {
            verify_id_token(
                &compact("JWT", "one", claims, &key).unwrap(),
                &known,
                EXPECTED,
                NOW,
            )
        };
        let changed = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            judge(&claims)
        };
        for (name, value) in [
            ("iss", json!("https://id.plant.test/")),
            ("iss", json!("https://other.test")),
            ("aud", json!("other")),
            ("aud", json!(["landfast", "other"])),
            ("aud", json!([])),
            ("azp", json!("other")),
            ("exp", json!(1_800_000_000)),
            ("nbf", json!(1_800_000_001)),
            ("nonce", json!("something else")),
            ("sub", json!(7)),
        ] {
            assert!(changed(name, value.clone()).is_err(), "{name} {value}");
        }
        for name in ["iss", "sub", "aud", "exp", "iat", "nonce"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert!(judge(&claims).is_err(), "{name}");
        }
        let mut for_two = claims();
        for_two["aud"] = json!(["other", "landfast"]);
        for_two["azp"] = json!("landfast");
        assert_eq!(judge(&for_two).unwrap(), "jo");
    }

    #[test]
    fn another_key_another_name_and_no_signature_are_refused() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let known = keys(&document(&key, "one"));
        let judge = |token: &str| verify_id_token(token, &known, EXPECTED, NOW);
        let forged = compact("JWT", "one", &claims(), &other).unwrap();
        assert!(matches!(judge(&forged), Err(JwtError::Signature { .. })));
        let renamed = compact("JWT", "two", &claims(), &key).unwrap();
        assert!(matches!(judge(&renamed), Err(JwtError::UnknownKey { .. })));
        let b64 = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for header in [
            json!({"alg": "none", "kid": "one"}),
            json!({"alg": "HS256", "kid": "one"}),
            json!({"alg": "ES256"}),
            json!({"alg": "ES256", "kid": "one", "crit": ["b64"]}),
        ] {
            let token = format!("{}.{}.AAAA", b64(header.clone()), b64(claims()));
            assert!(judge(&token).is_err(), "{header}");
        }
        // For encryption, or of another algorithm, a key signs nothing.
        let mut documents = [document(&key, "one"), document(&key, "one")];
        documents[0]["keys"][1]["use"] = json!("enc");
        documents[1]["keys"][1]["alg"] = json!("ES384");
        for document in documents {
            assert!(!keys(&document).has("one"));
        }
        assert!(OidcKeys::from_jwks(b"{}").is_err() && OidcKeys::from_jwks(b"[]").is_err());
    }
}
