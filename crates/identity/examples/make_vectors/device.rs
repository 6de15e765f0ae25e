//! Chains of devices, outside of SPIFFE: what a root of a maker or plant may be, and what a leaf below it.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose,
    NameConstraints,
};

use super::x509::{
    Ca, Hollow, Result, ca_params, empty_constraints, extension, issue, leaf_params, root, set_times,
};
use super::{NOW, Vectors, guessable_rsa_key, hollow_rsa_key, pem};

struct Writer<'a>(&'a Vectors);

impl Writer<'_> {
    fn case(&self, name: &str, expect: &str, note: &str, chain: &[&[u8]], roots: &[&Ca]) -> Result<()> {
        let mut body = format!("now: {NOW}\n\n");
        chain.iter().for_each(|c| body += &pem("CERTIFICATE", c));
        roots.iter().for_each(|r| body += &pem("ROOT", &r.der));
        self.0.case(name, expect, note, &body)
    }

    /// A changed leaf right below a sound root.
    fn leaf(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = maker(|_| {})?;
        self.case(name, expect, note, &[&device(&root, change)?], &[&root])
    }

    /// A sound leaf below a changed intermediate below a sound root.
    fn middle(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = maker(|_| {})?;
        let middle = between(&root, change)?;
        let leaf = device(&middle, |_| {})?;
        self.case(name, expect, note, &[&leaf, &middle.der], &[&root])
    }

    /// A sound leaf right below a changed root.
    fn root(
        &self,
        name: &str,
        expect: &str,
        note: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<()> {
        let root = maker(change)?;
        self.case(name, expect, note, &[&device(&root, |_| {})?], &[&root])
    }
}

fn maker(change: impl FnOnce(&mut CertificateParams)) -> Result<Ca> {
    root(|p| {
        p.subject_alt_names.clear();
        change(p);
    })
}

fn between(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Result<Ca> {
    let mut params = ca_params("", "plant")?;
    change(&mut params);
    let key = rcgen::KeyPair::generate()?;
    let der = issue(issuer, &params, &key)?;
    Ok(Ca { params, key, der })
}

fn device_params(change: impl FnOnce(&mut CertificateParams)) -> Result<CertificateParams> {
    let mut params = leaf_params()?;
    params.subject_alt_names.clear();
    params.extended_key_usages.clear();
    change(&mut params);
    Ok(params)
}

fn device(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<u8>> {
    issue(issuer, &device_params(change)?, &rcgen::KeyPair::generate()?)
}

pub(super) fn write(to: &Vectors) -> Result<()> {
    let w = Writer(to);
    leaves(&w)?;
    intermediates(&w)?;
    roots(&w)?;
    choices(&w)?;
    keys(&w)
}

fn leaves(w: &Writer<'_>) -> Result<()> {
    w.leaf("ok-direct", "ok", "no SPIFFE ID, no extended key usage", |_| {})?;
    w.leaf("ok-any-extended-key-usage", "ok", "not ours to judge", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    })?;
    w.leaf("ok-signs-lists", "ok", "cRLSign alone makes no authority", |p| {
        p.key_usages.push(KeyUsagePurpose::CrlSign);
    })?;
    w.leaf("leaf-key-cert-sign", "LeafMaySign", "RFC 5280 4.2.1.3", |p| {
        p.key_usages.push(KeyUsagePurpose::KeyCertSign);
    })?;
    w.leaf("leaf-is-ca", "LeafIsCa", "a CA is no device", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    })?;
    w.leaf(
        "leaf-no-key-usage",
        "NoKeyUsage/Leaf",
        "it must say that it signs",
        |p| {
            p.key_usages.clear();
        },
    )?;
    w.leaf(
        "leaf-name-constraints",
        "LeafNameConstraints",
        "RFC 5280 4.2.1.10",
        |p| {
            p.custom_extensions = vec![dns_constraint()];
        },
    )?;
    w.leaf("leaf-expired", "Expired/Leaf", "one second late", |p| {
        set_times(p, -7200, -1)
    })?;
    w.leaf(
        "leaf-unknown-critical-extension",
        "UnknownCriticalExtension/Leaf",
        "RFC 5280 4.2",
        |p| p.custom_extensions = vec![unknown()],
    )
}

