//! Which certificates of a chain an anchor stands behind.
//!
//! Invariant: each signature is looked at once for each issuer of that name, so nobody makes path building try the same certificates
//! in every order (with P-384 that would be 0.1 s a chain, before anything is known of who sent it).

use crate::certificate::Certificate;
use crate::der;
use crate::x509_error::X509Error;

use super::path::ALGORITHMS;

/// The intermediates that an anchor has signed, directly or through one another, in the order in which they were presented.
///
/// # Errors
/// The leaf is not among what they have signed.
pub(super) fn reached<'a>(
    leaf: &Certificate,
    intermediates: &'a [Certificate],
    anchors: &[&'a Certificate],
) -> Result<Vec<&'a Certificate>, X509Error> {
    let mut issuers = anchors.to_vec();
    let mut waiting: Vec<&Certificate> = intermediates.iter().collect();
    let mut found = false;
    let mut refusal = X509Error::UnknownIssuer;
    while let Some(issuer) = issuers.pop() {
        let mut signed = |certificate: &Certificate| {
            certificate.issuer_raw() == issuer.subject_raw()
                && match is_signed(certificate, issuer) {
                    Some(true) => true,
                    Some(false) => {
                        refusal = X509Error::BadSignature;
                        false
                    }
                    None => {
                        refusal = X509Error::SignatureAlgorithm;
                        false
                    }
                }
        };
        found = found || signed(leaf);
        waiting.retain(|certificate| {
            let reached = signed(certificate);
            if reached {
                issuers.push(certificate);
            }
            !reached
        });
    }
    if !found {
        return Err(refusal);
    }
    let is_reached =
        |certificate: &&Certificate| !waiting.iter().any(|left| std::ptr::eq(*left, *certificate));
    Ok(intermediates.iter().filter(is_reached).collect())
}

/// Whether this key made that signature; `None` when no algorithm of ours fits both.
fn is_signed(certificate: &Certificate, issuer: &Certificate) -> Option<bool> {
    let (content, _) = der::read(certificate.as_der(), der::SEQUENCE)?;
    let (_, after) = der::read(content, der::SEQUENCE)?;
    let (signed, _) = content.split_at_checked(content.len() - after.len())?;
    let (algorithm, after) = der::read(after, der::SEQUENCE)?;
    let (signature, _) = der::read(after, der::BIT_STRING)?;
    let (key, _) = der::read(issuer.public_key().spki_der(), der::SEQUENCE)?;
    let (key_algorithm, _) = der::read(key, der::SEQUENCE)?;
    let fitting = ALGORITHMS.iter().find(|known| {
        known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == key_algorithm
    })?;
    let verified = fitting.verify_signature(issuer.public_key().raw(), signed, signature.strip_prefix(&[0])?);
    Some(verified.is_ok())
}
