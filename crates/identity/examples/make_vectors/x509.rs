//! Chains: each rule of the verifier, kept and broken.

use std::error::Error;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};

use super::{NOW, Vectors, der, guessable_rsa_key, hollow_rsa_key, pem};

pub(super) type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(super) struct Ca {
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
    pub(super) der: Vec<u8>,
}

pub(super) struct Hollow(pub(super) Vec<u8>, pub(super) &'static SignatureAlgorithm);

impl PublicKeyData for Hollow {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

pub(super) fn set_times(params: &mut CertificateParams, from: i64, to: i64) {
    let at = |t: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(t.unsigned_abs());
    params.not_before = at(NOW + from);
    params.not_after = at(NOW + to);
}

fn uri(text: &str) -> Result<SanType> {
    Ok(SanType::URI(text.try_into()?))
}

pub(super) fn ca_params(id: &str, name: &str) -> Result<CertificateParams> {
    let mut p = CertificateParams::default();
    set_times(&mut p, -86_400, 86_400);
    p.distinguished_name = rcgen::DistinguishedName::new();
    p.distinguished_name.push(DnType::CommonName, name);
    if !id.is_empty() {
        p.subject_alt_names = vec![uri(id)?];
    }
    p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    p.use_authority_key_identifier_extension = true;
    Ok(p)
}

fn root_with(key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Result<Ca> {
    let mut params = ca_params("spiffe://td.test", "root")?;
    change(&mut params);
    let der = params.self_signed(&key)?.der().to_vec();
    Ok(Ca { params, key, der })
}

pub(super) fn root(change: impl FnOnce(&mut CertificateParams)) -> Result<Ca> {
    root_with(KeyPair::generate()?, change)
}

fn below(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Result<Ca> {
    let mut params = ca_params("spiffe://td.test", &format!("below {}", issuer.der.len()))?;
    change(&mut params);
    let key = KeyPair::generate()?;
    let der = issue(issuer, &params, &key)?;
    Ok(Ca { params, key, der })
}

pub(super) fn issue(issuer: &Ca, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Vec<u8>> {
    let issuer = Issuer::from_params(&issuer.params, &issuer.key);
    Ok(params.signed_by(key, &issuer)?.der().to_vec())
}

pub(super) fn leaf_params() -> Result<CertificateParams> {
    let mut p = CertificateParams::default();
    set_times(&mut p, -300, 3600);
    p.serial_number = Some(SerialNumber::from_slice(&[0x51; 16]));
    p.distinguished_name = rcgen::DistinguishedName::new();
    p.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    p.subject_alt_names = vec![uri("spiffe://td.test/workload")?];
    p.is_ca = IsCa::ExplicitNoCa;
    p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    p.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    p.use_authority_key_identifier_extension = true;
    Ok(p)
}

fn leaf_for(
    issuer: &Ca,
    key: &impl PublicKeyData,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<Vec<u8>> {
    let mut params = leaf_params()?;
    change(&mut params);
    issue(issuer, &params, key)
}

fn leaf(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<u8>> {
    leaf_for(issuer, &KeyPair::generate()?, change)
}

pub(super) fn extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut e = CustomExtension::from_oid_content(oid, content);
    e.set_criticality(critical);
    e
}

fn key_usage(critical: bool, bits: u8) -> CustomExtension {
    let unused = bits.trailing_zeros() as u8;
    extension(&[2, 5, 29, 15], critical, der(3, &[unused, bits]))
}

/// RFC 5280 §4.2.1.10 forbids it: the extension, and no name in it.
pub(super) fn empty_constraints() -> CustomExtension {
    extension(&[2, 5, 29, 30], true, der(0x30, &[]))
}

fn uri_constraint(excluded: bool, critical: bool) -> CustomExtension {
    let subtree = der(0x30, &der(0x86, b".td.test"));
    let trees = der(if excluded { 0xa1 } else { 0xa0 }, &subtree);
    extension(&[2, 5, 29, 30], critical, der(0x30, &trees))
}

fn patched(mut der: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    for at in 0..der.len() - from.len() {
        if der[at..].starts_with(from) {
            der[at..at + to.len()].copy_from_slice(to);
        }
    }
    der
}

struct Writer<'a>(&'a Vectors);

impl Writer<'_> {
    fn at(
        &self,
        now: i64,
        name: &str,
        expect: &str,
        note: &str,
        chain: &[&[u8]],
        anchors: &[(&str, &[u8])],
    ) -> Result<()> {
        let mut domains: Vec<&str> = anchors.iter().map(|(td, _)| *td).collect();
        domains.dedup();
        let mut body = format!("now: {now}\nbundles: {}\n\n", domains.join(" "));
        chain.iter().for_each(|c| body += &pem("CERTIFICATE", c));
        anchors
            .iter()
            .for_each(|(td, a)| body += &pem(&format!("ANCHOR {td}"), a));
        self.0.case(name, expect, note, &body)
    }

    fn case(&self, name: &str, expect: &str, note: &str, chain: &[&[u8]], anchor: &Ca) -> Result<()> {
        self.at(NOW, name, expect, note, chain, &[("td.test", &anchor.der)])
    }

    /// One leaf, changed, right below a sound root.
    fn leaf(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = root(|_| {})?;
        self.case(name, expect, note, &[&leaf(&root, change)?], &root)
    }

    /// A sound leaf below a changed intermediate below a sound root.
    fn middle(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = root(|_| {})?;
        let middle = below(&root, change)?;
        self.case(name, expect, note, &[&leaf(&middle, |_| {})?, &middle.der], &root)
    }

    /// A sound leaf right below a changed root.
    fn anchor(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = root(change)?;
        self.case(name, expect, note, &[&leaf(&root, |_| {})?], &root)
    }
}

pub(super) fn write(to: &Vectors, rsa_key: &str) -> Result<()> {
    let w = Writer(to);
    sound(&w, rsa_key)?;
    leaves(&w)?;
    names(&w)?;
    domains(&w)?;
    intermediates(&w)?;
    anchors(&w)?;
    keys_and_signatures(&w, rsa_key)?;
    chains(&w)
}

fn sound(w: &Writer<'_>, rsa_key: &str) -> Result<()> {
    w.leaf("ok-direct", "ok", "a leaf right below the authority", |_| {})?;
    w.middle("ok-intermediate", "ok", "a leaf below an intermediate", |_| {})?;
    w.leaf(
        "ok-no-extended-key-usage",
        "ok",
        "EKU is a SHOULD (X509-SVID 4.4)",
        |p| p.extended_key_usages.clear(),
    )?;
    w.leaf(
        "ok-no-basic-constraints",
        "ok",
        "absent BasicConstraints mean cA=false",
        |p| p.is_ca = IsCa::NoCa,
    )?;
    w.leaf("ok-dns-names", "ok", "DNS SANs beside the one URI SAN", |p| {
        p.subject_alt_names
            .extend("a.example".try_into().map(SanType::DnsName));
    })?;
    w.leaf(
        "ok-empty-subject",
        "ok",
        "an empty subject makes the SAN critical",
        |p| {
            p.distinguished_name = rcgen::DistinguishedName::new();
        },
    )?;
    w.anchor(
        "ok-anchor-without-id",
        "ok",
        "an upstream root carries no SPIFFE ID",
        |p| p.subject_alt_names.clear(),
    )?;
    w.anchor("ok-anchor-path-length-0", "ok", "no intermediate is used", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    })?;
    w.middle(
        "ok-dns-constraint-without-dns-name",
        "ok",
        "a DNS constraint binds only DNS names",
        |p| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("a.example".into())];
            p.name_constraints = Some(NameConstraints {
                permitted_subtrees,
                excluded_subtrees: vec![],
            });
        },
    )?;
    let sound = root(|_| {})?;
    let good = leaf(&sound, |_| {})?;
    w.case(
        "ok-root-in-chain",
        "ok",
        "a root sent along does no harm",
        &[&good, &sound.der],
        &sound,
    )?;
    let other = root(|p| p.distinguished_name.push(DnType::OrganizationName, "other"))?;
    let anchors: [(&str, &[u8]); 2] = [("td.test", &other.der), ("td.test", &sound.der)];
    w.at(
        NOW,
        "ok-second-authority",
        "ok",
        "any authority of the bundle will do",
        &[&good],
        &anchors,
    )?;
    let anchor: [(&str, &[u8]); 1] = [("td.test", &sound.der)];
    w.at(
        NOW - 300,
        "ok-first-second",
        "ok",
        "notBefore is included",
        &[&good],
        &anchor,
    )?;
    w.at(
        NOW + 3600,
        "ok-last-second",
        "ok",
        "notAfter is included",
        &[&good],
        &anchor,
    )?;
    w.at(
        NOW - 301,
        "leaf-not-yet-valid",
        "NotYetValid/Leaf",
        "one second early",
        &[&good],
        &anchor,
    )?;
    w.at(
        NOW + 3601,
        "leaf-expired",
        "Expired/Leaf",
        "one second late",
        &[&good],
        &anchor,
    )?;
    w.at(
        0,
        "clock-at-1970",
        "NotYetValid/Leaf",
        "a gateway without a battery",
        &[&good],
        &anchor,
    )?;
    w.at(
        -5,
        "clock-before-1970",
        "NotYetValid/Leaf",
        "times before the epoch do not wrap",
        &[&good],
        &anchor,
    )?;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    w.case(
        "ok-p384-leaf",
        "ok",
        "P-384 is strong enough",
        &[&leaf_for(&sound, &p384, |_| {})?],
        &sound,
    )?;
    let rsa = root_with(KeyPair::from_pem(rsa_key)?, |_| {})?;
    w.case(
        "ok-rsa-2048",
        "ok",
        "RSA of 2048 bits signs and is signed",
        &[&leaf_for(&rsa, &rsa.key, |_| {})?],
        &rsa,
    )?;
    let two_anchors = below(&sound, |p| {
        p.custom_extensions = vec![uri_constraint(false, true)]
    })?;
    let anchors: [(&str, &[u8]); 2] = [("td.test", &two_anchors.der), ("td.test", &sound.der)];
    w.at(
        NOW,
        "ok-constrained-authority-unused",
        "ok",
        "a constrained authority counts as absent",
        &[&good],
        &anchors,
    )
}

fn leaves(w: &Writer<'_>) -> Result<()> {
    w.leaf("leaf-is-ca", "LeafIsCa", "X509-SVID 4.1", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
    })?;
    w.leaf("leaf-no-key-usage", "NoKeyUsage/Leaf", "X509-SVID 4.3", |p| {
        p.key_usages.clear()
    })?;
    w.leaf(
        "leaf-key-usage-not-critical",
        "KeyUsageNotCritical/Leaf",
        "X509-SVID 4.3",
        |p| {
            p.key_usages.clear();
            p.custom_extensions = vec![key_usage(false, 0x80)];
        },
    )?;
    w.leaf(
        "leaf-no-digital-signature",
        "NoDigitalSignature",
        "X509-SVID 4.3",
        |p| {
            p.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        },
    )?;
    w.leaf("leaf-key-cert-sign", "LeafMaySign", "X509-SVID 4.3", |p| {
        p.key_usages.push(KeyUsagePurpose::KeyCertSign)
    })?;
    w.leaf("leaf-crl-sign", "LeafMaySign", "X509-SVID 4.3", |p| {
        p.key_usages.push(KeyUsagePurpose::CrlSign)
    })?;
    for (name, purposes) in [
        ("leaf-server-only", vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ("leaf-client-only", vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ("leaf-any-purpose-only", vec![ExtendedKeyUsagePurpose::Any]),
        (
            "leaf-code-signing-only",
            vec![ExtendedKeyUsagePurpose::CodeSigning],
        ),
    ] {
        w.leaf(
            name,
            "ExtendedKeyUsage",
            "EKU, if present, has both (X509-SVID 4.4)",
            |p| p.extended_key_usages = purposes,
        )?;
    }
    w.leaf(
        "leaf-unknown-critical-extension",
        "UnknownCriticalExtension/Leaf",
        "RFC 5280 4.2",
        |p| {
            p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, vec![5, 0])];
        },
    )?;
    w.leaf(
        "leaf-extension-twice",
        "DuplicateExtension",
        "two key usages, one of them harmless",
        |p| {
            p.custom_extensions = vec![key_usage(true, 0x06)];
        },
    )?;
    w.leaf(
        "leaf-name-constraints",
        "LeafNameConstraints",
        "RFC 5280 4.2.1.10",
        |p| {
            let tree = der(0x30, &der(0x82, b"a.example"));
            p.custom_extensions = vec![extension(&[2, 5, 29, 30], true, der(0x30, &der(0xa0, &tree)))];
        },
    )?;
    w.leaf("ok-serial-of-20-octets", "ok", "RFC 5280 4.1.2.2", |p| {
        p.serial_number = Some(SerialNumber::from_slice(&[0x51; 20]));
    })?;
    w.leaf("ok-serial-zero", "ok", "roots of plants carry it", |p| {
        p.serial_number = Some(SerialNumber::from_slice(&[0]));
    })?;
    w.leaf("serial-of-21-octets", "Malformed", "RFC 5280 4.1.2.2", |p| {
        p.serial_number = Some(SerialNumber::from_slice(&[0x51; 21]));
    })?;
    let root = root(|_| {})?;
    let good = leaf(&root, |_| {})?;
    for (name, note, first) in [
        (
            "serial-negative",
            "records would take it for a positive one",
            [0xd1, 0x51],
        ),
        (
            "serial-not-shortest",
            "records would take it for a shorter one",
            [0x00, 0x51],
        ),
    ] {
        let serial = [&[2, 16], &first[..], &[0x51; 14]].concat();
        let odd = patched(good.clone(), &[&[2, 16][..], &[0x51; 16]].concat(), &serial);
        w.case(name, "Malformed", note, &[&odd], &root)?;
    }
    Ok(())
}

