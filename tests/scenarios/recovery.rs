//! Nodes that come back by their device key: after a lost SVID, after a long silence, and beside a copy of themselves.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::UnixTime;
use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_proto::landfast::recovery::v1::{
    self as api,
    recovery_client::RecoveryClient,
    request::{Kind, State},
};
use landfast_server::ServerParts;
use landfast_testkit::{NodeAgent, Plant, eventually};

const IDENTITY: &str = "node-identity.json";
const DEVICE: &str = "device-key.json";

async fn registered(agent: &NodeAgent) {
    eventually("a registered device key", async || {
        match agent.status().await.device_key {
            text if text.starts_with("registered") => Ok(()),
            text => Err(text),
        }
    })
    .await;
}

async fn serves(agent: &NodeAgent, path: &str) {
    let mut client = agent.client().await;
    eventually("the identity", async || match client.fetch_x509().await {
        Ok(context) if context.svids[0].id().path() == path => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn in_contact(agent: &NodeAgent) {
    eventually("contact", async || match agent.status().await {
        status if status.state == "serving" => Ok(()),
        status => Err(status.last_error),
    })
    .await;
}

async fn told(agent: &NodeAgent, words: &str) {
    eventually(words, async || match agent.status().await.last_error {
        error if error.contains(words) => Ok(()),
        error => Err(error),
    })
    .await;
}

async fn pending(plant: &Plant) -> Vec<api::Request> {
    let mut client = RecoveryClient::new(plant.admin().await);
    let listed = client.list_requests(api::ListRequestsRequest::default()).await;
    listed.unwrap().into_inner().requests
}

async fn approve(plant: &Plant, request: &api::Request) {
    let order = api::DecideRequest {
        agent_id: request.agent_id.clone(),
        key: request.key.clone(),
        approve: true,
    };
    RecoveryClient::new(plant.admin().await)
        .decide(order)
        .await
        .unwrap();
}

fn later(days: u64) -> UnixTime {
    let now = SystemClock.now().unwrap();
    now.saturating_add(Duration::from_secs(days * 86_400))
}

fn device_key(agent: &NodeAgent) -> serde_json::Value {
    let text = fs::read_to_string(agent.data().join(DEVICE)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_svid_comes_back_as_itself_without_a_person() {
    let plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    registered(&agent).await;
    serves(&agent, "/line4/collector").await;
    for lost in 1..=2 {
        agent.stop().await;
        fs::remove_file(agent.data().join(IDENTITY)).unwrap();
        agent.start().await.unwrap();
        serves(&agent, "/line4/collector").await;
        in_contact(&agent).await;
        assert_eq!(agent.status().await.agent_id, agent.id);
        assert_eq!(device_key(&agent)["counter"], lost);
    }
    assert_eq!(plant.count_agents().await, 1);
    assert!(pending(&plant).await.is_empty());
    plant.tear_down([agent]).await;
}

/// Off for longer than its own SVID lives, and than the policy has it come back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_off_for_long_comes_back_by_itself_and_after_thirty_days_with_a_person() {
    let mut plant = Plant::new("[ttl]\nca = \"365d\"\n").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    registered(&agent).await;
    for (days, alone) in [(20, true), (55, false)] {
        agent.stop().await;
        plant.stop_server().await;
        let clock = || SimClock::new(later(days));
        let parts = ServerParts {
            clock: Arc::new(clock()),
            ..ServerParts::default()
        };
        plant.start_server_with(parts).await.unwrap();
        let parts = AgentParts {
            clock: Arc::new(clock()),
            ..AgentParts::default()
        };
        agent.start_with(parts).await.unwrap();
        if !alone {
            told(&agent, "a person has to let it in").await;
            let asked = pending(&plant).await;
            assert_eq!(asked.len(), 1);
            assert_eq!(
                (asked[0].kind(), asked[0].state()),
                (Kind::Recovery, State::Waiting)
            );
            assert_eq!(asked[0].agent_id, agent.id);
            approve(&plant, &asked[0]).await;
        }
        serves(&agent, "/line4/collector").await;
        in_contact(&agent).await;
        assert_eq!(agent.status().await.agent_id, agent.id);
        assert!(pending(&plant).await.is_empty());
    }
    assert_eq!(plant.count_agents().await, 1);
    plant.tear_down([agent]).await;
}

/// T-15: the data directory was copied, and both run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_node_is_noticed_and_a_person_chooses() {
    let plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    registered(&agent).await;
    agent.stop().await;
    let token = agent.id.rsplit('/').next().unwrap().to_owned();
    let mut thief = plant.agent_with("thief", "", &token);
    copy(agent.data(), thief.data());
    for node in [&agent, &thief] {
        fs::remove_file(node.data().join(IDENTITY)).unwrap();
    }
    agent.start().await.unwrap();
    serves(&agent, "/line4/collector").await;
    in_contact(&agent).await;
    thief.start().await.unwrap();
    told(&thief, "a person has to choose").await;
    // What is valid goes on: new entries reach the one that is in.
    in_contact(&agent).await;
    let asked = pending(&plant).await;
    let states: Vec<_> = asked
        .iter()
        .map(|r| (r.kind(), r.state(), r.address.as_str()))
        .collect();
    assert_eq!(
        states,
        [
            (Kind::Conflict, State::Accepted, "127.0.0.1"),
            (Kind::Conflict, State::Waiting, "127.0.0.1"),
        ]
    );
    let before = device_key(&agent)["key"].clone();
    approve(&plant, &asked[0]).await;
    // With its next connection it makes another device key; the copied one opens nothing.
    agent.stop().await;
    agent.start().await.unwrap();
    registered(&agent).await;
    assert_ne!(device_key(&agent)["key"], before);
    told(&thief, "join token").await;
    serves(&agent, "/line4/collector").await;
    assert!(pending(&plant).await.is_empty());
    plant.tear_down([agent, thief]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_node_has_no_way_back_and_an_evicted_one_needs_a_token() {
    let plant = Plant::new("").await;
    let (banned, mut evicted) = (plant.agent("banned", "").await, plant.agent("evicted", "").await);
    registered(&banned).await;
    registered(&evicted).await;
    plant.ban(&banned).await;
    eventually("no device key any more", async || {
        match banned.data().join(DEVICE).exists() {
            true => Err("it is there"),
            false => Ok(()),
        }
    })
    .await;
    plant.evict(&evicted).await;
    told(&evicted, "refused the join token").await;
    evicted.stop().await;
    let token = plant.token().await;
    let old = evicted.id.rsplit('/').next().unwrap().to_owned();
    evicted.reconfigure(&old, &token);
    evicted.start().await.unwrap();
    in_contact(&evicted).await;
    registered(&evicted).await;
    let now = evicted.status().await.agent_id;
    assert!(now.ends_with(&token), "{now}");
    assert_eq!(device_key(&evicted)["agent_id"], now);
    plant.tear_down([banned, evicted]).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
