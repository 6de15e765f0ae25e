//! Wycheproof: signatures under keys of ours, and JWS under JWK. Invariant: a file that is missing or of no case is an error.
//!
//! JOSE cases reach `jwt::Jws`, the envelope without the claims, since their payloads are no JWT-SVIDs. Their keys are read as a
//! bundle document: `use` "sig", or none, becomes "jwt-svid"; any other use stays as it is, and such a key counts for nothing.

use std::path::Path;

use landfast_identity::jwt::{Jws, JwtError};
use landfast_identity::{Bundle, BundleError, PublicKey, SignatureScheme, TrustDomain, verify_signature};
use serde_json::{Map, Value, json};

use crate::BoxError;
use crate::case::{Answer, Case, Expected, Source};

pub(crate) const SOURCE: Source = Source {
    url: "https://github.com/C2SP/wycheproof",
    folder: "wycheproof",
};

pub(crate) fn run(dir: &Path) -> Result<Vec<Case>, BoxError> {
    let mut cases = Vec::new();
    for (suite, file) in [("jws", "json_web_signature"), ("jwk", "json_web_key")] {
        run_file(dir, suite, file, jose_group, &mut cases)?;
    }
    for (suite, file, scheme) in SIGNATURES {
        run_file(
            dir,
            suite,
            file,
            |group| signature_group(group, *scheme),
            &mut cases,
        )?;
    }
    Ok(cases)
}

#[derive(serde::Deserialize)]
struct Document<'a> {
    #[serde(rename = "testGroups", borrow)]
    groups: Vec<Group<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    #[serde(borrow)]
    tests: Vec<Test<'a>>,
    public: Option<Value>,
    private: Option<Value>,
    public_key_der: Option<&'a str>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test<'a> {
    tc_id: u64,
    result: &'a str,
    jws: Option<Value>,
    msg: Option<&'a str>,
    sig: Option<&'a str>,
}

fn run_file(
    dir: &Path,
    suite: &'static str,
    file: &str,
    group_of: impl Fn(&Group<'_>) -> Result<Vec<Answer>, BoxError>,
    cases: &mut Vec<Case>,
) -> Result<(), BoxError> {
    let text = SOURCE.read(dir, &format!("testvectors_v1/{file}_test.json"))?;
    let document: Document<'_> = serde_json::from_str(&text).map_err(|e| format!("{file}: {e}"))?;
    let before = cases.len();
    for group in &document.groups {
        let answers = group_of(group).map_err(|e| format!("{file}: {e}"))?;
        for (test, answer) in group.tests.iter().zip(answers) {
            cases.push(Case {
                suite,
                id: format!("{file}/{}", test.tc_id),
                expected: match test.result {
                    "valid" => Expected::Accept,
                    "invalid" => Expected::Refuse,
                    "acceptable" => Expected::Either,
                    other => return Err(format!("{file}/{}: unknown result {other:?}", test.tc_id).into()),
                },
                answer,
            });
        }
    }
    if cases.len() == before {
        return Err(format!("{file} holds no case").into());
    }
    Ok(())
}

fn signature_group(group: &Group<'_>, scheme: SignatureScheme) -> Result<Vec<Answer>, BoxError> {
    let der = group.public_key_der.ok_or("a group without publicKeyDer")?;
    let key = PublicKey::from_spki_der(&bytes(der)?);
    let answer = |test: &Test<'_>| -> Result<Answer, BoxError> {
        let message = bytes(test.msg.ok_or("a test without msg")?)?;
        let signature = bytes(test.sig.ok_or("a test without sig")?)?;
        Ok(match &key {
            Ok(key) => Answer::of(verify_signature(key, scheme, &message, &signature)),
            Err(error) => Answer::of::<(), _>(Err(error)),
        })
    };
    group.tests.iter().map(answer).collect()
}

fn jose_group(group: &Group<'_>) -> Result<Vec<Answer>, BoxError> {
    let keys = group.public.as_ref().or(group.private.as_ref());
    let bundle = bundle_of(keys.ok_or("a group without a key")?)?;
    let answer = |test: &Test<'_>| -> Result<Answer, BoxError> {
        let jws = match test.jws.as_ref().ok_or("a test without jws")? {
            Value::String(compact) => compact.clone(),
            other => other.to_string(),
        };
        Ok(match &bundle {
            Ok(bundle) => Answer::of(verify_jws(&jws, bundle)),
            Err(error) => Answer::of::<(), _>(Err(error)),
        })
    };
    group.tests.iter().map(answer).collect()
}