fn names(w: &Writer<'_>) -> Result<()> {
    w.leaf("no-uri-san", "NoUriSan", "X509-SVID 2", |p| {
        p.subject_alt_names.clear()
    })?;
    for (name, second) in [
        ("two-uri-sans", "spiffe://td.test/other"),
        ("second-uri-san-of-another-scheme", "https://td.test/"),
    ] {
        let second = uri(second)?;
        w.leaf(name, "SeveralUriSans", "X509-SVID 5.2", |p| {
            p.subject_alt_names.push(second)
        })?;
    }
    w.leaf(
        "two-san-extensions",
        "DuplicateExtension",
        "the second SAN extension carries another ID",
        |p| {
            let names = der(0x30, &der(0x86, b"spiffe://td.test/admin"));
            p.custom_extensions = vec![extension(&[2, 5, 29, 17], false, names)];
        },
    )?;
    for (name, id) in [
        ("id-of-another-scheme", "https://td.test/workload"),
        ("id-scheme-in-capitals", "SPIFFE://td.test/workload"),
        ("id-with-port", "spiffe://td.test:443/workload"),
        ("id-with-query", "spiffe://td.test/workload?x=1"),
        ("id-with-dots", "spiffe://td.test/a/../workload"),
        ("id-with-percent", "spiffe://td.test/work%6coad"),
    ] {
        let id = uri(id)?;
        w.leaf(name, "SpiffeId", "SPIFFE-ID 2", |p| {
            p.subject_alt_names = vec![id]
        })?;
    }
    let id = uri("spiffe://td.test")?;
    w.leaf("id-without-path", "NoPath", "X509-SVID 3.1", |p| {
        p.subject_alt_names = vec![id]
    })?;
    let id = uri("spiffe://other.test/workload")?;
    w.leaf(
        "no-bundle",
        "NoBundle",
        "no bundle of the leaf's trust domain",
        |p| p.subject_alt_names = vec![id],
    )?;
    let (ours, theirs) = (root(|_| {})?, root(|_| {})?);
    let anchors: [(&str, &[u8]); 2] = [("other.test", &theirs.der), ("td.test", &ours.der)];
    let note = "signed by an authority of another bundle that we trust for other IDs";
    w.at(
        NOW,
        "signed-by-another-domain",
        "BadSignature",
        note,
        &[&leaf(&theirs, |_| {})?],
        &anchors,
    )?;
    let theirs = root(|p| p.distinguished_name.push(DnType::OrganizationName, "theirs"))?;
    let anchors: [(&str, &[u8]); 2] = [("other.test", &theirs.der), ("td.test", &ours.der)];
    w.at(
        NOW,
        "signed-by-another-domain-of-another-name",
        "UnknownIssuer",
        note,
        &[&leaf(&theirs, |_| {})?],
        &anchors,
    )
}

