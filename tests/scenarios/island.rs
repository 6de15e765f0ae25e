//! A node on its own: restarts without a server, what has expired meanwhile, what was taken away, and the way back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_testkit::{NodeAgent, Plant, eventually};
use tonic::Code;

/// The sealed files of SVIDs.
fn svid_files(agent: &NodeAgent) -> usize {
    let files = std::fs::read_dir(agent.data().join("cache"));
    let names = files.into_iter().flatten().map(|file| file.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("svid-"))
        .count()
}

async fn cached(agent: &NodeAgent, svids: usize) {
    eventually("the SVIDs on disk", async || match svid_files(agent) {
        found if found == svids => Ok(()),
        found => Err(found),
    })
    .await;
}

/// Connections that are accepted and never answered: an attempt that does not end.
fn silent(address: &str) -> std::net::TcpListener {
    std::net::TcpListener::bind(address).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_without_its_server_serves_before_any_attempt_has_ended() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let before = eventually("the identity", async || client.fetch_x509().await).await;
    let audience = ["receiver".to_owned()];
    let token = eventually("a token", async || client.fetch_jwt(&audience, None).await).await;
    cached(&agent, 1).await;
    drop(client);
    agent.stop().await;
    plant.stop_server().await;
    let hole = silent(&plant.address());
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    let after = client.fetch_x509().await.unwrap();
    assert_eq!(after.svids[0].serial_hex(), before.svids[0].serial_hex());
    assert_eq!(
        after.svids[0].key().as_pkcs8_der(),
        before.svids[0].key().as_pkcs8_der()
    );
    let again = client.fetch_jwt(&audience, None).await.unwrap();
    assert_eq!(again[0].token, token[0].token);
    let status = agent.status().await;
    assert_eq!(status.last_error, "", "no attempt has ended");
    assert_eq!(status.standing, "degraded", "{}", status.standing_text);
    assert!(status.last_sync > 0 && status.valid_until > status.last_sync);
    assert!(
        status.cache.starts_with("on disk, sealed under key"),
        "{}",
        status.cache
    );
    // The attempt fails: an island, which says for how long.
    drop(hole);
    eventually("an island", async || match agent.status().await {
        status if status.standing == "islanded" => {
            assert!(
                status.standing_text.contains("valid until"),
                "{}",
                status.standing_text
            );
            Ok(())
        }
        status => Err(status.standing_text),
    })
    .await;
    // And back: the server takes the place of all of it.
    plant.start_server().await.unwrap();
    plant.entry(&agent, "/line4/historian", 3600).await;
    eventually("both identities", async || match client.fetch_x509().await {
        Ok(context) if context.svids.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    eventually("contact", async || match agent.status().await.standing {
        standing if standing == "connected" => Ok(()),
        standing => Err(standing),
    })
    .await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_on_an_island_is_not_served_and_said() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    cached(&agent, 1).await;
    drop(client);
    agent.stop().await;
    plant.stop_server().await;
    let later = SystemClock
        .now()
        .unwrap()
        .saturating_add(Duration::from_secs(2 * 3600));
    let parts = AgentParts {
        clock: Arc::new(SimClock::new(later)),
        ..AgentParts::default()
    };
    agent.start_with(parts).await.unwrap();
    let mut client = agent.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    eventually("exhausted", async || match agent.status().await.standing {
        standing if standing == "exhausted" => Ok(()),
        standing => Err(standing),
    })
    .await;
    // It was not the disk that forgot.
    agent.stop().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    client.fetch_x509().await.unwrap();
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_not_served_after_a_restart_whenever_the_agent_heard_of_it() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    let heard = plant.entry(&agent, "/line4/collector", 3600).await;
    let unheard = plant.entry(&agent, "/line4/historian", 3600).await;
    let mut client = agent.client().await;
    eventually("both", async || match client.fetch_x509().await {
        Ok(context) if context.svids.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cached(&agent, 2).await;
    plant.delete_entry(&heard).await;
    cached(&agent, 1).await;
    drop(client);
    agent.stop().await;
    // The agent sleeps.
    plant.delete_entry(&unheard).await;
    plant.stop_server().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    let context = client.fetch_x509().await.unwrap();
    let ids: Vec<_> = context
        .svids
        .iter()
        .map(|svid| svid.id().path().to_owned())
        .collect();
    assert_eq!(ids, ["/line4/historian"]);
    plant.start_server().await.unwrap();
    eventually("the end of it", async || match client.fetch_x509().await {
        Err(error) if error.code() == Some(Code::PermissionDenied) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cached(&agent, 0).await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_empties_the_cache_and_an_eviction_does_not() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    let mut evicted = plant.agent("evicted", "").await;
    for agent in [&agent, &evicted] {
        plant.entry(agent, "/line4/collector", 3600).await;
        let mut client = agent.client().await;
        eventually("the identity", async || client.fetch_x509().await).await;
        cached(agent, 1).await;
    }
    plant.evict(&evicted).await;
    plant.ban(&agent).await;
    eventually("an empty cache", async || {
        match files(&agent.data().join("cache")) {
            0 => Ok(()),
            files => Err(files),
        }
    })
    .await;
    eventually("the eviction", async || match evicted.status().await.last_error {
        error if !error.is_empty() => Ok(()),
        none => Err(none),
    })
    .await;
    agent.stop().await;
    evicted.stop().await;
    plant.stop_server().await;
    assert_eq!(
        files(&agent.data().join("cache")),
        0,
        "nor is it written at the end"
    );
    evicted.start().await.unwrap();
    let mut client = evicted.client().await;
    client.fetch_x509().await.unwrap();
    plant.tear_down([agent, evicted]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_must_not_store_keys_stores_none_also_of_before() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "cache = \"disk\"").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    cached(&agent, 1).await;
    assert!(agent.data().join("seal-key").exists());
    drop(client);
    agent.stop().await;
    agent.reconfigure("cache = \"disk\"", "cache = \"memory\"");
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    assert!(agent.status().await.cache.starts_with("in memory only"));
    drop(client);
    agent.stop().await;
    assert_eq!(files(&agent.data().join("cache")), 0);
    assert!(!agent.data().join("seal-key").exists());
    plant.stop_server().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    plant.tear_down([agent]).await;
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
