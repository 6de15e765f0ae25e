//! A reserve, from the server's signature to the last rung: cut off for much longer than an SVID lives, over restarts, and back.

use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::{UnixTime, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_proto::landfast::entry::v1::{EntryPolicy, EntryPolicyMask, JwtOffline};
use landfast_proto::spire::agent::debug::v1 as debug;
use landfast_server::ServerParts;
use landfast_testkit::{NodeAgent, Plant, eventually};
use landfast_workload_api::client::WorkloadClient;
use tonic::Code;

const HOUR: i64 = 3600;
const LIMITS: &str = "[reserve]\nlongest = \"8h\"\nlongest_token = \"8h\"";

fn at_the_clock(clock: &SimClock) -> AgentParts {
    AgentParts {
        clock: Arc::new(clock.clone()),
        ..AgentParts::default()
    }
}

fn server_at(clock: &SimClock) -> ServerParts {
    ServerParts {
        clock: Arc::new(clock.clone()),
        ..ServerParts::default()
    }
}

/// The sealed files of rungs.
fn rung_files(agent: &NodeAgent) -> usize {
    let files = std::fs::read_dir(agent.data().join("cache"));
    let names = files.into_iter().flatten().map(|file| file.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("rung-"))
        .count()
}

async fn with_rungs(agent: &NodeAgent, rungs: usize) {
    eventually("the reserve on disk", async || match rung_files(agent) {
        found if found == rungs => Ok(()),
        found => Err(found),
    })
    .await;
}

/// JWT-SVIDs that are held.
async fn tokens(agent: &NodeAgent) -> i32 {
    let socket = agent.data().with_file_name("admin.sock");
    let admin = landfast_testkit::unix_channel(&socket).await.unwrap();
    let asked = debug::debug_client::DebugClient::new(admin)
        .get_info(debug::GetInfoRequest {})
        .await;
    asked.unwrap().into_inner().cached_jwt_svids_count
}

async fn ask_for_reserve(plant: &Plant, entry_id: &str, hours: u32) {
    let policy = EntryPolicy {
        entry_id: entry_id.to_owned(),
        offline_reserve_seconds: hours * 3600,
        jwt_offline: vec![JwtOffline {
            audience: "receiver".to_owned(),
            seconds: 8 * 3600,
        }],
        ..Default::default()
    };
    let mask = EntryPolicyMask {
        offline_reserve_seconds: true,
        jwt_offline: hours > 0,
        ..Default::default()
    };
    plant.set_policy(policy, mask).await;
}

/// What a workload is given at this time, which a verifier takes. Answers serial number and beginning.
async fn given(client: &mut WorkloadClient, now: UnixTime) -> Result<(String, UnixTime), String> {
    let context = client.fetch_x509().await.map_err(|error| error.to_string())?;
    let svid = &context.svids[0];
    let chain: Vec<&[u8]> = svid.chain().iter().map(|one| one.as_der()).collect();
    let peer = verify_x509_svid(&chain, &context.bundles, now).map_err(|error| error.to_string())?;
    Ok((peer.serial_hex, svid.not_before()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_gives_one_rung_after_the_other_also_after_restarts_and_comes_back() {
    let clock = SimClock::new(SystemClock.now().unwrap());
    let mut plant = Plant::new(LIMITS).await;
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    agent.start_with(at_the_clock(&clock)).await.unwrap();
    let entry = plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    assert_eq!(rung_files(&agent), 0, "nobody asked for one");
    ask_for_reserve(&plant, &entry, 8).await;
    with_rungs(&agent, 16).await;
    let status = agent.status().await;
    assert!(
        status.trust_debt.starts_with("16 unspent SVIDs of 1 identities"),
        "{}",
        status.trust_debt
    );
    assert!(status.trust_debt_until >= clock.now().unwrap().as_secs() + 8 * HOUR);
    plant.stop_server().await;
    eventually("an attempt that fails", async || {
        match agent.status().await.last_error {
            error if !error.is_empty() => Ok(()),
            none => Err(none),
        }
    })
    .await;
    // Sixteen times as long as an SVID lives by half, with a restart now and then.
    let mut seen: Vec<String> = Vec::new();
    for half_hour in 1..16 {
        clock.step(HOUR / 2);
        if half_hour % 4 == 0 {
            drop(client);
            agent.stop().await;
            agent.start_with(at_the_clock(&clock)).await.unwrap();
            client = agent.client().await;
            // Before any attempt to reach a server has ended.
            given(&mut client, clock.now().unwrap()).await.unwrap();
        }
        let serial = eventually("another SVID that is valid", async || {
            let now = clock.now().unwrap();
            let (serial, begins) = given(&mut client, now).await?;
            match begins <= now && now.since(begins) <= Duration::from_secs(HOUR.unsigned_abs()) {
                true => Ok(serial),
                false => Err(format!("{begins} at {now}")),
            }
        })
        .await;
        if !seen.contains(&serial) {
            seen.push(serial);
        }
    }
    assert!(seen.len() >= 8, "each had its turn: {}", seen.len());
    let status = agent.status().await;
    assert_eq!(status.standing, "islanded", "{}", status.standing_text);
    assert!(
        status.standing_text.contains("reserve for"),
        "{}",
        status.standing_text
    );
    // The end of it.
    clock.step(2 * HOUR);
    drop(client);
    agent.stop().await;
    agent.start_with(at_the_clock(&clock)).await.unwrap();
    let mut client = agent.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    eventually("exhausted", async || match agent.status().await.standing {
        standing if standing == "exhausted" => Ok(()),
        standing => Err(standing),
    })
    .await;
    assert_eq!(rung_files(&agent), 16, "nothing leaves the disk by a clock alone");
    // And back.
    plant.start_server_with(server_at(&clock)).await.unwrap();
    eventually("an SVID of now", async || {
        given(&mut client, clock.now().unwrap()).await
    })
    .await;
    eventually("contact", async || match agent.status().await {
        status if status.standing == "connected" && status.trust_debt.starts_with("16 unspent") => Ok(()),
        status => Err((status.standing_text, status.trust_debt)),
    })
    .await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_takes_the_reserve_with_it_and_an_island_has_one_token() {
    let clock = SimClock::new(SystemClock.now().unwrap());
    let mut plant = Plant::new(LIMITS).await;
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    agent.start_with(at_the_clock(&clock)).await.unwrap();
    let entry = plant.entry(&agent, "/line4/collector", 3600).await;
    let other = plant.entry(&agent, "/line4/historian", 3600).await;
    ask_for_reserve(&plant, &entry, 8).await;
    ask_for_reserve(&plant, &other, 2).await;
    with_rungs(&agent, 20).await;
    ask_for_reserve(&plant, &other, 0).await;
    with_rungs(&agent, 16).await;
    plant.delete_entry(&other).await;
    let mut client = agent.client().await;
    let audience = ["receiver".to_owned()];
    let ordinary = eventually("a token", async || client.fetch_jwt(&audience, None).await).await;
    eventually("the one for later too", async || match tokens(&agent).await {
        2 => Ok(()),
        found => Err(found),
    })
    .await;
    drop(client);
    agent.stop().await;
    plant.stop_server().await;
    clock.step(HOUR);
    agent.start_with(at_the_clock(&clock)).await.unwrap();
    let mut client = agent.client().await;
    let offline = eventually("a token for the island", async || {
        client.fetch_jwt(&audience, None).await
    })
    .await;
    assert_ne!(offline[0].token, ordinary[0].token);
    let others = client.fetch_jwt(&["other".to_owned()], None).await.unwrap_err();
    assert_eq!(others.code(), Some(Code::Unavailable));
    given(&mut client, clock.now().unwrap()).await.unwrap();
    // Gone while nobody heard of it: the next contact destroys it.
    plant.start_server_with(server_at(&clock)).await.unwrap();
    plant.ban(&agent).await;
    with_rungs(&agent, 0).await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PermissionDenied));
    plant.tear_down([agent]).await;
}
