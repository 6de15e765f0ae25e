//! Certificate chains. A chain from outside that verifies begins with a leaf of the vectors, byte for byte; a leaf that the target signs
//! with any extensions verifies only if it is fit to be an X509-SVID.
//!
//! Input: a byte; even, and the rest is certificates in DER, one behind the other; odd, and the rest is extensions of a leaf, each a byte
//! that picks the extension and its criticality, a byte of length, and the value.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use landfast_fuzz::der;
use landfast_fuzz::fixed::{self, NOW, domain};
use landfast_fuzz::vectors::{Vector, pem};
use landfast_identity::issue::{AuthorityParams, self_signed_authority};
use landfast_identity::{
    Bundle, BundleSet, Certificate, PrivateKey, UnixTime, X509Authority, parse_chain_der,
    verify_external_chain, verify_x509_svid,
};
use libfuzzer_sys::fuzz_target;

struct Known {
    bundles: BundleSet,
    leaves: HashSet<Vec<u8>>,
    key: PrivateKey,
    authority: Certificate,
    own: BundleSet,
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 2 == 0 {
        outside(rest);
    } else {
        signed(rest);
    }
});

fn outside(der: &[u8]) {
    let known = known();
    let mut chain = Vec::new();
    let mut rest = der;
    while let Some((one, after)) = der::split(rest).filter(|_| chain.len() < 9) {
        chain.push(one);
        rest = after;
    }
    if !rest.is_empty() {
        chain.push(rest);
    }
    if let Ok(peer) = verify_x509_svid(&chain, &known.bundles, NOW) {
        assert!(known.leaves.contains(chain[0]), "accepted, but never signed");
        assert_eq!(peer.leaf.as_der(), chain[0]);
        assert_eq!(peer.leaf.spiffe_id().ok().as_ref(), Some(&peer.id));
        assert!(peer.not_after >= NOW && chain.len() <= 6);
    }
    if let Ok(leaf) = verify_external_chain(&chain, std::slice::from_ref(&fixed::device().1), NOW, 4) {
        assert_eq!(leaf, fixed::device().0, "a device that nobody made");
    }
    if let Ok(parsed) = parse_chain_der(der) {
        let written: Vec<u8> = parsed.iter().flat_map(Certificate::as_der).copied().collect();
        assert_eq!(written, der);
        for one in &parsed {
            assert_eq!(Certificate::from_der(one.as_der()).ok().as_ref(), Some(one));
            assert!(!one.serial_hex().is_empty() && one.serial_hex().len() % 2 == 0);
        }
    }
}

fn signed(extensions: &[u8]) {
    let known = known();
    let leaf = assemble(known, extensions);
    let Ok(peer) = verify_x509_svid(&[&leaf], &known.own, NOW) else {
        return;
    };
    // X509-SVID §2, §4.1, §4.3, §5.
    assert_eq!(peer.leaf.uri_sans(), [peer.id.as_str()]);
    assert_eq!(peer.id.trust_domain().as_str(), "td.test");
    assert!(!peer.id.path().is_empty() && !peer.leaf.is_ca());
    assert!(has(&leaf, KEY_USAGE), "a leaf without key usage");
    let mut changed = leaf;
    let at = changed.len() / 3;
    changed[at] ^= 1;
    assert!(
        verify_x509_svid(&[&changed], &known.own, NOW).is_err(),
        "accepted after a change at {at}"
    );
}

/// Whether the object identifier stands in it.
fn has(der: &[u8], oid: &[u8]) -> bool {
    der.windows(oid.len()).any(|window| window == oid)
}