/// Two domains that share or cross-sign authorities: the bundle is chosen by the ID of the leaf alone.
fn domains(w: &Writer<'_>) -> Result<()> {
    let named = |name: &'static str| {
        move |p: &mut CertificateParams| p.distinguished_name.push(DnType::OrganizationName, name)
    };
    let (ours, theirs) = (root(named("ours"))?, root(named("theirs"))?);
    let anchors: [(&str, &[u8]); 2] = [("other.test", &theirs.der), ("td.test", &ours.der)];
    let middle = below(&ours, |_| {})?;
    let crossed = issue(&theirs, &middle.params, &middle.key)?;
    let good = leaf(&middle, |_| {})?;
    let note = "our intermediate, certified by another domain too";
    w.at(
        NOW,
        "cross-signed-only",
        "UnknownIssuer",
        note,
        &[&good, &crossed],
        &anchors,
    )?;
    w.at(
        NOW,
        "ok-cross-signed-too",
        "ok",
        note,
        &[&good, &crossed, &middle.der],
        &anchors,
    )?;
    let shared: [(&str, &[u8]); 2] = [("other.test", &ours.der), ("td.test", &ours.der)];
    let note = "two domains below one root: each vouches for the other, as its operators chose";
    w.at(
        NOW,
        "ok-anchor-of-two-domains",
        "ok",
        note,
        &[&good, &middle.der],
        &shared,
    )?;
    let id = uri("spiffe://other.test/workload")?;
    let foreign = leaf(&middle, |p| p.subject_alt_names = vec![id])?;
    w.at(
        NOW,
        "leaf-of-another-domain-below-ours",
        "IntermediateId",
        "an intermediate of one domain certifies for no other",
        &[&foreign, &middle.der],
        &shared,
    )
}