/// What `jwt::verify` does between reading a token and believing its claims.
fn verify_jws(token: &str, bundle: &Bundle) -> Result<(), JwtError> {
    let jws = Jws::parse(token)?;
    let authority = bundle
        .jwt_authority(jws.key_id())
        .ok_or_else(|| JwtError::UnknownKey {
            key_id: jws.key_id().to_owned(),
        })?;
    jws.verify(&authority.public_key)
}

fn bundle_of(keys: &Value) -> Result<Result<Bundle, BundleError>, BoxError> {
    let keys = match keys.get("keys") {
        Some(Value::Array(several)) => several.clone(),
        _ => vec![keys.clone()],
    };
    let ours = |key: Value| -> Result<Value, BoxError> {
        let Value::Object(mut members) = key else {
            return Err("a key that is no object".into());
        };
        if members.get("use").is_none_or(|purpose| purpose == "sig") {
            members.insert("use".to_owned(), "jwt-svid".into());
        }
        Ok(Value::Object(members as Map<String, Value>))
    };
    let keys = keys.into_iter().map(ours).collect::<Result<Vec<_>, _>>()?;
    let document = json!({ "keys": keys }).to_string();
    Ok(Bundle::from_jwks(
        TrustDomain::parse("td.test")?,
        document.as_bytes(),
    ))
}

fn bytes(hex: &str) -> Result<Vec<u8>, BoxError> {
    let pair = |at| {
        Ok(u8::from_str_radix(
            hex.get(at..at + 2).ok_or("half a byte of hex")?,
            16,
        )?)
    };
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// Every signature that `verify_signature` can check and Wycheproof has a file for.
const SIGNATURES: &[(&str, &str, SignatureScheme)] = {
    use SignatureScheme as S;
    &[
        ("ecdsa", "ecdsa_secp256r1_sha256", S::EcdsaP256Sha256Asn1),
        ("ecdsa", "ecdsa_secp256r1_sha256_p1363", S::EcdsaP256Sha256Fixed),
        ("ecdsa", "ecdsa_secp384r1_sha256", S::EcdsaP384Sha256Asn1),
        ("ecdsa", "ecdsa_secp384r1_sha384", S::EcdsaP384Sha384Asn1),
        ("ecdsa", "ecdsa_secp384r1_sha384_p1363", S::EcdsaP384Sha384Fixed),
        ("rsa-pkcs1", "rsa_signature_2048_sha256", S::RsaPkcs1Sha256),
        ("rsa-pkcs1", "rsa_signature_3072_sha256", S::RsaPkcs1Sha256),
        ("rsa-pkcs1", "rsa_signature_4096_sha256", S::RsaPkcs1Sha256),
        ("rsa-pkcs1", "rsa_signature_8192_sha256", S::RsaPkcs1Sha256),
        ("rsa-pkcs1", "rsa_signature_2048_sha384", S::RsaPkcs1Sha384),
        ("rsa-pkcs1", "rsa_signature_3072_sha384", S::RsaPkcs1Sha384),
        ("rsa-pkcs1", "rsa_signature_4096_sha384", S::RsaPkcs1Sha384),
        ("rsa-pkcs1", "rsa_signature_8192_sha384", S::RsaPkcs1Sha384),
        ("rsa-pkcs1", "rsa_signature_2048_sha512", S::RsaPkcs1Sha512),
        ("rsa-pkcs1", "rsa_signature_3072_sha512", S::RsaPkcs1Sha512),
        ("rsa-pkcs1", "rsa_signature_4096_sha512", S::RsaPkcs1Sha512),
        ("rsa-pkcs1", "rsa_signature_8192_sha512", S::RsaPkcs1Sha512),
        ("rsa-pss", "rsa_pss_2048_sha256_mgf1_0", S::RsaPssSha256),
        ("rsa-pss", "rsa_pss_2048_sha256_mgf1_32", S::RsaPssSha256),
        ("rsa-pss", "rsa_pss_3072_sha256_mgf1_32", S::RsaPssSha256),
        ("rsa-pss", "rsa_pss_4096_sha256_mgf1_32", S::RsaPssSha256),
    ]
};
