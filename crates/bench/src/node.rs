//! One simulated node's calls: each a real one, over a TLS connection of its own that is verified both ways.
//!
//! Invariant: deadlines, keep-alive and the order of calls are those of landfast-agent.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_identity::{Certificate, PrivateKey, SpiffeId, X509Svid, build_csr};
use landfast_proto::spire::api::server::agent::v1 as agent_api;
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{self as svid_api, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_proto::{NEEDED_BY, PUSHBACK};
use landfast_tls::IdentityStore;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::BoxError;
use crate::meter::Metered;
use crate::site::Site;

/// A node that has attested.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: SpiffeId,
    pub(crate) site: Arc<Site>,
    number: usize,
    tls: Arc<ClientConfig>,
}

/// What an attempt failed of.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server has shut this agent out.
    ShutOut,
    /// It does not push.
    DoesNotPush,
    /// It says when to come again.
    PushedBack(Duration),
    /// Anything else: try again after a while.
    Failed(BoxError),
}

impl Node {
    /// With a join token: key, CSR, AttestAgent.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub(crate) async fn attest(site: Arc<Site>, number: usize, token: &str) -> Result<Self, BoxError> {
        let key = PrivateKey::generate()?;
        let params = agent_api::attest_agent_request::Params {
            data: Some(types::AttestationData {
                r#type: "join_token".to_owned(),
                payload: token.as_bytes().to_vec().into(),
            }),
            params: Some(agent_api::AgentX509svidParams {
                csr: build_csr(&key, None, &[])?.into(),
            }),
        };
        let request = agent_api::AttestAgentRequest {
            step: Some(agent_api::attest_agent_request::Step::Params(params)),
        };
        let stranger = connect(&site, number, &site.stranger).await?;
        let answer = async {
            let client = &mut agent_api::agent_client::AgentClient::new(stranger);
            client
                .attest_agent(tokio_stream::once(request))
                .await?
                .into_inner()
                .message()
                .await
        };
        let answer = timeout(CALL, answer).await??.and_then(|answer| answer.step);
        let Some(agent_api::attest_agent_response::Step::Result(result)) = answer else {
            return Err("the server answers a join token without an SVID".into());
        };
        let svid = Arc::new(svid(&result.svid.unwrap_or_default(), key)?);
        let identity = IdentityStore::new();
        let id = svid.id().clone();
        identity.set(svid);
        let tls = site.tls(identity)?;
        Ok(Self {
            id,
            site,
            number,
            tls,
        })
    }

    /// A new connection that shows its SVID.
    pub(crate) async fn connect(&self) -> Result<Channel, Trouble> {
        self.site.connects.attempt();
        let channel = connect(&self.site, self.number, &self.tls)
            .await
            .map_err(Trouble::Failed)?;
        self.site.connects.success();
        Ok(channel)
    }

    /// Asks for an SVID for each of these entries, with a key for each, and reads what comes.
    pub(crate) async fn sign(
        &self,
        channel: &Channel,
        entries: &[String],
        needed_by: i64,
    ) -> Result<(), Trouble> {
        let mut keys = Vec::with_capacity(entries.len());
        let mut params = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = PrivateKey::generate().map_err(failed)?;
            params.push(svid_api::NewX509svidParams {
                entry_id: entry.clone(),
                csr: build_csr(&key, None, &[]).map_err(failed)?.into(),
            });
            keys.push(key);
        }
        let mut request = tonic::Request::new(svid_api::BatchNewX509svidRequest { params });
        request.metadata_mut().insert(NEEDED_BY, needed_by.into());
        self.site.signs.attempt();
        let mut client = SvidClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
        let answer = call(client.batch_new_x509svid(request)).await;
        let answer = answer.inspect_err(|trouble| self.count(trouble))?.into_inner();
        if answer.results.len() != keys.len() {
            return Err(failed("not as many results as requests"));
        }
        for (result, key) in answer.results.into_iter().zip(keys) {
            let Some(signed) = result.svid else {
                let status = result.status.unwrap_or_default();
                return Err(failed(format!(
                    "an SVID is refused: {} (code {})",
                    status.message, status.code
                )));
            };
            svid(&signed, key).map_err(Trouble::Failed)?;
        }
        self.site.signs.success();
        Ok(())
    }

    fn count(&self, trouble: &Trouble) {
        if matches!(trouble, Trouble::PushedBack(_)) {
            self.site
                .signs
                .pushed_back
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// As SPIRE's agents do it: entries, then the bundle.
    pub(crate) async fn synchronise(&self, channel: &Channel) -> Result<Vec<types::Entry>, Trouble> {
        let mut client = EntryClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
        let request = entry_api::SyncAuthorizedEntriesRequest {
            output_mask: Some(mask()),
            ids: Vec::new(),
        };
        let answer = async {
            let stream = client
                .sync_authorized_entries(tokio_stream::once(request))
                .await?;
            stream.into_inner().message().await
        };
        let answer = call(answer)
            .await?
            .ok_or_else(|| failed("a synchronisation ends without an answer"))?;
        if !answer.entry_revisions.is_empty() {
            return Err(failed("more entries than fit a page: give the agents fewer"));
        }
        let mut bundles = BundleClient::new(channel.clone());
        call(bundles.get_bundle(GetBundleRequest { output_mask: None })).await?;
        Ok(answer.entries)
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        let again = status
            .metadata()
            .get(PUSHBACK)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match (status.code(), again) {
            (Code::Unimplemented, _) => Self::DoesNotPush,
            (Code::PermissionDenied, _) => Self::ShutOut,
            (_, Some(millis)) => Self::PushedBack(Duration::from_millis(millis)),
            _ => Self::Failed(status.into()),
        }
    }
}

/// A connection of its own, and no other after it: what breaks is seen.
async fn connect(site: &Site, number: usize, tls: &Arc<ClientConfig>) -> Result<Channel, BoxError> {
    let socket = if site.address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = site.source(number) {
        socket.bind((source, 0).into())?;
    }
    let tcp = timeout(DIAL, socket.connect(site.address)).await??;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("landfast.invalid")?;
    let metered = Metered::new(tcp, Arc::clone(&site.meter));
    let stream = timeout(DIAL, TlsConnector::from(Arc::clone(tls)).connect(name, metered)).await??;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was closed")) }
    });
    let channel = Endpoint::from_static("http://landfast.invalid")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_timeout(HANDSHAKE)
        .connect_with_connector(connector)
        .await?;
    Ok(channel)
}

/// With a deadline.
pub(crate) async fn call<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
    match timeout(CALL, answer).await {
        Ok(answer) => answer.map_err(Trouble::from),
        Err(elapsed) => Err(failed(elapsed)),
    }
}

fn failed(error: impl Into<BoxError>) -> Trouble {
    Trouble::Failed(error.into())
}

/// As a node reads it: the chain parses, the leaf is an SVID, and the key is its own.
fn svid(wire: &types::X509svid, key: PrivateKey) -> Result<X509Svid, BoxError> {
    let chain = wire
        .cert_chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(X509Svid::new(chain, key)?)
}

/// What agents ask for.
fn mask() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        selectors: true,
        federates_with: true,
        admin: true,
        downstream: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        created_at: true,
        ..types::EntryMask::default()
    }
}

const DIAL: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const MESSAGE: usize = 16 << 20;
