//! Signatures and keys of SSH. Nothing verifies that OpenSSH has not signed, and a key that is read is the bytes it was read from.
//!
//! Input: a byte; of its remainder by three, 0: the rest is a signature; 1: a public key; 2: the text of a private one.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfast_fuzz::vectors::repository;
use landfast_identity::LoginProof;
use landfast_identity::ssh::{SshFingerprint, SshPrivateKey, SshPublicKey, SshSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => signature(rest),
        1 => {
            if let Ok(key) = SshPublicKey::from_blob(rest) {
                assert_eq!(key.blob(), rest);
                let fingerprint = key.fingerprint();
                assert_eq!(fingerprint.to_string().parse::<SshFingerprint>(), Ok(fingerprint));
                let line = format!("{} {}", key.kind(), STANDARD.encode(rest));
                assert_eq!(SshPublicKey::from_line(&line).as_ref(), Ok(&key));
            }
        }
        _ => {
            let text = String::from_utf8_lossy(rest);
            if let Ok(key) = SshPrivateKey::from_pem(&text) {
                let signed = key
                    .sign(LoginProof::NAMESPACE, b"message")
                    .expect("a key that signs");
                let signature = SshSignature::parse(&signed).expect("what we sign is read");
                let by = signature
                    .verify(LoginProof::NAMESPACE, b"message")
                    .expect("what we sign verifies");
                assert_eq!(by, key.public_key());
            }
        }
    }
});

fn signature(blob: &[u8]) {
    let Ok(signature) = SshSignature::parse(blob) else {
        return;
    };
    let (message, signed) = known();
    if signature.verify(LoginProof::NAMESPACE, message).is_ok() {
        assert!(signed.contains(blob), "verifies, and was never signed");
    }
    assert!(signature.verify("", message).is_err() && signature.verify("file", message).is_err());
}

fn known() -> &'static (Vec<u8>, HashSet<Vec<u8>>) {
    static KNOWN: OnceLock<(Vec<u8>, HashSet<Vec<u8>>)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let folder = repository().join("crates/identity/src/ssh/tests");
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a fixture");
        let armoured = |name: &str| {
            let text = String::from_utf8(read(name)).expect("text");
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            STANDARD.decode(lines.collect::<String>()).expect("base64")
        };
        let names = ["ed25519.sig", "ed25519-sha256.sig", "p256.sig", "p384.sig"];
        (read("message"), names.map(armoured).into())
    })
}