fn intermediates(w: &Writer<'_>) -> Result<()> {
    w.middle("ok-intermediate", "ok", "a plant below its maker", |_| {})?;
    w.middle(
        "intermediate-not-ca",
        "NotCa/Intermediate",
        "RFC 5280 6.1.4 (k)",
        |p| {
            p.is_ca = IsCa::NoCa;
        },
    )?;
    w.middle(
        "intermediate-no-key-cert-sign",
        "NoCertSign/Intermediate",
        "RFC 5280 6.1.4 (n)",
        |p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign];
        },
    )?;
    w.middle(
        "intermediate-expired",
        "Expired/Intermediate",
        "RFC 5280 6.1.3",
        |p| {
            set_times(p, -7200, -1);
        },
    )?;
    w.middle(
        "intermediate-unknown-critical-extension",
        "UnknownCriticalExtension/Intermediate",
        "RFC 5280 4.2",
        |p| p.custom_extensions = vec![unknown()],
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
        "ok-intermediate-policy-constraints-not-critical",
        "ok",
        "policies are not read",
        |p| p.custom_extensions = vec![policy_constraints(false)],
    )?;
    w.middle(
        "intermediate-policy-constraints-critical",
        "UnknownCriticalExtension/Intermediate",
        "RFC 5280 4.2.1.11: nobody here would keep them",
        |p| p.custom_extensions = vec![policy_constraints(true)],
    )?;
    let root = maker(|_| {})?;
    for (name, expect, unneeded) in [
        (
            "unneeded-not-ca",
            "NotCa/Intermediate",
            between(&root, |p| p.is_ca = IsCa::NoCa)?,
        ),
        (
            "unneeded-unknown-critical-extension",
            "UnknownCriticalExtension/Intermediate",
            between(&root, |p| p.custom_extensions = vec![unknown()])?,
        ),
    ] {
        w.case(
            name,
            expect,
            "what is presented must be fit, needed or not",
            &[&device(&root, |_| {})?, &unneeded.der],
            &[&root],
        )?;
    }
    let middle = between(&root, |_| {})?;
    w.case(
        "intermediate-missing",
        "UnknownIssuer",
        "nothing is fetched",
        &[&device(&middle, |_| {})?],
        &[&root],
    )
}

fn roots(w: &Writer<'_>) -> Result<()> {
    w.root("anchor-expired", "Expired/Anchor", "one second late", |p| {
        set_times(p, -7200, -1)
    })?;
    w.root(
        "anchor-not-yet-valid",
        "NotYetValid/Anchor",
        "one second early",
        |p| set_times(p, 1, 7200),
    )?;
    w.root(
        "anchor-not-ca",
        "NotCa/Anchor",
        "a leaf that was installed as a root",
        |p| {
            p.is_ca = IsCa::ExplicitNoCa;
        },
    )?;
    w.root(
        "anchor-no-key-cert-sign",
        "NoCertSign/Anchor",
        "RFC 5280 4.2.1.3",
        |p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign];
        },
    )?;
    w.root(
        "anchor-unknown-critical-extension",
        "UnknownCriticalExtension/Anchor",
        "RFC 5280 4.2",
        |p| p.custom_extensions = vec![unknown()],
    )?;
    let named = |p: &mut CertificateParams| p.distinguished_name.push(rcgen::DnType::OrganizationName, "x");
    let sound = maker(|_| {})?;
    for (name, note, unfit) in [
        (
            "ok-unrelated-expired-anchor",
            "a root that is not needed may be over",
            maker(|p| {
                named(p);
                set_times(p, -7200, -1);
            })?,
        ),
        (
            "ok-unrelated-critical-anchor",
            "a root that is not needed may be strange",
            maker(|p| {
                named(p);
                p.custom_extensions = vec![unknown()];
            })?,
        ),
    ] {
        w.case(name, "ok", note, &[&device(&sound, |_| {})?], &[&unfit, &sound])?;
    }
    let short = maker(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))?;
    let middle = between(&short, |_| {})?;
    w.case(
        "anchor-path-length",
        "PathLength",
        "the path length of the root counts",
        &[&device(&middle, |_| {})?, &middle.der],
        &[&short],
    )?;
    let bound = maker(|p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("a.example".into())],
            excluded_subtrees: vec![],
        });
    })?;
    let outside = device(&bound, |p| {
        p.subject_alt_names
            .extend("b.example".try_into().map(rcgen::SanType::DnsName));
    })?;
    w.case(
        "anchor-name-constraint",
        "NameConstraint",
        "RFC 5280 4.2.1.10",
        &[&outside],
        &[&bound],
    )
}