fn intermediates(w: &Writer<'_>) -> Result<()> {
    w.middle(
        "intermediate-not-ca",
        "NotCa/Intermediate",
        "X509-SVID 4.1",
        |p| p.is_ca = IsCa::ExplicitNoCa,
    )?;
    w.middle(
        "intermediate-no-key-usage",
        "NoKeyUsage/Intermediate",
        "X509-SVID 4.3",
        |p| p.key_usages.clear(),
    )?;
    w.middle(
        "intermediate-no-key-cert-sign",
        "NoCertSign/Intermediate",
        "X509-SVID 4.3",
        |p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign];
        },
    )?;
    w.middle(
        "intermediate-key-usage-not-critical",
        "KeyUsageNotCritical/Intermediate",
        "X509-SVID 4.3",
        |p| {
            p.key_usages.clear();
            p.custom_extensions = vec![key_usage(false, 0x04)];
        },
    )?;
    let (path, foreign) = (uri("spiffe://td.test/ca")?, uri("spiffe://other.test")?);
    w.middle(
        "intermediate-id-with-path",
        "IntermediateId",
        "X509-SVID 3.2",
        |p| p.subject_alt_names = vec![path],
    )?;
    w.middle(
        "intermediate-id-of-another-domain",
        "IntermediateId",
        "cross-signed from another domain",
        |p| {
            p.subject_alt_names = vec![foreign];
        },
    )?;
    w.middle(
        "ok-intermediate-without-id",
        "ok",
        "the ID of a signing certificate is a SHOULD",
        |p| p.subject_alt_names.clear(),
    )?;
    w.middle(
        "intermediate-expired",
        "Expired/Intermediate",
        "RFC 5280 6.1.3",
        |p| set_times(p, -7200, -3600),
    )?;
    w.middle(
        "intermediate-not-yet-valid",
        "NotYetValid/Intermediate",
        "RFC 5280 6.1.3",
        |p| set_times(p, 3600, 7200),
    )?;
    w.middle(
        "intermediate-uri-constraint",
        "UriNameConstraint",
        "cannot be evaluated, so refused",
        |p| {
            p.custom_extensions = vec![uri_constraint(false, true)];
        },
    )?;
    w.middle(
        "intermediate-uri-exclusion",
        "UriNameConstraint",
        "also when it excludes, also when not critical",
        |p| {
            p.custom_extensions = vec![uri_constraint(true, false)];
        },
    )?;
    w.middle(
        "intermediate-unknown-critical-extension",
        "UnknownCriticalExtension/Intermediate",
        "RFC 5280 4.2",
        |p| {
            p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, vec![5, 0])];
        },
    )?;
    w.middle(
        "intermediate-empty-name-constraints",
        "Malformed",
        "RFC 5280 4.2.1.10",
        |p| {
            p.custom_extensions = vec![empty_constraints()];
        },
    )?;
    w.middle(
        "intermediate-client-only",
        "ExtendedKeyUsage",
        "an EKU of a CA bounds what it may certify",
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        },
    )?;
    let root = root(|_| {})?;
    let unneeded = below(&root, |p| p.custom_extensions = vec![uri_constraint(false, true)])?;
    let note = "also in a certificate that the path does not need";
    w.case(
        "unneeded-uri-constraint",
        "UriNameConstraint",
        note,
        &[&leaf(&root, |_| {})?, &unneeded.der],
        &root,
    )?;
    let dns = below(&root, |p| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("a.example".into())];
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees,
            excluded_subtrees: vec![],
        });
    })?;
    let outside = leaf(&dns, |p| {
        p.subject_alt_names
            .extend("b.example".try_into().map(SanType::DnsName))
    })?;
    w.case(
        "dns-constraint-broken",
        "NameConstraint",
        "RFC 5280 4.2.1.10",
        &[&outside, &dns.der],
        &root,
    )
}

