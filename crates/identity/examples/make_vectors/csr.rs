//! Requests: what may be wished for, and what refuses the whole.

use std::error::Error;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};

use super::{Vectors, der, guessable_rsa_key, hollow_rsa_key, pem};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Hollow(Vec<u8>, &'static SignatureAlgorithm);

impl PublicKeyData for Hollow {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

impl SigningKey for Hollow {
    fn sign(&self, _message: &[u8]) -> std::result::Result<Vec<u8>, rcgen::Error> {
        Ok(vec![1; 64])
    }
}

fn request(key: &impl SigningKey, change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    change(&mut params);
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn case(to: &Vectors, name: &str, expect: &str, note: &str, uris: &str, request: &[u8]) -> Result<()> {
    to.case(
        name,
        expect,
        note,
        &format!("uris: {uris}\n\n{}", pem("CERTIFICATE REQUEST", request)),
    )
}

pub(super) fn write(to: &Vectors, rsa_key: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    let id = || -> Result<SanType> { Ok(SanType::URI("spiffe://td.test/mine".try_into()?)) };
    let other = || -> Result<SanType> { Ok(SanType::URI("spiffe://td.test/admin".try_into()?)) };
    case(
        to,
        "ok-bare",
        "ok",
        "a key and nothing else",
        "",
        &request(&key, |_| {})?,
    )?;
    let (a, b) = (id()?, other()?);
    let one = request(&key, |p| p.subject_alt_names = vec![a.clone()])?;
    case(
        to,
        "ok-one-uri",
        "ok",
        "as an agent asks for an entry",
        "spiffe://td.test/mine",
        &one,
    )?;
    let two = request(&key, |p| p.subject_alt_names = vec![a.clone(), b.clone()])?;
    let both = "spiffe://td.test/mine spiffe://td.test/admin";
    case(
        to,
        "ok-two-uris-visible",
        "ok",
        "a second ID is seen, so that a policy can refuse it",
        both,
        &two,
    )?;
    let names = der(0x30, &der(0x86, b"spiffe://td.test/admin"));
    let twice = request(&key, |p| {
        p.subject_alt_names = vec![a.clone()];
        p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    })?;
    case(
        to,
        "ok-two-san-extensions-visible",
        "ok",
        "the second SAN extension does not hide",
        both,
        &twice,
    )?;
    let greedy = request(&key, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        p.distinguished_name
            .push(DnType::CommonName, "spiffe://td.test/admin");
    })?;
    case(
        to,
        "ok-wishes-to-be-a-ca",
        "ok",
        "a wish; the leaf built for it must not grant it",
        "",
        &greedy,
    )?;
    case(
        to,
        "ok-rsa-2048",
        "ok",
        "RSA keys may be certified",
        "",
        &request(&KeyPair::from_pem(rsa_key)?, |_| {})?,
    )?;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    case(
        to,
        "ok-p384",
        "ok",
        "P-384 keys may be certified",
        "",
        &request(&p384, |_| {})?,
    )?;
    for (name, hollow) in [
        ("rsa-1024", Hollow(hollow_rsa_key(1024), &rcgen::PKCS_RSA_SHA256)),
        (
            "rsa-16384",
            Hollow(hollow_rsa_key(16_384), &rcgen::PKCS_RSA_SHA256),
        ),
        (
            "rsa-guessable",
            Hollow(guessable_rsa_key(), &rcgen::PKCS_RSA_SHA256),
        ),
        ("ed25519", Hollow(vec![7; 32], &rcgen::PKCS_ED25519)),
    ] {
        case(
            to,
            name,
            "Key",
            "minimum key strength, maximum cost",
            "",
            &request(&hollow, |_| {})?,
        )?;
    }
    let someone = Hollow(
        KeyPair::generate()?.der_bytes().to_vec(),
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    case(
        to,
        "not-its-key",
        "Signature",
        "no proof of possession",
        "",
        &request(&someone, |_| {})?,
    )?;
    let mut bent = one.clone();
    let at = bent
        .windows(4)
        .position(|w| w == b"mine")
        .ok_or("the ID is in the request")?;
    bent[at..at + 4].copy_from_slice(b"evil");
    case(
        to,
        "changed-after-signing",
        "Signature",
        "the wish is signed too",
        "",
        &bent,
    )?;
    case(
        to,
        "bytes-after-it",
        "Malformed",
        "one request and nothing else",
        "",
        &[&one[..], &[0]].concat(),
    )?;
    case(
        to,
        "cut-short",
        "Malformed",
        "half a request",
        "",
        &one[..one.len() / 2],
    )?;
    let big = request(&key, |p| {
        p.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 2, 3, 4],
            der(4, &vec![0; 17_000]),
        )];
    })?;
    case(
        to,
        "too-large",
        "TooLarge",
        "16 KiB is enough for any request",
        "",
        &big,
    )
}
