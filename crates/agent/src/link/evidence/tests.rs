//! Tokens, device certificates, challenges.

use std::path::Path;

use landfast_identity::{PrivateKey, PublicKey, SignatureScheme, verify_signature};

use super::device_key::DeviceKeyError;
use super::*;
use crate::testing::{Ca, at, id};

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&path, text).unwrap();
    path
}

fn rsa() -> (&'static str, PublicKey) {
    let der = BASE64.decode(RSA_SPKI.replace('\n', "")).unwrap();
    (RSA_PKCS8, PublicKey::from_spki_der(&der).unwrap())
}

#[test]
fn a_token_file_is_read_at_each_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let evidence = Evidence::JoinToken(TokenSource::File(write(dir.path(), "token", "first\n")));
    assert_eq!(evidence.prepare().unwrap().payload(), b"first");
    write(dir.path(), "token", "  second  ");
    assert_eq!(evidence.prepare().unwrap().payload(), b"second");
}

#[test]
fn a_missing_empty_or_wordy_token_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Evidence::JoinToken(TokenSource::File(dir.path().join("none")));
    assert!(matches!(missing.prepare(), Err(EvidenceError::Read { .. })));
    for bad in ["", "\n", "two words", "a\nb"] {
        let evidence = Evidence::JoinToken(TokenSource::File(write(dir.path(), "token", bad)));
        let error = evidence.prepare().err().unwrap();
        assert!(
            error.to_string().ends_with("token holds no join token"),
            "{error}"
        );
    }
}

#[test]
fn a_secret_is_not_shown() {
    let evidence = Evidence::JoinToken(TokenSource::Inline(Zeroizing::new("secret".to_owned())));
    assert!(!format!("{evidence:?}").contains("secret"));
}

#[test]
fn a_token_is_never_challenged() {
    let ready = Ready::Token(Zeroizing::new("t".to_owned()));
    assert!(matches!(ready.answer(b"{}"), Err(EvidenceError::Challenge)));
}

fn device() -> (tempfile::TempDir, Evidence, PublicKey) {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate().unwrap();
    let leaf = Ca::new("maker").sign(&id("/device"), &key.public_key(), at(-60), at(60));
    let certificate = write(dir.path(), "device.pem", &leaf.to_pem());
    let private_key = write(dir.path(), "device.key", &key.to_pem());
    (
        dir,
        Evidence::X509Pop {
            certificate,
            private_key,
        },
        key.public_key(),
    )
}

#[test]
fn a_device_shows_its_chain_and_signs_both_nonces() {
    let (_dir, evidence, public) = device();
    let ready = evidence.prepare().unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&ready.payload()).unwrap();
    assert_eq!(payload["certificates"].as_array().unwrap().len(), 1);
    let nonce = [7_u8; 32];
    let challenge = serde_json::json!({ "ecdsa_signature": { "nonce": BASE64.encode(nonce) } }).to_string();
    let answer: serde_json::Value =
        serde_json::from_slice(&ready.answer(challenge.as_bytes()).unwrap()).unwrap();
    let part = |name: &str| {
        BASE64
            .decode(answer["ecdsa_signature"][name].as_str().unwrap())
            .unwrap()
    };
    let signed = [nonce.to_vec(), part("nonce")].concat();
    let signature = [part("r"), part("s")].concat();
    verify_signature(
        &public,
        SignatureScheme::EcdsaP256Sha256Fixed,
        &signed,
        &signature,
    )
    .unwrap();
}

#[test]
fn an_rsa_device_signs_with_pss() {
    let (pem, public) = rsa();
    let ready = Ready::Device {
        chain: Vec::new(),
        key: DeviceKey::from_pem(pem, &public).unwrap(),
    };
    let nonce = [9_u8; 32];
    let challenge =
        serde_json::json!({ "rsa_signature": { "nonce": BASE64.encode(nonce) }, "ecdsa_signature": null });
    let answer = ready.answer(challenge.to_string().as_bytes()).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let part = |name: &str| {
        BASE64
            .decode(answer["rsa_signature"][name].as_str().unwrap())
            .unwrap()
    };
    let signed = [nonce.to_vec(), part("nonce")].concat();
    verify_signature(
        &public,
        SignatureScheme::RsaPssSha256,
        &signed,
        &part("signature"),
    )
    .unwrap();
}

