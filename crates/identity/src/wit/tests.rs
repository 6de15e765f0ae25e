//! Our WIT-SVIDs before a well-known library, and every rule of the standard broken once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::bundle::{Bundle, JwtAuthority, WitAuthority};
use crate::key::{KeyType, PrivateKey};
use crate::trust_domain::TrustDomain;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const RSA: &str = include_str!("../../../../tests/vectors/keys/rsa-2048.pem");

struct Rig {
    authority: PrivateKey,
    workload: PrivateKey,
    bundles: BundleSet,
}

impl Rig {
    fn new(expires_at: Option<UnixTime>) -> Self {
        let authority = PrivateKey::generate().unwrap();
        let wit = |key_id: &str| WitAuthority {
            key_id: key_id.into(),
            public_key: authority.public_key(),
            expires_at,
            tainted: false,
        };
        let jwt = JwtAuthority {
            key_id: "for-jwt".into(),
            public_key: authority.public_key(),
            expires_at: None,
            tainted: false,
        };
        let td = TrustDomain::parse("td.test").unwrap();
        let bundle = Bundle::new(td).with_wit_authorities(vec![wit("k")]).unwrap();
        let bundle = bundle.with_jwt_authorities(vec![jwt]).unwrap();
        Self {
            workload: PrivateKey::generate().unwrap(),
            bundles: BundleSet::from_iter([bundle]),
            authority,
        }
    }

    fn claims(&self) -> Value {
        let mut jwk = jwk::members(&self.workload.public_key());
        jwk.insert("alg".into(), "ES256".into());
        json!({"sub": "spiffe://td.test/w", "exp": NOW.as_secs() + 60, "iat": NOW.as_secs() - 300, "cnf": {"jwk": jwk}})
    }

    fn token(&self, claims: &Value) -> String {
        compact("wit+jwt", "k", claims, &self.authority).unwrap()
    }

    /// The same claims under a header of the caller's.
    fn under(&self, header: &Value) -> String {
        let b64 = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", b64(header), b64(&self.claims()));
        let signature = self.authority.sign(signed.as_bytes()).unwrap();
        let (r, s) = fixed(&signature);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode([r, s].concat()))
    }

    fn verify(&self, token: &str) -> Result<WitSvid, JwtError> {
        verify(token, &self.bundles, NOW)
    }
}

fn fixed(signature: &[u8]) -> ([u8; 32], [u8; 32]) {
    let (content, _) = crate::der::read(signature, crate::der::SEQUENCE).unwrap();
    let (r, rest) = crate::der::read_unsigned(content).unwrap();
    let (s, _) = crate::der::read_unsigned(rest).unwrap();
    let pad = |n: &[u8]| {
        let mut out = [0; 32];
        out[32 - n.len()..].copy_from_slice(n);
        out
    };
    (pad(r), pad(s))
}

#[test]
fn what_we_sign_meets_the_standard_and_reads_back() {
    let rig = Rig::new(None);
    let sub = SpiffeId::parse("spiffe://td.test/line4/w").unwrap();
    let params = WitParams {
        sub: &sub,
        key: &rig.workload.public_key(),
        algorithm: "ES256",
        exp: UnixTime::from_secs(NOW.as_secs() + 60),
        iat: NOW,
        iss: Some("landfast"),
    };
    let token = sign(&params, "k", &rig.authority).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(
        (header.typ.as_deref(), header.kid.as_deref()),
        (Some("wit+jwt"), Some("k"))
    );
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_ec_der(rig.authority.public_key().raw());
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation)
        .unwrap()
        .claims;
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cnf", "exp", "iat", "iss", "sub"]);
    assert_eq!(claims["cnf"]["jwk"]["alg"], "ES256");
    assert!(claims["cnf"]["jwk"].get("d").is_none());
    let seen = rig.verify(&token).unwrap();
    assert_eq!(
        (seen.id(), seen.confirmation_algorithm(), seen.key_id()),
        (&sub, "ES256", "k")
    );
    assert_eq!(*seen.confirmation_key(), rig.workload.public_key());
    assert_eq!(parse_unverified(&token).unwrap().token(), token);
}

#[test]
fn keys_of_every_kind_are_confirmed_with_an_algorithm_of_theirs_only() {
    let rig = Rig::new(None);
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let large = PrivateKey::generate_as(KeyType::EcP384).unwrap().public_key();
    let rsa = crate::DeviceKey::from_pem(RSA).unwrap().public_key();
    for (key, good, bad) in [
        (&rig.workload.public_key(), "ES256", "ES384"),
        (&large, "ES384", "ES256"),
        (&rsa, "PS512", "ES256"),
        (&rsa, "RS256", "none"),
    ] {
        let params = WitParams {
            sub: &sub,
            key,
            algorithm: good,
            exp: UnixTime::from_secs(NOW.as_secs() + 60),
            iat: NOW,
            iss: None,
        };
        let token = sign(&params, "k", &rig.authority).unwrap();
        assert_eq!(rig.verify(&token).unwrap().confirmation_key(), key);
        let refused = sign(
            &WitParams {
                algorithm: bad,
                ..params
            },
            "k",
            &rig.authority,
        );
        assert!(matches!(refused, Err(JwtError::Algorithm)), "{refused:?}");
    }
}

