//! Calls in the form in which the agent of this version makes them, and a workload, with what is answered.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use landfast_identity::{
    BundleSet, Certificate, PrivateKey, RegistrationProof, SpiffeId, X509Svid, build_csr, chain_to_pem,
};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::landfast::chain::v1::GetStepsRequest;
use landfast_proto::landfast::recovery::v1::RegisterDeviceKeyRequest;
use landfast_proto::landfast::reserve::v1 as reserve;
use landfast_proto::landfast::sync::v1::SubscribeRequest;
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::agent::v1::attest_agent_request as ask;
use landfast_proto::spire::api::server::agent::v1::attest_agent_response::Step;
use landfast_proto::spire::api::server::{bundle::v1 as bundle, debug::v1 as debug, entry::v1 as entry, svid::v1 as svid};
use landfast_proto::spire::api::types;
use landfast_proto::workload;
use landfast_testkit::spoken::{Spoken, call};
use landfast_testkit::{NodeAgent, Plant, unix_channel};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use prost::Message;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

struct Recorder<'a> {
    out: &'a Path,
    number: usize,
}

impl Recorder<'_> {
    async fn ask<T: Message>(&mut self, channel: &Channel, by: &str, method: &str, request: &T, wanted: usize) -> Vec<Bytes> {
        let requests = vec![Bytes::from(request.encode_to_vec())];
        let (responses, code) = call(channel, method, requests.clone(), wanted).await;
        assert_eq!((code, responses.len()), (Code::Ok, wanted), "{method}");
        self.number += 1;
        let name = method.rsplit('/').next().unwrap();
        let spoken = Spoken {
            method: method.to_owned(),
            by: by.to_owned(),
            requests,
            responses: responses.clone(),
            code,
        };
        super::put(&self.out.join(format!("{:02}-{name}.json", self.number)), spoken.text().as_bytes());
        responses
    }
}

/// All of them, as a node of their own, whose SVID and key are kept.
pub(super) async fn record(plant: &Plant, node: &NodeAgent, out: &Path) {
    let mut recorder = Recorder {
        out: &out.join("spoken"),
        number: 0,
    };
    let key = PrivateKey::generate().unwrap();
    let identity = Arc::new(attest(plant, &mut recorder, &key).await);
    keep(&identity, &key, out);
    let channel = tls(plant, Some(Arc::clone(&identity))).await;
    let client = NodeAgentId(identity.id().to_string());
    let entry_id = client.entry(plant).await;
    synchronises(&mut recorder, &channel).await;
    signs(&mut recorder, &channel, &entry_id, identity.id()).await;
    let request = debug::GetInfoRequest {};
    let admin = plant.admin().await;
    recorder.ask(&admin, "local", "/spire.api.server.debug.v1.Debug/GetInfo", &request, 1).await;
    fetches(&mut recorder, node).await;
    // Last: from here on the SVID of before is not the newest any more.
    let params = Some(agent::AgentX509svidParams { csr: csr().into() });
    let request = agent::RenewAgentRequest { params };
    recorder.ask(&channel, "node", "/spire.api.server.agent.v1.Agent/RenewAgent", &request, 1).await;
}

async fn attest(plant: &Plant, recorder: &mut Recorder<'_>, key: &PrivateKey) -> X509Svid {
    let anybody = tls(plant, None).await;
    let params = ask::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".to_owned(),
            payload: plant.token().await.into_bytes().into(),
        }),
        params: Some(agent::AgentX509svidParams {
            csr: build_csr(key, None, &[]).unwrap().into(),
        }),
    };
    let request = agent::AttestAgentRequest {
        step: Some(ask::Step::Params(params)),
    };
    let method = "/spire.api.server.agent.v1.Agent/AttestAgent";
    let answers = recorder.ask(&anybody, "anybody", method, &request, 1).await;
    let answer = agent::AttestAgentResponse::decode(answers[0].clone()).unwrap();
    let Some(Step::Result(result)) = answer.step else { panic!("a challenge") };
    let chain = result.svid.unwrap().cert_chain;
    let chain = chain.iter().map(|der| Certificate::from_der(der).unwrap());
    let key = PrivateKey::from_pem(&key.to_pem()).unwrap();
    X509Svid::new(chain.collect(), key).unwrap()
}

async fn synchronises(recorder: &mut Recorder<'_>, channel: &Channel) {
    let request = SubscribeRequest::default();
    recorder.ask(channel, "node", "/landfast.sync.v1.Sync/Subscribe", &request, 1).await;
    let output_mask = Some(types::EntryMask {
        spiffe_id: true,
        selectors: true,
        revision_number: true,
        federates_with: true,
        hint: true,
        ..Default::default()
    });
    let request = entry::SyncAuthorizedEntriesRequest {
        output_mask,
        ids: Vec::new(),
    };
    let service = "/spire.api.server.entry.v1.Entry";
    recorder.ask(channel, "node", &format!("{service}/SyncAuthorizedEntries"), &request, 1).await;
    let request = entry::GetAuthorizedEntriesRequest { output_mask };
    recorder.ask(channel, "node", &format!("{service}/GetAuthorizedEntries"), &request, 1).await;
    let request = bundle::GetBundleRequest { output_mask: None };
    let service = "/spire.api.server.bundle.v1.Bundle";
    recorder.ask(channel, "anybody", &format!("{service}/GetBundle"), &request, 1).await;
    let request = bundle::GetFederatedBundleRequest {
        trust_domain: "other.test".to_owned(),
        output_mask: None,
    };
    recorder.ask(channel, "node", &format!("{service}/GetFederatedBundle"), &request, 1).await;
    let request = GetStepsRequest { epoch: 1, sequence: 0 };
    recorder.ask(channel, "anybody", "/landfast.chain.v1.Chain/GetSteps", &request, 1).await;
    let request = agent::PostStatusRequest {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        current_bundle_serial: 1,
    };
    recorder.ask(channel, "node", "/spire.api.server.agent.v1.Agent/PostStatus", &request, 1).await;
}