#[test]
fn a_challenge_of_another_kind_or_length_is_not_signed() {
    let (_dir, evidence, _) = device();
    let ready = evidence.prepare().unwrap();
    let short = BASE64.encode([1_u8; 31]);
    for bad in [
        "".to_owned(),
        "{}".to_owned(),
        serde_json::json!({ "rsa_signature": { "nonce": BASE64.encode([1_u8; 32]) } }).to_string(),
        serde_json::json!({ "ecdsa_signature": { "nonce": short } }).to_string(),
        serde_json::json!({ "ecdsa_signature": { "nonce": "%" } }).to_string(),
    ] {
        assert!(
            matches!(ready.answer(bad.as_bytes()), Err(EvidenceError::Challenge)),
            "{bad}"
        );
    }
}

#[test]
fn ec_and_rsa_keys_are_read_in_every_common_form() {
    let ec = PublicKey::from_spki_der(&BASE64.decode(EC_SPKI.replace('\n', "")).unwrap()).unwrap();
    for pem in [EC_PKCS8, EC_SEC1, &format!("{EC_PARAMETERS}{EC_SEC1}")] {
        assert!(
            matches!(DeviceKey::from_pem(pem, &ec), Ok(DeviceKey::Ecdsa(_))),
            "{pem}"
        );
    }
    let (pkcs8, public) = rsa();
    for pem in [pkcs8, RSA_PKCS1] {
        assert!(
            matches!(DeviceKey::from_pem(pem, &public), Ok(DeviceKey::Rsa(_))),
            "{pem}"
        );
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (_, rsa_public) = rsa();
    let other = PrivateKey::generate().unwrap();
    let refused = |pem: &str, public: &PublicKey| DeviceKey::from_pem(pem, public).err();
    assert_eq!(
        refused(EC_PKCS8, &other.public_key()),
        Some(DeviceKeyError::Mismatch)
    );
    assert_eq!(refused(EC_PKCS8, &rsa_public), Some(DeviceKeyError::Mismatch));
    assert_eq!(
        refused(RSA_PKCS1, &other.public_key()),
        Some(DeviceKeyError::Mismatch)
    );
    assert!(matches!(
        refused("nothing", &rsa_public),
        Some(DeviceKeyError::Unknown(_))
    ));
    let encrypted = RSA_PKCS8.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(
        refused(&encrypted, &rsa_public),
        Some(DeviceKeyError::Unknown(_))
    ));
    let cut = EC_PKCS8.replace("MIGH", "MIGI");
    assert!(refused(&cut, &other.public_key()).is_some());
}

#[test]
fn a_mismatch_names_both_files() {
    let (dir, evidence, _) = device();
    write(
        dir.path(),
        "device.key",
        &PrivateKey::generate().unwrap().to_pem(),
    );
    let error = evidence.prepare().err().unwrap().to_string();
    assert!(
        error.contains("device.key") && error.contains("device.pem"),
        "{error}"
    );
}

