//! Changes as they happen. An agent here asks its server once an hour: what comes sooner was told.

use std::path::Path;

use landfast_proto::landfast::entry::v1::entry_policies_client::EntryPoliciesClient;
use landfast_proto::landfast::entry::v1::{EntryPolicy, EntryPolicyMask, SetEntryPolicyRequest};
use landfast_testkit::{NodeAgent, PATIENCE, Plant, eventually};
use landfast_workload_api::client::{ClientError, X509Context};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Code;

async fn patient_agent(plant: &Plant) -> NodeAgent {
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    agent.reconfigure("interval = \"1s\"", "interval = \"1h\"\nbackstop = \"24h\"");
    agent.start().await.unwrap();
    subscribed(&agent).await;
    agent
}

async fn subscribed(agent: &NodeAgent) {
    eventually("a subscription", async || {
        let status = agent.status().await;
        match status.subscribed_since {
            0 => Err(status),
            _ => Ok(()),
        }
    })
    .await;
}

/// The paths of the next message.
async fn next(
    stream: &mut (impl Stream<Item = Result<X509Context, ClientError>> + Unpin),
) -> Result<Vec<String>, Option<Code>> {
    let next = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("a message in time");
    match next.expect("a message") {
        Ok(context) => {
            let paths = context.svids.iter().map(|svid| svid.id().path().to_owned());
            let mut paths: Vec<_> = paths.collect();
            paths.sort();
            Ok(paths)
        }
        Err(error) => Err(error.code()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_come_and_go_on_an_open_stream_also_after_a_restart_of_the_server() {
    let mut plant = Plant::new("").await;
    let agent = patient_agent(&plant).await;
    let first = plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let mut stream = client.x509_svids().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["/line4/collector"]);
    // Of this the workload hears nothing: the next message is that of the next entry.
    EntryPoliciesClient::new(plant.admin().await)
        .set_entry_policy(SetEntryPolicyRequest {
            policy: Some(EntryPolicy {
                entry_id: first.clone(),
                description: "ticket 4711".to_owned(),
                ..Default::default()
            }),
            mask: Some(EntryPolicyMask {
                description: true,
                ..EntryPolicyMask::default()
            }),
            if_revision: 0,
        })
        .await
        .unwrap();
    let second = plant.entry(&agent, "/line4/historian", 3600).await;
    let both = ["/line4/collector", "/line4/historian"];
    assert_eq!(next(&mut stream).await.unwrap(), both);
    plant.delete_entry(&second).await;
    assert_eq!(next(&mut stream).await.unwrap(), both[..1]);
    let before = agent.status().await;
    plant.stop_server().await;
    plant.start_server().await.unwrap();
    subscribed(&agent).await;
    plant.entry(&agent, "/line4/historian", 3600).await;
    assert_eq!(next(&mut stream).await.unwrap(), both);
    plant.delete_entry(&first).await;
    assert_eq!(next(&mut stream).await.unwrap(), both[1..]);
    let after = agent.status().await;
    let number = |text: &str| -> u64 { text.split_once('.').unwrap().1.parse().unwrap() };
    assert!(number(&after.newest_revision) > number(&before.newest_revision));
    assert!(agent.data().join("newest-revision.json").exists());
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_ends_the_streams_and_destroys_the_keys() {
    let plant = Plant::new("").await;
    let agent = patient_agent(&plant).await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let mut stream = client.x509_svids().await.unwrap();
    assert!(next(&mut stream).await.is_ok());
    plant.ban(&agent).await;
    assert_eq!(next(&mut stream).await, Err(Some(Code::PermissionDenied)));
    let keys = agent.data().join("node-identity.json");
    eventually("keys destroyed", async || gone(&keys)).await;
    eventually("a status that says so", async || {
        let state = agent.status().await.state;
        match state.as_str() {
            "banned" => Ok(()),
            _ => Err(state),
        }
    })
    .await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_is_told_at_once_and_costs_nothing_that_is_valid() {
    let plant = Plant::new("").await;
    let agent = patient_agent(&plant).await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let held = eventually("the identity", async || client.fetch_x509().await).await;
    plant.evict(&agent).await;
    // Its token is used: it says what it needs, and goes on with what it has.
    eventually("the agent's trouble", async || {
        let status = agent.status().await;
        match status.last_error.contains("landfast token create") {
            true => Ok(()),
            false => Err(status),
        }
    })
    .await;
    let still = client.fetch_x509().await.unwrap();
    assert_eq!(still.svids[0].serial_hex(), held.svids[0].serial_hex());
    assert!(agent.data().join("node-identity.json").exists());
    plant.tear_down([agent]).await;
}

fn gone(path: &Path) -> Result<(), &Path> {
    match path.exists() {
        true => Err(path),
        false => Ok(()),
    }
}