/// Certificate, v3, ES256, with any extensions (RFC 5280 §4.1).
fn assemble(known: &Known, mut wanted: &[u8]) -> Vec<u8> {
    let mut extensions = Vec::new();
    while let [pick, length, rest @ ..] = wanted {
        let (value, after) = rest.split_at(rest.len().min((*length).into()));
        wanted = after;
        let oid = OIDS[usize::from(pick >> 1) % OIDS.len()];
        let mut one = oid.to_vec();
        if pick & 1 == 1 {
            one.extend([1, 1, 0xff]);
        }
        one.extend(der::wrap(4, value));
        extensions.extend(der::wrap(0x30, &one));
    }
    let issuer = issuer_name(known.authority.as_der());
    let validity = der::wrap(0x30, b"\x17\x0d270101000000Z\x17\x0d270301000000Z");
    let public = known.key.public_key();
    let tbs = [
        &[0xa0, 3, 2, 1, 2, 2, 1, 5][..],
        ECDSA_SHA256,
        issuer,
        &validity,
        &[0x30, 0],
        public.spki_der(),
        &der::wrap(0xa3, &der::wrap(0x30, &extensions)),
    ];
    let tbs = der::wrap(0x30, &tbs.concat());
    let mut signature = vec![0];
    signature.extend(known.key.sign(&tbs).expect("a signature"));
    der::wrap(0x30, &[&tbs, ECDSA_SHA256, &der::wrap(3, &signature)].concat())
}

/// The subject of a certificate: the sixth element of what is signed.
fn issuer_name(certificate: &[u8]) -> &[u8] {
    let mut rest = der::inside(certificate)
        .and_then(der::inside)
        .expect("a certificate that we made");
    for _ in 0..5 {
        rest = der::split(rest).expect("a certificate that we made").1;
    }
    der::split(rest).expect("a certificate that we made").0
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let vectors = Vector::all("x509");
        // What is refused for another reason than its signature was signed as well.
        let signed = vectors
            .iter()
            .filter(|vector| !vector.expected().starts_with("BadSignature"));
        let leaves = signed.filter_map(|vector| pem(&vector.body, "CERTIFICATE").into_iter().next());
        // Anchors of the refused ones as well, as far as they are certificates: more to get in by.
        let anchors: HashSet<Vec<u8>> = vectors
            .iter()
            .flat_map(|vector| pem(&vector.body, "ANCHOR td.test"))
            .collect();
        let key = fixed::key();
        let params = AuthorityParams {
            trust_domain: &domain("td.test"),
            authority_id: "fuzz",
            not_before: UnixTime::from_secs(NOW.as_secs() - 60),
            not_after: UnixTime::from_secs(NOW.as_secs() + 3600),
        };
        let authority = self_signed_authority(&params, &key).expect("an authority");
        Known {
            bundles: bundles(
                anchors
                    .iter()
                    .filter_map(|der| Certificate::from_der(der).ok())
                    .collect(),
            ),
            leaves: leaves.collect(),
            own: bundles(vec![authority.clone()]),
            key,
            authority,
        }
    })
}

fn bundles(certificates: Vec<Certificate>) -> BundleSet {
    let authority = |certificate| X509Authority {
        certificate,
        tainted: false,
    };
    let bundle = Bundle::new(domain("td.test"))
        .with_x509_authorities(certificates.into_iter().map(authority).collect());
    BundleSet::from_iter([bundle.expect("fewer than 256")])
}

const ECDSA_SHA256: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
const KEY_USAGE: &[u8] = &[6, 3, 0x55, 0x1d, 15];
/// Subject alternative name, key usage, basic constraints, extended key usage, name constraints, subject and authority key identifier,
/// certificate policies, and one that nobody knows.
const OIDS: [&[u8]; 9] = [
    &[6, 3, 0x55, 0x1d, 17],
    KEY_USAGE,
    &[6, 3, 0x55, 0x1d, 19],
    &[6, 3, 0x55, 0x1d, 37],
    &[6, 3, 0x55, 0x1d, 30],
    &[6, 3, 0x55, 0x1d, 14],
    &[6, 3, 0x55, 0x1d, 35],
    &[6, 3, 0x55, 0x1d, 32],
    &[6, 3, 0x55, 0x1d, 99],
];
