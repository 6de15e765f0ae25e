//! What the agent's unit tests share: an authority, entries, a clock that stands, and (in `fake_server`) a SPIRE server on
//! a script.

pub(crate) mod fake_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use landfast_identity::issue::{self, AuthorityParams, LeafParams};
use landfast_identity::{
    Bundle, Certificate, PrivateKey, PublicKey, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime,
    X509Authority, X509Svid,
};
use landfast_lifecycle::{Clock, SharedClock};

use crate::entry::Entry;
use crate::keeper::state::Synced;

/// Noon of some day; pure tests live around it.
pub(crate) const NOON: UnixTime = UnixTime::from_secs(1_800_000_000);

pub(crate) fn td() -> TrustDomain {
    TrustDomain::parse("plant.test").unwrap()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::from_parts(&td(), path).unwrap()
}

pub(crate) fn at(offset: i64) -> UnixTime {
    UnixTime::from_secs(NOON.as_secs() + offset)
}

pub(crate) fn selectors(list: &[&str]) -> SelectorSet {
    list.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

pub(crate) fn entry(name: &str, path: &str, list: &[&str]) -> Entry {
    Entry {
        id: name.into(),
        spiffe_id: id(path),
        selectors: selectors(list),
        federates_with: Vec::new(),
        hint: String::new(),
        expires_at: None,
        revision: 0,
        created_at: 0,
        privileged: false,
        on_demand: false,
        offline: Default::default(),
    }
}

/// A certificate authority.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    key: PrivateKey,
}

impl Ca {
    /// Valid for a hundred years around everything.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(&td(), name)
    }

    pub(crate) fn of(trust_domain: &TrustDomain, name: &str) -> Self {
        let key = PrivateKey::generate().unwrap();
        let not_before = UnixTime::from_secs(1_000_000_000);
        let params = AuthorityParams {
            trust_domain,
            authority_id: name,
            not_before,
            not_after: not_before.saturating_add(Duration::from_secs(3_155_760_000)),
        };
        Self {
            certificate: issue::self_signed_authority(&params, &key).unwrap(),
            key,
        }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        let authority = X509Authority {
            certificate: self.certificate.clone(),
            tainted: false,
        };
        Bundle::new(self.certificate.spiffe_id().unwrap().trust_domain().clone())
            .with_x509_authorities(vec![authority])
            .unwrap()
    }

    /// The same, and tainted.
    pub(crate) fn tainted(&self, sequence: u64) -> Bundle {
        let mut all = self.bundle().x509_authorities().to_vec();
        all[0].tainted = true;
        let bundle = self.bundle().with_x509_authorities(all).unwrap();
        bundle.with_sequence(sequence)
    }

    pub(crate) fn sign(
        &self,
        id: &SpiffeId,
        key: &PublicKey,
        not_before: UnixTime,
        not_after: UnixTime,
    ) -> Certificate {
        let serial = issue::random_serial().unwrap();
        let params = LeafParams {
            id,
            public_key: key,
            dns_names: &[],
            serial,
            not_before,
            not_after,
        };
        issue::leaf(&params, &self.certificate, &self.key).unwrap()
    }

    pub(crate) fn svid(&self, id: &SpiffeId, not_before: UnixTime, not_after: UnixTime) -> Arc<X509Svid> {
        let key = Arc::new(PrivateKey::generate().unwrap());
        let leaf = self.sign(id, &key.public_key(), not_before, not_after);
        Arc::new(X509Svid::new(vec![leaf], key).unwrap())
    }

    pub(crate) fn jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        kid: &str,
        iat: UnixTime,
        exp: UnixTime,
    ) -> String {
        let claims = landfast_identity::jwt::JwtParams {
            sub: id,
            aud: audience,
            exp,
            iat,
            iss: None,
            jti: None,
        };
        landfast_identity::jwt::sign(&claims, kid, &self.key).unwrap()
    }

    pub(crate) fn wit(
        &self,
        sub: &SpiffeId,
        key: &PublicKey,
        algorithm: &str,
        kid: &str,
        iat: UnixTime,
        exp: UnixTime,
    ) -> String {
        let claims = landfast_identity::wit::WitParams {
            sub,
            key,
            algorithm,
            exp,
            iat,
            iss: None,
        };
        landfast_identity::wit::sign(&claims, kid, &self.key).unwrap()
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    pub(crate) fn synced(&self, entries: Vec<Entry>) -> Synced {
        Synced {
            entries: entries.into_iter().map(Arc::new).collect(),
            bundle: Arc::new(self.bundle()),
            federated: Default::default(),
        }
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub(crate) struct StoppedClock(AtomicI64);

impl StoppedClock {
    pub(crate) fn at(now: UnixTime) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.as_secs())))
    }

    pub(crate) fn set(&self, now: UnixTime) {
        self.0.store(now.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Option<UnixTime> {
        Some(UnixTime::from_secs(self.0.load(Ordering::SeqCst)))
    }
}

/// The time of this machine, for tests over real TLS.
pub(crate) fn real_clock() -> SharedClock {
    Arc::new(landfast_lifecycle::SystemClock)
}

/// A file as our own are: for its owner alone.
#[expect(
    clippy::disallowed_methods,
    reason = "what a test writes need not survive a power cut"
)]
pub(crate) fn write_private(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits, with a bound, until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Waits for what a peer is to do, and says where it did not. Of a test that only hangs nobody learns that.
#[track_caller]
pub(crate) fn answered<F: Future>(what: &'static str, waiting: F) -> impl Future<Output = F::Output> {
    let asked = std::panic::Location::caller();
    async move {
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap_or_else(|_| panic!("no answer to {what}, asked for in {asked}"))
    }
}