fn anchors(w: &Writer<'_>) -> Result<()> {
    w.anchor(
        "anchor-expired",
        "Expired/Anchor",
        "validity of the authority itself",
        |p| set_times(p, -7200, -1),
    )?;
    w.anchor(
        "anchor-not-yet-valid",
        "NotYetValid/Anchor",
        "published before it is used",
        |p| set_times(p, 1, 7200),
    )?;
    w.anchor("anchor-not-ca", "NotCa/Anchor", "X509-SVID 4.1", |p| {
        p.is_ca = IsCa::ExplicitNoCa
    })?;
    w.anchor(
        "anchor-no-key-cert-sign",
        "NoCertSign/Anchor",
        "X509-SVID 4.3",
        |p| {
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        },
    )?;
    w.anchor("anchor-no-key-usage", "NoKeyUsage/Anchor", "X509-SVID 4.3", |p| {
        p.key_usages.clear()
    })?;
    w.anchor(
        "anchor-uri-constraint",
        "UriNameConstraint",
        "cannot be evaluated, so refused",
        |p| {
            p.custom_extensions = vec![uri_constraint(false, true)];
        },
    )?;
    w.anchor(
        "anchor-unknown-critical-extension",
        "UnknownCriticalExtension/Anchor",
        "RFC 5280 4.2",
        |p| {
            p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, vec![5, 0])];
        },
    )?;
    let root = root(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let middle = below(&root, |_| {})?;
    let note = "the path length of the anchor counts";
    w.case(
        "anchor-path-length",
        "PathLength",
        note,
        &[&leaf(&middle, |_| {})?, &middle.der],
        &root,
    )
}

