//! Who the peer is, and why it was refused.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use landfast_identity::{BundleSet, SpiffeId, UnixTime, VerifiedPeer, X509Error, verify_x509_svid};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError};

use crate::Expect;

/// Why a handshake was refused on our side. The peer learns only that its certificate did not do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Without the time nothing can be said about validity.
    #[error("the peer's certificate cannot be checked: the time is not known")]
    NoTime,
    /// The certificate breaks a rule.
    #[error("the peer's certificate is refused")]
    Refused(#[source] X509Error),
    /// A good certificate, of somebody else.
    #[error("the peer is {id}, expected {expected}")]
    Unexpected {
        /// Who it is.
        id: SpiffeId,
        /// Whom we wanted, in words.
        expected: String,
    },
}

/// rustls shows the causes it does not know by `Debug`; so that logs stay readable it says what `Display` says, with the cause.
impl fmt::Debug for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(cause) => write!(f, "{self}: {cause}"),
            _ => fmt::Display::fmt(self, f),
        }
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// Why our side refused the peer, if that is what this error, or one of its causes, says.
#[must_use]
pub fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a PeerError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) =
            error.downcast_ref()
        {
            return other.downcast_ref();
        }
        // An io::Error gives the source of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Who the peer of a finished handshake is, as of `now`: verified anew, since bundles may have changed meanwhile. `None` when it
/// showed no certificate, or one that does not verify any more.
#[must_use]
pub fn peer(
    chain: Option<&[CertificateDer<'_>]>,
    bundles: &BundleSet,
    now: UnixTime,
) -> Option<VerifiedPeer> {
    let chain: Vec<&[u8]> = chain?.iter().map(AsRef::as_ref).collect();
    verify_x509_svid(&chain, bundles, now).ok()
}

pub(crate) fn verify(
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    bundles: &BundleSet,
    now: Option<UnixTime>,
    expect: Option<&Expect>,
) -> Result<(), PeerError> {
    let now = now.ok_or(PeerError::NoTime)?;
    let chain: Vec<&[u8]> = std::iter::once(leaf).chain(rest).map(AsRef::as_ref).collect();
    let peer = verify_x509_svid(&chain, bundles, now).map_err(PeerError::Refused)?;
    match expect {
        Some(expect) if !expect.matches(&peer.id) => Err(PeerError::Unexpected {
            id: peer.id,
            expected: expect.to_string(),
        }),
        _ => Ok(()),
    }
}
