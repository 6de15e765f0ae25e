//! Who is at the other end of a TLS connection. Invariant: once the bundles in force do not verify a certificate any more it opens nothing,
//! however old the connection is on which it was shown.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::{BundleSet, UnixTime, VerifiedPeer, X509Error, verify_x509_svid};
use landfast_tls::BundleStore;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::cut::Cut;
use super::intake::Intake;
use super::outflow::Outflow;

/// See above. Cheap to clone: each request has one.
#[derive(Clone, Debug)]
pub(crate) struct TlsPeer {
    pub(super) address: SocketAddr,
    pub(super) shown: Option<Arc<Shown>>,
    pub(super) intake: Arc<Intake>,
    pub(super) cut: Arc<Cut>,
    pub(super) outflow: Arc<Outflow>,
    pub(super) begun: Instant,
}

/// A certificate that verified at the handshake.
#[derive(Debug)]
pub(super) struct Shown {
    peer: VerifiedPeer,
    /// With what is between it and its authority, as the peer sent them.
    chain: Vec<CertificateDer<'static>>,
    bundles: BundleStore,
    judged: Mutex<Judged>,
}

/// What was found, and with which bundles.
#[derive(Debug)]
struct Judged {
    by: Arc<BundleSet>,
    refused: Option<X509Error>,
}

impl Shown {
    /// A certificate that `by` verifies.
    pub(super) fn new(
        peer: VerifiedPeer,
        chain: &[CertificateDer<'_>],
        by: Arc<BundleSet>,
        bundles: BundleStore,
    ) -> Self {
        Self {
            peer,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            bundles,
            judged: Mutex::new(Judged { by, refused: None }),
        }
    }

    /// Verified again when the bundles have changed, and not for each request.
    fn verify(&self, now: UnixTime) -> Result<(), X509Error> {
        let bundles = self.bundles.load();
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&judged.by, &bundles) {
            let chain: Vec<&[u8]> = self.chain.iter().map(AsRef::as_ref).collect();
            judged.refused = verify_x509_svid(&chain, &bundles, now).err();
            judged.by = bundles;
        }
        judged.refused.clone().map_or(Ok(()), Err)
    }
}

impl TlsPeer {
    /// The peer that showed a certificate, verified at the handshake: for counts and logs.
    pub(crate) fn verified(&self) -> Option<&VerifiedPeer> {
        self.shown.as_deref().map(|shown| &shown.peer)
    }

    /// Whether the certificate still verifies: an authority may have been revoked since the handshake. That it ends with its time is for
    /// the caller to say.
    pub(crate) fn verify_again(&self, now: UnixTime) -> Result<(), X509Error> {
        self.shown.as_ref().map_or(Ok(()), |shown| shown.verify(now))
    }

    /// Where it called from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// What it makes us hold.
    pub(crate) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }

    /// The order that ends the connection.
    pub(crate) fn cut(&self) -> Arc<Cut> {
        Arc::clone(&self.cut)
    }

    /// How far the connection is with what it sends.
    pub(crate) fn outflow(&self) -> Arc<Outflow> {
        Arc::clone(&self.outflow)
    }

    /// When the connection was made.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }
}
