//! SPIFFE bundle documents (Trust Domain and Bundle §4). Invariant: every key is written with its use and read only by its use.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Bundle, BundleError, JwtAuthority, MAX_KEYS, WitAuthority, X509Authority};
use crate::certificate::Certificate;
use crate::key::KeyError;
use crate::public_key::PublicKey;
use crate::trust_domain::TrustDomain;
use crate::x509_error::X509Error;
use crate::{json, jwk};

impl Bundle {
    /// Reads a bundle document of at most 1 MiB and 256 keys.
    ///
    /// Keys of an unknown or missing `use` or an unknown `kty` or `crv` are left out, as are X.509 keys without
    /// certificate, and JWT keys that say with `alg` or `key_ops` that they are for something else than what we would do with
    /// them (RFC 7517 §4.3, §4.4); of several certificates only the first counts. A key that is ours to read but broken, too weak or
    /// without its `kid` refuses the whole document: half a bundle is not a bundle.
    ///
    /// # Errors
    /// When a limit is exceeded, `keys` is missing, a member is of the wrong kind, or a key is refused.
    pub fn from_jwks(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        if document.len() > MAX_DOCUMENT {
            return Err(BundleError::TooLarge {
                bytes: document.len(),
            });
        }
        let document = json::object(document).map_err(|source| BundleError::Json { source })?;
        let keys = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(BundleError::Member { member: "keys" })?;
        if keys.len() > MAX_KEYS {
            return Err(BundleError::TooManyKeys { count: keys.len() });
        }
        let (mut x509, mut jwt, mut wit) = (Vec::new(), Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_object().ok_or(BundleError::Member { member: "keys" })?;
            match key.get("use").and_then(Value::as_str) {
                Some(X509_USE) => x509.extend(x509_key(index, key)?),
                Some(JWT_USE) => {
                    jwt.extend(token_key(index, key)?.map(|(key_id, public_key)| JwtAuthority {
                        key_id,
                        public_key,
                        expires_at: None,
                        tainted: false,
                    }));
                }
                // Incubating: a key that is no good costs itself, never the bundle.
                Some(WIT_USE) => wit.extend(token_key(index, key).ok().flatten()),
                _ => {}
            }
        }
        let wit = unambiguous(wit, &jwt);
        let whole = |member: &'static str| match document.get(member) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(BundleError::Member { member }),
        };
        let sequence = whole(SEQUENCE)?.unwrap_or(0);
        let hint = whole(REFRESH_HINT)?.map(Duration::from_secs);
        Ok(Self::new(trust_domain)
            .with_x509_authorities(x509)?
            .with_jwt_authorities(jwt)?
            .with_wit_authorities(wit)?
            .with_sequence(sequence)
            .with_refresh_hint(hint))
    }

    /// The whole bundle as a document, with sequence and refresh hint.
    pub fn to_jwks(&self) -> String {
        let x509 = self.x509_authorities().iter().map(x509_member);
        let keys: Vec<Value> = x509
            .chain(self.jwt_authorities().iter().map(jwt_member))
            .chain(self.wit_authorities().iter().map(wit_member))
            .collect();
        let mut document = json!({ "keys": keys, SEQUENCE: self.sequence() });
        if let Some(hint) = self.refresh_hint() {
            document[REFRESH_HINT] = hint.as_secs().into();
        }
        document.to_string()
    }

    /// Only the keys for JWT-SVIDs: what the Workload API's JWT profile may hand out (Workload API §6.2.2).
    pub fn jwt_jwks(&self) -> String {
        let keys: Vec<Value> = self.jwt_authorities().iter().map(jwt_member).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Only the keys for WIT-SVIDs: what the Workload API's WIT profile may hand out (Workload API §7.2.2).
    pub fn wit_jwks(&self) -> String {
        let keys: Vec<Value> = self.wit_authorities().iter().map(wit_member).collect();
        json!({ "keys": keys }).to_string()
    }

    /// The keys for JWT-SVIDs as those who know nothing of SPIFFE expect them (RFC 7517 §4.2, §4.4): `use` is `sig`, and `alg` says which
    /// algorithm signs. What the `jwks_uri` of OIDC discovery leads to; not a SPIFFE bundle.
    pub fn oidc_jwks(&self) -> String {
        let keys = self.jwt_authorities().iter().map(|authority| {
            let mut key = token_member("sig", &authority.key_id, &authority.public_key);
            key["alg"] = jwk::own_algorithm(&authority.public_key).into();
            key
        });
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    }

    /// The algorithms that JWT-SVIDs of this bundle are signed with, each once.
    pub fn jwt_algorithms(&self) -> Vec<&'static str> {
        let all = self.jwt_authorities().iter();
        let all: BTreeSet<_> = all.map(|a| jwk::own_algorithm(&a.public_key)).collect();
        all.into_iter().collect()
    }
}