async fn signs(recorder: &mut Recorder<'_>, channel: &Channel, entry_id: &str, own: &SpiffeId) {
    let params = vec![svid::NewX509svidParams {
        entry_id: entry_id.to_owned(),
        csr: csr().into(),
    }];
    let request = svid::BatchNewX509svidRequest { params };
    let service = "/spire.api.server.svid.v1.SVID";
    recorder.ask(channel, "node", &format!("{service}/BatchNewX509SVID"), &request, 1).await;
    let request = svid::NewJwtsvidRequest {
        entry_id: entry_id.to_owned(),
        audience: vec!["receiver".to_owned()],
    };
    recorder.ask(channel, "node", &format!("{service}/NewJWTSVID"), &request, 1).await;
    let not_before = SystemClock.now().unwrap().as_secs() + 1800;
    let rungs = vec![reserve::NewRung {
        entry_id: entry_id.to_owned(),
        csr: csr().into(),
        not_before,
    }];
    let request = reserve::NewRungsRequest { rungs };
    recorder.ask(channel, "node", "/landfast.reserve.v1.Reserve/NewRungs", &request, 1).await;
    let request = reserve::NewTokenRequest {
        entry_id: entry_id.to_owned(),
        audience: "receiver".to_owned(),
    };
    recorder.ask(channel, "node", "/landfast.reserve.v1.Reserve/NewToken", &request, 1).await;
    let key = PrivateKey::generate().unwrap();
    let public_key = key.public_key();
    let proof = RegistrationProof {
        agent_id: own,
        device_key: &public_key,
    };
    let request = RegisterDeviceKeyRequest {
        public_key: public_key.spki_der().to_vec().into(),
        signature: proof.sign(&key).unwrap().into(),
    };
    let method = "/landfast.recovery.v1.Recovery/RegisterDeviceKey";
    recorder.ask(channel, "node", method, &request, 1).await;
}

/// The Workload API of the other node.
async fn fetches(recorder: &mut Recorder<'_>, node: &NodeAgent) {
    let socket = node.endpoint();
    let api = unix_channel(Path::new(socket.trim_start_matches("unix://"))).await.unwrap();
    let api = &api;
    let path = |method: &str| format!("/SpiffeWorkloadAPI/{method}");
    let by = "workload";
    recorder.ask(api, by, &path("FetchX509SVID"), &workload::X509svidRequest {}, 1).await;
    recorder.ask(api, by, &path("FetchX509Bundles"), &workload::X509BundlesRequest {}, 1).await;
    recorder.ask(api, by, &path("FetchJWTBundles"), &workload::JwtBundlesRequest {}, 1).await;
    let request = workload::JwtsvidRequest {
        audience: vec!["receiver".to_owned()],
        spiffe_id: String::new(),
    };
    recorder.ask(api, by, &path("FetchJWTSVID"), &request, 1).await;
}

struct NodeAgentId(String);

impl NodeAgentId {
    /// An entry with a reserve.
    async fn entry(&self, plant: &Plant) -> String {
        use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
        let domain = landfast_testkit::TRUST_DOMAIN;
        let id = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: domain.to_owned(),
                path: path.to_owned(),
            })
        };
        let own = self.0.strip_prefix("spiffe://").and_then(|id| id.strip_prefix(domain));
        let entries = vec![types::Entry {
            spiffe_id: id("/line4/historian"),
            parent_id: id(own.unwrap()),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: "uid:0".to_owned(),
            }],
            x509_svid_ttl: 3600,
            federates_with: vec!["other.test".to_owned()],
            ..Default::default()
        }];
        let request = entry::BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        let made = EntryClient::new(plant.admin().await).batch_create_entry(request).await;
        let made = made.unwrap().into_inner().results.remove(0).entry.unwrap().id;
        super::ask_for_reserve(plant, made.clone()).await;
        made
    }
}

fn csr() -> Vec<u8> {
    build_csr(&PrivateKey::generate().unwrap(), None, &[]).unwrap()
}

fn keep(identity: &X509Svid, key: &PrivateKey, out: &Path) {
    let text = format!("{}{}", chain_to_pem(identity.chain()), key.to_pem().as_str());
    super::put(&out.join("spoken.pem"), text.as_bytes());
}

async fn tls(plant: &Plant, svid: Option<Arc<X509Svid>>) -> Channel {
    let bundle = (*plant.handle().bundle()).clone();
    let expect = Expect::Exactly(SpiffeId::server(bundle.trust_domain()));
    let identity = svid.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let bundles = BundleStore::new(BundleSet::from_iter([bundle]));
    let tls = client_config(expect, bundles, identity, Arc::new(SystemClock)).unwrap();
    let address = plant.address();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, address) = (TlsConnector::from(Arc::clone(&tls)), address.clone());
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("server.invalid").expect("a name");
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://server.invalid").connect_with_connector(connector).await.unwrap()
}
