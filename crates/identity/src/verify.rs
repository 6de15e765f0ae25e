//! The chain verifier: our rules in front of webpki's path validation.
//!
//! Invariant: nothing verifies against another domain's bundle, an authority out of its time, or a constraint unread.

mod edges;
mod path;

use crate::bundle_set::BundleSet;
use crate::certificate::Certificate;
use crate::id::SpiffeId;
use crate::unix_time::UnixTime;
use crate::x509_error::{ChainRole, X509Error};

/// A peer whose X509-SVID verified.
#[derive(Clone, Debug)]
pub struct VerifiedPeer {
    /// Who it is.
    pub id: SpiffeId,
    /// The serial number of its certificate in hex.
    pub serial_hex: String,
    /// When its certificate ends.
    pub not_after: UnixTime,
    /// Its certificate.
    pub leaf: Certificate,
}

/// Verifies an X509-SVID, leaf first, with the bundle of its own trust domain, at `now`.
///
/// Every certificate presented must be fit for its place, also one that the path does not need. An authority of the
/// bundle that is out of its validity or not fit to sign counts as absent. Tainted ones count until they are removed.
///
/// # Errors
/// The first rule that is broken: shape of the chain, X509-SVID §2-§5, validity, bundle, path (RFC 5280 §6).
pub fn verify_x509_svid(
    chain_der: &[&[u8]],
    bundles: &BundleSet,
    now: UnixTime,
) -> Result<VerifiedPeer, X509Error> {
    let chain = parse(chain_der, MAX_INTERMEDIATES)?;
    let (leaf, intermediates) = chain.split_first().ok_or(X509Error::EmptyChain)?;
    let id = leaf_rules(leaf)?;
    no_name_constraints(leaf)?;
    no_unknown_critical(leaf, ChainRole::Leaf)?;
    for certificate in intermediates {
        no_unknown_critical(certificate, ChainRole::Intermediate)?;
        signing_rules(certificate, ChainRole::Intermediate)?;
        if !certificate.uri_sans().is_empty() && certificate.spiffe_id()? != id.trust_domain().id() {
            return Err(X509Error::IntermediateId);
        }
    }
    refuse_uri_constraints(&chain)?;
    in_validity(leaf, ChainRole::Leaf, now)?;
    let bundle = bundles
        .get(id.trust_domain())
        .ok_or_else(|| X509Error::NoBundle {
            trust_domain: id.trust_domain().clone(),
        })?;
    let anchors = bundle.x509_authorities().iter().map(|a| &a.certificate);
    path::build(
        leaf,
        intermediates,
        anchors,
        |anchor| anchor_rules(anchor, now),
        path::Eku::ClientAndServer,
        now,
    )?;
    Ok(VerifiedPeer {
        serial_hex: leaf.serial_hex(),
        not_after: leaf.not_after(),
        leaf: leaf.clone(),
        id,
    })
}

/// Verifies a device's own certificate against the roots of its maker or plant (RFC 5280 §6, no SPIFFE rules): leaf
/// not a CA, not to sign certificates but with digitalSignature, extended key usage ignored, roots CAs and in their validity.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_external_chain(
    chain_der: &[&[u8]],
    roots: &[Certificate],
    now: UnixTime,
    max_intermediates: usize,
) -> Result<Certificate, X509Error> {
    let chain = parse(chain_der, max_intermediates.min(MAX_INTERMEDIATES))?;
    let (leaf, intermediates) = chain.split_first().ok_or(X509Error::EmptyChain)?;
    if leaf.is_ca() {
        return Err(X509Error::LeafIsCa);
    }
    let usage = leaf.extensions().key_usage.ok_or(X509Error::NoKeyUsage {
        role: ChainRole::Leaf,
    })?;
    // RFC 5280 §4.2.1.3: without cA no keyCertSign.
    if usage.cert_sign {
        return Err(X509Error::LeafMaySign);
    }
    if !usage.digital_signature {
        return Err(X509Error::NoDigitalSignature);
    }
    no_name_constraints(leaf)?;
    no_unknown_critical(leaf, ChainRole::Leaf)?;
    for certificate in intermediates {
        external_signing_rules(certificate, ChainRole::Intermediate)?;
    }
    refuse_uri_constraints(&chain)?;
    in_validity(leaf, ChainRole::Leaf, now)?;
    let rules = |root: &Certificate| {
        external_signing_rules(root, ChainRole::Anchor)?;
        refuse_uri_constraints(std::slice::from_ref(root))?;
        in_validity(root, ChainRole::Anchor, now)
    };
    path::build(leaf, intermediates, roots.iter(), rules, path::Eku::Any, now)?;
    Ok(leaf.clone())
}

