//! x509-limbo, asked twice: as an X509-SVID, which none of its certificates is, and as a path alone, which is what
//! `verify_external_chain` judges. Invariant: an adapter may ask less than the case does, never more.
//!
//! Not asked: the name of the peer (a case that turns on it alone is counted as such), revocation lists, the extended key
//! usages and key usages that a case wants, and certificate policies. A case without a time is judged at one fixed moment.

use std::path::Path;

use landfast_identity::{
    Bundle, BundleSet, Certificate, TrustDomain, UnixTime, X509Authority, X509Error, verify_external_chain,
    verify_x509_svid,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::BoxError;
use crate::case::{Answer, Case, Expected, Source};

pub(crate) const SOURCE: Source = Source {
    url: "https://github.com/C2SP/x509-limbo",
    folder: "x509-limbo",
};

#[derive(serde::Deserialize)]
struct Document {
    testcases: Vec<TestCase>,
}

#[derive(serde::Deserialize)]
struct TestCase {
    id: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: String,
    expected_peer_name: Option<PeerName>,
    max_chain_depth: Option<usize>,
}

#[derive(serde::Deserialize)]
struct PeerName {
    value: String,
}

pub(crate) fn run(dir: &Path) -> Result<Vec<Case>, BoxError> {
    let text = SOURCE.read(dir, "limbo.json")?;
    let document: Document = serde_json::from_str(&text).map_err(|e| format!("limbo.json: {e}"))?;
    if document.testcases.is_empty() {
        return Err("limbo.json holds no case".into());
    }
    let mut cases = Vec::new();
    for case in &document.testcases {
        let asked = Asked::read(case).map_err(|e| format!("{}: {e}", case.id))?;
        cases.push(Case {
            suite: "limbo-svid",
            id: case.id.clone(),
            expected: Expected::Refuse,
            answer: asked.as_svid(),
        });
        cases.push(Case {
            suite: "limbo-path",
            id: case.id.clone(),
            expected: match case.expected_result.as_str() {
                "SUCCESS" => Expected::Accept,
                "FAILURE" => Expected::Refuse,
                other => return Err(format!("{}: unknown expectation {other:?}", case.id).into()),
            },
            answer: asked.as_path(),
        });
    }
    Ok(cases)
}

struct Asked<'a> {
    case: &'a TestCase,
    chain: Vec<CertificateDer<'static>>,
    roots: Result<Vec<Certificate>, X509Error>,
    now: UnixTime,
}

impl<'a> Asked<'a> {
    fn read(case: &'a TestCase) -> Result<Self, BoxError> {
        let presented = std::iter::once(&case.peer_certificate).chain(&case.untrusted_intermediates);
        let chain = presented.map(der).collect::<Result<_, _>>()?;
        let roots: Vec<_> = case.trusted_certs.iter().map(der).collect::<Result<_, _>>()?;
        let now = match &case.validation_time {
            // Whole seconds, as our clock has them.
            Some(text) => OffsetDateTime::parse(text, &Rfc3339)?.unix_timestamp(),
            None => TIMELESS,
        };
        Ok(Self {
            case,
            chain,
            roots: roots.iter().map(|r| Certificate::from_der(r)).collect(),
            now: UnixTime::from_secs(now),
        })
    }

    fn chain(&self) -> Vec<&[u8]> {
        self.chain.iter().map(AsRef::as_ref).collect()
    }

    /// Right is a refusal before any authority is looked at: the leaf has no SPIFFE ID, or cannot be read.
    fn as_svid(&self) -> Answer {
        let mut bundles = BundleSet::default();
        if let (Ok(roots), Ok(domain)) = (&self.roots, TrustDomain::parse("example.com")) {
            let authority = |certificate: &Certificate| X509Authority {
                certificate: certificate.clone(),
                tainted: false,
            };
            let bundle = Bundle::new(domain).with_x509_authorities(roots.iter().map(authority).collect());
            if let Ok(bundle) = bundle {
                bundles.insert(bundle);
            }
        }
        match verify_x509_svid(&self.chain(), &bundles, self.now) {
            Ok(_) => Answer::Accepted,
            Err(
                error @ (X509Error::NoUriSan
                | X509Error::SeveralUriSans { .. }
                | X509Error::SpiffeId { .. }
                | X509Error::NoPath
                | X509Error::ChainTooLong { .. }
                | X509Error::ChainTooLarge { .. }
                | X509Error::Malformed { .. }
                | X509Error::DuplicateExtension
                | X509Error::Version
                | X509Error::Key { .. }),
            ) => Answer::of::<(), _>(Err(error)),
            // It was looked at as if it were an SVID, whatever came of it then.
            Err(_) => Answer::Accepted,
        }
    }

    /// A root that cannot be read is a configuration that does not start, so it refuses the case.
    fn as_path(&self) -> Answer {
        let roots = match &self.roots {
            Ok(roots) => roots,
            Err(error) => return Answer::Refused(format!("{}@root", Answer::of::<(), _>(Err(error)).text())),
        };
        let depth = self.case.max_chain_depth.unwrap_or(usize::MAX);
        match Answer::of(verify_external_chain(&self.chain(), roots, self.now, depth)) {
            Answer::Accepted if self.is_named_wrongly() => Answer::AcceptedButNamed,
            answer => answer,
        }
    }

    /// Asks webpki, since we never compare names of hosts.
    fn is_named_wrongly(&self) -> bool {
        let (Some(peer), Some(leaf)) = (&self.case.expected_peer_name, self.chain.first()) else {
            return false;
        };
        let name = ServerName::try_from(peer.value.as_str());
        match (name, webpki::EndEntityCert::try_from(leaf)) {
            (Ok(name), Ok(leaf)) => leaf.verify_is_valid_for_subject_name(&name).is_err(),
            _ => false,
        }
    }
}

fn der(text: &String) -> Result<CertificateDer<'static>, BoxError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| format!("no PEM certificate: {e}").into())
}

/// 2026-01-01T00:00:00Z; what has no time of its own is valid from 1970 on for many centuries.
const TIMELESS: i64 = 1_767_225_600;
