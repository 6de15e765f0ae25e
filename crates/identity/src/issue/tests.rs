//! What is issued, field by field, and what is not.

use std::time::Duration;

use super::*;
use crate::bundle::{Bundle, X509Authority};
use crate::bundle_set::BundleSet;
use crate::key::{KeyType, PrivateKey};
use crate::verify::verify_x509_svid;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

struct Broken(PrivateKey);

impl Signer for Broken {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
    fn sign(&self, _data: &[u8]) -> Result<Vec<u8>, KeyError> {
        Err(KeyError::Signer {
            reason: "out of paper".into(),
        })
    }
}

fn td() -> TrustDomain {
    TrustDomain::parse("td.test").unwrap()
}

fn authority(key: &dyn Signer) -> Result<Certificate, IssueError> {
    let not_after = NOW.saturating_add(Duration::from_secs(86_400));
    let trust_domain = td();
    self_signed_authority(
        &AuthorityParams {
            trust_domain: &trust_domain,
            authority_id: "a1",
            not_before: NOW,
            not_after,
        },
        key,
    )
}

fn with_leaf<T>(f: impl FnOnce(LeafParams<'_>, &Certificate, &PrivateKey) -> T) -> T {
    let (ca, key) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap().public_key(),
    );
    let issuer = authority(&ca).unwrap();
    let id = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let not_after = NOW.saturating_add(Duration::from_secs(3600));
    let p = LeafParams {
        id: &id,
        public_key: &key,
        dns_names: &[],
        serial: [0x80; 16],
        not_before: NOW,
        not_after,
    };
    f(p, &issuer, &ca)
}

/// Every kind of authority over every kind of leaf, and a request by each.
#[test]
fn kinds_of_keys_mix() {
    let kinds = [KeyType::EcP256, KeyType::EcP384];
    for (above, below) in kinds.into_iter().flat_map(|a| kinds.map(|b| (a, b))) {
        let (ca, key) = (
            PrivateKey::generate_as(above).unwrap(),
            PrivateKey::generate_as(below).unwrap(),
        );
        let issuer = authority(&ca).unwrap();
        let id = SpiffeId::parse("spiffe://td.test/w").unwrap();
        let csr = crate::build_csr(&key, Some(&id), &[]).unwrap();
        let requested = crate::Csr::parse_der(&csr).unwrap();
        let params = LeafParams {
            id: &id,
            public_key: requested.public_key(),
            dns_names: &[],
            serial: [0x41; 16],
            not_before: NOW,
            not_after: NOW.saturating_add(Duration::from_secs(3600)),
        };
        let leaf = leaf(&params, &issuer, &ca).unwrap();
        assert_eq!(*leaf.public_key(), key.public_key());
        let authorities = vec![X509Authority {
            certificate: issuer,
            tainted: false,
        }];
        let bundle = Bundle::new(td()).with_x509_authorities(authorities).unwrap();
        let verified = verify_x509_svid(&[leaf.as_der()], &BundleSet::from_iter([bundle]), NOW);
        assert!(verified.is_ok(), "{above} over {below}: {verified:?}");
    }
}

#[test]
fn a_leaf_verifies_and_says_what_was_asked() {
    with_leaf(|p, issuer, ca| {
        let dns = ["a.example".to_owned(), "*.b.example".to_owned()];
        let p = LeafParams { dns_names: &dns, ..p };
        let leaf = leaf(&p, issuer, ca).unwrap();
        assert_eq!(leaf.serial_hex(), "80".repeat(16));
        assert_eq!((leaf.not_before(), leaf.not_after()), (p.not_before, p.not_after));
        assert_eq!(leaf.dns_sans(), dns);
        assert_eq!(leaf.common_name(), Some("a.example"));
        assert_eq!(leaf.subject(), "C=US, O=SPIRE, CN=a.example");
        assert_eq!(leaf.public_key(), p.public_key);
        assert_eq!(leaf.authority_key_id(), issuer.subject_key_id());
        assert_eq!(leaf.subject_key_id(), Some(p.public_key.key_id().to_vec()));
        let authorities = vec![X509Authority {
            certificate: issuer.clone(),
            tainted: false,
        }];
        let bundles = BundleSet::from_iter([Bundle::new(td()).with_x509_authorities(authorities).unwrap()]);
        assert_eq!(
            verify_x509_svid(&[leaf.as_der()], &bundles, NOW).unwrap().id,
            *p.id
        );
    });
}

#[test]
fn a_leaf_carries_these_extensions_and_no_other() {
    with_leaf(|p, issuer, ca| {
        let leaf = leaf(&p, issuer, ca).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf.as_der()).unwrap();
        let mut seen: Vec<(String, bool)> = parsed
            .extensions()
            .iter()
            .map(|e| (e.oid.to_id_string(), e.critical))
            .collect();
        seen.sort();
        let expected = [
            ("14", false),
            ("15", true),
            ("17", false),
            ("19", true),
            ("35", false),
            ("37", false),
        ];
        assert_eq!(
            seen,
            expected.map(|(n, critical)| (format!("2.5.29.{n}"), critical))
        );
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert_eq!(
            usage.to_string(),
            "Digital Signature, Key Encipherment, Key Agreement"
        );
        assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
    });
}

