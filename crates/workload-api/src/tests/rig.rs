//! A served socket whose source and attestor follow a script and count their calls.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfast_identity::{
    Bundle, BundleSet, Certificate, JwtAuthority, PrivateKey, Selector, SelectorSet, SpiffeId, TrustDomain,
    UnixTime, WitAuthority, X509Authority, X509Svid, issue, jwt, wit,
};
use landfast_uds::{PinnedProcess, SocketMode, UdsListener};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    AttestError, Attested, Attestor, FetchedJwt, FetchedWit, FetchedWits, Gauges, Given, HandOut,
    IdentitySource, Limits, Sds, ServedJwtIdentity, ServedX509, SourceError, ViewState, WorkloadView,
    client::WorkloadClient,
};

pub(super) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A trust domain that can issue.
pub(super) struct Domain {
    pub(super) name: TrustDomain,
    key: PrivateKey,
    authority: Certificate,
}

impl Domain {
    pub(super) fn new(name: &str) -> Self {
        let name = TrustDomain::parse(name).unwrap();
        let key = PrivateKey::generate().unwrap();
        let params = issue::AuthorityParams {
            trust_domain: &name,
            authority_id: "a1",
            not_before: UnixTime::from_secs(NOW.as_secs() - 60),
            not_after: UnixTime::from_secs(NOW.as_secs() + 86_400),
        };
        let authority = issue::self_signed_authority(&params, &key).unwrap();
        Self { name, key, authority }
    }

    pub(super) fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_parts(&self.name, path).unwrap()
    }

    pub(super) fn svid(&self, path: &str, serial: u8) -> Arc<X509Svid> {
        let key = PrivateKey::generate().unwrap();
        let (id, public_key) = (self.id(path), key.public_key());
        let params = issue::LeafParams {
            id: &id,
            public_key: &public_key,
            dns_names: &[],
            serial: [serial; 16],
            not_before: NOW,
            not_after: UnixTime::from_secs(NOW.as_secs() + 3600),
        };
        let leaf = issue::leaf(&params, &self.authority, &self.key).unwrap();
        Arc::new(X509Svid::new(vec![leaf], key).unwrap())
    }

    pub(super) fn bundle(&self) -> Arc<Bundle> {
        let x509 = X509Authority {
            certificate: self.authority.clone(),
            tainted: false,
        };
        let jwt = JwtAuthority {
            key_id: "k1".to_owned(),
            public_key: self.key.public_key(),
            expires_at: None,
            tainted: false,
        };
        let bundle = Bundle::new(self.name.clone())
            .with_x509_authorities(vec![x509])
            .unwrap();
        let wit = WitAuthority {
            key_id: "w1".to_owned(),
            public_key: self.key.public_key(),
            expires_at: None,
            tainted: false,
        };
        let bundle = bundle.with_jwt_authorities(vec![jwt]).unwrap();
        Arc::new(bundle.with_wit_authorities(vec![wit]).unwrap())
    }

    pub(super) fn token(&self, path: &str, audience: &[String]) -> String {
        let id = self.id(path);
        let params = jwt::JwtParams {
            sub: &id,
            aud: audience,
            exp: UnixTime::from_secs(NOW.as_secs() + 300),
            iat: NOW,
            iss: Some("https://issuer.test"),
            jti: Some("j1"),
        };
        jwt::sign(&params, "k1", &self.key).unwrap()
    }

    pub(super) fn wit(&self, path: &str, hint: &str) -> FetchedWit {
        let (id, key) = (self.id(path), Arc::new(PrivateKey::generate().unwrap()));
        let params = wit::WitParams {
            sub: &id,
            key: &key.public_key(),
            algorithm: "ES256",
            exp: UnixTime::from_secs(NOW.as_secs() + 300),
            iat: NOW,
            iss: None,
        };
        FetchedWit {
            token: wit::sign(&params, "w1", &self.key).unwrap(),
            id,
            key,
            hint: hint.to_owned(),
            entry_id: path.to_owned(),
        }
    }

    pub(super) fn view(&self, serial: u8, federated: &[&Self]) -> WorkloadView {
        let served = |path: &str, hint: &str, told: bool| ServedX509 {
            svid: self.svid(path, serial),
            hint: hint.to_owned(),
            entry_id: path.to_owned(),
            told,
            reserve: false,
        };
        let identity = |path: &str, hint: &str| ServedJwtIdentity {
            id: self.id(path),
            hint: hint.to_owned(),
        };
        WorkloadView {
            x509: vec![
                served("/a", "main", true),
                served("/b", "main", false),
                served("/c", "", true),
            ],
            jwt_identities: vec![identity("/a", "main"), identity("/b", "main")],
            own_bundle: self.bundle(),
            federated: federated.iter().map(|domain| domain.bundle()).collect(),
            state: ViewState::Ready,
        }
    }
}

