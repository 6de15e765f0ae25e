//! Runs every file under `tests/vectors`: each states what it expects, and that is what must happen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use crate::{
    Bundle, BundleSet, Csr, IdPattern, SpiffeId, TrustDomain, UnixTime, X509Authority,
    certificate::Certificate, jwt, pem, verify_external_chain, verify_x509_svid,
};

struct Case {
    name: String,
    header: BTreeMap<String, String>,
    body: String,
}

impl Case {
    fn field(&self, name: &str) -> &str {
        self.header
            .get(name)
            .unwrap_or_else(|| panic!("{} has no line {name:?}", self.name))
    }

    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.field("now").parse().unwrap())
    }

    fn judge<T, E: Debug>(&self, known: &[&str], result: Result<T, E>) {
        let expected = self.field("expect");
        let word = expected.split('/').next().unwrap();
        assert!(
            word == "ok" || known.contains(&word),
            "{}: unknown expectation {expected:?}",
            self.name
        );
        let seen = result.map_or_else(|e| reason(&e), |_| "ok".to_owned());
        assert_eq!(seen, expected, "{}: {}", self.name, self.field("note"));
    }
}

/// `Variant`, or `Variant/Role` for an error that says which certificate it means.
fn reason(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let word = |t: &str| {
        t.chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
    };
    match text.split_once("role: ") {
        Some((_, role)) => format!("{}/{}", word(&text), word(role)),
        None => word(&text),
    }
}

