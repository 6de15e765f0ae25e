//! Conversations that were recorded with a release before: every message still means the same, and what was asked then is answered now.

use std::sync::Arc;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use landfast_identity::{BundleSet, PrivateKey, SpiffeId, X509Svid, parse_chain_pem};
use landfast_lifecycle::SimClock;
use landfast_proto::landfast::{chain::v1 as chain, recovery::v1 as recovery, reserve::v1 as reserve, sync::v1 as sync};
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::{bundle::v1 as bundle, debug::v1 as debug, entry::v1 as entry, svid::v1 as svid};
use landfast_proto::{spire::api::types, workload};
use landfast_testkit::spoken::{Spoken, fields};
use landfast_testkit::unix_channel;
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use prost::Message;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::*;

fn conversations(release: &Stored) -> Vec<Spoken> {
    let files = fs::read_dir(release.dir().join("spoken")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 18, "{files:?}");
    files.iter().map(|file| Spoken::read(file)).collect()
}

/// Decodes a message and encodes it again.
type Through = fn(&Bytes) -> Result<Vec<u8>, prost::DecodeError>;

fn through<T: Message + Default>(bytes: &Bytes) -> Result<Vec<u8>, prost::DecodeError> {
    T::decode(bytes.clone()).map(|message| message.encode_to_vec())
}

/// Question and answer of every method that is recorded. A new one comes with its recording.
const METHODS: &[(&str, Through, Through)] = &[
    ("Agent/AttestAgent", through::<agent::AttestAgentRequest>, through::<agent::AttestAgentResponse>),
    ("Agent/RenewAgent", through::<agent::RenewAgentRequest>, through::<agent::RenewAgentResponse>),
    ("Agent/PostStatus", through::<agent::PostStatusRequest>, through::<agent::PostStatusResponse>),
    ("Sync/Subscribe", through::<sync::SubscribeRequest>, through::<sync::SubscribeResponse>),
    (
        "Entry/SyncAuthorizedEntries",
        through::<entry::SyncAuthorizedEntriesRequest>,
        through::<entry::SyncAuthorizedEntriesResponse>,
    ),
    (
        "Entry/GetAuthorizedEntries",
        through::<entry::GetAuthorizedEntriesRequest>,
        through::<entry::GetAuthorizedEntriesResponse>,
    ),
    ("Bundle/GetBundle", through::<bundle::GetBundleRequest>, through::<types::Bundle>),
    ("Bundle/GetFederatedBundle", through::<bundle::GetFederatedBundleRequest>, through::<types::Bundle>),
    ("Chain/GetSteps", through::<chain::GetStepsRequest>, through::<chain::GetStepsResponse>),
    ("SVID/BatchNewX509SVID", through::<svid::BatchNewX509svidRequest>, through::<svid::BatchNewX509svidResponse>),
    ("SVID/NewJWTSVID", through::<svid::NewJwtsvidRequest>, through::<svid::NewJwtsvidResponse>),
    ("Reserve/NewRungs", through::<reserve::NewRungsRequest>, through::<reserve::NewRungsResponse>),
    ("Reserve/NewToken", through::<reserve::NewTokenRequest>, through::<reserve::NewTokenResponse>),
    (
        "Recovery/RegisterDeviceKey",
        through::<recovery::RegisterDeviceKeyRequest>,
        through::<recovery::RegisterDeviceKeyResponse>,
    ),
    ("Debug/GetInfo", through::<debug::GetInfoRequest>, through::<debug::GetInfoResponse>),
    ("SpiffeWorkloadAPI/FetchX509SVID", through::<workload::X509svidRequest>, through::<workload::X509svidResponse>),
    (
        "SpiffeWorkloadAPI/FetchX509Bundles",
        through::<workload::X509BundlesRequest>,
        through::<workload::X509BundlesResponse>,
    ),
    (
        "SpiffeWorkloadAPI/FetchJWTBundles",
        through::<workload::JwtBundlesRequest>,
        through::<workload::JwtBundlesResponse>,
    ),
    ("SpiffeWorkloadAPI/FetchJWTSVID", through::<workload::JwtsvidRequest>, through::<workload::JwtsvidResponse>),
];

#[test]
fn every_message_that_was_ever_recorded_is_read_whole() {
    for release in releases() {
        let all = conversations(&release);
        for (name, ..) in METHODS {
            assert!(all.iter().any(|spoken| spoken.method.ends_with(name)), "{name} is not recorded");
        }
        for spoken in all {
            let found = METHODS.iter().find(|(name, ..)| spoken.method.ends_with(name));
            let (_, request, response) = found.unwrap_or_else(|| panic!("{} is not known here", spoken.method));
            let requests = spoken.requests.iter().map(|message| (request, message));
            for (again, message) in requests.chain(spoken.responses.iter().map(|message| (response, message))) {
                let read = again(message).unwrap_or_else(|why| panic!("{}: {why}", spoken.method));
                // A field whose number or type is another now would be lost, or come back as another.
                assert_eq!(read, message.to_vec(), "{}: a part was not understood", spoken.method);
            }
        }
    }
}

/// As whom it was recorded: the SVID and its key are kept.
fn identity(release: &Stored) -> Arc<X509Svid> {
    let pem = fs::read_to_string(release.dir().join("spoken.pem")).unwrap();
    let (chain, key) = pem.split_at(pem.find("-----BEGIN PRIVATE KEY").unwrap());
    Arc::new(X509Svid::new(parse_chain_pem(chain).unwrap(), PrivateKey::from_pem(key).unwrap()).unwrap())
}

async fn tls(plant: &Plant, clock: &SimClock, svid: Option<Arc<X509Svid>>) -> Channel {
    let bundle = (*plant.handle().bundle()).clone();
    let expect = Expect::Exactly(SpiffeId::server(bundle.trust_domain()));
    let identity = svid.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let bundles = BundleStore::new(BundleSet::from_iter([bundle]));
    let tls = client_config(expect, bundles, identity, Arc::new(clock.clone())).unwrap();
    let address = plant.address();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, address) = (TlsConnector::from(Arc::clone(&tls)), address.clone());
        async move {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://server.invalid").connect_with_connector(connector).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_then_is_answered_now_with_all_that_was_answered_then() {
    for release in releases() {
        let plant = started(&release, MINUTE).await;
        let clock = release.clock(MINUTE);
        let mut node = release.agent(&plant, "node");
        node.start_with(agent_at(&clock)).await.unwrap();
        let api = unix_channel(Path::new(node.endpoint().trim_start_matches("unix://"))).await.unwrap();
        let by_node = tls(&plant, &clock, Some(identity(&release))).await;
        let (anybody, local) = (tls(&plant, &clock, None).await, plant.admin().await);
        let own = nix::unistd::geteuid().to_string();
        let is_served = release.made["users"].as_array().unwrap().iter().any(|user| *user == own.as_str());
        for then in conversations(&release) {
            let channel = match then.by.as_str() {
                "node" => &by_node,
                "anybody" => &anybody,
                "local" => &local,
                "workload" if is_served => &api,
                "workload" => continue,
                other => panic!("{other}"),
            };
            let now = then.again(channel).await;
            assert_eq!(now.code, then.code, "{}", then.method);
            assert_eq!(now.responses.len(), then.responses.len(), "{}", then.method);
            for (old, new) in then.responses.iter().zip(&now.responses) {
                let (old, new) = (fields(old).unwrap(), fields(new).unwrap());
                assert!(old.is_subset(&new), "{}: {old:?} then, {new:?} now", then.method);
            }
        }
        plant.tear_down([node]).await;
    }
}