/// What the source and the attestor do.
pub(super) struct Script {
    pub(super) own: Domain,
    pub(super) foreign: Domain,
    pub(super) views: watch::Sender<Arc<WorkloadView>>,
    /// What those get who are known by their hash too.
    pub(super) hashed: watch::Sender<Arc<WorkloadView>>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) jwt_error: Mutex<Option<SourceError>>,
    pub(super) now: Mutex<Option<UnixTime>>,
    pub(super) wits: Mutex<Wits>,
    pub(super) attestations: AtomicUsize,
    pub(super) attestation_fails: Mutex<bool>,
    pub(super) look: Mutex<Look>,
    /// How often somebody asked for X509-SVIDs.
    pub(super) x509_asked: AtomicUsize,
    /// What was handed out: the service, to which process, and what.
    pub(super) handed: Mutex<Vec<String>>,
}

/// The source's side of WIT-SVIDs.
#[derive(Default)]
pub(super) struct Wits {
    pub(super) has: Option<bool>,
    /// What the next question gets.
    pub(super) next: Option<SourceError>,
    /// What questions get else; nothing is no identity.
    pub(super) held: Option<FetchedWits>,
    pub(super) asked: usize,
}

/// What an attestation finds besides the uid.
#[derive(Default)]
pub(super) struct Look {
    pub(super) hash: bool,
    pub(super) incomplete: bool,
    pub(super) outdated: CancellationToken,
}