fn cases(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(folder);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (header, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let field = |line: &str| {
            line.split_once(": ")
                .or_else(|| line.split_once(':'))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        let header: BTreeMap<_, _> = header
            .lines()
            .map(|l| field(l).unwrap_or_else(|| panic!("{path:?}: {l}")))
            .collect();
        all.push(Case {
            name: path.display().to_string(),
            header,
            body: body.to_owned(),
        });
    }
    assert!(!all.is_empty(), "{folder:?} is empty");
    assert!(
        all.iter().any(|c| c.field("expect") == "ok"),
        "{folder:?} has no positive control"
    );
    all
}

fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

#[test]
fn every_x509_vector_ends_as_it_says() {
    let known = [
        "EmptyChain",
        "ChainTooLong",
        "ChainTooLarge",
        "Malformed",
        "DuplicateExtension",
        "Version",
        "Key",
        "NoUriSan",
        "SeveralUriSans",
        "SpiffeId",
        "NoPath",
        "LeafIsCa",
        "NoKeyUsage",
        "KeyUsageNotCritical",
        "NoDigitalSignature",
        "LeafMaySign",
        "LeafNameConstraints",
        "ExtendedKeyUsage",
        "NotCa",
        "NoCertSign",
        "IntermediateId",
        "UriNameConstraint",
        "UnknownCriticalExtension",
        "NotYetValid",
        "Expired",
        "NoBundle",
        "UnknownIssuer",
        "BadSignature",
        "SignatureAlgorithm",
        "PathLength",
        "NameConstraint",
    ];
    let mut seen = Vec::new();
    for case in cases("x509") {
        let chain = pem::blocks(&case.body, pem::CERTIFICATE).unwrap();
        let mut bundles = BundleSet::default();
        for domain in case.field("bundles").split_whitespace() {
            let anchors = pem::blocks(&case.body, &format!("ANCHOR {domain}")).unwrap();
            let anchors = anchors.iter().filter(|a| !a.is_empty());
            let authority = |der: &zeroize::Zeroizing<Vec<u8>>| X509Authority {
                certificate: Certificate::from_der(der).unwrap(),
                tainted: false,
            };
            bundles.insert(
                Bundle::new(td(domain))
                    .with_x509_authorities(anchors.map(authority).collect())
                    .unwrap(),
            );
        }
        let chain: Vec<&[u8]> = chain.iter().map(|c| c.as_slice()).collect();
        case.judge(&known, verify_x509_svid(&chain, &bundles, case.now()));
        seen.push(case.field("expect").split('/').next().unwrap().to_owned());
    }
    for rule in known {
        assert!(seen.iter().any(|s| s == rule), "no vector breaks {rule}");
    }
}

#[test]
fn every_device_vector_ends_as_it_says() {
    let known = [
        "Malformed",
        "Key",
        "LeafIsCa",
        "NoKeyUsage",
        "LeafMaySign",
        "LeafNameConstraints",
        "NotCa",
        "NoCertSign",
        "UnknownCriticalExtension",
        "NotYetValid",
        "Expired",
        "UnknownIssuer",
        "BadSignature",
        "PathLength",
        "NameConstraint",
    ];
    let mut seen = Vec::new();
    for case in cases("device") {
        let chain = pem::blocks(&case.body, pem::CERTIFICATE).unwrap();
        let chain: Vec<&[u8]> = chain.iter().map(|c| c.as_slice()).collect();
        let roots = pem::blocks(&case.body, "ROOT").unwrap();
        let roots: Vec<_> = roots.iter().map(|r| Certificate::from_der(r).unwrap()).collect();
        case.judge(&known, verify_external_chain(&chain, &roots, case.now(), 5));
        seen.push(case.field("expect").split('/').next().unwrap().to_owned());
    }
    for rule in known {
        assert!(seen.iter().any(|s| s == rule), "no vector breaks {rule}");
    }
}

#[test]
fn every_jwt_vector_ends_as_it_says() {
    let known = [
        "TooLarge",
        "Form",
        "Base64",
        "Json",
        "Header",
        "Algorithm",
        "Type",
        "NoKeyId",
        "Claim",
        "Subject",
        "NoPath",
        "NoBundle",
        "UnknownKey",
        "Signature",
        "Expired",
        "NotYetValid",
        "WrongAudience",
    ];
    let mut seen = Vec::new();
    for case in cases("jwt") {
        let bundles: BundleSet = case
            .header
            .iter()
            .filter_map(|(k, v)| {
                Some(Bundle::from_jwks(td(k.strip_prefix("bundle ")?), v.as_bytes()).unwrap())
            })
            .collect();
        let token = case.body.trim_end().strip_prefix("token: ").unwrap();
        case.judge(
            &known,
            jwt::verify(token, &bundles, case.field("audience"), case.now()),
        );
        seen.push(case.field("expect").to_owned());
    }
    for rule in known {
        assert!(seen.iter().any(|s| s == rule), "no vector breaks {rule}");
    }
}

#[test]
fn every_request_vector_ends_as_it_says() {
    for case in cases("csr") {
        let der = pem::first(&case.body, "CERTIFICATE REQUEST").unwrap();
        let parsed = Csr::parse_der(&der);
        if let Ok(csr) = &parsed {
            assert_eq!(csr.uri_sans().join(" "), case.field("uris"), "{}", case.name);
        }
        case.judge(
            &["TooLarge", "Malformed", "Key", "Signature", "SignatureAlgorithm"],
            parsed,
        );
    }
}

#[test]
fn every_bundle_vector_ends_as_it_says() {
    for case in cases("bundle") {
        let parsed = Bundle::from_jwks(td("td.test"), case.body.as_bytes());
        if let Ok(bundle) = &parsed {
            let counts = format!(
                "{} {}",
                bundle.x509_authorities().len(),
                bundle.jwt_authorities().len()
            );
            assert_eq!(counts, case.field("x509-and-jwt-keys"), "{}", case.name);
            let again = Bundle::from_jwks(td("td.test"), bundle.to_jwks().as_bytes()).unwrap();
            assert_eq!(again, *bundle, "{}", case.name);
        }
        case.judge(
            &[
                "TooLarge",
                "TooManyKeys",
                "Json",
                "Member",
                "NoKeyId",
                "KeyIdTwice",
                "Key",
                "Certificate",
            ],
            parsed,
        );
    }
}

#[test]
fn every_id_vector_ends_as_it_says() {
    for case in cases("id") {
        let known = [
            "Scheme",
            "TooLong",
            "NoTrustDomain",
            "TrustDomainTooLong",
            "TrustDomainCharacter",
            "PathCharacter",
            "EmptySegment",
            "DotSegment",
            "TrailingSlash",
        ];
        match case.header.get("pattern") {
            Some(pattern) => case.judge(&known, IdPattern::parse(pattern)),
            None => case.judge(&known, SpiffeId::parse(case.field("id"))),
        }
    }
}