// Keys made for these tests with OpenSSL; they protect nothing.
const EC_PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
";
const EC_SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIP/NGu2Lbj5phmNBFVx7VDpRqFO+sU9+j0rhzMBzvvs1oAoGCCqGSM49
AwEHoUQDQgAETSAaJOEdBpI0zgIH7uccUtpuyfUrsWVUsBaJyK+tEuvExak49YmJ
a2D8fkFgOywwIDV8n8eWcObsQdZhK1JcPA==
-----END EC PRIVATE KEY-----
";
const EC_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/80a7YtuPmmGY0EV
XHtUOlGoU76xT36PSuHMwHO++zWhRANCAARNIBok4R0GkjTOAgfu5xxS2m7J9Sux
ZVSwFonIr60S68TFqTj1iYlrYPx+QWA7LDAgNXyfx5Zw5uxB1mErUlw8
-----END PRIVATE KEY-----
";
const EC_SPKI: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETSAaJOEdBpI0zgIH7uccUtpuyfUr
sWVUsBaJyK+tEuvExak49YmJa2D8fkFgOywwIDV8n8eWcObsQdZhK1JcPA==";
const RSA_PKCS1: &str = "-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEA1jc3F3Y6mskXjZ953ge/EkKSPyCxdVfRl2VMGt0rE/TVZFMH
wV+jUX/7Rc/FjwmNxGqrJWjkJUFq+geaZql/3/OJmL92eTm7fs9BTu0GIl6dF7r0
k4GN6v2bg1qHC7bS/WiVOiUtB0bZjVY8//C9h0mpzD09B49FG8cnTismuz/Qt+e1
udVreuOSl0qakQakKxaRorZfk2d4PkgOqF3ZnQHWwbP3D4DIideiVvMycrPhCj3z
8O+N2XChZp1Fl9MoeiGN2Ll4Utf1EEu+t92nsXqQeB8qxq79gWk91J8+2XgYya8j
VZs3TY2kkVYT0OyhFnQlXq/xsf2ZFO0wmmlXDQIDAQABAoIBABtZpmOM+VOM7EBt
RaKHC6q5rDF6K54nTb/OM6bUaS0dm+c4wKs8Wj5MIFlb+0XVeu/CjMJ0f3iQPyfY
M6r65jRCRGWnwGke6WT58kUw9xEJUnZWrOZuap+/rIzbUJW6zHqFUVRArdyZe6pT
getNoe01hwPoJ7Qg4zp2NXsCAGp0sf0Csvdw6EeP1oEavrVfUnUX1wafEpJKj0b0
lt7iNgdudQMtv3+w370D1xh47C+N8KsuUmkPgR0g+mGXgItESfN/5sbzosL04VNu
beJlydpK6j/3PN15kb/EjpZoBAfBXtmy0hmuSGwI1olHrB8YvyUV5uskJZOks6kj
c1ntEeMCgYEA98gpFDjwLM15a1o8qqS1zHdwoOsT8Jq/LmxVhcxwzbE+GwqiG+nR
8D2eVNUHNNJIIFj0Low498UxwbO8LHmbbeIxd8ccSouO4mG5eNgl5JtV4ZyfsGTE
9ILjAKL2yydEA0M9lSOeeX1c+7Hc8ehx9w2vEQyjrr/uK9uvRl/vVQsCgYEA3VIN
9pkVl8EhF2hWjyI1CY7lITX8rnl4xd2EJ5129EhEhdV88majnm542CMfwHvu299B
vLkz5W/zMqddL31fNFndsL59wG5APOCpg+ELG/n89GcKRoSoBUBawNfvsX0j5XWB
Fp3KcNuzcwHyZaLhbIduDZK1HxxFsS3ToTfg40cCgYAUIvIjsJTkLzak4Mp5W7Vi
jnpauX//V7Qdw7QXkYvBS5wuemi+N/xVt8w8PKu/QS+XYWNGvSKMEDyA72hlfOSC
w5UdlNLZxAmyoBqAlaBOucj68s2PekD/Vfu4u4Wu8Nv4H+jLS/+/A88grU21YxyP
5U7K5eoPc42Zhtrxry42DQKBgQCz/TFh5SmMWwJAeRg8G4OqnE13buJqOluf/wCk
/whorgUcGn0c3aAfDpS0ogwGjEO7CJv7kVrFMwBDp5y/LGSqvJLwVFsMjh0r5UG3
AOP6AppXYR0YMHY8nxOvVW2XmMACskcjT3v9wI717xVk1swhaRp1a2RlQqbi6vP7
XuhDrQKBgCLBxELd//Q7bSkdYNssQ6b2TVd5vOpgrws76fZnuI+g+tkBf8rVHrzx
vP0ZUldwQkJqZY31dJkkddDvHl7J3wkwkYCJJjVSNGULSgCWDd+fQDzYByySHONR
GwBkvpoZdjJIFCEfoyF+lCbY7Gs0a0dXjWZcwBz72BCVxzPGE84m
-----END RSA PRIVATE KEY-----
";
const RSA_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDWNzcXdjqayReN
n3neB78SQpI/ILF1V9GXZUwa3SsT9NVkUwfBX6NRf/tFz8WPCY3EaqslaOQlQWr6
B5pmqX/f84mYv3Z5Obt+z0FO7QYiXp0XuvSTgY3q/ZuDWocLttL9aJU6JS0HRtmN
Vjz/8L2HSanMPT0Hj0UbxydOKya7P9C357W51Wt645KXSpqRBqQrFpGitl+TZ3g+
SA6oXdmdAdbBs/cPgMiJ16JW8zJys+EKPfPw743ZcKFmnUWX0yh6IY3YuXhS1/UQ
S7633aexepB4HyrGrv2BaT3Unz7ZeBjJryNVmzdNjaSRVhPQ7KEWdCVer/Gx/ZkU
7TCaaVcNAgMBAAECggEAG1mmY4z5U4zsQG1FoocLqrmsMXornidNv84zptRpLR2b
5zjAqzxaPkwgWVv7RdV678KMwnR/eJA/J9gzqvrmNEJEZafAaR7pZPnyRTD3EQlS
dlas5m5qn7+sjNtQlbrMeoVRVECt3Jl7qlOB602h7TWHA+gntCDjOnY1ewIAanSx
/QKy93DoR4/WgRq+tV9SdRfXBp8SkkqPRvSW3uI2B251Ay2/f7DfvQPXGHjsL43w
qy5SaQ+BHSD6YZeAi0RJ83/mxvOiwvThU25t4mXJ2krqP/c83XmRv8SOlmgEB8Fe
2bLSGa5IbAjWiUesHxi/JRXm6yQlk6SzqSNzWe0R4wKBgQD3yCkUOPAszXlrWjyq
pLXMd3Cg6xPwmr8ubFWFzHDNsT4bCqIb6dHwPZ5U1Qc00kggWPQujDj3xTHBs7ws
eZtt4jF3xxxKi47iYbl42CXkm1XhnJ+wZMT0guMAovbLJ0QDQz2VI555fVz7sdzx
6HH3Da8RDKOuv+4r269GX+9VCwKBgQDdUg32mRWXwSEXaFaPIjUJjuUhNfyueXjF
3YQnnXb0SESF1XzyZqOebnjYIx/Ae+7b30G8uTPlb/Myp10vfV80Wd2wvn3AbkA8
4KmD4Qsb+fz0ZwpGhKgFQFrA1++xfSPldYEWncpw27NzAfJlouFsh24NkrUfHEWx
LdOhN+DjRwKBgBQi8iOwlOQvNqTgynlbtWKOelq5f/9XtB3DtBeRi8FLnC56aL43
/FW3zDw8q79BL5dhY0a9IowQPIDvaGV85ILDlR2U0tnECbKgGoCVoE65yPryzY96
QP9V+7i7ha7w2/gf6MtL/78DzyCtTbVjHI/lTsrl6g9zjZmG2vGvLjYNAoGBALP9
MWHlKYxbAkB5GDwbg6qcTXdu4mo6W5//AKT/CGiuBRwafRzdoB8OlLSiDAaMQ7sI
m/uRWsUzAEOnnL8sZKq8kvBUWwyOHSvlQbcA4/oCmldhHRgwdjyfE69VbZeYwAKy
RyNPe/3AjvXvFWTWzCFpGnVrZGVCpuLq8/te6EOtAoGAIsHEQt3/9DttKR1g2yxD
pvZNV3m86mCvCzvp9me4j6D62QF/ytUevPG8/RlSV3BCQmpljfV0mSR10O8eXsnf
CTCRgIkmNVI0ZQtKAJYN359APNgHLJIc41EbAGS+mhl2MkgUIR+jIX6UJtjsazRr
R1eNZlzAHPvYEJXHM8YTziY=
-----END PRIVATE KEY-----
";
const RSA_SPKI: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1jc3F3Y6mskXjZ953ge/
EkKSPyCxdVfRl2VMGt0rE/TVZFMHwV+jUX/7Rc/FjwmNxGqrJWjkJUFq+geaZql/
3/OJmL92eTm7fs9BTu0GIl6dF7r0k4GN6v2bg1qHC7bS/WiVOiUtB0bZjVY8//C9
h0mpzD09B49FG8cnTismuz/Qt+e1udVreuOSl0qakQakKxaRorZfk2d4PkgOqF3Z
nQHWwbP3D4DIideiVvMycrPhCj3z8O+N2XChZp1Fl9MoeiGN2Ll4Utf1EEu+t92n
sXqQeB8qxq79gWk91J8+2XgYya8jVZs3TY2kkVYT0OyhFnQlXq/xsf2ZFO0wmmlX
DQIDAQAB";
