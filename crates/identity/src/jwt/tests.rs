//! Our tokens before a well-known library, its tokens before us, and random claims.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proptest::prelude::*;

use super::*;
use crate::bundle::{Bundle, JwtAuthority};
use crate::key::{KeyType, PrivateKey};
use crate::{DeviceKey, PublicKey};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// Where the PKCS#1 key starts inside of the PKCS#8 one.
const PKCS1_AT: usize = 26;
const RSA: &str = include_str!("../../../../tests/vectors/keys/rsa-2048.pem");

fn bundles(public_key: PublicKey, expires_at: Option<UnixTime>) -> BundleSet {
    let key = JwtAuthority {
        key_id: "k".into(),
        public_key,
        expires_at,
        tainted: false,
    };
    let td = TrustDomain::parse("td.test").unwrap();
    BundleSet::from_iter([Bundle::new(td).with_jwt_authorities(vec![key]).unwrap()])
}

fn params<'a>(sub: &'a SpiffeId, aud: &'a [String]) -> JwtParams<'a> {
    let exp = UnixTime::from_secs(NOW.as_secs() + 300);
    JwtParams {
        sub,
        aud,
        exp,
        iat: UnixTime::from_secs(NOW.as_secs() - 300),
        iss: None,
        jti: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_well_known_library_accepts_what_we_sign(path in "(/[a-zA-Z0-9._-]{1,12}x){1,4}", aud in proptest::collection::vec("\\PC{1,20}", 1..4), jti in "\\PC{0,20}", large: bool) {
        let (key_type, algorithm) = if large { (KeyType::EcP384, Algorithm::ES384) } else { (KeyType::EcP256, Algorithm::ES256) };
        let key = PrivateKey::generate_as(key_type).unwrap();
        let sub = SpiffeId::parse(&format!("spiffe://td.test{path}")).unwrap();
        let token = sign(&JwtParams { jti: Some(&jti), ..params(&sub, &aud) }, "k", &key).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&aud[..1]);
        validation.leeway = 0;
        validation.validate_exp = false;
        let decoding = DecodingKey::from_ec_der(key.public_key().raw());
        let seen = jsonwebtoken::decode::<Value>(&token, &decoding, &validation).unwrap();
        prop_assert_eq!(&seen.claims["sub"], sub.as_str());
        prop_assert_eq!(&seen.claims["aud"], &json!(aud));
        prop_assert_eq!(seen.header.kid.as_deref(), Some("k"));
        let ours = verify(&token, &bundles(key.public_key(), None), &aud[0], NOW).unwrap();
        prop_assert_eq!(ours.audience(), &aud[..]);
        prop_assert_eq!(ours.claims()["jti"].as_str(), Some(jti.as_str()));
    }

    #[test]
    fn we_accept_what_a_well_known_library_signs(extra in "\\PC{0,30}", rsa: bool) {
        let key = PrivateKey::generate().unwrap();
        let (algorithm, encoding, public) = if rsa {
            (Algorithm::RS256, EncodingKey::from_rsa_der(&crate::pem::first(RSA, crate::pem::PRIVATE_KEY).unwrap()[PKCS1_AT..]), DeviceKey::from_pem(RSA).unwrap().public_key())
        } else {
            (Algorithm::ES256, EncodingKey::from_ec_der(key.as_pkcs8_der()), key.public_key())
        };
        let header = Header { kid: Some("k".into()), ..Header::new(algorithm) };
        let claims = json!({"sub": "spiffe://td.test/w", "aud": "a", "exp": NOW.as_secs() + 1, "x": extra});
        let token = jsonwebtoken::encode(&header, &claims, &encoding).unwrap();
        let seen = verify(&token, &bundles(public, None), "a", NOW).unwrap();
        prop_assert_eq!(&Value::Object(seen.claims().clone()), &claims);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text: String, a in "[A-Za-z0-9_.-]{0,60}") {
        let _result = parse_unverified(&text);
        let _result = parse_unverified(&a);
    }
}

#[test]
fn we_accept_es384_of_a_well_known_library() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let public = PublicKey::from_spki_der(&rcgen::PublicKeyData::subject_public_key_info(&pair)).unwrap();
    let header = Header {
        kid: Some("k".into()),
        ..Header::new(Algorithm::ES384)
    };
    let claims = json!({"sub": "spiffe://td.test/w", "aud": ["a"], "exp": NOW.as_secs() + 1});
    let token =
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(pair.serialized_der())).unwrap();
    assert!(verify(&token, &bundles(public, None), "a", NOW).is_ok());
}