#[async_trait]
impl IdentitySource for Script {
    fn view(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<WorkloadView>> {
        match selectors.len() {
            1 => self.views.subscribe(),
            2 => self.hashed.subscribe(),
            other => panic!("{other} selectors"),
        }
    }

    fn ask_for_x509(&self, _: &SelectorSet) {
        self.x509_asked.fetch_add(1, Ordering::SeqCst);
    }

    async fn fetch_jwt(
        &self,
        _: &SelectorSet,
        audience: &[String],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, SourceError> {
        if let Some(error) = self.jwt_error.lock().unwrap().take() {
            return Err(error);
        }
        let identities = self.views.borrow().jwt_identities.clone();
        let wanted = identities
            .into_iter()
            .filter(|identity| id.is_none_or(|id| *id == identity.id));
        let fetched = |identity: ServedJwtIdentity| FetchedJwt {
            token: self.own.token(identity.id.path(), audience),
            entry_id: identity.id.path().to_owned(),
            id: identity.id,
            hint: identity.hint,
            reserve: false,
        };
        Ok(wanted.map(fetched).collect())
    }

    fn has_wit(&self) -> Option<bool> {
        self.wits.lock().unwrap().has
    }

    async fn fetch_wit(&self, _: &SelectorSet, id: Option<&SpiffeId>) -> Result<FetchedWits, SourceError> {
        let mut wits = self.wits.lock().unwrap();
        wits.asked += 1;
        if let Some(error) = wits.next.take() {
            return Err(error);
        }
        let mut held = wits.held.clone().ok_or(SourceError::NoIdentity)?;
        held.svids.retain(|wit| id.is_none_or(|id| *id == wit.id));
        Ok(held)
    }

    fn handed_out(&self, handed: &HandOut<'_>) {
        let what = match handed.given {
            Given::X509(served) => format!("x509 {} {}", served.entry_id, served.svid.serial_hex()),
            Given::Jwt(jwt) => format!("jwt {}", jwt.entry_id),
            Given::Wit(wit) => format!("wit {}", wit.entry_id),
        };
        assert!(handed.to.process.is_some() && !handed.to.selectors.is_empty() && handed.of.is_none());
        let line = format!("{} {what}", handed.way.as_str());
        self.handed.lock().unwrap().push(line);
    }

    fn now(&self) -> Option<UnixTime> {
        *self.now.lock().unwrap()
    }

    fn validation_bundles(&self, _: &SelectorSet) -> BundleSet {
        [self.own.bundle(), self.foreign.bundle()]
            .into_iter()
            .map(|bundle| (*bundle).clone())
            .collect()
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

#[async_trait]
impl Attestor for Script {
    async fn attest(&self, process: &Arc<PinnedProcess>) -> Result<Attested, AttestError> {
        self.attestations.fetch_add(1, Ordering::SeqCst);
        if *self.attestation_fails.lock().unwrap() {
            return Err(AttestError {
                reason: "as the script says".to_owned(),
            });
        }
        let look = self.look.lock().unwrap();
        let uid = Selector::parse(&format!("unix:uid:{}", process.uid())).unwrap();
        let hash = look.hash.then(|| Selector::parse("unix:sha256:00").unwrap());
        Ok(Attested {
            incomplete: look.incomplete,
            outdated: look.outdated.clone(),
            ..Attested::complete([uid].into_iter().chain(hash).collect())
        })
    }
}

/// A served socket.
pub(super) struct Rig {
    pub(super) script: Arc<Script>,
    pub(super) path: PathBuf,
    pub(super) gauges: Arc<Gauges>,
    stop: CancellationToken,
    served: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) fn start() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        Self::offering(Some(Sds::default()), limits)
    }

    pub(super) fn offering(sds: Option<Sds>, limits: Limits) -> Self {
        let (own, foreign) = (Domain::new("own.test"), Domain::new("foreign.test"));
        let script = Arc::new(Script {
            views: watch::channel(Arc::new(own.view(1, &[&foreign]))).0,
            hashed: watch::channel(Arc::new(own.view(7, &[&foreign]))).0,
            ready: watch::channel(true).0,
            own,
            foreign,
            jwt_error: Mutex::new(None),
            now: Mutex::new(Some(NOW)),
            wits: Mutex::new(Wits {
                has: Some(false),
                ..Wits::default()
            }),
            attestations: AtomicUsize::new(0),
            attestation_fails: Mutex::new(false),
            look: Mutex::default(),
            x509_asked: AtomicUsize::new(0),
            handed: Mutex::default(),
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = UdsListener::bind(
            &path,
            SocketMode {
                mode: 0o777,
                group: None,
            },
        )
        .unwrap();
        let (gauges, stop) = (Arc::new(Gauges::default()), CancellationToken::new());
        let serving = crate::serve(
            listener,
            script.clone(),
            script.clone(),
            sds,
            limits,
            gauges.clone(),
            stop.clone().cancelled_owned(),
        );
        #[expect(clippy::disallowed_methods, reason = "the rig joins it")]
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            script,
            path,
            gauges,
            stop,
            served,
            _folder: folder,
        }
    }

    pub(super) async fn client(&self) -> WorkloadClient {
        WorkloadClient::connect(self.path.to_str().unwrap())
            .await
            .unwrap()
    }

    pub(super) fn publish(&self, view: WorkloadView) {
        self.script.views.send_replace(Arc::new(view));
    }

    /// From now on attestation looks for the hash; so it should have done before.
    pub(super) fn look_for_hashes(&self) {
        let wider = Look {
            hash: true,
            ..Look::default()
        };
        let before = std::mem::replace(&mut *self.script.look.lock().unwrap(), wider);
        before.outdated.cancel();
    }

    pub(super) fn attestations(&self) -> usize {
        self.script.attestations.load(Ordering::SeqCst)
    }

    /// Ends it and waits for it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.served)
            .await
            .expect("it does not end")
            .unwrap();
        assert!(!self.path.exists(), "the socket is left");
        assert_eq!(
            (
                self.gauges.connections(),
                self.gauges.streams(),
                self.gauges.processes()
            ),
            (0, 0, 0)
        );
    }
}

/// Waits for a state, ten seconds at most.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .is_ok(),
        "never: {what}"
    );
}

/// The next item, or a panic after ten seconds.
pub(super) async fn next<S: futures_util::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    use futures_util::StreamExt as _;
    tokio::time::timeout(Duration::from_secs(60), stream.next())
        .await
        .expect("nothing comes")
}
