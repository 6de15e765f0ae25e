//! Device chains; SVID chains are vectors.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::*;
use crate::key::KeyError;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

struct Node {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

fn node(name: &str, issuer: Option<&Node>, change: impl FnOnce(&mut CertificateParams)) -> Node {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let built = match issuer {
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
        None => params.self_signed(&key),
    };
    let certificate = Certificate::from_der(built.unwrap().der()).unwrap();
    Node {
        params,
        key,
        certificate,
    }
}

fn ca(name: &str, issuer: Option<&Node>) -> Node {
    node(name, issuer, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
    })
}

fn device(issuer: &Node, change: impl FnOnce(&mut CertificateParams)) -> Node {
    node("device", Some(issuer), |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(p);
    })
}

fn verify(chain: &[&Node], root: &Node) -> Result<Certificate, X509Error> {
    let chain: Vec<&[u8]> = chain.iter().map(|n| n.certificate.as_der()).collect();
    verify_external_chain(&chain, std::slice::from_ref(&root.certificate), NOW, 1)
}

#[test]
fn a_device_chain_needs_no_spiffe_id_and_no_extended_key_usage() {
    let root = ca("root", None);
    let middle = ca("middle", Some(&root));
    let leaf = device(&middle, |p| {
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning]
    });
    assert_eq!(verify(&[&leaf, &middle], &root), Ok(leaf.certificate.clone()));
}

#[test]
fn a_device_certificate_is_a_leaf_that_may_sign_data() {
    let root = ca("root", None);
    let role = ChainRole::Leaf;
    let leaf = device(&root, |p| p.key_usages.clear());
    assert_eq!(verify(&[&leaf], &root), Err(X509Error::NoKeyUsage { role }));
    let leaf = device(&root, |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(verify(&[&leaf], &root), Err(X509Error::NoDigitalSignature));
    let leaf = device(&root, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(verify(&[&leaf], &root), Err(X509Error::LeafIsCa));
    let leaf = device(&root, |p| p.not_after = rcgen::date_time_ymd(2026, 1, 1));
    assert!(matches!(
        verify(&[&leaf], &root),
        Err(X509Error::Expired {
            role: ChainRole::Leaf,
            ..
        })
    ));
}

#[test]
fn a_device_root_is_a_valid_ca() {
    let leaf_of = |root: &Node| verify(&[&device(root, |_| {})], root);
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let expired = node("root", None, |p| {
        p.is_ca = is_ca;
        p.not_after = rcgen::date_time_ymd(2026, 1, 1);
    });
    assert!(matches!(
        leaf_of(&expired),
        Err(X509Error::Expired {
            role: ChainRole::Anchor,
            ..
        })
    ));
    let no_ca = node("root", None, |p| p.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(
        leaf_of(&no_ca),
        Err(X509Error::NotCa {
            role: ChainRole::Anchor
        })
    );
    let no_sign = node("root", None, |p| {
        p.is_ca = is_ca;
        p.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    assert_eq!(
        leaf_of(&no_sign),
        Err(X509Error::NoCertSign {
            role: ChainRole::Anchor
        })
    );
}

#[test]
fn a_device_chain_ends_at_a_known_root_within_the_limit() {
    let (root, other) = (ca("root", None), ca("other", None));
    assert_eq!(
        verify(&[&device(&other, |_| {})], &root),
        Err(X509Error::UnknownIssuer)
    );
    let (a, forger) = (ca("a", Some(&root)), ca("root", None));
    assert_eq!(
        verify(&[&device(&forger, |_| {})], &root),
        Err(X509Error::BadSignature)
    );
    let b = ca("b", Some(&a));
    assert_eq!(
        verify(&[&device(&b, |_| {}), &b, &a], &root),
        Err(X509Error::ChainTooLong { count: 3 })
    );
    let not_ca = node("x", Some(&root), |p| p.is_ca = IsCa::ExplicitNoCa);
    let below = device(&not_ca, |_| {});
    assert_eq!(
        verify(&[&below, &not_ca], &root),
        Err(X509Error::NotCa {
            role: ChainRole::Intermediate
        })
    );
}

#[test]
fn errors_name_whose_key_is_weak() {
    let error = X509Error::Key {
        role: ChainRole::Intermediate,
        source: KeyError::Unsupported,
    };
    assert_eq!(error.to_string(), "the intermediate key is refused");
}

#[test]
fn a_leaf_that_serves_only_one_side_is_refused_before_any_path() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let root = ca("root", None);
    let leaf = |purposes| {
        let built = device(&root, |p| {
            p.subject_alt_names = vec![rcgen::SanType::URI("spiffe://td.test/w".try_into().unwrap())];
            p.extended_key_usages = purposes;
        });
        leaf_rules(&built.certificate).map(|id| id.path().to_owned())
    };
    assert_eq!(leaf(vec![ServerAuth]), Err(X509Error::ExtendedKeyUsage));
    assert_eq!(leaf(vec![ClientAuth]), Err(X509Error::ExtendedKeyUsage));
    assert_eq!(leaf(vec![ServerAuth, ClientAuth]), Ok("/w".to_owned()));
}

/// T-17: they all carry the root's name, so each could be above each other: 325 paths, each with a signature of the root to check.
#[test]
fn certificates_that_nobody_signed_are_not_tried_in_every_order() {
    let root = ca("root", None);
    let impostor = ca("root", None);
    let decoys: Vec<Node> = (0..MAX_INTERMEDIATES)
        .map(|_| ca("root", Some(&impostor)))
        .collect();
    let chain = |leaf: &Node| {
        let mut chain = vec![leaf.certificate.as_der().to_vec()];
        chain.extend(decoys.iter().map(|decoy| decoy.certificate.as_der().to_vec()));
        chain
    };
    let verify = |chain: &[Vec<u8>]| {
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        verify_external_chain(
            &chain,
            std::slice::from_ref(&root.certificate),
            NOW,
            MAX_INTERMEDIATES,
        )
    };
    let stranger = device(&impostor, |_| {});
    assert_eq!(verify(&chain(&stranger)), Err(X509Error::BadSignature));
    // Among them, the one that counts is found wherever it stands.
    let middle = ca("root", Some(&root));
    let honest = device(&middle, |_| {});
    for at in 1..=MAX_INTERMEDIATES {
        let mut chain = chain(&honest);
        chain[at] = middle.certificate.as_der().to_vec();
        assert_eq!(verify(&chain), Ok(honest.certificate.clone()), "at {at}");
    }
}

/// T-17: a key that would cost a second to verify with is not verified with.
#[test]
fn a_giant_rsa_key_is_refused_unused() {
    struct Giant(Vec<u8>);
    impl rcgen::PublicKeyData for Giant {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    let root = ca("root", None);
    for bits in [16_384, 8200] {
        let modulus = crate::der::unsigned_integer(&vec![0xa5; bits / 8]);
        let exponent = crate::der::unsigned_integer(&[1, 0, 1]);
        let key = Giant(crate::der::element(
            crate::der::SEQUENCE,
            &[modulus, exponent].concat(),
        ));
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params
            .signed_by(&key, &Issuer::from_params(&root.params, &root.key))
            .unwrap();
        let refused = verify_external_chain(
            &[leaf.der()],
            std::slice::from_ref(&root.certificate),
            NOW,
            MAX_INTERMEDIATES,
        );
        let (role, source) = (ChainRole::Leaf, KeyError::RsaSize { bits });
        assert_eq!(refused, Err(X509Error::Key { role, source }));
    }
}
