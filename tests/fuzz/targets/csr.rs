//! Certificate requests. A request that verifies was signed by its own key: one from outside must be one that we know, and one that the
//! target signs around any subject and attributes must show that key and no other.
//!
//! Input: a byte; even, and the rest is a request; odd, and the rest is a subject and attributes in DER.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use landfast_fuzz::fixed::key;
use landfast_fuzz::vectors::{Vector, pem};
use landfast_fuzz::{der, fixed};
use landfast_identity::issue::{AuthorityParams, LeafParams, leaf, self_signed_authority};
use landfast_identity::{Certificate, Csr, PrivateKey, SpiffeId, UnixTime, build_csr};
use libfuzzer_sys::fuzz_target;

struct Known {
    key: PrivateKey,
    authority: Certificate,
    /// The first parts of all requests that were signed: what a signature is over.
    signed: HashSet<Vec<u8>>,
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let known = known();
    if kind % 2 == 0 {
        if Csr::parse_der(rest).is_ok() {
            let (info, _) = der::inside(rest)
                .and_then(der::split)
                .expect("accepted, but no DER");
            assert!(known.signed.contains(info), "accepted, but never signed");
        }
        return;
    }
    let request = assemble(&known.key, rest);
    let Ok(csr) = Csr::parse_der(&request) else {
        return;
    };
    assert!(request.len() <= 16 * 1024);
    assert_eq!(*csr.public_key(), known.key.public_key());
    a_certificate_has_the_key_alone(known, &csr);
    let mut changed = request;
    let at = changed.len() / 2;
    changed[at] ^= 1;
    assert!(
        Csr::parse_der(&changed).is_err(),
        "accepted after a change at {at}"
    );
});

/// CVE-2021-27098: whatever a request asks for, the certificate is of the parameters.
fn a_certificate_has_the_key_alone(known: &Known, csr: &Csr) {
    let id = SpiffeId::parse("spiffe://td.test/entry").expect("an ID");
    let params = LeafParams {
        id: &id,
        public_key: csr.public_key(),
        dns_names: &[],
        serial: [7; 16],
        not_before: fixed::NOW,
        not_after: UnixTime::from_secs(fixed::NOW.as_secs() + 60),
    };
    let made = leaf(&params, &known.authority, &known.key).expect("a key that may be certified");
    assert_eq!(made.uri_sans(), ["spiffe://td.test/entry"]);
    assert!(made.dns_sans().is_empty() && !made.is_ca() && made.common_name().is_none());
}

/// CertificationRequest with any subject and attributes (RFC 2986 §4).
fn assemble(key: &PrivateKey, subject_and_attributes: &[u8]) -> Vec<u8> {
    let spki = key.public_key();
    let body = [&[2, 1, 0], &subject(subject_and_attributes)[..], spki.spki_der()].concat();
    let attributes = attributes(subject_and_attributes);
    let info = der::wrap(0x30, &[body, attributes.to_vec()].concat());
    let mut signature = vec![0];
    signature.extend(key.sign(&info).expect("a signature"));
    const ECDSA_SHA256: &[u8] = &[
        0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
    ];
    der::wrap(0x30, &[&info, ECDSA_SHA256, &der::wrap(3, &signature)].concat())
}

/// The first element, or an empty name.
fn subject(both: &[u8]) -> Vec<u8> {
    der::split(both).map_or_else(|| vec![0x30, 0], |(subject, _)| subject.to_vec())
}

fn attributes(both: &[u8]) -> &[u8] {
    der::split(both).map_or(both, |(_, rest)| rest)
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let key = key();
        let ours = build_csr(&key, None, &[]).expect("a request");
        let vectors = Vector::all("csr");
        let theirs = vectors
            .iter()
            .flat_map(|vector| pem(&vector.body, "CERTIFICATE REQUEST"));
        let info = |request: Vec<u8>| Some(der::split(der::inside(&request)?)?.0.to_vec());
        let signed = theirs.chain([ours]).filter_map(info).collect();
        let params = AuthorityParams {
            trust_domain: &fixed::domain("td.test"),
            authority_id: "fuzz",
            not_before: UnixTime::from_secs(fixed::NOW.as_secs() - 60),
            not_after: UnixTime::from_secs(fixed::NOW.as_secs() + 3600),
        };
        Known {
            authority: self_signed_authority(&params, &key).expect("an authority"),
            key,
            signed,
        }
    })
}