#[test]
fn an_authority_is_a_spiffe_ca_with_a_subject_of_its_own() {
    let key = PrivateKey::generate().unwrap();
    let ca = authority(&key).unwrap();
    assert!(ca.is_ca());
    assert_eq!(ca.spiffe_id().unwrap(), td().id());
    assert_eq!(ca.subject(), "C=US, O=SPIFFE, serialNumber=a1");
    assert_eq!(ca.subject_key_id(), Some(key.public_key().key_id().to_vec()));
    let usage = ca.extensions().key_usage.unwrap();
    assert!(usage.critical && usage.cert_sign && usage.crl_sign && !usage.digital_signature);
    assert_eq!(ca.serial_hex().len(), 32);
}

#[test]
fn wishes_that_would_break_the_standard_are_refused() {
    with_leaf(|p, issuer, ca| {
        let root = td().id();
        let no_path = LeafParams { id: &root, ..p };
        assert!(matches!(leaf(&no_path, issuer, ca), Err(IssueError::NoPath)));
        assert!(matches!(
            leaf(&LeafParams { serial: [0; 16], ..p }, issuer, ca),
            Err(IssueError::ZeroSerial)
        ));
        assert!(matches!(
            leaf(&LeafParams { not_after: NOW, ..p }, issuer, ca),
            Err(IssueError::EmptyValidity)
        ));
        let late = issuer.not_after().saturating_add(Duration::from_secs(1));
        assert!(matches!(
            leaf(&LeafParams { not_after: late, ..p }, issuer, ca),
            Err(IssueError::OutlivesIssuer { .. })
        ));
        let early = UnixTime::from_secs(i64::MIN);
        assert!(matches!(
            leaf(
                &LeafParams {
                    not_before: early,
                    ..p
                },
                issuer,
                ca
            ),
            Err(IssueError::TimeRange { .. })
        ));
        let other = PrivateKey::generate().unwrap();
        assert!(matches!(leaf(&p, issuer, &other), Err(IssueError::WrongSigner)));
        for bad in [
            "",
            "a..b",
            "-a",
            "a b",
            "*",
            "a.*.b",
            "ä.example",
            "a/b",
            &"a".repeat(64),
        ] {
            let dns = [bad.to_owned()];
            assert!(
                matches!(
                    leaf(&LeafParams { dns_names: &dns, ..p }, issuer, ca),
                    Err(IssueError::DnsName { .. })
                ),
                "{bad}"
            );
        }
    });
}

#[test]
fn the_signers_own_error_is_kept() {
    let error = authority(&Broken(PrivateKey::generate().unwrap())).unwrap_err();
    assert!(
        matches!(error, IssueError::Signing { source: KeyError::Signer { reason } } if reason == "out of paper")
    );
}

#[test]
fn what_a_subordinate_authority_signs_verifies_under_the_one_above_it() {
    let (root, middle, lower) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate_as(KeyType::EcP384).unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let top = authority(&root).unwrap();
    let below = |key: &PrivateKey, issuer: &Certificate, signer: &PrivateKey| {
        let params = SubordinateParams {
            trust_domain: &td(),
            public_key: &key.public_key(),
            serial: random_serial().unwrap(),
            not_before: NOW,
            not_after: issuer.not_after(),
        };
        subordinate_authority(&params, issuer, signer).unwrap()
    };
    let first = below(&middle, &top, &root);
    let second = below(&lower, &first, &middle);
    assert!(first.subject().contains("DOWNSTREAM") && first.subject() != second.subject());
    assert_eq!(first.authority_key_id(), top.subject_key_id());
    let id = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let key = PrivateKey::generate().unwrap().public_key();
    let p = LeafParams {
        id: &id,
        public_key: &key,
        dns_names: &[],
        serial: [1; 16],
        not_before: NOW,
        not_after: NOW.saturating_add(Duration::from_secs(60)),
    };
    let svid = leaf(&p, &second, &lower).unwrap();
    let trusted = X509Authority {
        certificate: top,
        tainted: false,
    };
    let bundle = Bundle::new(td()).with_x509_authorities(vec![trusted]).unwrap();
    let bundles = BundleSet::from_iter([bundle]);
    let chain = [svid.as_der(), second.as_der(), first.as_der()];
    assert_eq!(verify_x509_svid(&chain, &bundles, NOW).unwrap().id, id);
    verify_x509_svid(&chain[..2], &bundles, NOW).expect_err("an intermediate is missing");
    // A signing certificate is nobody's SVID (X509-SVID §3.2).
    verify_x509_svid(&chain[1..], &bundles, NOW).expect_err("an authority was taken for a workload");
}

#[test]
fn a_subordinate_authority_ends_with_its_issuer_and_is_signed_by_its_key() {
    let (root, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let top = authority(&root).unwrap();
    let params = |days: u64| SubordinateParams {
        trust_domain: Box::leak(Box::new(td())),
        public_key: Box::leak(Box::new(other.public_key())),
        serial: [1; 16],
        not_before: NOW,
        not_after: NOW.saturating_add(Duration::from_secs(86_400 * days)),
    };
    let refused = subordinate_authority(&params(2), &top, &root).unwrap_err();
    assert!(
        matches!(refused, IssueError::OutlivesIssuer { .. }),
        "{refused:?}"
    );
    let refused = subordinate_authority(&params(1), &top, &other).unwrap_err();
    assert!(matches!(refused, IssueError::WrongSigner), "{refused:?}");
}
