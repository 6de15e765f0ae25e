//! Path building on webpki. Invariant: an anchor that breaks a rule is never given to webpki; why it was left out is not lost.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime as PkiTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, RequiredEkuNotFoundContext, VerifiedPath,
};

use super::edges;
use crate::certificate::Certificate;
use crate::unix_time::UnixTime;
use crate::x509_error::{ChainRole, X509Error};

/// What extended key usages of the chain must allow.
#[derive(Clone, Copy)]
pub(super) enum Eku {
    /// Where there is one: server and client authentication.
    ClientAndServer,
    /// Nothing.
    Any,
}

/// Finds a path from the leaf to one of the anchors that pass `rules`.
pub(super) fn build<'a>(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: impl Iterator<Item = &'a Certificate>,
    rules: impl Fn(&Certificate) -> Result<(), X509Error>,
    eku: Eku,
    now: UnixTime,
) -> Result<(), X509Error> {
    let mut fit = Vec::new();
    let mut unfit = Vec::new();
    for anchor in anchors {
        match rules(anchor) {
            Ok(()) => fit.push(anchor),
            Err(why) => unfit.push((anchor, why)),
        }
    }
    // One intermediate or none has no order to be tried in.
    let tried = match intermediates {
        [] | [_] => validate(leaf, intermediates.iter(), &fit, eku, now),
        _ => edges::reached(leaf, intermediates, &fit)
            .and_then(|reached| validate(leaf, reached.into_iter(), &fit, eku, now)),
    };
    tried.map_err(|error| {
        if !matches!(error, X509Error::UnknownIssuer | X509Error::BadSignature) {
            return error;
        }
        let chain = || std::iter::once(leaf).chain(intermediates);
        let named = unfit
            .into_iter()
            .find(|(anchor, _)| chain().any(|c| c.names_as_issuer(anchor)));
        named.map_or(error, |(_, why)| why)
    })
}

fn validate<'a>(
    leaf: &Certificate,
    intermediates: impl Iterator<Item = &'a Certificate>,
    anchors: &[&Certificate],
    eku: Eku,
    now: UnixTime,
) -> Result<(), X509Error> {
    let anchor_ders: Vec<_> = anchors.iter().map(|a| CertificateDer::from(a.as_der())).collect();
    let trust = anchor_ders
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<TrustAnchor<'_>>, _>>()
        .map_err(|e| translate(&e))?;
    let path_lens: Vec<_> = anchors.iter().map(|a| a.extensions().path_len).collect();
    let leaf_der = CertificateDer::from(leaf.as_der());
    let intermediate_ders: Vec<_> = intermediates.map(|c| CertificateDer::from(c.as_der())).collect();
    // Before 1970 webpki has no time; our own validity checks have refused every real certificate by then.
    let time = PkiTime::since_unix_epoch(now.since(UnixTime::EPOCH));
    // webpki does not know the path length of an anchor.
    let within_anchor_path_len = |path: &VerifiedPath<'_>| {
        let used = path.intermediate_certificates().count();
        let limit = trust
            .iter()
            .zip(&path_lens)
            .find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor()));
        match limit {
            Some((_, Some(limit))) if used > *limit as usize => Err(webpki::Error::PathLenConstraintViolated),
            Some(_) => Ok(()),
            None => Err(webpki::Error::UnknownIssuer),
        }
    };
    EndEntityCert::try_from(&leaf_der)
        .and_then(|end_entity| {
            end_entity
                .verify_for_usage(
                    ALGORITHMS,
                    &trust,
                    &intermediate_ders,
                    time,
                    eku,
                    None,
                    Some(&within_anchor_path_len),
                )
                .map(|_| ())
        })
        .map_err(|e| translate(&e))
}

impl ExtendedKeyUsageValidator for Eku {
    /// Only for intermediates: the leaf's was judged before, more strictly.
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        if let Self::Any = self {
            return Ok(());
        }
        let present = purposes
            .map(|p| p.map(|p| p.to_decoded_oid()))
            .collect::<Result<Vec<_>, _>>()?;
        let allows = |purpose: &[usize]| present.iter().any(|p| p == purpose || p == ANY_PURPOSE);
        if present.is_empty() || (allows(SERVER_AUTH) && allows(CLIENT_AUTH)) {
            return Ok(());
        }
        let required = webpki::KeyUsage::client_auth();
        Err(webpki::Error::RequiredEkuNotFoundContext(
            RequiredEkuNotFoundContext { required, present },
        ))
    }
}

fn translate(error: &webpki::Error) -> X509Error {
    use webpki::Error as E;
    // The leaf's validity was judged before, so a time here is an intermediate's.
    let role = ChainRole::Intermediate;
    let secs = |t: &PkiTime| UnixTime::from_secs(i64::try_from(t.as_secs()).unwrap_or(i64::MAX));
    match error {
        E::UnknownIssuer => X509Error::UnknownIssuer,
        E::InvalidSignatureForPublicKey => X509Error::BadSignature,
        E::CertExpired { not_after, .. } => X509Error::Expired {
            role,
            not_after: secs(not_after),
        },
        E::CertNotValidYet { not_before, .. } => X509Error::NotYetValid {
            role,
            not_before: secs(not_before),
        },
        E::UnsupportedCriticalExtension => X509Error::UnknownCriticalExtension { role },
        E::PathLenConstraintViolated => X509Error::PathLength,
        E::NameConstraintViolation => X509Error::NameConstraint,
        E::RequiredEkuNotFoundContext(_) => X509Error::ExtendedKeyUsage,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => X509Error::SignatureAlgorithm,
        other => X509Error::Path {
            detail: other.to_string(),
        },
    }
}

/// No SHA-1, no Ed25519 (which X.509 profiles of our peers do not carry), no RSA below 2048 bits.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
    webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];
const SERVER_AUTH: &[usize] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[usize] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: &[usize] = &[2, 5, 29, 37, 0];