fn x509_key(index: usize, key: &Map<String, Value>) -> Result<Option<X509Authority>, BundleError> {
    let Some(x5c) = key.get("x5c") else {
        return Ok(None);
    };
    let first = x5c
        .as_array()
        .and_then(|certificates| certificates.first())
        .and_then(Value::as_str);
    let der = first
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or(BundleError::Member { member: "x5c" })?;
    match Certificate::from_der(&der) {
        Ok(certificate) => Ok(Some(X509Authority {
            certificate,
            tainted: false,
        })),
        Err(X509Error::Key {
            source: KeyError::Unsupported,
            ..
        }) => Ok(None),
        Err(source) => Err(BundleError::Certificate { index, source }),
    }
}

/// The WIT keys whose ID no other key of the bundle has (WIT-SVID §6.1).
fn unambiguous(keys: Vec<(String, PublicKey)>, jwt: &[JwtAuthority]) -> Vec<WitAuthority> {
    let times = |id: &String| keys.iter().filter(|(other, _)| other == id).count();
    let alone = |id: &String| times(id) == 1 && jwt.iter().all(|a| a.key_id != *id);
    keys.iter()
        .filter(|(key_id, _)| alone(key_id))
        .map(|(key_id, public_key)| WitAuthority {
            key_id: key_id.clone(),
            public_key: public_key.clone(),
            expires_at: None,
            tainted: false,
        })
        .collect()
}

/// The key ID and key of a JWK for tokens; `None` for a key that we cannot use.
fn token_key(index: usize, key: &Map<String, Value>) -> Result<Option<(String, PublicKey)>, BundleError> {
    let public_key = match jwk::parse(key) {
        Ok(public_key) => public_key,
        Err(KeyError::Unsupported) => return Ok(None),
        Err(source) => return Err(BundleError::Key { index, source }),
    };
    if !jwk::is_for_us(key, &public_key).map_err(|member| BundleError::Member { member })? {
        return Ok(None);
    }
    let key_id = key
        .get("kid")
        .and_then(Value::as_str)
        .filter(|kid| !kid.is_empty());
    let key_id = key_id.ok_or(BundleError::NoKeyId { index })?.to_owned();
    Ok(Some((key_id, public_key)))
}

fn x509_member(authority: &X509Authority) -> Value {
    let mut members = jwk::members(authority.certificate.public_key());
    members.insert("use".to_owned(), X509_USE.into());
    members.insert(
        "x5c".to_owned(),
        json!([STANDARD.encode(authority.certificate.as_der())]),
    );
    Value::Object(members)
}

fn jwt_member(authority: &JwtAuthority) -> Value {
    token_member(JWT_USE, &authority.key_id, &authority.public_key)
}

fn wit_member(authority: &WitAuthority) -> Value {
    token_member(WIT_USE, &authority.key_id, &authority.public_key)
}

fn token_member(purpose: &str, key_id: &str, key: &PublicKey) -> Value {
    let mut members = jwk::members(key);
    members.insert("use".to_owned(), purpose.into());
    members.insert("kid".to_owned(), key_id.into());
    Value::Object(members)
}

const X509_USE: &str = "x509-svid";
const JWT_USE: &str = "jwt-svid";
const WIT_USE: &str = "wit-svid";
const SEQUENCE: &str = "spiffe_sequence";
const REFRESH_HINT: &str = "spiffe_refresh_hint";
const MAX_DOCUMENT: usize = 1024 * 1024;