/// Where implementations differ: what we chose.
fn choices(w: &Writer<'_>) -> Result<()> {
    w.root(
        "ok-anchor-without-name",
        "ok",
        "an empty name leads to an authority as well as any other",
        |p| p.distinguished_name = rcgen::DistinguishedName::new(),
    )?;
    w.root(
        "ok-anchor-basic-constraints-not-critical",
        "ok",
        "RFC 5280 4.2.1.9 wants it critical of who issues; what it says counts",
        |p| {
            p.is_ca = IsCa::NoCa;
            let content = super::der(0x30, &[1, 1, 0xff]);
            p.custom_extensions = vec![extension(&[2, 5, 29, 19], false, content)];
        },
    )?;
    w.leaf("ok-no-key-identifier", "ok", "key identifiers are hints", |p| {
        p.use_authority_key_identifier_extension = false;
    })?;
    w.leaf(
        "leaf-key-identifier-critical",
        "UnknownCriticalExtension/Leaf",
        "RFC 5280 4.2.1.1",
        |p| {
            p.use_authority_key_identifier_extension = false;
            let id = super::der(0x30, &super::der(0x80, &[7; 20]));
            p.custom_extensions = vec![extension(&[2, 5, 29, 35], true, id)];
        },
    )?;
    w.leaf(
        "leaf-subject-key-identifier-critical",
        "UnknownCriticalExtension/Leaf",
        "RFC 5280 4.2.1.2",
        |p| {
            p.is_ca = IsCa::NoCa;
            let id = super::der(4, &[7; 20]);
            p.custom_extensions = vec![extension(&[2, 5, 29, 14], true, id)];
        },
    )?;
    w.root(
        "anchor-key-identifier-critical",
        "UnknownCriticalExtension/Anchor",
        "RFC 5280 4.2.1.1",
        |p| {
            p.use_authority_key_identifier_extension = false;
            let id = super::der(0x30, &super::der(0x80, &[7; 20]));
            p.custom_extensions = vec![extension(&[2, 5, 29, 35], true, id)];
        },
    )?;
    let root = maker(|p| {
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(rcgen::DnType::CommonName, "plant");
    })?;
    let rolled = between(&root, |_| {})?;
    w.case(
        "ok-self-issued",
        "ok",
        "a new key under the old name, certified by the old key",
        &[&device(&rolled, |_| {})?, &rolled.der],
        &[&root],
    )?;
    let short = maker(|p| {
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(rcgen::DnType::CommonName, "plant");
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    })?;
    let rolled = between(&short, |_| {})?;
    w.case(
        "self-issued-counts",
        "BadSignature",
        "stricter than RFC 5280 4.2.1.9; the error is that of the old key, which is tried first",
        &[&device(&rolled, |_| {})?, &rolled.der],
        &[&short],
    )?;
    let outside = |p: &mut CertificateParams| {
        let name = "b.example".try_into().map(rcgen::SanType::DnsName);
        p.subject_alt_names.extend(name);
    };
    let bound = maker(|_| {})?;
    let plant = between(&bound, |p| {
        p.custom_extensions = vec![extension(&[2, 5, 29, 30], false, permitted_dns(b"a.example"))];
    })?;
    w.case(
        "name-constraint-not-critical",
        "NameConstraint",
        "a constraint counts, critical or not",
        &[&device(&plant, outside)?, &plant.der],
        &[&bound],
    )?;
    let plant = between(&bound, |p| {
        p.custom_extensions = vec![extension(&[2, 5, 29, 30], true, permitted_dns(b".a.example"))];
    })?;
    for (name, expect, dns) in [
        ("ok-name-constraint-leading-period", "ok", "b.a.example"),
        ("name-constraint-leading-period", "NameConstraint", "a.example"),
    ] {
        let leaf = device(&plant, |p| {
            p.subject_alt_names
                .extend(dns.try_into().map(rcgen::SanType::DnsName));
        })?;
        let note = "not a form of RFC 5280 4.2.1.10 for DNS names; read as below it, which permits less";
        w.case(name, expect, note, &[&leaf, &plant.der], &[&bound])?;
    }
    for (name, subtree) in [
        (
            "name-constraint-on-subjects",
            GeneralSubtree::DirectoryName(leaf_params()?.distinguished_name),
        ),
        (
            "name-constraint-on-mail",
            GeneralSubtree::Rfc822Name("a.example".into()),
        ),
    ] {
        let bound = maker(|p| {
            p.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![subtree],
                excluded_subtrees: vec![],
            });
        })?;
        let inside = device(&bound, |p| {
            let mail = "someone@a.example".try_into().map(rcgen::SanType::Rfc822Name);
            p.subject_alt_names.extend(mail);
        })?;
        w.case(
            name,
            "NameConstraint",
            "kept, yet not evaluated, so refused",
            &[&inside],
            &[&bound],
        )?;
    }
    Ok(())
}

