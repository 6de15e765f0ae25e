//! Whether what an upstream authority signed is good: judged as every peer will judge it, before anybody sees it.
//!
//! Invariant: an authority that comes out of here can sign SVIDs that verify with the root it names and with no other.

use std::time::Duration;

use landfast_identity::issue::{LeafParams, leaf, random_serial};
use landfast_identity::{
    Bundle, BundleSet, Certificate, IssueError, KeyError, PrivateKey, Signer, SpiffeId, TrustDomain,
    UnixTime, X509Authority, X509Error, verify_x509_svid,
};

use super::above::{Above, root_id};
use super::upstream::Signed;

/// Where an authority stands that does not sign itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Descent {
    /// Between it and the root, the signer first; sent with every SVID.
    pub(crate) chain: Vec<Certificate>,
    /// The root's key identifier in hex.
    pub(crate) root: String,
}

/// A certificate that passed.
pub(crate) struct Judged {
    pub(crate) certificate: Certificate,
    pub(crate) descent: Descent,
    /// When it, or something above it, ends.
    pub(crate) ends: UnixTime,
}

/// Signs an SVID that nobody gets, and verifies it.
pub(crate) fn judge(
    signed: Signed,
    signer: &dyn Signer,
    trust_domain: &TrustDomain,
    above: &Above,
    now: UnixTime,
) -> Result<Judged, DescentError> {
    let Signed {
        certificate,
        mut chain,
        roots,
    } = signed;
    if *certificate.public_key() != signer.public_key() {
        return Err(DescentError::OtherKey);
    }
    // A root verifies nothing when it is sent along, but makes every handshake longer.
    chain.retain(|link| roots.iter().all(|root| root.certificate != *link));
    let ends = chain
        .iter()
        .map(Certificate::not_after)
        .fold(certificate.not_after(), UnixTime::min);
    if ends <= now.saturating_add(LEAST) {
        return Err(DescentError::Short { ends });
    }
    let trial = trial(&certificate, signer, trust_domain, now)?;
    let ders: Vec<&[u8]> = [&trial, &certificate]
        .into_iter()
        .chain(&chain)
        .map(Certificate::as_der)
        .collect();
    let verifies = |roots: Vec<X509Authority>| {
        let bundle = Bundle::new(trust_domain.clone()).with_x509_authorities(roots);
        let bundles = BundleSet::from_iter(bundle.ok());
        verify_x509_svid(&ders, &bundles, now)
    };
    let mut shunned = None;
    for root in &roots {
        if verifies(vec![root.clone()]).is_err() {
            continue;
        }
        let id = root_id(&root.certificate);
        let ends = ends.min(root.certificate.not_after());
        if root.tainted || above.shuns(&id) {
            shunned = Some(DescentError::Shunned { root: id });
        } else if ends <= now.saturating_add(LEAST) {
            shunned = Some(DescentError::Short { ends });
        } else {
            return Ok(Judged {
                certificate,
                descent: Descent { chain, root: id },
                ends,
            });
        }
    }
    Err(match (shunned, verifies(roots)) {
        (Some(shunned), _) => shunned,
        (None, Err(source)) => DescentError::Refused { source },
        (None, Ok(_)) => DescentError::NoRoot,
    })
}

/// As our own SVID would be. It is dropped with its key.
fn trial(
    certificate: &Certificate,
    signer: &dyn Signer,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Certificate, DescentError> {
    let key = PrivateKey::generate().map_err(|source| DescentError::Key { source })?;
    let params = LeafParams {
        id: &SpiffeId::server(trust_domain),
        public_key: &key.public_key(),
        dns_names: &[],
        serial: random_serial()?,
        not_before: now,
        not_after: now.saturating_add(LEAST),
    };
    Ok(leaf(&params, certificate, signer)?)
}

/// Why it is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescentError {
    #[error("it is for another key than ours")]
    OtherKey,
    #[error("it, or something above it, ends at {ends}, which is over or about to be: renew what is above")]
    Short { ends: UnixTime },
    #[error("it stands under root {root}, which is tainted or revoked: have it signed under another")]
    Shunned { root: String },
    #[error(
        "SVIDs below it do not verify: every certificate up to the root has to be a CA with critical keyCertSign, allow one CA and leaves \
         below it, and restrict no URI"
    )]
    Refused { source: X509Error },
    #[error("no single root verifies it")]
    NoRoot,
    #[error("no key can be made to try it")]
    Key { source: KeyError },
    #[error("no SVID can be signed to try it")]
    Trial {
        #[from]
        source: IssueError,
    },
}

/// Half of the least `ttl.ca`.
const LEAST: Duration = Duration::from_secs(30);