fn parse(chain_der: &[&[u8]], max_intermediates: usize) -> Result<Vec<Certificate>, X509Error> {
    if chain_der.len() > max_intermediates + 1 {
        return Err(X509Error::ChainTooLong {
            count: chain_der.len(),
        });
    }
    let bytes = chain_der.iter().map(|der| der.len()).sum();
    if bytes > MAX_CHAIN_BYTES {
        return Err(X509Error::ChainTooLarge { bytes });
    }
    let role = |at| {
        if at == 0 {
            ChainRole::Leaf
        } else {
            ChainRole::Intermediate
        }
    };
    let read = |(at, der): (usize, &&[u8])| {
        Certificate::from_der(der).map_err(|e| match e {
            X509Error::Key { source, .. } => X509Error::Key {
                role: role(at),
                source,
            },
            other => other,
        })
    };
    chain_der.iter().enumerate().map(read).collect()
}

/// X509-SVID §2, §3.1, §4, §5.2: what a leaf must and must not be. Returns its ID.
pub(crate) fn leaf_rules(leaf: &Certificate) -> Result<SpiffeId, X509Error> {
    let id = leaf.spiffe_id()?;
    if id.path().is_empty() {
        return Err(X509Error::NoPath);
    }
    if leaf.is_ca() {
        return Err(X509Error::LeafIsCa);
    }
    let role = ChainRole::Leaf;
    let usage = leaf
        .extensions()
        .key_usage
        .ok_or(X509Error::NoKeyUsage { role })?;
    if !usage.critical {
        return Err(X509Error::KeyUsageNotCritical { role });
    }
    if usage.cert_sign || usage.crl_sign {
        return Err(X509Error::LeafMaySign);
    }
    if !usage.digital_signature {
        return Err(X509Error::NoDigitalSignature);
    }
    match leaf.extensions().extended_key_usage {
        Some(eku) if !(eku.server && eku.client) => Err(X509Error::ExtendedKeyUsage),
        _ => Ok(id),
    }
}

fn signing_rules(certificate: &Certificate, role: ChainRole) -> Result<(), X509Error> {
    if !certificate.is_ca() {
        return Err(X509Error::NotCa { role });
    }
    let usage = certificate
        .extensions()
        .key_usage
        .ok_or(X509Error::NoKeyUsage { role })?;
    if !usage.cert_sign {
        return Err(X509Error::NoCertSign { role });
    }
    // An authority's own encoding is its operator's business; RFC 5280 §6.2 reads only its name and key.
    if !usage.critical && role == ChainRole::Intermediate {
        return Err(X509Error::KeyUsageNotCritical { role });
    }
    Ok(())
}

/// RFC 5280 §6.1.4 (k), (n): CA, and keyCertSign when there is a key usage at all.
fn external_signing_rules(certificate: &Certificate, role: ChainRole) -> Result<(), X509Error> {
    if !certificate.is_ca() {
        return Err(X509Error::NotCa { role });
    }
    match certificate.extensions().key_usage {
        Some(usage) if !usage.cert_sign => Err(X509Error::NoCertSign { role }),
        _ => no_unknown_critical(certificate, role),
    }
}

fn anchor_rules(anchor: &Certificate, now: UnixTime) -> Result<(), X509Error> {
    signing_rules(anchor, ChainRole::Anchor)?;
    refuse_uri_constraints(std::slice::from_ref(anchor))?;
    no_unknown_critical(anchor, ChainRole::Anchor)?;
    in_validity(anchor, ChainRole::Anchor, now)
}

/// webpki reads nothing of an anchor but name, key and name constraints, so this is ours to ask.
fn no_unknown_critical(certificate: &Certificate, role: ChainRole) -> Result<(), X509Error> {
    if certificate.extensions().unknown_critical {
        return Err(X509Error::UnknownCriticalExtension { role });
    }
    Ok(())
}

/// RFC 5280 §4.2.1.10: only where names are handed out.
fn no_name_constraints(leaf: &Certificate) -> Result<(), X509Error> {
    match leaf.extensions().name_constraints {
        true => Err(X509Error::LeafNameConstraints),
        false => Ok(()),
    }
}

fn refuse_uri_constraints(certificates: &[Certificate]) -> Result<(), X509Error> {
    match certificates.iter().any(|c| c.extensions().uri_name_constraint) {
        true => Err(X509Error::UriNameConstraint),
        false => Ok(()),
    }
}

fn in_validity(certificate: &Certificate, role: ChainRole, now: UnixTime) -> Result<(), X509Error> {
    if now < certificate.not_before() {
        return Err(X509Error::NotYetValid {
            role,
            not_before: certificate.not_before(),
        });
    }
    if now > certificate.not_after() {
        return Err(X509Error::Expired {
            role,
            not_after: certificate.not_after(),
        });
    }
    Ok(())
}

/// Between leaf and anchor; SPIRE nests far fewer.
pub(crate) const MAX_INTERMEDIATES: usize = 5;
const MAX_CHAIN_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
