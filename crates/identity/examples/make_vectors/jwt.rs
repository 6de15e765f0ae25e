//! Tokens: each rule of JWT-SVID, kept and broken.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use landfast_identity::{Bundle, DeviceKey, JwtAuthority, PrivateKey, TrustDomain};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};

use super::{NOW, Vectors};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Keys {
    es256: EcdsaKeyPair,
    es384: EcdsaKeyPair,
    rs256: RsaKeyPair,
    bundles: String,
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#;

fn claims() -> String {
    format!(
        r#"{{"sub":"spiffe://td.test/w","aud":["aud.test"],"exp":{},"iat":{}}}"#,
        NOW + 300,
        NOW - 300
    )
}

fn b64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

impl Keys {
    fn new(rsa_pem: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let k1 = PrivateKey::generate()?;
        let other = PrivateKey::generate()?;
        let es256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, k1.as_pkcs8_der(), &random)?;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)?;
        let es384 = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref(), &random)?;
        let body: String = rsa_pem.lines().filter(|l| !l.starts_with('-')).collect();
        let rs256 = RsaKeyPair::from_pkcs8(&STANDARD.decode(body)?)?;
        let point = es384.public_key().as_ref();
        let p384_spki = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &pkcs8.as_ref().into(),
            &rcgen::PKCS_ECDSA_P384_SHA384,
        )?;
        assert!(rcgen::PublicKeyData::der_bytes(&p384_spki) == point);
        let p384 = landfast_identity::PublicKey::from_spki_der(
            &rcgen::PublicKeyData::subject_public_key_info(&p384_spki),
        )?;
        let key = |key_id: &str, public_key| JwtAuthority {
            key_id: key_id.into(),
            public_key,
            expires_at: None,
            tainted: false,
        };
        let ours = Bundle::new(TrustDomain::parse("td.test")?).with_jwt_authorities(vec![
            key("k1", k1.public_key()),
            key("k384", p384),
            key("krsa", DeviceKey::from_pem(rsa_pem)?.public_key()),
            key("kother", other.public_key()),
        ])?;
        let theirs = Bundle::new(TrustDomain::parse("other.test")?)
            .with_jwt_authorities(vec![key("kforeign", k1.public_key())])?;
        // The same key once more, but for X.509: it must not verify a token.
        let x509_use = ours.jwt_jwks().replacen(
            "{\"keys\":[",
            &format!(
                "{{\"keys\":[{{\"use\":\"x509-svid\",\"kid\":\"kx509\",\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"}},",
                URL_SAFE_NO_PAD.encode(&es256.public_key().as_ref()[1..33]),
                URL_SAFE_NO_PAD.encode(&es256.public_key().as_ref()[33..]),
            ),
            1,
        );
        let bundles = format!(
            "bundle td.test: {x509_use}\nbundle other.test: {}\n",
            theirs.jwt_jwks()
        );
        Ok(Self {
            es256,
            es384,
            rs256,
            bundles,
        })
    }

    fn es256(&self, header: &str, claims: &str) -> Result<String> {
        self.es256_raw(&format!("{}.{}", b64(header), b64(claims)))
    }

    fn es256_raw(&self, signed: &str) -> Result<String> {
        let signature = self.es256.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    fn es384(&self, header: &str) -> Result<String> {
        let signed = format!("{}.{}", b64(header), b64(&claims()));
        let signature = self.es384.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    fn rs256(&self, header: &str) -> Result<String> {
        let signed = format!("{}.{}", b64(header), b64(&claims()));
        let mut signature = vec![0; self.rs256.public().modulus_len()];
        self.rs256.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

struct Writer<'a>(&'a Vectors, Keys);

impl Writer<'_> {
    fn at(&self, now: i64, name: &str, expect: &str, note: &str, token: &str) -> Result<()> {
        let bundles = &self.1.bundles;
        self.0.case(
            name,
            expect,
            note,
            &format!("now: {now}\naudience: aud.test\n{bundles}\ntoken: {token}\n"),
        )
    }

    fn token(&self, name: &str, expect: &str, note: &str, token: &str) -> Result<()> {
        self.at(NOW, name, expect, note, token)
    }

    /// A sound token, whose key says this of itself in the bundle.
    fn key_with(&self, name: &str, expect: &str, note: &str, member: &str) -> Result<()> {
        let token = self.1.es256(HEADER, &claims())?;
        let bundles = self
            .1
            .bundles
            .replacen("\"kid\":\"k1\"", &format!("{member},\"kid\":\"k1\""), 1);
        assert!(bundles != self.1.bundles, "{name} changes nothing");
        let body = format!("now: {NOW}\naudience: aud.test\n{bundles}\ntoken: {token}\n");
        self.0.case(name, expect, note, &body)
    }

    fn header(&self, name: &str, expect: &str, note: &str, header: &str) -> Result<()> {
        self.token(name, expect, note, &self.1.es256(header, &claims())?)
    }

    fn claims(&self, name: &str, expect: &str, note: &str, from: &str, to: &str) -> Result<()> {
        let changed = claims().replace(from, to);
        assert!(from.is_empty() || changed != claims(), "{name} changes nothing");
        self.token(name, expect, note, &self.1.es256(HEADER, &changed)?)
    }
}

pub(super) fn write(to: &Vectors, rsa_key: &str) -> Result<()> {
    let w = Writer(to, Keys::new(rsa_key)?);
    headers(&w)?;
    keys(&w)?;
    times(&w)?;
    subjects(&w)?;
    forms(&w)?;
    signatures(&w)
}

fn headers(w: &Writer<'_>) -> Result<()> {
    w.header("ok-es256", "ok", "as we sign", HEADER)?;
    w.header(
        "ok-no-typ",
        "ok",
        "typ is optional (JWT-SVID 2.3)",
        r#"{"alg":"ES256","kid":"k1"}"#,
    )?;
    w.header(
        "ok-typ-jose",
        "ok",
        "JWT-SVID 2.3",
        r#"{"alg":"ES256","kid":"k1","typ":"JOSE"}"#,
    )?;
    w.token(
        "ok-es384",
        "ok",
        "P-384",
        &w.1.es384(r#"{"alg":"ES384","kid":"k384"}"#)?,
    )?;
    w.token(
        "ok-rs256",
        "ok",
        "RSA 2048",
        &w.1.rs256(r#"{"alg":"RS256","kid":"krsa"}"#)?,
    )?;
    for alg in [
        "none", "None", "HS256", "HS512", "PS256", "RS512", "ES512", "EdDSA", "es256", "",
    ] {
        let name = format!(
            "alg-{}",
            if alg == "None" {
                "none-capital"
            } else if alg == "es256" {
                "es256-small"
            } else if alg.is_empty() {
                "empty"
            } else {
                alg
            }
        );
        w.header(
            &name,
            "Algorithm",
            "JWT-SVID 2.1",
            &format!(r#"{{"alg":"{alg}","kid":"k1"}}"#),
        )?;
    }
    w.header("alg-missing", "Algorithm", "JWT-SVID 2.1", r#"{"kid":"k1"}"#)?;
    w.header(
        "alg-list",
        "Algorithm",
        "JWT-SVID 2.1",
        r#"{"alg":["ES256"],"kid":"k1"}"#,
    )?;
    for (name, member) in [
        ("header-jwk", r#""jwk":{"kty":"EC"}"#),
        ("header-jku", r#""jku":"https://a.test""#),
        ("header-x5c", r#""x5c":[]"#),
        ("header-x5u", r#""x5u":"https://a.test""#),
        ("header-crit", r#""crit":["exp"]"#),
        ("header-b64", r#""b64":false"#),
        ("header-cty", r#""cty":"JWT""#),
        ("header-zip", r#""zip":"DEF""#),
        ("header-enc", r#""enc":"A128GCM""#),
    ] {
        w.header(
            name,
            "Header",
            "only alg, kid, typ (JWT-SVID 2)",
            &format!(r#"{{"alg":"ES256","kid":"k1",{member}}}"#),
        )?;
    }
    for (name, typ) in [
        ("typ-at-jwt", "\"at+jwt\""),
        ("typ-small", "\"jwt\""),
        ("typ-wit", "\"wit+jwt\""),
        ("typ-number", "1"),
        ("typ-null", "null"),
    ] {
        w.header(
            name,
            "Type",
            "JWT-SVID 2.3",
            &format!(r#"{{"alg":"ES256","kid":"k1","typ":{typ}}}"#),
        )?;
    }
    w.header(
        "header-member-twice",
        "Json",
        "which one counts?",
        r#"{"alg":"ES256","alg":"none","kid":"k1"}"#,
    )?;
    w.header(
        "header-kid-twice",
        "Json",
        "which one counts?",
        r#"{"alg":"ES256","kid":"k1","kid":"kother"}"#,
    )?;
    w.header("header-list", "Json", "not an object", r#"["ES256"]"#)?;
    w.header(
        "header-two-objects",
        "Json",
        "something after the object",
        r#"{"alg":"ES256","kid":"k1"}{}"#,
    )
}

fn keys(w: &Writer<'_>) -> Result<()> {
    let with = |kid: &str| format!(r#"{{"alg":"ES256","kid":{kid}}}"#);
    w.header(
        "kid-missing",
        "NoKeyId",
        "no trial of all keys",
        r#"{"alg":"ES256"}"#,
    )?;
    w.header("kid-empty", "NoKeyId", "no trial of all keys", &with("\"\""))?;
    w.header("kid-number", "NoKeyId", "a string", &with("1"))?;
    w.header("kid-unknown", "UnknownKey", "not in the bundle", &with("\"k2\""))?;
    w.header(
        "kid-of-another-domain",
        "UnknownKey",
        "in the bundle of another domain",
        &with("\"kforeign\""),
    )?;
    w.header(
        "kid-of-an-x509-key",
        "UnknownKey",
        "use=x509-svid (JWT-SVID 6.2)",
        &with("\"kx509\""),
    )?;
    w.header(
        "kid-of-another-key",
        "Signature",
        "a key of the domain that did not sign",
        &with("\"kother\""),
    )?;
    w.header(
        "kid-of-a-p384-key",
        "Signature",
        "the key does not fit the algorithm",
        &with("\"k384\""),
    )?;
    w.header(
        "kid-of-an-rsa-key",
        "Signature",
        "the key does not fit the algorithm",
        &with("\"krsa\""),
    )?;
    for (name, expect, member) in [
        (
            "ok-key-for-es256-to-verify",
            "ok",
            r#""alg":"ES256","key_ops":["sign","verify"]"#,
        ),
        ("key-for-another-algorithm", "UnknownKey", r#""alg":"ECDH-ES""#),
        ("key-for-another-curve", "UnknownKey", r#""alg":"ES384""#),
        ("key-to-encrypt", "UnknownKey", r#""key_ops":["encrypt"]"#),
        ("key-for-nothing", "UnknownKey", r#""key_ops":[]"#),
    ] {
        w.key_with(name, expect, "RFC 7517 4.3, 4.4", member)?;
    }
    w.token(
        "rs256-with-ec-key",
        "Signature",
        "the key does not fit the algorithm",
        &w.1.rs256(r#"{"alg":"RS256","kid":"k1"}"#)?,
    )?;
    w.claims(
        "sub-of-another-domain",
        "UnknownKey",
        "our key, their subject",
        "td.test/w",
        "other.test/w",
    )?;
    w.claims(
        "sub-of-an-unknown-domain",
        "NoBundle",
        "no such bundle",
        "td.test/w",
        "third.test/w",
    )
}

fn times(w: &Writer<'_>) -> Result<()> {
    let exp = format!("\"exp\":{}", NOW + 300);
    for (name, expect, to) in [
        ("exp-missing", "Claim", "\"x\":1"),
        ("exp-string", "Claim", "\"exp\":\"1800000300\""),
        ("exp-null", "Claim", "\"exp\":null"),
        ("exp-negative", "Claim", "\"exp\":-1"),
        ("exp-float", "Claim", "\"exp\":1800000300.5"),
        ("exp-whole-float", "Claim", "\"exp\":1800000300.0"),
        ("exp-exponent", "Claim", "\"exp\":18e8"),
        ("exp-beyond-numbers", "Json", "\"exp\":1e400"),
        ("exp-beyond-u64", "Claim", "\"exp\":99999999999999999999"),
        ("exp-beyond-year-9999", "Claim", "\"exp\":253402300800"),
        ("exp-true", "Claim", "\"exp\":true"),
        ("exp-list", "Claim", "\"exp\":[1800000300]"),
        ("exp-zero", "Expired", "\"exp\":0"),
        ("exp-twice", "Json", "\"exp\":1,\"exp\":1800000300"),
        ("exp-now", "Expired", "\"exp\":1800000000"),
        ("ok-exp-year-9999", "ok", "\"exp\":253402300799"),
    ] {
        w.claims(name, expect, "JWT-SVID 3.3", &exp, to)?;
    }
    let iat = format!("\"iat\":{}", NOW - 300);
    for (name, expect, to) in [
        ("ok-nbf-now", "ok", "\"nbf\":1800000000"),
        ("nbf-later", "NotYetValid", "\"nbf\":1800000001"),
        ("nbf-string", "Claim", "\"nbf\":\"1\""),
        ("nbf-float", "Claim", "\"nbf\":1.5"),
        ("iat-string", "Claim", "\"iat\":\"1\""),
        ("iat-negative", "Claim", "\"iat\":-1"),
        ("ok-iat-later", "ok", "\"iat\":1800000100"),
        ("ok-no-iat", "ok", "\"x\":1"),
    ] {
        w.claims(name, expect, "RFC 7519 4.1", &iat, to)?;
    }
    let good = w.1.es256(HEADER, &claims())?;
    w.at(
        NOW + 299,
        "ok-last-second",
        "ok",
        "exp is the first second refused",
        &good,
    )?;
    w.at(
        NOW + 300,
        "expired",
        "Expired",
        "exp is the first second refused",
        &good,
    )
}

fn subjects(w: &Writer<'_>) -> Result<()> {
    let sub = r#""sub":"spiffe://td.test/w""#;
    for (name, expect, to) in [
        ("sub-missing", "Claim", "\"x\":1"),
        ("sub-list", "Claim", r#""sub":["spiffe://td.test/w"]"#),
        ("sub-https", "Subject", r#""sub":"https://td.test/w""#),
        ("sub-capital-scheme", "Subject", r#""sub":"SPIFFE://td.test/w""#),
        ("sub-root", "NoPath", r#""sub":"spiffe://td.test""#),
        ("sub-empty", "Subject", r#""sub":"""#),
        (
            "sub-twice",
            "Json",
            r#""sub":"spiffe://td.test/w","sub":"spiffe://td.test/admin""#,
        ),
        (
            "sub-twice-escaped",
            "Json",
            r#""sub":"spiffe://td.test/w","s\u0075b":"spiffe://td.test/admin""#,
        ),
        ("ok-sub-escaped", "ok", r#""sub":"spiffe:\/\/td.test\/w""#),
    ] {
        w.claims(name, expect, "JWT-SVID 3.1", sub, to)?;
    }
    let aud = r#""aud":["aud.test"]"#;
    for (name, expect, to) in [
        ("aud-missing", "Claim", "\"x\":1"),
        ("aud-empty-list", "Claim", "\"aud\":[]"),
        ("aud-empty", "Claim", "\"aud\":\"\""),
        ("aud-null", "Claim", "\"aud\":null"),
        ("aud-number", "Claim", "\"aud\":[\"aud.test\",1]"),
        ("aud-with-empty", "Claim", "\"aud\":[\"aud.test\",\"\"]"),
        ("aud-object", "Claim", "\"aud\":{\"aud.test\":1}"),
        ("aud-other", "WrongAudience", "\"aud\":[\"b.test\"]"),
        ("aud-prefix", "WrongAudience", "\"aud\":\"aud.test.evil\""),
        ("aud-capital", "WrongAudience", "\"aud\":\"AUD.test\""),
        ("ok-aud-string", "ok", "\"aud\":\"aud.test\""),
        ("ok-aud-second", "ok", "\"aud\":[\"b.test\",\"aud.test\"]"),
    ] {
        w.claims(name, expect, "JWT-SVID 3.2", aud, to)?;
    }
    w.claims(
        "ok-other-claims",
        "ok",
        "unknown claims are kept",
        aud,
        r#""aud":"aud.test","roles":{"a":[1,2.5,null]}"#,
    )
}

fn forms(w: &Writer<'_>) -> Result<()> {
    let good = w.1.es256(HEADER, &claims())?;
    let parts: Vec<&str> = good.split('.').collect();
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    w.token(
        "two-parts",
        "Form",
        "compact form only",
        &format!("{}.{}", parts[0], parts[1]),
    )?;
    w.token("four-parts", "Form", "compact form only", &format!("{good}.x"))?;
    w.token("five-parts", "Form", "an encrypted token", &format!("{good}.x.x"))?;
    w.token(
        "no-signature",
        "Form",
        "a token without signature",
        &format!("{}.{}.", parts[0], parts[1]),
    )?;
    w.token(
        "no-header",
        "Form",
        "an empty part",
        &format!(".{}.{}", parts[1], parts[2]),
    )?;
    w.token(
        "no-payload",
        "Form",
        "an empty part",
        &w.1.es256_raw(&format!("{}.", parts[0]))?,
    )?;
    w.token("only-dots", "Form", "nothing", "..")?;
    w.token(
        "json-serialisation",
        "Form",
        "JWT-SVID 5.1",
        &format!(
            r#"{{"payload":"{}","protected":"{}","signature":"{}"}}"#,
            parts[1], parts[0], parts[2]
        ),
    )?;
    w.token("signature-padded", "Base64", "no padding", &format!("{good}=="))?;
    let padded = format!("{}.{}", URL_SAFE.encode(HEADER), parts[1]);
    assert!(padded.contains('='));
    w.token("header-padded", "Base64", "no padding", &w.1.es256_raw(&padded)?)?;
    w.token(
        "standard-alphabet",
        "Base64",
        "base64url only",
        &w.1.es256_raw(&format!(
            "{}.{}",
            parts[0],
            STANDARD.encode("{\"a\":\"~~~???>>>\"}")
        ))?,
    )?;
    w.token(
        "space-inside",
        "Base64",
        "no white space",
        &good.replacen('.', " .", 1),
    )?;
    w.token(
        "trailing-bits",
        "Base64",
        "one spelling for one value",
        &format!("{}.{}.{}B", parts[0], parts[1], &parts[2][..parts[2].len() - 1]),
    )?;
    w.claims(
        "nested-10k",
        "Json",
        "bounded depth",
        "{",
        &format!("{{\"x\":{},", deep(4000)),
    )?;
    w.claims(
        "nested-17",
        "Json",
        "bounded depth",
        "{",
        &format!("{{\"x\":{},", deep(17)),
    )?;
    w.claims(
        "too-large",
        "TooLarge",
        "16 KiB",
        "{",
        &format!("{{\"x\":\"{}\",", "x".repeat(17_000)),
    )?;
    w.token("claims-list", "Json", "an object", &w.1.es256(HEADER, "[]")?)?;
    w.token(
        "claims-not-json",
        "Json",
        "an object",
        &w.1.es256(HEADER, "sub=w")?,
    )
}

fn signatures(w: &Writer<'_>) -> Result<()> {
    let good = w.1.es256(HEADER, &claims())?;
    let (signed, signature) = good.rsplit_once('.').ok_or("three parts")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let with = |signature: &[u8]| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    w.token(
        "signature-short",
        "Signature",
        "63 bytes",
        &with(&signature[..63]),
    )?;
    w.token(
        "signature-long",
        "Signature",
        "65 bytes",
        &with(&[&signature[..], &[0]].concat()),
    )?;
    w.token("signature-zero", "Signature", "r = s = 0", &with(&[0; 64]))?;
    w.token(
        "signature-all-ones",
        "Signature",
        "r and s beyond the order",
        &with(&[0xff; 64]),
    )?;
    let mut bent = signature.clone();
    bent[10] ^= 1;
    w.token("signature-changed", "Signature", "one bit", &with(&bent))?;
    let other = negated(&signature[32..]);
    let high = std::cmp::max(&signature[32..], &other[..]);
    w.token(
        "ok-high-s",
        "ok",
        "n - s signs as s does; RFC 7518 3.4 has no rule of the lower one, and no token is known here by its signature",
        &with(&[&signature[..32], high].concat()),
    )?;
    let half = |part: &[u8]| super::der(2, &[&[0], part].concat());
    w.token(
        "signature-der",
        "Signature",
        "ASN.1 instead of r and s",
        &with(&super::der(
            0x30,
            &[half(&signature[..32]), half(&signature[32..])].concat(),
        )),
    )?;
    let other = w.1.es256(HEADER, &claims().replace("/w", "/admin"))?;
    let other_signed = other.rsplit_once('.').ok_or("three parts")?.0;
    w.token(
        "claims-changed",
        "Signature",
        "another subject under the same signature",
        &format!("{other_signed}.{}", URL_SAFE_NO_PAD.encode(&signature)),
    )
}

/// The order of P-256, less this number.
fn negated(s: &[u8]) -> Vec<u8> {
    use num_bigint::BigUint;
    let order = b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = BigUint::parse_bytes(order, 16).unwrap_or_default();
    let digits = (order - BigUint::from_bytes_be(s)).to_bytes_be();
    [vec![0; 32 - digits.len()], digits].concat()
}
