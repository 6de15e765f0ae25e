//! Starts a plant: server, tokens, nodes, entries, and a connection for each caller.

use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use landfast_daemon::TaskTree;
use landfast_identity::{BundleSet, Certificate, PrivateKey, SpiffeId, X509Svid, build_csr};
use landfast_proto::spire::api::server::agent::v1::{
    self as agent, agent_client::AgentClient, attest_agent_request as ask, attest_agent_response as answer,
};
use landfast_proto::spire::api::server::bundle::v1::{
    BatchSetFederatedBundleRequest, bundle_client::BundleClient,
};
use landfast_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{MintX509svidRequest, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_server::{Server, ServerConfig, ServerHandle, ServerParts, X509PopConfig};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{Caller, DOMAIN, clock};
use crate::fixed::{device, domain};

pub(super) async fn start(nodes: bool) -> (TaskTree, ServerHandle, Vec<Channel>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let mut config = ServerConfig::in_memory(domain(DOMAIN), socket.clone());
    config.limits.attestations = u32::MAX;
    config.limits.signatures = u32::MAX;
    config.x509pop = Some(X509PopConfig {
        roots: vec![device().1],
        max_intermediates: 4,
    });
    let parts = ServerParts {
        clock: clock(),
        ..ServerParts::default()
    };
    let tree = TaskTree::new();
    let server = Server::start(config, parts, &tree.handle())
        .await
        .expect("a server in memory");
    let operator = unix(socket).await;
    federate(&operator).await;
    let mut channels = vec![operator.clone()];
    if nodes {
        let stranger = tls(&server, None).await;
        let a = node(&server, &operator, &stranger, "token-a").await;
        let b = node(&server, &operator, &stranger, "token-b").await;
        entries(&operator).await;
        let workload = minted(&server, &operator, "/a/one").await;
        let admin = minted(&server, &operator, "/admin").await;
        channels.extend([stranger, a, b, workload, admin]);
    }
    (tree, server, channels, folder)
}

async fn unix(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("the admin socket")
}

async fn tls(server: &ServerHandle, svid: Option<Arc<X509Svid>>) -> Channel {
    let bundles = BundleStore::new(BundleSet::from_iter([server.bundle()]));
    let identity = svid.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let expect = Expect::Exactly(SpiffeId::server(&domain(DOMAIN)));
    let config = client_config(expect, bundles, identity, clock()).expect("a TLS configuration");
    let address = server.addresses()[0];
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = TlsConnector::from(Arc::clone(&config));
        async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name =
                rustls::pki_types::ServerName::try_from("server.invalid").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://server.invalid")
        .connect_with_connector(connector)
        .await
        .expect("a connection over TLS")
}

/// Attests with a token made for it.
async fn node(server: &ServerHandle, operator: &Channel, stranger: &Channel, token: &str) -> Channel {
    let wanted = agent::CreateJoinTokenRequest {
        ttl: 600,
        token: token.to_owned(),
        agent_id: None,
    };
    AgentClient::new(operator.clone())
        .create_join_token(wanted)
        .await
        .expect("a token");
    let key = PrivateKey::generate().expect("a key");
    let csr = build_csr(&key, None, &[]).expect("a request").into();
    let params = ask::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".to_owned(),
            payload: token.as_bytes().to_vec().into(),
        }),
        params: Some(agent::AgentX509svidParams { csr }),
    };
    let request = agent::AttestAgentRequest {
        step: Some(ask::Step::Params(params)),
    };
    let mut answers = AgentClient::new(stranger.clone())
        .attest_agent(tokio_stream::iter([request]))
        .await
        .expect("an attestation")
        .into_inner();
    match answers
        .message()
        .await
        .expect("an answer")
        .and_then(|one| one.step)
    {
        Some(answer::Step::Result(result)) => {
            let svid = svid(&result.svid.expect("an SVID"), key);
            tls(server, Some(svid)).await
        }
        other => panic!("no result of an attestation: {other:?}"),
    }
}

async fn entries(operator: &Channel) {
    let id = |path: &str| {
        Some(types::Spiffeid {
            trust_domain: DOMAIN.to_owned(),
            path: path.to_owned(),
        })
    };
    let mut all = Vec::new();
    for caller in [Caller::AgentA, Caller::AgentB] {
        let parent = caller.agent_path().unwrap_or_default();
        for (entry_id, path) in caller.entries() {
            all.push(types::Entry {
                id: (*entry_id).to_owned(),
                spiffe_id: id(path),
                parent_id: id(parent),
                selectors: vec![types::Selector {
                    r#type: "unix".to_owned(),
                    value: "uid:1000".to_owned(),
                }],
                admin: *path == "/admin",
                federates_with: if *entry_id == "a2" {
                    vec!["other.test".to_owned()]
                } else {
                    Vec::new()
                },
                dns_names: vec![format!("{entry_id}.plant.test")],
                hint: (*entry_id).to_owned(),
                ..types::Entry::default()
            });
        }
    }
    let request = BatchCreateEntryRequest {
        entries: all,
        output_mask: None,
    };
    let made = EntryClient::new(operator.clone())
        .batch_create_entry(request)
        .await
        .expect("entries")
        .into_inner();
    let fine = |status: &types::Status| status.code == 0;
    assert!(
        made.results
            .iter()
            .all(|one| one.status.as_ref().is_some_and(fine)),
        "{made:?}"
    );
}

async fn federate(operator: &Channel) {
    let bundle = types::Bundle {
        trust_domain: "other.test".to_owned(),
        x509_authorities: vec![types::X509Certificate {
            asn1: device().1.as_der().to_vec().into(),
            tainted: false,
        }],
        ..types::Bundle::default()
    };
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let set = BundleClient::new(operator.clone())
        .batch_set_federated_bundle(request)
        .await
        .expect("a bundle")
        .into_inner();
    assert!(
        set.results
            .iter()
            .all(|one| one.status.as_ref().is_some_and(|status| status.code == 0)),
        "{set:?}"
    );
}

/// A connection of an identity that the operator made.
async fn minted(server: &ServerHandle, operator: &Channel, path: &str) -> Channel {
    let key = PrivateKey::generate().expect("a key");
    let id = SpiffeId::from_parts(&domain(DOMAIN), path).expect("an ID");
    let csr = build_csr(&key, Some(&id), &[]).expect("a request").into();
    let made = SvidClient::new(operator.clone())
        .mint_x509svid(MintX509svidRequest { csr, ttl: 3600 })
        .await
        .expect("an SVID")
        .into_inner();
    let svid = svid(&made.svid.expect("an SVID"), key);
    tls(server, Some(svid)).await
}

fn svid(wire: &types::X509svid, key: PrivateKey) -> Arc<X509Svid> {
    let chain = wire
        .cert_chain
        .iter()
        .map(|der| Certificate::from_der(der).expect("a certificate"))
        .collect();
    Arc::new(X509Svid::new(chain, key).expect("an SVID"))
}
