//! Steps of the bundle chain, from whoever answers: what is read, written again, reads the same; nothing passes as signed that was not; and no
//! walk goes anywhere by it.
//!
//! Input: a byte; even, and the rest is a signed step; odd, and the rest is a step, under the signature of another one.
#![no_main]

use std::sync::OnceLock;

use landfast_fuzz::fixed::domain;
use landfast_identity::chain::{RootPrivateKey, SignedStep, Walker};
use landfast_identity::issue::{AuthorityParams, self_signed_authority};
use landfast_identity::{Bundle, PrivateKey, UnixTime, X509Authority};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// What a node knows, that nobody has told the fuzzer.
struct Known {
    key: RootPrivateKey,
    first: SignedStep,
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let known = known();
    let bytes = match kind % 2 {
        0 => rest.to_vec(),
        _ => {
            use landfast_proto::landfast::chain::v1 as pb;
            let first = known.first.to_bytes();
            let mut signed = pb::SignedStep::decode(first.as_slice()).expect("our own");
            signed.step = rest.to_vec().into();
            signed.encode_to_vec()
        }
    };
    let Ok(read) = SignedStep::from_bytes(&bytes) else {
        return;
    };
    let again = SignedStep::from_bytes(&read.to_bytes()).expect("written by us");
    assert_eq!(again, read);
    assert_eq!(again.digest(), read.digest());
    assert!((1..=4).contains(&read.step().root_keys.len()) && read.signers().count() <= 8);
    assert!(!read.step().bundle.x509_authorities().is_empty());
    let same = read.digest() == known.first.digest();
    let ours = read.is_signed_by(known.key.public_key());
    assert!(same || !ours, "signed, and never was");
    let mut walker = Walker::begin(domain("td.test"), &known.first).expect("our own");
    let before = walker.clone();
    assert_eq!(walker.walk(&read).is_ok(), same);
    assert_eq!(walker, before);
    let unsigned = SignedStep::unsigned(read.step()).expect("it was one");
    assert_eq!(unsigned.step(), read.step());
    assert!(SignedStep::from_pem(&read.to_pem()).is_ok_and(|pem| pem == read));
});

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let (key, issuer) = (
            RootPrivateKey::generate().expect("a key"),
            PrivateKey::generate().expect("a key"),
        );
        let trust_domain = domain("td.test");
        let params = AuthorityParams {
            trust_domain: &trust_domain,
            authority_id: "fuzz",
            not_before: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(3600),
        };
        let certificate = self_signed_authority(&params, &issuer).expect("an authority");
        let tainted = false;
        let bundle = Bundle::new(trust_domain.clone())
            .with_x509_authorities(vec![X509Authority { certificate, tainted }])
            .expect("one");
        let step = landfast_identity::chain::Step {
            epoch: 1,
            sequence: 1,
            previous: None,
            bundle,
            root_keys: vec![key.public_key()],
            time: UnixTime::from_secs(0),
        };
        let mut first = SignedStep::unsigned(&step).expect("a step");
        first.sign(&key).expect("room");
        Known { key, first }
    })
}
