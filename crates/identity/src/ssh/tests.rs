//! Against what OpenSSH has made (`ssh/tests/`), and what it would not make.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::wire::{scalar, string};
use super::*;
use crate::LoginProof;

const MESSAGE: &[u8] = include_bytes!("tests/message");
const PURPOSE: &str = LoginProof::NAMESPACE;

/// Private key, public key, fingerprint, signature.
const MADE: [(&str, &str, &str, &str); 3] = [
    (
        include_str!("tests/ed25519"),
        include_str!("tests/ed25519.pub"),
        include_str!("tests/ed25519.fingerprint"),
        include_str!("tests/ed25519.sig"),
    ),
    (
        include_str!("tests/p256"),
        include_str!("tests/p256.pub"),
        include_str!("tests/p256.fingerprint"),
        include_str!("tests/p256.sig"),
    ),
    (
        include_str!("tests/p384"),
        include_str!("tests/p384.pub"),
        include_str!("tests/p384.fingerprint"),
        include_str!("tests/p384.sig"),
    ),
];

fn armoured(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn verify(blob: &[u8], message: &[u8]) -> Result<SshFingerprint, SshError> {
    let signature = SshSignature::parse(blob)?;
    signature.verify(PURPOSE, message).map(SshPublicKey::fingerprint)
}

#[test]
fn what_openssh_has_signed_verifies_and_names_its_key() {
    for (private, public, fingerprint, signature) in MADE {
        let fingerprint: SshFingerprint = fingerprint.trim().parse().unwrap();
        let blob = armoured(signature);
        assert_eq!(verify(&blob, MESSAGE), Ok(fingerprint));
        let public = SshPublicKey::from_line(public).unwrap();
        assert_eq!(public.fingerprint(), fingerprint);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        // And what we sign with its keys, it would have signed.
        let private = SshPrivateKey::from_pem(private).unwrap();
        assert_eq!(private.public_key(), &public);
        let ours = private.sign(PURPOSE, MESSAGE).unwrap();
        assert_eq!(verify(&ours, MESSAGE), Ok(fingerprint));
        if public.kind() == "ssh-ed25519" {
            assert_eq!(ours, blob, "Ed25519 signs alike each time");
        }
    }
    let other_hash = armoured(include_str!("tests/ed25519-sha256.sig"));
    assert!(verify(&other_hash, MESSAGE).is_ok());
}

#[test]
fn of_another_message_purpose_or_key_it_does_not_verify() {
    let all: Vec<_> = MADE.iter().map(|(.., signature)| armoured(signature)).collect();
    for blob in &all {
        assert_eq!(verify(blob, b"something else"), Err(SshError::BadSignature));
        let signature = SshSignature::parse(blob).unwrap();
        for purpose in ["file", "", "login@landfast "] {
            let refused = signature.verify(purpose, MESSAGE).map(|_| ());
            assert_eq!(refused, Err(SshError::Namespace), "{purpose:?}");
        }
    }
    // Another's key in the place of the one that signed: both are of the same kind.
    let (private, public, ..) = MADE[0];
    let other = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let other = Ed25519KeyPair::from_pkcs8(other.as_ref()).unwrap();
    let mut blob = Vec::new();
    string(&mut blob, b"ssh-ed25519");
    string(&mut blob, other.public_key().as_ref());
    let stolen = SshPublicKey::from_blob(&blob).unwrap();
    let ours = SshPrivateKey::from_pem(private)
        .unwrap()
        .sign(PURPOSE, MESSAGE)
        .unwrap();
    let mine = SshPublicKey::from_line(public).unwrap();
    let at = ours
        .windows(mine.blob().len())
        .position(|part| part == mine.blob())
        .unwrap();
    let mut forged = ours.clone();
    forged.splice(at..at + mine.blob().len(), stolen.blob().iter().copied());
    assert_eq!(verify(&forged, MESSAGE), Err(SshError::BadSignature));
}

#[test]
fn each_bit_and_each_byte_counts() {
    for (.., signature) in MADE {
        let blob = armoured(signature);
        for length in 0..blob.len() {
            assert!(verify(&blob[..length], MESSAGE).is_err(), "{length}");
        }
        assert!(verify(&[&blob[..], &[0]].concat(), MESSAGE).is_err());
        for at in 0..blob.len() {
            let mut broken = blob.clone();
            broken[at] ^= 1;
            assert!(verify(&broken, MESSAGE).is_err(), "byte {at}");
        }
    }
}

/// As a security key signs: touched or not, for this application.
fn by_security_key(application: &str, flags: u8) -> (Vec<u8>, SshError) {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let mut blob = Vec::new();
    string(&mut blob, b"sk-ssh-ed25519@openssh.com");
    string(&mut blob, pair.public_key().as_ref());
    string(&mut blob, application.as_bytes());
    let sha = |bytes: &[u8]| crate::key::sha256(bytes);
    let inner = to_be_signed(PURPOSE, MESSAGE);
    let signed = [
        &sha(application.as_bytes())[..],
        &[flags],
        &[0, 0, 0, 7],
        &sha(&inner),
    ]
    .concat();
    let mut signature = Vec::new();
    string(&mut signature, b"sk-ssh-ed25519@openssh.com");
    string(&mut signature, pair.sign(&signed).as_ref());
    signature.extend_from_slice(&[flags, 0, 0, 0, 7]);
    match SshPublicKey::from_blob(&blob) {
        Ok(key) => (
            SshSignature::assemble(&key, PURPOSE, &signature),
            SshError::Malformed,
        ),
        Err(error) => (Vec::new(), error),
    }
}

#[test]
fn a_security_key_counts_when_somebody_has_touched_it() {
    let (touched, _) = by_security_key("ssh:", 1);
    assert!(verify(&touched, MESSAGE).is_ok());
    let (alone, _) = by_security_key("ssh:", 4);
    assert_eq!(verify(&alone, MESSAGE), Err(SshError::NoTouch));
    // The flags are signed.
    let mut lied = alone.clone();
    let at = lied.len() - 5;
    lied[at] = 1;
    assert_eq!(verify(&lied, MESSAGE), Err(SshError::BadSignature));
    assert_eq!(
        by_security_key("https://example.test", 1).1,
        SshError::Unsupported
    );
}

#[test]
fn other_keys_are_refused_and_it_is_said_why() {
    let refused = |text| SshPrivateKey::from_pem(text).unwrap_err();
    assert_eq!(refused(include_str!("tests/locked")), SshError::Encrypted);
    assert_eq!(
        refused("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"),
        SshError::Malformed
    );
    let line = SshPublicKey::from_line(include_str!("tests/p521.public"));
    assert_eq!(line, Err(SshError::Unsupported));
    let (_, public, ..) = MADE[1];
    let lied = public.replace("ecdsa-sha2-nistp256 ", "ssh-ed25519 ");
    for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", &lied] {
        assert!(SshPublicKey::from_line(bad).is_err(), "{bad}");
    }
    for bad in ["", "SHA256:", "SHA256:abc", "MD5:aa", "sha256:X"] {
        assert!(bad.parse::<SshFingerprint>().is_err(), "{bad}");
    }
}

#[test]
fn an_integer_has_one_spelling() {
    let read = |bytes: &[u8]| {
        let mut out = Vec::new();
        string(&mut out, bytes);
        wire::Reader(&out).scalar(2)
    };
    assert_eq!(read(&[1]), Ok(vec![0, 1]));
    assert_eq!(read(&[0, 0x80]), Ok(vec![0, 0x80]));
    for bad in [&[][..], &[0], &[0, 1], &[0x80], &[1, 2, 3], &[0, 0, 0x80]] {
        assert_eq!(read(bad), Err(SshError::Malformed), "{bad:?}");
    }
    let mut out = Vec::new();
    scalar(&mut out, &[0, 0xff]);
    assert_eq!(out, [0, 0, 0, 2, 0, 0xff]);
}
