//! What the disk has damaged does not keep a node that has a way back from serving.

use super::*;
use crate::persist::{DEVICE, IDENTITY, NodeFiles};
use crate::testing::fake_server::recovery::State;

/// A node that has registered its device key, and of whose own SVID one letter is another now.
async fn harmed() -> World {
    let mut world = World::new().await;
    world.server.script().device_key = Some(State::Registered);
    let handle = world.start().await;
    handle.ready().await;
    let mut registered = String::new();
    for _ in 0..600 {
        registered = device_key(&handle).await;
        if registered.starts_with("registered") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(registered.starts_with("registered"), "{registered}");
    world.stop_agent().await;
    let file = world.dir.path().join("data").join(IDENTITY);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    crate::testing::write_private(&file, &bytes);
    world
}

async fn device_key(handle: &AgentHandle) -> String {
    let status = admin(handle).await.get_status(api::GetStatusRequest {}).await;
    status.unwrap().into_inner().device_key
}

async fn served(handle: &AgentHandle) -> Vec<String> {
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    let fetched = client.fetch_x509().await.unwrap();
    fetched.svids.iter().map(|svid| svid.id().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_own_svid_is_damaged_serves_without_a_server() {
    let world = harmed().await;
    world.server.stop();
    let handle = world.start().await;
    assert_eq!(served(&handle).await, ["spiffe://plant.test/collector"]);
    let status = admin(&handle).await.get_status(api::GetStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!(
        status.agent_id, "spiffe://plant.test/spire/agent/join_token/node-1",
        "which node it is, its device key knows"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_comes_back_by_its_device_key_as_what_it_was() {
    let mut world = harmed().await;
    let handle = world.start().await;
    until("it has come back", || world.server.script().claims.len() == 1).await;
    handle.ready().await;
    assert_eq!(served(&handle).await, ["spiffe://plant.test/collector"]);
    world.stop_agent().await;
    let files = NodeFiles::open(&world.dir.path().join("data"), &td()).unwrap();
    assert!(files.identity().unwrap().is_some(), "it is written anew");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_device_key_its_cache_says_which_node_it_is() {
    let world = harmed().await;
    std::fs::remove_file(world.dir.path().join("data").join(DEVICE)).unwrap();
    world.server.stop();
    let handle = world.start().await;
    assert_eq!(served(&handle).await, ["spiffe://plant.test/collector"]);
    world.stop().await;
}

/// Attesting anew would make another node of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_says_which_node_it_is_the_operator_is_told_which_file_is_damaged() {
    let world = harmed().await;
    let data = world.dir.path().join("data");
    std::fs::remove_file(data.join(DEVICE)).unwrap();
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    let refused = world.refused(world.config()).await;
    assert!(
        refused.contains(IDENTITY) && refused.contains("digest"),
        "{refused}"
    );
    world.stop().await;
}