fn keys(w: &Writer<'_>) -> Result<()> {
    let root = maker(|_| {})?;
    for (name, expect, note, key) in [
        (
            "leaf-rsa-1024",
            "Key/Leaf",
            "minimum key strength",
            hollow_rsa_key(1024),
        ),
        (
            "ok-leaf-rsa-2052",
            "ok",
            "strong enough; whole bytes are a rule of the public web",
            uneven_rsa_key(),
        ),
        (
            "leaf-rsa-guessable",
            "Key/Leaf",
            "ROCA: a TPM with the faulty library",
            guessable_rsa_key(),
        ),
    ] {
        let key = Hollow(key, &rcgen::PKCS_RSA_SHA256);
        let leaf = issue(&root, &device_params(|_| {})?, &key)?;
        w.case(name, expect, note, &[&leaf], &[&root])?;
    }
    Ok(())
}

fn unknown() -> rcgen::CustomExtension {
    extension(&[1, 2, 3, 4], true, vec![5, 0])
}

/// By hand, since rcgen writes name constraints of an authority only, and always critical.
fn dns_constraint() -> rcgen::CustomExtension {
    extension(&[2, 5, 29, 30], true, permitted_dns(b"a.example"))
}

fn permitted_dns(name: &[u8]) -> Vec<u8> {
    let subtree = super::der(0x30, &super::der(0x82, name));
    super::der(0x30, &super::der(0xa0, &subtree))
}

/// An explicit policy is required, at once.
fn policy_constraints(critical: bool) -> rcgen::CustomExtension {
    let content = super::der(0x30, &super::der(0x80, &[0]));
    extension(&[2, 5, 29, 36], critical, content)
}

/// 2052 bits, that nobody holds.
fn uneven_rsa_key() -> Vec<u8> {
    let mut n = vec![0xc5; 257];
    n[0] = 0x0c;
    super::der(0x30, &[super::der(2, &n), super::der(2, &[1, 0, 1])].concat())
}
