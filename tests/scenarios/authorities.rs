//! The rotation of an authority that may have been stolen, seen by those who depend on it: nobody waits, nobody is refused.

#![expect(
    clippy::disallowed_methods,
    reason = "whoever puts load on the agent is no task of it"
)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use landfast_identity::{BundleSet, TrustDomain, X509Svid, jwt, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::server::agent::v1::{GetAgentRequest, agent_client::AgentClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as api, local_authority_client::LocalAuthorityClient,
};
use landfast_proto::spire::api::types;
use landfast_testkit::{NodeAgent, PATIENCE, Plant, TRUST_DOMAIN, eventually};
use landfast_workload_api::client::WorkloadClient;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;

/// All of one process, which has 256 streams otherwise.
const MANY: &str = "limits = { streams_per_process = 4096, streams_per_uid = 8192 }";
const CONNECTIONS: usize = 10;
const STREAMS: usize = 100;

type Orders = LocalAuthorityClient<Channel>;

/// Those who sign now, and those who will: the IDs of the old and of the new authority.
struct Change {
    old: String,
    new: String,
}

async fn x509_prepared(orders: &mut Orders) -> Change {
    let request = api::PrepareX509AuthorityRequest {};
    let new = orders.prepare_x509_authority(request).await.unwrap().into_inner();
    let request = api::GetX509AuthorityStateRequest {};
    let state = orders
        .get_x509_authority_state(request)
        .await
        .unwrap()
        .into_inner();
    Change {
        old: state.active.unwrap().authority_id,
        new: new.prepared_authority.unwrap().authority_id,
    }
}

async fn jwt_prepared(orders: &mut Orders) -> Change {
    let request = api::PrepareJwtAuthorityRequest {};
    let new = orders.prepare_jwt_authority(request).await.unwrap().into_inner();
    let request = api::GetJwtAuthorityStateRequest {};
    let state = orders
        .get_jwt_authority_state(request)
        .await
        .unwrap()
        .into_inner();
    Change {
        old: state.active.unwrap().authority_id,
        new: new.prepared_authority.unwrap().authority_id,
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_elapsed| panic!("{what}: not within {PATIENCE:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signer(svid: &X509Svid) -> String {
    hex(&svid.chain()[0].authority_key_id().unwrap())
}

fn anchors(bundles: &BundleSet) -> BTreeSet<String> {
    let own = bundles.get(&TrustDomain::parse(TRUST_DOMAIN).unwrap()).unwrap();
    let keys = own.x509_authorities().iter();
    keys.map(|authority| hex(&authority.certificate.subject_key_id().unwrap()))
        .collect()
}

fn jwt_keys(bundles: &BundleSet) -> BTreeSet<String> {
    let own = bundles.get(&TrustDomain::parse(TRUST_DOMAIN).unwrap()).unwrap();
    let keys = own.jwt_authorities().iter();
    keys.map(|authority| authority.key_id.clone()).collect()
}

/// Whoever gets this SVID can use it: it verifies against what came with it.
fn verifies(svid: &X509Svid, bundles: &BundleSet) -> Result<(), String> {
    let chain: Vec<&[u8]> = svid.chain().iter().map(|c| c.as_der()).collect();
    let now = SystemClock.now().unwrap();
    verify_x509_svid(&chain, bundles, now)
        .map(drop)
        .map_err(|error| format!("an SVID that does not verify: {error}"))
}

async fn plant_with_collector() -> (Plant, NodeAgent, Orders) {
    let plant = Plant::new("").await;
    let agent = plant.agent("node", MANY).await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let orders = LocalAuthorityClient::new(plant.admin().await);
    (plant, agent, orders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_tainted_and_revoked_under_a_thousand_open_streams() {
    let (plant, agent, mut orders) = plant_with_collector().await;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = agent.client().await;
        for _ in 0..STREAMS {
            streams.push(client.x509_svids().await.unwrap());
        }
    }
    let change = x509_prepared(&mut orders).await;
    assert_ne!(change.old, change.new);
    let (old, new) = (change.old.clone(), change.new.clone());
    everyone(
        &mut streams,
        "the next authority is announced",
        |signer, anchors| signer == old && anchors.contains(&new),
    )
    .await;

    let node = node_serial(&plant, &agent).await;
    let request = api::ActivateX509AuthorityRequest {
        authority_id: new.clone(),
    };
    orders.activate_x509_authority(request).await.unwrap();
    let request = api::TaintX509AuthorityRequest {
        authority_id: old.clone(),
    };
    orders.taint_x509_authority(request).await.unwrap();
    // Peers who have not heard of it yet still show SVIDs of the old one: it verifies until it is revoked.
    everyone(
        &mut streams,
        "the tainted authority's SVIDs are replaced",
        |signer, anchors| signer == new && anchors.contains(&old),
    )
    .await;

    node_renewed(&plant, &agent, &node).await;
    let request = api::RevokeX509AuthorityRequest {
        authority_id: old.clone(),
    };
    orders.revoke_x509_authority(request).await.unwrap();
    everyone(
        &mut streams,
        "the revoked authority is gone",
        |signer, anchors| signer == new && !anchors.contains(&old),
    )
    .await;
    plant.tear_down([agent]).await;
}

/// The serial number of the node's own SVID that the server last saw in use.
async fn node_serial(plant: &Plant, agent: &NodeAgent) -> String {
    let path = agent.id.trim_start_matches("spiffe://");
    let (trust_domain, path) = path.split_at(path.find('/').unwrap());
    let id = Some(types::Spiffeid {
        trust_domain: trust_domain.to_owned(),
        path: path.to_owned(),
    });
    let request = GetAgentRequest {
        id,
        output_mask: None,
    };
    let known = AgentClient::new(plant.admin().await).get_agent(request).await;
    known.unwrap().into_inner().x509svid_serial_number
}

/// Nobody revokes an authority before the nodes have replaced what it signed: they could not come back.
async fn node_renewed(plant: &Plant, agent: &NodeAgent, before: &str) {
    eventually("the node's own SVID of the new authority", async || {
        let now = node_serial(plant, agent).await;
        (now != before).then_some(()).ok_or(now)
    })
    .await;
}

/// Reads each stream until `there`. None may end, and whatever comes verifies.
async fn everyone<S>(streams: &mut [S], what: &str, there: impl Fn(&str, &BTreeSet<String>) -> bool)
where
    S: Stream<
            Item = Result<
                landfast_workload_api::client::X509Context,
                landfast_workload_api::client::ClientError,
            >,
        > + Unpin,
{
    let all = async {
        for stream in streams {
            loop {
                let update = stream.next().await.expect("the stream goes on").unwrap();
                assert_eq!(update.svids.len(), 1);
                verifies(&update.svids[0], &update.bundles).unwrap();
                if there(&signer(&update.svids[0]), &anchors(&update.bundles)) {
                    break;
                }
            }
        }
    };
    in_time(what, all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_authorities_rotate_under_load_and_no_request_fails() {
    let (plant, agent, mut orders) = plant_with_collector().await;
    let load = Load::start(&agent);
    let mut client = agent.client().await;
    for _ in 0..3 {
        let (x509, jwt) = (x509_prepared(&mut orders).await, jwt_prepared(&mut orders).await);
        seen(&mut client, |anchors, keys| {
            anchors.contains(&x509.new) && keys.contains(&jwt.new)
        })
        .await;
        let node = node_serial(&plant, &agent).await;
        let authority_id = x509.new.clone();
        let request = api::ActivateX509AuthorityRequest { authority_id };
        orders.activate_x509_authority(request).await.unwrap();
        let authority_id = jwt.new.clone();
        let request = api::ActivateJwtAuthorityRequest { authority_id };
        orders.activate_jwt_authority(request).await.unwrap();
        let authority_id = x509.old.clone();
        let request = api::TaintX509AuthorityRequest { authority_id };
        orders.taint_x509_authority(request).await.unwrap();
        let authority_id = jwt.old.clone();
        let request = api::TaintJwtAuthorityRequest { authority_id };
        orders.taint_jwt_authority(request).await.unwrap();
        eventually("the SVID of the new authority", async || {
            let now = client.fetch_x509().await.map_err(|error| error.to_string())?;
            let found = signer(&now.svids[0]);
            (found == x509.new).then_some(()).ok_or(found)
        })
        .await;
        node_renewed(&plant, &agent, &node).await;
        let authority_id = x509.old.clone();
        let request = api::RevokeX509AuthorityRequest { authority_id };
        orders.revoke_x509_authority(request).await.unwrap();
        let authority_id = jwt.old.clone();
        let request = api::RevokeJwtAuthorityRequest { authority_id };
        orders.revoke_jwt_authority(request).await.unwrap();
        seen(&mut client, |anchors, keys| {
            !anchors.contains(&x509.old) && !keys.contains(&jwt.old)
        })
        .await;
    }
    let done = load.end().await;
    assert!(
        done.iter().all(|requests| *requests > 20),
        "hardly any load: {done:?}"
    );
    plant.tear_down([agent]).await;
}

async fn seen(client: &mut WorkloadClient, there: impl Fn(&BTreeSet<String>, &BTreeSet<String>) -> bool) {
    eventually("the agent's bundles", async || {
        let x509 = client.fetch_x509().await.map_err(|error| error.to_string())?;
        let jwt = jwt_bundles(client).await?;
        let (anchors, keys) = (anchors(&x509.bundles), jwt_keys(&jwt));
        there(&anchors, &keys)
            .then_some(())
            .ok_or_else(|| format!("{anchors:?} {keys:?}"))
    })
    .await;
}

async fn jwt_bundles(client: &mut WorkloadClient) -> Result<BundleSet, String> {
    let mut stream = client.jwt_bundles().await.map_err(|error| error.to_string())?;
    let first = stream.next().await.ok_or("no bundles")?;
    first.map_err(|error| error.to_string())
}

/// Two kinds of requests without a pause, each of which must be answered with something that verifies.
struct Load {
    stop: Arc<AtomicBool>,
    done: [Arc<AtomicUsize>; 2],
    tasks: [tokio::task::JoinHandle<Result<(), String>>; 2],
}

impl Load {
    fn start(agent: &NodeAgent) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = [Arc::default(), Arc::default()];
        let svids = svids(agent.endpoint(), stop.clone(), Arc::clone(&done[0]));
        let tokens = tokens(agent.endpoint(), stop.clone(), Arc::clone(&done[1]));
        Self {
            stop,
            tasks: [tokio::spawn(svids), tokio::spawn(tokens)],
            done,
        }
    }

    async fn end(self) -> [usize; 2] {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            in_time("the load's end", task).await.unwrap().unwrap();
        }
        self.done.map(|done| done.load(Ordering::Relaxed))
    }
}

/// A connection of its own for each.
async fn svids(endpoint: String, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let client = WorkloadClient::connect(&endpoint).await;
        let mut client = client.map_err(|error| error.to_string())?;
        let got = client.fetch_x509().await.map_err(|error| error.to_string())?;
        verifies(&got.svids[0], &got.bundles)?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// An audience of its own for each: the server signs each time.
async fn tokens(endpoint: String, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Result<(), String> {
    let client = WorkloadClient::connect(&endpoint).await;
    let mut client = client.map_err(|error| error.to_string())?;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let audience = format!("historian-{number}");
        let before = jwt_bundles(&mut client).await?;
        let got = client.fetch_jwt(std::slice::from_ref(&audience), None).await;
        let got = got.map_err(|error| format!("a token: {error}"))?;
        let after = jwt_bundles(&mut client).await?;
        let now = SystemClock.now().unwrap();
        // Revoked between the two, or made between the two: one of them has the key.
        let verified = [before, after].map(|bundles| jwt::verify(&got[0].token, &bundles, &audience, now));
        if verified.iter().all(Result::is_err) {
            return Err(format!("a token that does not verify: {verified:?}"));
        }
        done.fetch_add(1, Ordering::Relaxed);
        // A workload may have fifty new ones a second.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    Ok(())
}