#[test]
fn each_rule_that_is_broken_refuses() {
    let rig = Rig::new(None);
    rig.verify(&rig.token(&rig.claims())).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut claims = rig.claims();
        change(&mut claims);
        rig.verify(&rig.token(&claims)).unwrap_err().to_string()
    };
    let without =
        |member: &'static str| refused(&move |claims| drop(claims.as_object_mut().unwrap().remove(member)));
    for member in ["sub", "exp", "cnf"] {
        assert_eq!(
            without(member),
            format!("claim {member} is missing or of the wrong kind")
        );
    }
    let cnf = "claim cnf is missing or of the wrong kind";
    assert_eq!(
        refused(&|c| drop(c["cnf"]["jwk"].as_object_mut().unwrap().remove("alg"))),
        cnf
    );
    assert_eq!(refused(&|c| c["cnf"]["jwk"]["alg"] = "HS256".into()), cnf);
    assert_eq!(refused(&|c| c["cnf"]["jwk"]["x"] = "AA".into()), cnf);
    assert_eq!(
        refused(&|c| c["aud"] = "a".into()),
        "claim aud is missing or of the wrong kind"
    );
    assert_eq!(
        refused(&|c| c["sub"] = "spiffe://td.test".into()),
        JwtError::NoPath.to_string()
    );
    assert!(refused(&|c| c["sub"] = "spiffe://other.test/w".into()).contains("no bundle"));
    assert!(refused(&|c| c["exp"] = NOW.as_secs().into()).contains("expired"));
    assert!(refused(&|c| c["nbf"] = (NOW.as_secs() + 1).into()).contains("not valid before"));
    // §3.6: when it was made says nothing about when it begins.
    let mut claims = rig.claims();
    claims["iat"] = (NOW.as_secs() + 9).into();
    rig.verify(&rig.token(&claims)).unwrap();
}

#[test]
fn the_header_says_which_kind_of_token_it_is() {
    let rig = Rig::new(None);
    let header = json!({"alg": "ES256", "kid": "k", "typ": "wit+jwt"});
    rig.verify(&rig.under(&header)).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        rig.verify(&rig.under(&changed))
    };
    with("x", 1.into()).expect("unknown headers are ignored (§2.4)");
    assert!(matches!(with("crit", json!(["x"])), Err(JwtError::Header { .. })));
    assert!(matches!(with("typ", "JWT".into()), Err(JwtError::Type)));
    assert!(matches!(with("typ", Value::Null), Err(JwtError::Type)));
    assert!(matches!(with("kid", "".into()), Err(JwtError::NoKeyId)));
    assert!(matches!(with("alg", "none".into()), Err(JwtError::Algorithm)));
    assert!(matches!(
        with("kid", "unknown".into()),
        Err(JwtError::UnknownKey { .. })
    ));
    let crossed = with("kid", "for-jwt".into());
    assert!(
        matches!(crossed, Err(JwtError::UnknownKey { .. })),
        "a JWT key verified a WIT-SVID: {crossed:?}"
    );
}

#[test]
fn a_wit_svid_is_no_jwt_svid_nor_the_other_way_round() {
    let rig = Rig::new(None);
    let wit = rig.token(&rig.claims());
    assert!(matches!(crate::jwt::parse_unverified(&wit), Err(JwtError::Type)));
    let jwt = compact("JWT", "k", &rig.claims(), &rig.authority).unwrap();
    assert!(matches!(rig.verify(&jwt), Err(JwtError::Type)));
}

#[test]
fn another_signer_a_changed_byte_or_an_expired_authority_refuses() {
    let rig = Rig::new(Some(NOW));
    let token = rig.token(&rig.claims());
    assert!(matches!(rig.verify(&token), Err(JwtError::KeyExpired { .. })));
    let rig = Rig::new(None);
    let forged = compact("wit+jwt", "k", &rig.claims(), &rig.workload).unwrap();
    assert!(matches!(rig.verify(&forged), Err(JwtError::Signature { .. })));
    let (head, tail) = token.split_at(token.len() - 10);
    let changed = format!("{head}{}", tail.chars().rev().collect::<String>());
    assert!(rig.verify(&changed).is_err());
}

#[test]
fn a_private_jwk_is_the_key_itself() {
    for (key_type, length) in [(KeyType::EcP256, 32), (KeyType::EcP384, 48)] {
        let key = PrivateKey::generate_as(key_type).unwrap();
        let jwk: Value = serde_json::from_str(&key.to_private_jwk().unwrap()).unwrap();
        let members = jwk.as_object().unwrap();
        assert_eq!(jwk::parse(members).unwrap(), key.public_key());
        let text = key.to_private_jwk().unwrap();
        assert_eq!(PublicKey::from_jwk(text.as_bytes()).unwrap(), key.public_key());
        for broken in [&text[..text.len() - 1], "[]", "{}", r#"{"kty":"EC","kty":"EC"}"#] {
            assert!(PublicKey::from_jwk(broken.as_bytes()).is_err(), "{broken}");
        }
        let d = URL_SAFE_NO_PAD.decode(members["d"].as_str().unwrap()).unwrap();
        assert_eq!(d.len(), length);
        let curve = match key_type {
            KeyType::EcP256 => &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            KeyType::EcP384 => &ring::signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let random = ring::rand::SystemRandom::new();
        let same = ring::signature::EcdsaKeyPair::from_private_key_and_public_key(
            curve,
            &d,
            key.public_key().raw(),
            &random,
        );
        same.expect("the scalar belongs to the public key");
    }
}