#[test]
fn an_empty_audience_is_never_asked_for() {
    let key = PrivateKey::generate().unwrap();
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let token = sign(&params(&sub, &["a".to_owned()]), "k", &key).unwrap();
    assert!(matches!(
        verify(&token, &bundles(key.public_key(), None), "", NOW),
        Err(JwtError::NoAudience)
    ));
    assert!(matches!(
        sign(&params(&sub, &[]), "k", &key),
        Err(JwtError::NoAudience)
    ));
    assert!(matches!(
        sign(&params(&sub, &[String::new()]), "k", &key),
        Err(JwtError::NoAudience)
    ));
    assert!(matches!(
        sign(&params(&sub, &["a".to_owned()]), "", &key),
        Err(JwtError::NoKeyId)
    ));
    let root = sub.trust_domain().id();
    assert!(matches!(
        sign(&params(&root, &["a".to_owned()]), "k", &key),
        Err(JwtError::NoPath)
    ));
}

#[test]
fn a_key_past_its_time_verifies_nothing() {
    let key = PrivateKey::generate().unwrap();
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let token = sign(&params(&sub, &["a".to_owned()]), "k", &key).unwrap();
    let until = |secs| bundles(key.public_key(), Some(UnixTime::from_secs(NOW.as_secs() + secs)));
    assert!(verify(&token, &until(1), "a", NOW).is_ok());
    assert!(matches!(
        verify(&token, &until(0), "a", NOW),
        Err(JwtError::KeyExpired { .. })
    ));
}

#[test]
fn a_token_is_never_printed() {
    let key = PrivateKey::generate().unwrap();
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let token = sign(&params(&sub, &["a".to_owned()]), "k", &key).unwrap();
    let svid = parse_unverified(&token).unwrap();
    assert_eq!(svid.token(), token);
    assert!(!format!("{svid:?}").contains(&token[..20]));
}

#[test]
fn a_signer_that_returns_nonsense_makes_no_token() {
    struct Nonsense(PrivateKey);
    impl Signer for Nonsense {
        fn public_key(&self) -> PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _data: &[u8]) -> Result<Vec<u8>, KeyError> {
            let (r, s) = (der::unsigned_integer(&[0x7f; 33]), der::unsigned_integer(&[1]));
            Ok(der::element(der::SEQUENCE, &[r, s].concat()))
        }
    }
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let signed = sign(
        &params(&sub, &["a".to_owned()]),
        "k",
        &Nonsense(PrivateKey::generate().unwrap()),
    );
    assert!(matches!(
        signed,
        Err(JwtError::Signing {
            source: KeyError::Malformed
        })
    ));
}

/// ECDSA has two signatures for each that somebody makes: (r, s) and (r, n - s). RFC 7518 §3.4 asks for neither, so both are taken, as
/// other verifiers do; and so nothing may tell tokens apart by their bytes.
#[test]
fn a_signature_counts_with_either_s() {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let key = PrivateKey::generate().unwrap();
    let sub = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let token = sign(&params(&sub, &["a".to_owned()]), "k", &key).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut other = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(N[at]) - i16::from(other[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        other[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let other = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&other));
    assert_ne!(other, token);
    let bundles = bundles(key.public_key(), None);
    for token in [&token, &other] {
        assert_eq!(verify(token, &bundles, "a", NOW).unwrap().id(), &sub);
    }
}

#[test]
fn an_audience_is_mandatory_and_bounded_and_the_largest_one_fits_into_a_token() {
    let list = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
    for (bad, why) in [
        (vec![], "empty"),
        (vec!["a".to_owned(), String::new()], "empty"),
        (list(33, 1), "at most 32 audiences"),
        (list(1, 2049), "at most 2048 bytes"),
        (list(5, 2048), "8192 bytes in all"),
    ] {
        let refused = check_audience(&bad).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let (sub, key) = (
        SpiffeId::parse("spiffe://td.test/w").unwrap(),
        PrivateKey::generate().unwrap(),
    );
    for good in [list(32, 1), list(4, 2048), list(32, 256)] {
        check_audience(&good).unwrap();
        sign(&params(&sub, &good), "k", &key).unwrap();
    }
}
