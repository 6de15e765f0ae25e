//! Who asks for the identities of others: a process that we attest, and where TLS is spoken the SVID that it showed as well.
//!
//! Invariant: where an SVID was shown, only the identity that it proves counts, and that only while it verifies by the bundle and the time
//! of the moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::{BundleSet, Certificate, SpiffeId, UnixTime, VerifiedPeer};
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
        let good = self
            .shown
            .as_ref()
            .is_none_or(|shown| shown.verified_until().is_some());
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
    /// The last judgement, of all copies.
    judged: Arc<Mutex<Option<Arc<Judgement>>>>,
}

/// Whether it verifies: by these bundles, and from one moment until another.
struct Judgement {
    by: Arc<BundleSet>,
    from: UnixTime,
    /// Not included.
    until: UnixTime,
    peer: Option<VerifiedPeer>,
}

impl Judgement {
    fn new(chain: &[CertificateDer<'_>], by: Arc<BundleSet>, now: UnixTime) -> Self {
        let peer = landfast_tls::peer(Some(chain), &by, now);
        let (mut from, mut until) = (now, now);
        if let Some(peer) = &peer {
            // Nothing but time changes it, and time does when it begins or ends the validity of a certificate that may be in the path.
            (from, until) = (UnixTime::EPOCH, peer.not_after);
            let shown = chain.iter().filter_map(|der| Certificate::from_der(der).ok());
            let authorities = by.get(peer.id.trust_domain());
            let authorities = authorities
                .into_iter()
                .flat_map(|bundle| bundle.x509_authorities());
            for one in shown.chain(authorities.map(|authority| authority.certificate.clone())) {
                // It is good in its last second.
                let end = one.not_after().saturating_add(Duration::from_secs(1));
                for moment in [one.not_before(), end] {
                    match moment <= now {
                        true => from = from.max(moment),
                        false => until = until.min(moment),
                    }
                }
            }
        }
        Self {
            by,
            from,
            until,
            peer,
        }
    }

    fn holds(&self, by: &Arc<BundleSet>, now: UnixTime) -> bool {
        Arc::ptr_eq(&self.by, by) && self.from <= now && now < self.until
    }
}

impl Shown {
    /// `None` when it does not verify.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        bundles: BundleStore,
        clock: SharedClock,
    ) -> Option<Self> {
        let judged = Judgement::new(&chain, bundles.load(), clock.now()?);
        Some(Self {
            id: judged.peer.as_ref()?.id.clone(),
            chain: chain.into(),
            bundles,
            clock,
            judged: Arc::new(Mutex::new(Some(Arc::new(judged)))),
        })
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The judgement of now. It is asked for with every message, and is hardly ever another.
    fn judge(&self) -> Option<Arc<Judgement>> {
        let (now, bundles) = (self.clock.now()?, self.bundles.load());
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judged) = judged.as_ref().filter(|judged| judged.holds(&bundles, now)) {
            return Some(Arc::clone(judged));
        }
        let anew = Arc::new(Judgement::new(&self.chain, bundles, now));
        *judged = Some(Arc::clone(&anew));
        Some(anew)
    }

    fn verified_until(&self) -> Option<UnixTime> {
        Some(self.judge()?.peer.as_ref()?.not_after)
    }

    /// Ends when it does not verify any more. By wall time, which may step, and bundles change: it is looked at once a minute.
    pub(crate) async fn over(&self) {
        while let (Some(not_after), Some(now)) = (self.verified_until(), self.clock.now()) {
            let left = not_after.since(now);
            tokio::time::sleep(left.clamp(SHORTEST_NAP, LONGEST_NAP)).await;
        }
    }
}

fn not_good() -> Status {
    Status::unauthenticated("the SVID that was shown is not good any more: connect again with a new one")
}

const SHORTEST_NAP: Duration = Duration::from_secs(1);
const LONGEST_NAP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ca, NOON, StoppedClock, at, id};

    #[test]
    fn a_judgement_holds_for_its_bundles_and_as_long_as_all_certificates_do() {
        let ca = Ca::new("one");
        let svid = ca.svid(&id("/mesh"), NOON, at(600));
        let chain: Vec<_> = svid
            .chain()
            .iter()
            .map(|one| CertificateDer::from(one.as_der().to_vec()))
            .collect();
        let clock = StoppedClock::at(at(1));
        let bundles = BundleStore::new(BundleSet::from_iter([ca.bundle()]));
        let shared: SharedClock = clock.clone();
        let shown = Shown::new(chain.clone(), bundles.clone(), shared).unwrap();
        let (judge, good) = (|| shown.judge().unwrap(), || shown.verified_until().is_some());
        let first = judge();
        clock.set(at(599));
        assert!(Arc::ptr_eq(&first, &judge()), "verified again for nothing");
        for (moment, verifies) in [(601, false), (-1, false), (300, true)] {
            clock.set(at(moment));
            assert_eq!(good(), verifies, "{moment}");
        }
        let before = judge();
        bundles.store(BundleSet::from_iter([ca.bundle()]));
        assert!(good() && !Arc::ptr_eq(&before, &judge()), "other bundles");
        bundles.store(BundleSet::from_iter([Ca::new("two").bundle()]));
        assert!(!good());
        bundles.store(BundleSet::from_iter([ca.bundle()]));
        assert!(good());
    }

    #[test]
    fn what_never_verified_is_not_taken() {
        let svid = Ca::new("one").svid(&id("/mesh"), NOON, at(600));
        let chain = svid
            .chain()
            .iter()
            .map(|one| CertificateDer::from(one.as_der().to_vec()));
        let bundles = BundleStore::new(BundleSet::from_iter([Ca::new("two").bundle()]));
        assert!(Shown::new(chain.collect(), bundles, StoppedClock::at(at(1))).is_none());
    }
}