fn keys_and_signatures(w: &Writer<'_>, rsa_key: &str) -> Result<()> {
    let ec = root(|_| {})?;
    for (name, key) in [
        (
            "leaf-rsa-1024",
            Hollow(hollow_rsa_key(1024), &rcgen::PKCS_RSA_SHA256),
        ),
        (
            "leaf-rsa-16384",
            Hollow(hollow_rsa_key(16_384), &rcgen::PKCS_RSA_SHA256),
        ),
        (
            "leaf-rsa-guessable",
            Hollow(guessable_rsa_key(), &rcgen::PKCS_RSA_SHA256),
        ),
        ("leaf-ed25519", Hollow(vec![7; 32], &rcgen::PKCS_ED25519)),
    ] {
        w.case(
            name,
            "Key/Leaf",
            "minimum key strength",
            &[&leaf_for(&ec, &key, |_| {})?],
            &ec,
        )?;
    }
    let weak = ca_params("spiffe://td.test", "weak")?;
    let hollow = Hollow(hollow_rsa_key(1024), &rcgen::PKCS_RSA_SHA256);
    let weak = weak
        .signed_by(&hollow, &Issuer::from_params(&ec.params, &ec.key))?
        .der()
        .to_vec();
    w.case(
        "intermediate-rsa-1024",
        "Key/Intermediate",
        "minimum key strength",
        &[&leaf(&ec, |_| {})?, &weak],
        &ec,
    )?;
    let rsa = root_with(KeyPair::from_pem(rsa_key)?, |_| {})?;
    let good = leaf(&rsa, |_| {})?;
    let (sha256, sha1) = ([0x0d, 1, 1, 0x0b], [0x0d, 1, 1, 0x05]);
    w.case(
        "signed-with-sha1",
        "SignatureAlgorithm",
        "SHA-1 is refused",
        &[&patched(good, &sha256, &sha1)],
        &rsa,
    )?;
    let good = leaf(&ec, |_| {})?;
    let renamed = patched(good.clone(), b"/workload", b"/workloaX");
    w.case(
        "id-changed",
        "BadSignature",
        "another ID under the same signature",
        &[&renamed],
        &ec,
    )?;
    let mut bad = good.clone();
    if let Some(last) = bad.last_mut() {
        *last ^= 1;
    }
    w.case(
        "signature-changed",
        "BadSignature",
        "one bit of the signature",
        &[&bad],
        &ec,
    )?;
    let version_2 = patched(good.clone(), &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 1]);
    w.case(
        "version-2",
        "Version",
        "only v3 has extensions",
        &[&version_2],
        &ec,
    )?;
    w.case(
        "bytes-after-the-leaf",
        "Malformed",
        "one certificate an element",
        &[&[&good[..], &[0]].concat()],
        &ec,
    )?;
    w.case(
        "leaf-cut-short",
        "Malformed",
        "half a certificate",
        &[&good[..good.len() / 2]],
        &ec,
    )
}

