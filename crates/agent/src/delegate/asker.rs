//! Who asks for the identities of others: a process that we attest, and where TLS is spoken the SVID that it showed as well.
//!
//! Invariant: where an SVID was shown, only the identity that it proves counts, and that only while it verifies by the bundle and the time
//! of the moment.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SpiffeId, VerifiedPeer};
use landfast_lifecycle::SharedClock;
use landfast_tls::BundleStore;
use landfast_workload_api::Caller;
use rustls::pki_types::CertificateDer;
use tonic::Status;

/// Clone to share.
#[derive(Clone)]
pub(crate) struct Asker {
    caller: Caller,
    shown: Option<Shown>,
}

impl Asker {
    /// Known by attestation.
    pub(crate) fn attested(caller: Caller) -> Self {
        Self { caller, shown: None }
    }

    /// Known by both.
    pub(crate) fn showing(caller: Caller, shown: Shown) -> Self {
        let shown = Some(shown);
        Self { caller, shown }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether an identity of the process counts here.
    pub(super) fn counts(&self, id: &SpiffeId) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.id == *id)
    }

    /// Whether what was shown is good now.
    pub(super) fn still_good(&self) -> Result<(), Status> {
        let good = self.shown.as_ref().is_none_or(|shown| shown.verified().is_some());
        good.then_some(()).ok_or_else(not_good)
    }

    /// Looks at the process now. To be called before anything is handed out.
    pub(super) fn still_the_same(&self) -> Result<(), Status> {
        self.caller.still_the_same()
    }

    /// Ends when nothing more may be sent to it, with the reason.
    pub(super) async fn over(&self) -> Status {
        let shown = async {
            match &self.shown {
                Some(shown) => shown.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            over = self.caller.over() => over,
            () = shown => not_good(),
        }
    }
}

/// An X509-SVID whose key the other end of a connection has.
#[derive(Clone)]
pub(crate) struct Shown {
    id: SpiffeId,
    chain: Arc<[CertificateDer<'static>]>,
    bundles: BundleStore,
    clock: SharedClock,
}

impl Shown {
    /// `None` when it does not verify.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        bundles: BundleStore,
        clock: SharedClock,
    ) -> Option<Self> {
        let peer = landfast_tls::peer(Some(&chain), &bundles.load(), clock.now()?)?;
        Some(Self {
            id: peer.id,
            chain: chain.into(),
            bundles,
            clock,
        })
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    fn verified(&self) -> Option<VerifiedPeer> {
        landfast_tls::peer(Some(&self.chain), &self.bundles.load(), self.clock.now()?)
    }

    /// Ends when it does not verify any more. By wall time, which may step, and bundles change: it is looked at once a minute.
    pub(crate) async fn over(&self) {
        while let (Some(peer), Some(now)) = (self.verified(), self.clock.now()) {
            let left = peer.not_after.since(now);
            tokio::time::sleep(left.clamp(SHORTEST_NAP, LONGEST_NAP)).await;
        }
    }
}

fn not_good() -> Status {
    Status::unauthenticated("the SVID that was shown is not good any more: connect again with a new one")
}

const SHORTEST_NAP: Duration = Duration::from_secs(1);
const LONGEST_NAP: Duration = Duration::from_secs(60);
