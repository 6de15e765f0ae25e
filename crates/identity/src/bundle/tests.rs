//! Bundles that we write; those that we read are vectors.

use serde_json::Value;

use super::*;
use crate::key::PrivateKey;

fn td() -> TrustDomain {
    TrustDomain::parse("td.test").unwrap()
}

fn jwt(key_id: &str) -> JwtAuthority {
    let public_key = PrivateKey::generate().unwrap().public_key();
    JwtAuthority {
        key_id: key_id.into(),
        public_key,
        expires_at: None,
        tainted: false,
    }
}

fn wit(key_id: &str) -> WitAuthority {
    let JwtAuthority {
        key_id, public_key, ..
    } = jwt(key_id);
    WitAuthority {
        key_id,
        public_key,
        expires_at: None,
        tainted: false,
    }
}

fn certificate() -> Certificate {
    let key = PrivateKey::generate().unwrap();
    let (not_before, not_after) = (
        UnixTime::from_secs(1_800_000_000),
        UnixTime::from_secs(1_800_086_400),
    );
    let p = crate::issue::AuthorityParams {
        trust_domain: &td(),
        authority_id: "a",
        not_before,
        not_after,
    };
    crate::issue::self_signed_authority(&p, &key).unwrap()
}

fn full() -> Bundle {
    let x509 = vec![X509Authority {
        certificate: certificate(),
        tainted: false,
    }];
    let bundle = Bundle::new(td())
        .with_x509_authorities(x509)
        .unwrap()
        .with_jwt_authorities(vec![jwt("a"), jwt("b")])
        .unwrap()
        .with_wit_authorities(vec![wit("c")])
        .unwrap();
    bundle
        .with_sequence(7)
        .with_refresh_hint(Some(Duration::from_secs(300)))
}

#[test]
fn a_document_reads_back_as_the_same_bundle() {
    let bundle = full();
    assert_eq!(
        Bundle::from_jwks(td(), bundle.to_jwks().as_bytes()).unwrap(),
        bundle
    );
    let document: Value = serde_json::from_str(&bundle.to_jwks()).unwrap();
    assert_eq!(
        (&document["spiffe_sequence"], &document["spiffe_refresh_hint"]),
        (&7.into(), &300.into())
    );
    let keys = document["keys"].as_array().unwrap();
    assert!(keys.iter().all(|k| k["use"].is_string() && k["kty"] == "EC"));
    assert!(keys[0].get("kid").is_none() && keys[0]["x5c"].as_array().unwrap().len() == 1);
    assert!(keys[1]["kid"] == "a" && keys[1].get("x5c").is_none());
}

#[test]
fn the_jwt_document_holds_only_jwt_keys() {
    let document: Value = serde_json::from_str(&full().jwt_jwks()).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|k| k["use"] == "jwt-svid"));
}

#[test]
fn the_wit_document_holds_only_wit_keys_and_neither_verifies_for_the_other() {
    let bundle = full();
    let document: Value = serde_json::from_str(&bundle.wit_jwks()).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert_eq!(
        (keys.len(), &keys[0]["use"], &keys[0]["kid"]),
        (1, &"wit-svid".into(), &"c".into())
    );
    assert!(bundle.jwt_authority("c").is_none() && bundle.wit_authority("a").is_none());
}

#[test]
fn a_key_id_stands_once_in_a_bundle_whatever_its_use() {
    let bundle = Bundle::new(td()).with_jwt_authorities(vec![jwt("a")]).unwrap();
    for twice in [vec![wit("a")], vec![wit("b"), wit("b")]] {
        let refused = bundle.clone().with_wit_authorities(twice).unwrap_err();
        assert!(matches!(refused, BundleError::KeyIdTwice { .. }), "{refused:?}");
    }
    let refused = bundle.with_wit_authorities(vec![wit("")]).unwrap_err();
    assert!(matches!(refused, BundleError::NoKeyId { .. }), "{refused:?}");
    let wits = Bundle::new(td()).with_wit_authorities(vec![wit("a")]).unwrap();
    assert!(wits.with_jwt_authorities(vec![jwt("a")]).is_err());
}

