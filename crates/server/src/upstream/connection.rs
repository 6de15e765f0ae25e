//! One connection to the parent: who we are there, whom we talk to. Invariant: what leaves here was verified to be the server of our trust
//! domain, and knows us by an SVID that its own agent gave us.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_identity::{BundleSet, SpiffeId, TrustDomain, UnixTime, X509Svid};
use landfast_lifecycle::SharedClock;
use landfast_tls::{BundleStore, Expect, IdentityStore, TlsError, client_config};
use landfast_workload_api::client::{ClientError, WorkloadClient};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::ParentConfig;

/// A connection and the identity it was made with.
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) id: SpiffeId,
    /// From then on the agent has a newer SVID.
    half: UnixTime,
}

impl Connection {
    /// With the identity that the Workload API has for this process now.
    pub(super) async fn make(
        parent: &ParentConfig,
        trust_domain: &TrustDomain,
        clock: &SharedClock,
    ) -> Result<Self, ConnectError> {
        let context = tokio::time::timeout(DEADLINE, async {
            WorkloadClient::connect(&parent.workload_api)
                .await?
                .fetch_x509()
                .await
        });
        let context = context.await.map_err(|_elapsed| ConnectError::AgentLate)?;
        let context = context.map_err(|error| agent(parent, error))?;
        let svid = choose(context.svids, parent.spiffe_id.as_ref())?;
        if svid.id().trust_domain() != trust_domain {
            return Err(ConnectError::OtherDomain {
                id: svid.id().clone(),
            });
        }
        let (id, half) = (svid.id().clone(), half_of(&svid));
        let channel =
            tokio::time::timeout(DEADLINE, dial(parent, trust_domain, svid, context.bundles, clock));
        let channel = channel.await.map_err(|_elapsed| ConnectError::ParentLate)??;
        Ok(Self { channel, id, half })
    }

    /// Whether a newer SVID is to be asked for.
    pub(super) fn is_due(&self, now: Option<UnixTime>) -> bool {
        now.is_none_or(|now| now >= self.half)
    }
}

fn agent(parent: &ParentConfig, source: ClientError) -> ConnectError {
    let endpoint = parent.workload_api.clone();
    match source.code() {
        Some(tonic::Code::PermissionDenied) => ConnectError::NoIdentity { endpoint },
        _ => ConnectError::Agent { endpoint, source },
    }
}

fn choose(svids: Vec<X509Svid>, wanted: Option<&SpiffeId>) -> Result<X509Svid, ConnectError> {
    let mut svids = svids.into_iter();
    match wanted {
        // The default is the first (Workload API §5.2.1).
        None => svids.next().ok_or(ConnectError::NotGiven { wanted: None }),
        Some(id) => {
            let found = svids.find(|svid| svid.id() == id);
            found.ok_or_else(|| ConnectError::NotGiven {
                wanted: Some(id.clone()),
            })
        }
    }
}

fn half_of(svid: &X509Svid) -> UnixTime {
    let life = svid.not_after().since(svid.not_before());
    svid.not_before().saturating_add(life / 2)
}

async fn dial(
    parent: &ParentConfig,
    trust_domain: &TrustDomain,
    svid: X509Svid,
    bundles: BundleSet,
    clock: &SharedClock,
) -> Result<Channel, ConnectError> {
    let identity = IdentityStore::new();
    identity.set(Arc::new(svid));
    let expect = Expect::Exactly(SpiffeId::server(trust_domain));
    let tls = client_config(
        expect,
        BundleStore::new(bundles),
        Some(identity),
        Arc::clone(clock),
    )?;
    let tcp = TcpStream::connect((parent.host.as_str(), parent.port))
        .await
        .map_err(|source| ConnectError::Connect { source })?;
    // The name is for the wire only (SNI); who the server is, its SPIFFE ID says.
    let name = ServerName::try_from(parent.host.clone())
        .or_else(|_| ServerName::try_from("server.invalid"))
        .map_err(|source| ConnectError::Name { source })?;
    let connecting = TlsConnector::from(tls).connect(name, tcp);
    let stream = connecting.await.map_err(|source| ConnectError::Tls { source })?;
    let mut stream = Some(TokioIo::new(stream));
    // Once: when it breaks, the next call makes another, with the SVID of then.
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was closed")) }
    });
    Endpoint::from_static("http://server.invalid")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_timeout(DEADLINE)
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Http { source })
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(
        "the Workload API at {endpoint} has no identity for this server: on the parent, make an entry with `downstream` for it"
    )]
    NoIdentity { endpoint: String },
    #[error("the Workload API at {endpoint} does not give this server its identity")]
    Agent { endpoint: String, source: ClientError },
    #[error("the Workload API has not answered within {} s", DEADLINE.as_secs())]
    AgentLate,
    #[error("the Workload API does not give this server {}", wanted.as_ref().map_or("any identity", SpiffeId::as_str))]
    NotGiven { wanted: Option<SpiffeId> },
    #[error("{id} is of another trust domain: a parent server is of the same one; others are federated with")]
    OtherDomain { id: SpiffeId },
    #[error("cannot connect to the parent server")]
    Connect { source: std::io::Error },
    #[error("the parent server's host is no name or address")]
    Name {
        source: rustls::pki_types::InvalidDnsNameError,
    },
    #[error("what answers does not prove to be the server of our trust domain, or refuses our identity")]
    Tls { source: std::io::Error },
    #[error("the parent server does not speak HTTP/2 properly")]
    Http { source: tonic::transport::Error },
    #[error("the parent server has not answered within {} s", DEADLINE.as_secs())]
    ParentLate,
    #[error("TLS cannot be set up")]
    Setup {
        #[from]
        source: TlsError,
    },
}

const DEADLINE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
