//! A plant with some of everything that is stored.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_lifecycle::{Clock as _, SimBoot, SimClock};
use landfast_proto::landfast::chain::v1::GetStepsRequest;
use landfast_proto::landfast::entry::v1::{
    EntryPolicy, EntryPolicyMask, GetEntryPoliciesRequest, JwtOffline,
};
use landfast_proto::landfast::{recovery::v1 as recovery, reserve::v1 as reserve};
use landfast_proto::spire::api::server::bundle::v1::{self as bundle, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry, entry_client::EntryClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as authority, local_authority_client::LocalAuthorityClient,
};
use landfast_proto::spire::api::server::{agent::v1 as agent, trustdomain::v1 as trustdomain};
use landfast_proto::spire::api::types;
use landfast_testkit::spoken::{Said, Spoken};
use landfast_testkit::stored::agent_at;
use landfast_testkit::{NodeAgent, Plant, eventually};
use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

use crate::listen::Listener;

/// Of those who run tests: root, and the first users of most systems.
pub(crate) const USERS: [&str; 3] = ["0", "1000", "1001"];
pub(crate) const PATH: &str = "/line4/collector";
const OTHER: &str = "other.test";

/// A machine that is started again when these files are opened.
pub(crate) fn first_boot(clock: &SimClock) -> AgentParts {
    AgentParts {
        boot: Arc::new(SimBoot::new("first", Duration::from_secs(9))),
        ..agent_at(clock)
    }
}

async fn started(plant: &Plant, name: &str, clock: &SimClock) -> NodeAgent {
    let token = plant.token().await;
    let mut agent = plant.agent_with(name, "", &token);
    agent.start_with(first_boot(clock)).await.unwrap();
    agent
}

/// A node with SVIDs, a reserve, tokens, a federated bundle, a device key, a pinned root key.
pub(crate) async fn node(plant: &Plant, clock: &SimClock) -> NodeAgent {
    federate(plant).await;
    let node = started(plant, "node", clock).await;
    for user in USERS {
        let entry = plant
            .entry_with(&node, PATH, |entry| {
                entry.x509_svid_ttl = 3600;
                entry.hint = format!("of {user}");
                entry.federates_with = vec![OTHER.to_owned()];
                entry.selectors[0].value = format!("uid:{user}");
            })
            .await;
        ask_for_reserve(plant, entry).await;
    }
    let mut client = node.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let audience = ["another".to_owned()];
    eventually("a token", async || client.fetch_jwt(&audience, None).await).await;
    let request = authority::PrepareX509AuthorityRequest {};
    LocalAuthorityClient::new(plant.admin().await)
        .prepare_x509_authority(request)
        .await
        .unwrap();
    has_all(&node, 3).await;
    node
}

/// So many SVIDs, and two hours of each ahead.
async fn has_all(node: &NodeAgent, svids: usize) {
    eventually("all of it on disk", async || {
        let status = node.status().await;
        let files = fs::read_dir(node.data().join("cache")).unwrap();
        let names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let count = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
        let there = count("svid-") == svids
            && count("rung-") == 4 * svids
            && status.device_key.starts_with("registered")
            && status.bundle_chain.contains("pinned at step");
        there
            .then_some(())
            .ok_or((names, status.device_key, status.bundle_chain))
    })
    .await;
}

/// What two nodes say from their first start on: one that is told of changes, until it has all that there is, and one that has to ask for them. Of the
/// first the identity is kept.
pub(crate) async fn talk(plant: &Plant, clock: &SimClock, out: &Path) -> Vec<Spoken> {
    let (listener, front) = Listener::open(plant, clock, "speaker", &[]).await;
    let own = format!("server = [\"{}\"]", front.address);
    let mut speaker = plant.agent_with("speaker", &own, &plant.token().await);
    speaker.start_with(first_boot(clock)).await.unwrap();
    let entry = plant
        .entry_with(&speaker, "/line4/historian", |entry| {
            entry.x509_svid_ttl = 3600;
            entry.federates_with = vec![OTHER.to_owned()];
        })
        .await;
    ask_for_reserve(plant, entry).await;
    let mut client = speaker.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let audience = ["another".to_owned()];
    eventually("a token", async || client.fetch_jwt(&audience, None).await).await;
    has_all(&speaker, 1).await;
    speaker.stop().await;
    let identity = fs::read(speaker.data().join("node-identity.json")).unwrap();
    super::put(&out.join("speaker.json"), &identity);
    let mut said = listener.heard();
    said.extend(asks(plant, clock).await);
    said
}

async fn asks(plant: &Plant, clock: &SimClock) -> Vec<Spoken> {
    let (listener, front) = Listener::open(plant, clock, "asker", &["Sync/Subscribe"]).await;
    let own = format!("server = [\"{}\"]", front.address);
    let mut asker = plant.agent_with("asker", &own, &plant.token().await);
    let ahead = SimClock::new(clock.now().unwrap());
    asker.start_with(first_boot(&ahead)).await.unwrap();
    let has_said = async |method: &str| {
        eventually(method, async || {
            let heard = listener.heard();
            let there = heard
                .iter()
                .any(|call| call.method.ends_with(method) && !call.responses.is_empty());
            there.then_some(()).ok_or(heard)
        })
        .await;
    };
    has_said("/SyncAuthorizedEntries").await;
    // By its own clock the half of its SVID is over.
    ahead.step(4 * 86_400);
    has_said("/RenewAgent").await;
    asker.stop().await;
    let mut heard = listener.heard();
    let mut seen = std::collections::BTreeSet::new();
    let new = ["/SyncAuthorizedEntries", "/RenewAgent"];
    heard.retain(|call| {
        new.iter().any(|name| call.method.ends_with(name)) && seen.insert(call.method.clone())
    });
    heard
}

