//! Restarts, a server that is away, replies that are lost, bans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use landfast_testkit::{Plant, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_is_the_same_node_without_a_new_token() {
    let plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    agent.stop().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("the identity after the restart", async || {
        client.fetch_x509().await
    })
    .await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_what_is_valid_is_served_and_afterwards_all_goes_on() {
    let mut plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let before = eventually("the identity", async || client.fetch_x509().await).await;
    plant.stop_server().await;
    let during = client.fetch_x509().await.unwrap();
    assert_eq!(during.svids[0].serial_hex(), before.svids[0].serial_hex());
    // The same authorities, entries and agents come back: a new entry reaches the old agent.
    plant.start_server().await.unwrap();
    plant.entry(&agent, "/line4/historian", 3600).await;
    eventually("both identities", async || match client.fetch_x509().await {
        Ok(context) if context.svids.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_before_its_server_says_unavailable_and_then_serves() {
    let mut plant = Plant::new("").await;
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    plant.entry(&agent, "/line4/collector", 3600).await;
    plant.stop_server().await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    plant.start_server().await.unwrap();
    eventually("the identity", async || client.fetch_x509().await).await;
    plant.tear_down([agent]).await;
}

/// T-13, with the wire really cut: the first attestation's answer never arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_on_the_wire_bricks_no_node() {
    let plant = Plant::new("").await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let via = proxy.local_addr().unwrap();
    let upstream = plant.address();
    let cut = Arc::new(AtomicBool::new(true));
    let cutting = Arc::clone(&cut);
    let swallowed = Arc::new(AtomicBool::new(false));
    let swallowing = Arc::clone(&swallowed);
    let mut relays = tokio::task::JoinSet::new();
    relays.spawn(async move {
        let mut pairs = tokio::task::JoinSet::new();
        loop {
            let (client, _) = proxy.accept().await.unwrap();
            let server = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let cut = Arc::clone(&cutting);
            pairs.spawn(relay(client, server, cut, Arc::clone(&swallowing)));
        }
    });
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", &format!("server = [\"{via}\"]"), &token);
    plant.entry(&agent, "/line4/collector", 3600).await;
    agent.start().await.unwrap();
    // The server has committed the attestation, and the agent knows nothing of it.
    eventually(
        "the attestation at the server, and its answer cut",
        async || match (plant.count_agents().await, swallowed.load(Ordering::SeqCst)) {
            (1, true) => Ok(()),
            other => Err(other),
        },
    )
    .await;
    cut.store(false, Ordering::SeqCst);
    let mut client = agent.client().await;
    eventually(
        "the identity, by a second attempt with the same key",
        async || client.fetch_x509().await,
    )
    .await;
    // Another node with the same token stays outside.
    let mut thief = plant.agent_with("thief", "", &token);
    thief.start().await.unwrap();
    let mut outside = thief.client().await;
    assert_eq!(
        outside.fetch_x509().await.unwrap_err().code(),
        Some(Code::Unavailable)
    );
    assert_eq!(plant.count_agents().await, 1, "one token, one node");
    relays.shutdown().await;
    plant.tear_down([agent, thief]).await;
}

/// Passes the handshake; while `cut`, what the server says after it is swallowed once it is long enough to be a certificate.
async fn relay(
    client: tokio::net::TcpStream,
    server: tokio::net::TcpStream,
    cut: Arc<AtomicBool>,
    swallowed: Arc<AtomicBool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let down = async move {
        let mut passed = 0;
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            passed += read;
            // The handshake takes about 1.5 KB; the answer to an attestation goes beyond 2 KB.
            if cut.load(Ordering::SeqCst) && passed > 1900 {
                swallowed.store(true, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_node_stops_serving_and_destroys_its_keys() {
    let plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    assert!(holds_a_key(agent.data()), "the control");
    plant.ban(&agent).await;
    eventually("the end of serving", async || match client.fetch_x509().await {
        Err(error) if error.code() == Some(Code::PermissionDenied) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    eventually("the end of the keys", async || match holds_a_key(agent.data()) {
        false => Ok(()),
        true => Err("a key is on disk"),
    })
    .await;
    plant.tear_down([agent]).await;
}

/// Whether any file of the folder holds a private key: all but the bundle may.
fn holds_a_key(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let text = std::fs::read(file.unwrap().path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.contains("\"key\"") || text.contains("PRIVATE KEY")
    })
}
