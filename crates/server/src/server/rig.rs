//! For tests: a whole server on real sockets, and clients of every class.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_daemon::{Metrics, TaskTree};
use landfast_identity::{BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, X509Svid, build_csr};
use landfast_lifecycle::{Clock, SystemClock};
use landfast_proto::spire::api::server::agent::v1::{
    self as agent, agent_client::AgentClient, attest_agent_request as ask, attest_agent_response as answer,
};
use landfast_proto::spire::api::server::entry::v1::{self as entry, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::{Server, ServerHandle, ServerParts};
use crate::config::ServerConfig;

/// A server and its folder. Ends with [`Rig::tear_down`].
pub(crate) struct Rig {
    pub(crate) handle: ServerHandle,
    tree: TaskTree,
    _dir: TempDir,
}

/// An agent as a client.
pub(crate) struct Node {
    pub(crate) id: SpiffeId,
    pub(crate) svid: Arc<X509Svid>,
    pub(crate) channel: Channel,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start(ServerParts::default(), change).await
    }

    /// With `/metrics`, `/live` and `/ready`.
    pub(crate) async fn with_http(
        clock: impl Clock + 'static,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let parts = ServerParts {
            clock: Arc::new(clock),
            metrics: Some(Metrics::install()),
            ..ServerParts::default()
        };
        Self::start(parts, |config| {
            config.http_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            change(config);
        })
        .await
    }

    async fn start(parts: ServerParts, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::in_memory(td(), dir.path().join("admin.sock"));
        config.limits.attestations = 10_000;
        change(&mut config);
        let tree = TaskTree::new();
        let handle = Server::start(config, parts, &tree.handle()).await.unwrap();
        Self {
            handle,
            tree,
            _dir: dir,
        }
    }

    pub(crate) async fn tear_down(self) {
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.addresses()[0]
    }

    pub(crate) async fn admin(&self) -> Channel {
        unix_channel(self.handle.admin_socket()).await
    }

    /// A connection over TLS, with or without a certificate.
    pub(crate) async fn tls(&self, svid: Option<Arc<X509Svid>>) -> Result<Channel, tonic::transport::Error> {
        let bundles = BundleStore::new(BundleSet::from_iter([(*self.handle.bundle()).clone()]));
        let identity = svid.map(|svid| {
            let store = IdentityStore::new();
            store.set(svid);
            store
        });
        let expect = Expect::Exactly(SpiffeId::server(&td()));
        let tls = client_config(expect, bundles, identity, Arc::new(SystemClock)).unwrap();
        let address = self.address();
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = TlsConnector::from(Arc::clone(&tls));
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
            }
        });
        Endpoint::from_static("http://server.invalid")
            .connect_with_connector(connector)
            .await
    }

    pub(crate) async fn token(&self) -> String {
        let request = agent::CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        let made = AgentClient::new(self.admin().await)
            .create_join_token(request)
            .await
            .unwrap();
        made.into_inner().value
    }

    /// A node that has joined.
    pub(crate) async fn node(&self) -> Node {
        let token = self.token().await;
        let key = PrivateKey::generate().unwrap();
        let svid = self.attest("join_token", token.into_bytes(), &key).await.unwrap();
        self.node_of(svid, key).await
    }

    pub(crate) async fn node_of(&self, svid: types::X509svid, key: PrivateKey) -> Node {
        let svid = Arc::new(svid_of(&svid, key));
        let channel = self.tls(Some(Arc::clone(&svid))).await.unwrap();
        Node {
            id: svid.id().clone(),
            svid,
            channel,
        }
    }

    /// Attests by a method without challenge.
    pub(crate) async fn attest(
        &self,
        method: &str,
        payload: Vec<u8>,
        key: &PrivateKey,
    ) -> Result<types::X509svid, Status> {
        let channel = self.tls(None).await.unwrap();
        attest_on(channel, method, payload, key, |_| panic!("a challenge")).await
    }

    pub(crate) async fn entry(
        &self,
        parent: &SpiffeId,
        path: &str,
        change: impl FnOnce(&mut types::Entry),
    ) -> types::Entry {
        let mut wanted = types::Entry {
            spiffe_id: Some(wire(&SpiffeId::from_parts(&td(), path).unwrap())),
            parent_id: Some(wire(parent)),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: "uid:1000".to_owned(),
            }],
            ..Default::default()
        };
        change(&mut wanted);
        let request = entry::BatchCreateEntryRequest {
            entries: vec![wanted],
            output_mask: None,
        };
        let made = EntryClient::new(self.admin().await)
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner();
        let result = made.results.into_iter().next().unwrap();
        assert_eq!(result.status.unwrap().code, 0);
        result.entry.unwrap()
    }

    /// An SVID for any ID of the domain, minted by the operator.
    pub(crate) async fn mint(&self, path: &str) -> Arc<X509Svid> {
        use landfast_proto::spire::api::server::svid::v1::{MintX509svidRequest, svid_client::SvidClient};
        let key = PrivateKey::generate().unwrap();
        let id = SpiffeId::from_parts(&td(), path).unwrap();
        let csr = build_csr(&key, Some(&id), &[]).unwrap().into();
        let request = MintX509svidRequest { csr, ttl: 600 };
        let minted = SvidClient::new(self.admin().await)
            .mint_x509svid(request)
            .await
            .unwrap()
            .into_inner();
        Arc::new(svid_of(&minted.svid.unwrap(), key))
    }
}