#[test]
fn a_wit_key_that_is_no_good_costs_itself_and_not_the_bundle() {
    let document = full().to_jwks();
    let mut document: Value = serde_json::from_str(&document).unwrap();
    let keys = document["keys"].as_array_mut().unwrap();
    let good = keys.last().unwrap().clone();
    let changed = |member: &str, value: Value| {
        let mut key = good.clone();
        key[member] = value;
        key
    };
    keys.extend([
        changed("kid", "a".into()),
        changed("kid", "".into()),
        changed("x", "AA".into()),
        changed("kid", "twice".into()),
        changed("kid", "twice".into()),
    ]);
    let read = Bundle::from_jwks(td(), document.to_string().as_bytes()).unwrap();
    assert_eq!(
        (read.jwt_authorities().len(), read.wit_authorities().len()),
        (2, 1)
    );
}

#[test]
fn pem_and_der_lists_read_back() {
    let bundle = full();
    let same = |other: Bundle| assert_eq!(other.x509_authorities(), bundle.x509_authorities());
    same(Bundle::from_pem(td(), &bundle.to_pem()).unwrap());
    same(Bundle::from_der_concat(td(), &bundle.x509_der_concat()).unwrap());
    assert!(Bundle::from_pem(td(), "").is_err());
}

#[test]
fn content_is_compared_without_sequence_and_hint() {
    let bundle = full();
    assert!(bundle.content_eq(&bundle.clone().with_sequence(8).with_refresh_hint(None)));
    assert!(!bundle.content_eq(&bundle.clone().with_jwt_authorities(vec![]).unwrap()));
}

#[test]
fn key_ids_are_unique_and_keys_bounded() {
    let empty = Bundle::new(td());
    assert!(matches!(
        empty.clone().with_jwt_authorities(vec![jwt("a"), jwt("a")]),
        Err(BundleError::KeyIdTwice { .. })
    ));
    assert!(matches!(
        empty.clone().with_jwt_authorities(vec![jwt("")]),
        Err(BundleError::NoKeyId { index: 0 })
    ));
    let many = (0..=256).map(|n| jwt(&n.to_string())).collect();
    assert!(matches!(
        empty.with_jwt_authorities(many),
        Err(BundleError::TooManyKeys { count: 257 })
    ));
}

#[test]
fn a_document_ends_at_one_mebibyte() {
    let document = |bytes: usize| format!("{{\"keys\":[]{}}}", " ".repeat(bytes - 11));
    assert!(Bundle::from_jwks(td(), document(1024 * 1024).as_bytes()).is_ok());
    let over = Bundle::from_jwks(td(), document(1024 * 1024 + 1).as_bytes());
    assert!(matches!(over, Err(BundleError::TooLarge { bytes: 1_048_577 })));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _result = Bundle::from_jwks(td(), &bytes);
    }
}

#[test]
fn oidc_keys_say_what_they_sign_with_and_only_those_for_jwts_are_there() {
    let rsa =
        crate::DeviceKey::from_pem(include_str!("../../../../tests/vectors/keys/rsa-2048.pem")).unwrap();
    let p384 = PrivateKey::generate_as(crate::KeyType::EcP384).unwrap();
    let of = |key_id: &str, public_key| JwtAuthority {
        public_key,
        ..jwt(key_id)
    };
    let keys = vec![
        jwt("a"),
        of("b", rsa.public_key()),
        of("p", p384.public_key()),
        jwt("d"),
    ];
    let bundle = full().with_jwt_authorities(keys).unwrap();
    assert_eq!(bundle.jwt_algorithms(), ["ES256", "ES384", "RS256"]);
    let document: Value = serde_json::from_str(&bundle.oidc_jwks()).unwrap();
    let said: Vec<_> = document["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            assert_eq!(key["use"], "sig");
            (key["kid"].as_str().unwrap(), key["alg"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        said,
        [("a", "ES256"), ("b", "RS256"), ("p", "ES384"), ("d", "ES256")]
    );
}
