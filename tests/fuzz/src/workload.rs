//! The Workload API on two sockets in one process: one whose attestor finds a workload with identities, one whose attestor finds nobody.
//! Beside them the admin socket of an agent.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use landfast_daemon::TaskTree;
use landfast_identity::{
    Bundle, BundleSet, Certificate, JwtAuthority, Selector, SelectorSet, SpiffeId, UnixTime, X509Authority,
    X509Svid, issue, jwt,
};
use landfast_uds::{PinnedProcess, SocketMode, UdsListener};
use landfast_workload_api::{
    AttestError, Attested, Attestor, FetchedJwt, Gauges, IdentitySource, Limits, Sds, ServedJwtIdentity,
    ServedX509, SourceError, ViewState, WorkloadView, serve,
};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::agent;
use crate::fixed::{NOW, domain, key};

/// The sockets and a connection to each.
pub struct Workloads {
    /// Everything runs on it.
    pub runtime: Runtime,
    /// The caller has identities.
    pub known: Channel,
    /// It has none.
    pub stranger: Channel,
    /// An agent's admin socket.
    pub admin: Channel,
    _tree: TaskTree,
    _folder: TempDir,
}

/// The identities of the known caller.
pub const PATHS: [&str; 2] = ["/a", "/b"];

/// The rig of this thread.
pub fn with(run: impl FnOnce(&Workloads)) {
    thread_local! {
        static RIG: OnceCell<Workloads> = const { OnceCell::new() };
    }
    RIG.with(|rig| run(rig.get_or_init(Workloads::start)));
}

impl Workloads {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let source = Arc::new(Source::new());
        let (known, stranger, (tree, admin)) = runtime.block_on(async {
            (
                listen(folder.path(), "known", &source).await,
                listen(folder.path(), "stranger", &source).await,
                agent::start(folder.path()).await,
            )
        });
        Self {
            runtime,
            known,
            stranger,
            admin,
            _tree: tree,
            _folder: folder,
        }
    }
}

async fn listen(folder: &Path, who: &'static str, source: &Arc<Source>) -> Channel {
    let path = folder.join(who);
    let mode = SocketMode {
        mode: 0o600,
        group: None,
    };
    let listener = UdsListener::bind(&path, mode).expect("a socket");
    let serving = serve(
        listener,
        Arc::clone(source) as Arc<dyn IdentitySource>,
        Arc::new(Finds(who)),
        Some(Sds::default()),
        Limits::default(),
        Arc::new(Gauges::default()),
        std::future::pending(),
    );
    tokio::spawn(serving);
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("a connection")
}

struct Finds(&'static str);

#[async_trait]
impl Attestor for Finds {
    async fn attest(&self, _: &Arc<PinnedProcess>) -> Result<Attested, AttestError> {
        let selector = Selector::new("fuzz", self.0).map_err(|error| AttestError {
            reason: error.to_string(),
        })?;
        Ok(Attested::complete([selector].into_iter().collect()))
    }
}

/// Identities for `fuzz:known` alone.
struct Source {
    known: watch::Sender<Arc<WorkloadView>>,
    nobody: watch::Sender<Arc<WorkloadView>>,
    own: Arc<Bundle>,
}

impl Source {
    fn new() -> Self {
        let key = key();
        let params = issue::AuthorityParams {
            trust_domain: &domain("td.test"),
            authority_id: "fuzz",
            not_before: UnixTime::from_secs(NOW.as_secs() - 60),
            not_after: UnixTime::from_secs(NOW.as_secs() + 86_400),
        };
        let authority = issue::self_signed_authority(&params, &key).expect("an authority");
        let own = bundle(&authority);
        let view = WorkloadView {
            x509: PATHS.iter().map(|path| served(&authority, path)).collect(),
            jwt_identities: PATHS
                .iter()
                .map(|path| ServedJwtIdentity {
                    id: id(path),
                    hint: (*path).to_owned(),
                })
                .collect(),
            own_bundle: Arc::clone(&own),
            federated: Vec::new(),
            state: ViewState::Ready,
        };
        let nothing = WorkloadView {
            x509: Vec::new(),
            jwt_identities: Vec::new(),
            own_bundle: Arc::clone(&own),
            federated: Vec::new(),
            state: ViewState::NoIdentity,
        };
        Self {
            known: watch::Sender::new(Arc::new(view)),
            nobody: watch::Sender::new(Arc::new(nothing)),
            own,
        }
    }

    fn knows(selectors: &SelectorSet) -> bool {
        selectors.iter().any(|selector| selector.value() == "known")
    }
}

fn bundle(authority: &Certificate) -> Arc<Bundle> {
    let x509 = X509Authority {
        certificate: authority.clone(),
        tainted: false,
    };
    let jwt = JwtAuthority {
        key_id: "k".to_owned(),
        public_key: key().public_key(),
        expires_at: None,
        tainted: false,
    };
    let bundle = Bundle::new(domain("td.test"))
        .with_x509_authorities(vec![x509])
        .and_then(|bundle| bundle.with_jwt_authorities(vec![jwt]));
    Arc::new(bundle.expect("two keys"))
}

fn served(authority: &Certificate, path: &str) -> ServedX509 {
    let key = key();
    let params = issue::LeafParams {
        id: &id(path),
        public_key: &key.public_key(),
        dns_names: &[],
        serial: [5; 16],
        not_before: NOW,
        not_after: UnixTime::from_secs(NOW.as_secs() + 3600),
    };
    let leaf = issue::leaf(&params, authority, &key).expect("a leaf");
    ServedX509 {
        svid: Arc::new(X509Svid::new(vec![leaf], key).expect("an SVID")),
        hint: path.to_owned(),
        entry_id: path.to_owned(),
        told: true,
        reserve: false,
    }
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::from_parts(&domain("td.test"), path).expect("an ID")
}

#[async_trait]
impl IdentitySource for Source {
    fn view(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<WorkloadView>> {
        if Self::knows(selectors) {
            self.known.subscribe()
        } else {
            self.nobody.subscribe()
        }
    }

    async fn fetch_jwt(
        &self,
        selectors: &SelectorSet,
        audience: &[String],
        wanted: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, SourceError> {
        assert!(Self::knows(selectors), "a token was fetched for nobody");
        let all = PATHS.iter().map(|path| id(path));
        let wanted = all.filter(|id| wanted.is_none_or(|wanted| wanted == id));
        wanted
            .map(|id| {
                let params = jwt::JwtParams {
                    sub: &id,
                    aud: audience,
                    exp: UnixTime::from_secs(NOW.as_secs() + 300),
                    iat: NOW,
                    iss: None,
                    jti: None,
                };
                let token = jwt::sign(&params, "k", &key())
                    .map_err(|error| SourceError::InvalidArgument(error.to_string()))?;
                Ok(FetchedJwt {
                    id: id.clone(),
                    token,
                    hint: String::new(),
                    entry_id: id.to_string(),
                    reserve: false,
                })
            })
            .collect()
    }

    fn now(&self) -> Option<UnixTime> {
        Some(NOW)
    }

    fn validation_bundles(&self, _: &SelectorSet) -> BundleSet {
        BundleSet::from_iter([Arc::clone(&self.own)])
    }
}