fn chains(w: &Writer<'_>) -> Result<()> {
    let root = root(|_| {})?;
    w.case("empty-chain", "EmptyChain", "no certificate at all", &[], &root)?;
    w.at(
        NOW,
        "empty-bundle",
        "UnknownIssuer",
        "all authorities revoked",
        &[&leaf(&root, |_| {})?],
        &[("td.test", &[])],
    )?;
    let named = |n: usize| {
        move |p: &mut CertificateParams| {
            p.distinguished_name
                .push(DnType::OrganizationName, format!("{n}"))
        }
    };
    let mut cas = vec![below(&root, named(0))?];
    for n in 1..6 {
        let next = below(&cas[n - 1], named(n))?;
        cas.push(next);
    }
    let chain_from = |n: usize| -> Result<Vec<Vec<u8>>> {
        let mut chain = vec![leaf(&cas[n - 1], |_| {})?];
        chain.extend(cas[..n].iter().rev().map(|c| c.der.clone()));
        Ok(chain)
    };
    let (five, six) = (chain_from(5)?, chain_from(6)?);
    let refs = |chain: &'_ [Vec<u8>]| chain.to_vec();
    let (five, six) = (refs(&five), refs(&six));
    let five: Vec<&[u8]> = five.iter().map(Vec::as_slice).collect();
    let six: Vec<&[u8]> = six.iter().map(Vec::as_slice).collect();
    w.case("ok-five-intermediates", "ok", "as many as accepted", &five, &root)?;
    w.case(
        "six-intermediates",
        "ChainTooLong",
        "one more than accepted",
        &six,
        &root,
    )?;
    let short = below(&root, |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let deeper = below(&short, named(9))?;
    let chain = [&leaf(&deeper, |_| {})?[..], &deeper.der, &short.der];
    w.case(
        "intermediate-path-length",
        "PathLength",
        "RFC 5280 4.2.1.9",
        &chain,
        &root,
    )?;
    let padding = extension(&[1, 2, 3, 4], false, der(4, &vec![0; 65_000]));
    let big = leaf(&root, |p| p.custom_extensions = vec![padding])?;
    w.case(
        "chain-too-large",
        "ChainTooLarge",
        "more than 64 KiB",
        &[&big, &root.der],
        &root,
    )
}