/// A node that has heard that it is banned.
pub(crate) async fn banned(plant: &Plant, clock: &SimClock) -> NodeAgent {
    let banned = started(plant, "banned", clock).await;
    eventually("the node", async || match plant.count_agents().await {
        4 => Ok(()),
        found => Err(found),
    })
    .await;
    plant.ban(&banned).await;
    eventually("the end of its keys", async || {
        match banned.status().await.state {
            state if state == "banned" && !banned.data().join("banned").exists() => Ok(()),
            state => Err(state),
        }
    })
    .await;
    banned
}

async fn ask_for_reserve(plant: &Plant, entry_id: String) {
    let policy = EntryPolicy {
        entry_id,
        offline_reserve_seconds: 2 * 3600,
        jwt_offline: vec![JwtOffline {
            audience: "receiver".to_owned(),
            seconds: 8 * 3600,
        }],
        description: "line 4".to_owned(),
        ..Default::default()
    };
    let mask = EntryPolicyMask {
        offline_reserve_seconds: true,
        jwt_offline: true,
        description: true,
        ..Default::default()
    };
    plant.set_policy(policy, mask).await;
}

/// Another trust domain, which has our certificate: what matters is that it is stored.
async fn federate(plant: &Plant) {
    let own = plant.handle().bundle();
    let asn1 = own.x509_authorities()[0].certificate.as_der().to_vec();
    let request = bundle::BatchSetFederatedBundleRequest {
        bundle: vec![types::Bundle {
            trust_domain: OTHER.to_owned(),
            x509_authorities: vec![types::X509Certificate {
                asn1: asn1.into(),
                tainted: false,
            }],
            sequence_number: 7,
            ..Default::default()
        }],
        output_mask: None,
    };
    let set = BundleClient::new(plant.admin().await)
        .batch_set_federated_bundle(request)
        .await;
    let result = set.unwrap().into_inner().results.remove(0);
    assert_eq!(result.status.map(|status| status.code), Some(0));
}

/// What operators ask for, and are answered.
pub(crate) async fn operators(plant: &Plant) -> Vec<Spoken> {
    let admin = plant.admin().await;
    let listed = EntryClient::new(admin.clone())
        .list_entries(entry::ListEntriesRequest::default())
        .await;
    let entry_ids = listed.unwrap().into_inner().entries;
    let entry_ids = entry_ids.into_iter().map(|entry| entry.id).collect();
    let steps = GetStepsRequest {
        epoch: 1,
        sequence: 0,
    };
    let server = "/spire.api.server";
    let authorities = format!("{server}.localauthority.v1.LocalAuthority");
    let bundles = format!("{server}.bundle.v1.Bundle");
    vec![
        ask(
            &admin,
            &format!("{server}.entry.v1.Entry/ListEntries"),
            &entry::ListEntriesRequest::default(),
        )
        .await,
        ask(
            &admin,
            "/landfast.entry.v1.EntryPolicies/GetEntryPolicies",
            &GetEntryPoliciesRequest { entry_ids },
        )
        .await,
        ask(
            &admin,
            &format!("{server}.agent.v1.Agent/ListAgents"),
            &agent::ListAgentsRequest::default(),
        )
        .await,
        ask(
            &admin,
            &format!("{bundles}/GetBundle"),
            &bundle::GetBundleRequest::default(),
        )
        .await,
        ask(
            &admin,
            &format!("{bundles}/ListFederatedBundles"),
            &bundle::ListFederatedBundlesRequest::default(),
        )
        .await,
        ask(
            &admin,
            &format!("{server}.trustdomain.v1.TrustDomain/ListFederationRelationships"),
            &trustdomain::ListFederationRelationshipsRequest::default(),
        )
        .await,
        ask(
            &admin,
            &format!("{authorities}/GetX509AuthorityState"),
            &authority::GetX509AuthorityStateRequest {},
        )
        .await,
        ask(
            &admin,
            &format!("{authorities}/GetJWTAuthorityState"),
            &authority::GetJwtAuthorityStateRequest {},
        )
        .await,
        ask(&admin, "/landfast.chain.v1.Chain/GetSteps", &steps).await,
        ask(
            &admin,
            "/landfast.reserve.v1.Debts/ListDebts",
            &reserve::ListDebtsRequest::default(),
        )
        .await,
        ask(
            &admin,
            "/landfast.recovery.v1.Recovery/ListRequests",
            &recovery::ListRequestsRequest::default(),
        )
        .await,
    ]
}

async fn ask<T: Message>(admin: &Channel, method: &str, request: &T) -> Spoken {
    let asked = Spoken {
        method: method.to_owned(),
        by: "operator".to_owned(),
        asked_with: Said::new(),
        answered_with: Said::new(),
        requests: vec![request.encode_to_vec().into()],
        responses: Vec::new(),
        code: Code::Ok,
    };
    let spoken = asked.again(admin, 1).await;
    assert_eq!((spoken.code, spoken.responses.len()), (Code::Ok, 1), "{method}");
    spoken
}
