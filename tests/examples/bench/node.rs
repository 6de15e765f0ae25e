//! A node that attests over TLS as any other, and connections to the server from any address of the loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use landfast_identity::{
    Bundle, BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, X509Svid, build_csr,
};
use landfast_proto::spire::api::server::agent::v1 as agent_api;
use landfast_proto::spire::api::types;
use landfast_testkit::site::{Site, TRUST_DOMAIN};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use tokio::net::TcpSocket;
use tonic::transport::{Channel, Endpoint};

use crate::BoxError;

/// A node of our own, attested over TLS as any other.
pub(crate) struct Node {
    pub(crate) channel: Channel,
    pub(crate) id: SpiffeId,
    pub(crate) identity: IdentityStore,
}

impl Node {
    pub(crate) async fn enrol(site: &Site) -> Result<Self, BoxError> {
        let key = PrivateKey::generate()?;
        let stranger = dial(site, Ipv4Addr::LOCALHOST, None).await?;
        let params = agent_api::attest_agent_request::Params {
            data: Some(types::AttestationData {
                r#type: "join_token".to_owned(),
                payload: site.token().into_bytes().into(),
            }),
            params: Some(agent_api::AgentX509svidParams {
                csr: build_csr(&key, None, &[])?.into(),
            }),
        };
        let request = agent_api::AttestAgentRequest {
            step: Some(agent_api::attest_agent_request::Step::Params(params)),
        };
        let mut answers = agent_api::agent_client::AgentClient::new(stranger)
            .attest_agent(tokio_stream::once(request))
            .await?
            .into_inner();
        let answer = answers.message().await?.and_then(|answer| answer.step);
        let Some(agent_api::attest_agent_response::Step::Result(result)) = answer else {
            return Err("no SVID for a join token".into());
        };
        let chain = result.svid.unwrap_or_default().cert_chain;
        let chain = chain
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()?;
        let svid = Arc::new(X509Svid::new(chain, Arc::new(key))?);
        let id = svid.id().clone();
        let identity = IdentityStore::new();
        identity.set(svid);
        let channel = dial(site, Ipv4Addr::LOCALHOST, Some(identity.clone())).await?;
        Ok(Self {
            channel,
            id,
            identity,
        })
    }
}

/// A connection of its own, from this address.
pub(crate) async fn dial(
    site: &Site,
    from: Ipv4Addr,
    identity: Option<IdentityStore>,
) -> Result<Channel, BoxError> {
    let domain = TrustDomain::parse(TRUST_DOMAIN)?;
    let pem = std::fs::read_to_string(site.path().join("bundle.pem"))?;
    let bundles = BundleStore::new(BundleSet::from_iter([Bundle::from_pem(domain.clone(), &pem)?]));
    let config = client_config(
        Expect::Exactly(SpiffeId::server(&domain)),
        bundles,
        identity,
        Arc::new(landfast_lifecycle::SystemClock),
    )?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let address: std::net::SocketAddr = site.address().parse()?;
    let connector = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            let tcp = socket.connect(address).await?;
            tcp.set_nodelay(true)?;
            let name =
                rustls::pki_types::ServerName::try_from("landfast.invalid").map_err(std::io::Error::other)?;
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Ok(Endpoint::from_static("http://landfast.invalid")
        .connect_with_connector(connector)
        .await?)
}