/// Makes it a data directory in quarantine, as a restoration does.
pub(crate) fn hold(data: &Path) {
    hold_with(data, true);
}

/// The same, of which not all is known that comes back.
pub(crate) fn hold_in_doubt(data: &Path) {
    hold_with(data, false);
}

fn hold_with(data: &Path, complete: bool) {
    let text = r#"{"causes": [{"kind": "restored", "since": 1, "detail": "a backup was restored", "epoch": 1, "number": 100, "backup_made_at": 1,
        "complete": COMPLETE, "findings": []}], "accepted": 0, "ended": []}"#;
    let text = text.replace("COMPLETE", &complete.to_string());
    let files = landfast_store::DirFiles::new(std::fs::File::open(data).unwrap().into());
    crate::quarantine::replace(&files, "quarantine.json", text.as_bytes()).unwrap();
}

/// One attestation on a channel; `respond` answers challenges.
pub(crate) async fn attest_on(
    channel: Channel,
    method: &str,
    payload: Vec<u8>,
    key: &PrivateKey,
    respond: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<types::X509svid, Status> {
    let csr = build_csr(key, None, &[]).unwrap();
    attest_with(channel, method, payload, csr, respond).await
}

pub(crate) async fn attest_with(
    channel: Channel,
    method: &str,
    payload: Vec<u8>,
    csr: Vec<u8>,
    respond: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<types::X509svid, Status> {
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let params = ask::Params {
        data: Some(types::AttestationData {
            r#type: method.to_owned(),
            payload: payload.into(),
        }),
        params: Some(agent::AgentX509svidParams { csr: csr.into() }),
    };
    send.send(agent::AttestAgentRequest {
        step: Some(ask::Step::Params(params)),
    })
    .await
    .unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = AgentClient::new(channel)
        .attest_agent(Request::new(outgoing))
        .await?
        .into_inner();
    loop {
        match answers.message().await?.and_then(|message| message.step) {
            Some(answer::Step::Challenge(challenge)) => {
                let step = ask::Step::ChallengeResponse(respond(&challenge).into());
                send.send(agent::AttestAgentRequest { step: Some(step) })
                    .await
                    .unwrap();
            }
            Some(answer::Step::Result(result)) => return Ok(result.svid.unwrap()),
            None => return Err(Status::internal("the stream ended early")),
        }
    }
}

pub(crate) async fn unix_channel(socket: &Path) -> Channel {
    let socket: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

pub(crate) fn td() -> TrustDomain {
    TrustDomain::parse("plant.test").unwrap()
}

pub(crate) fn wire(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

pub(crate) fn svid_of(svid: &types::X509svid, key: PrivateKey) -> X509Svid {
    let chain = svid
        .cert_chain
        .iter()
        .map(|der| Certificate::from_der(der).unwrap())
        .collect();
    X509Svid::new(chain, key).unwrap()
}

/// The reason that goes with PermissionDenied, as SPIRE's agent reads it.
pub(crate) fn reason(status: &Status) -> Option<types::permission_denied_details::Reason> {
    use prost::Message as _;
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let rpc = RpcStatus::decode(status.details()).ok()?;
    assert_eq!(
        (rpc.code, rpc.message.as_str()),
        (i32::from(status.code()), status.message())
    );
    let any = rpc.details.first()?;
    assert_eq!(
        any.type_url,
        "type.googleapis.com/spire.api.types.PermissionDeniedDetails"
    );
    Some(
        types::PermissionDeniedDetails::decode(any.value.as_slice())
            .unwrap()
            .reason(),
    )
}
