//! The way back by a device key, and what must be on disk before the server hears of it.

use faulty::Verb;
use landfast_proto::landfast::recovery::v1::refusal::Reason;

use super::*;
use crate::persist::DEVICE;
use crate::testing::fake_server::recovery::{State, refusal};

async fn server() -> FakeServer {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().device_key = Some(State::Registered);
    server
}

/// A node that has registered its device key, and lost its SVID.
async fn lost(server: &FakeServer, dir: &Path) {
    let node = Setup::new(server, dir).start();
    until("it is registered", || {
        node.status().device_key.starts_with("registered")
    })
    .await;
    node.stop().await;
    std::fs::remove_file(dir.join(IDENTITY)).unwrap();
}

#[tokio::test]
async fn a_node_comes_back_by_its_device_key_and_uses_no_token() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    assert_eq!(server.script().device_keys.len(), 1);
    let tokens = server.calls("AttestAgent");
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(server.script().claims.len(), 1);
    assert_eq!(server.script().claims[0].0, 1);
    assert_eq!(server.calls("AttestAgent"), tokens + 1, "only by its device key");
    assert_eq!(node.status().agent_id, Some(id("/spire/agent/join_token/node-1")));
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
    // The next time it is another counter with another key.
    std::fs::remove_file(dir.path().join(IDENTITY)).unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let claims = server.script().claims.clone();
    assert_eq!(claims[1].0, 2);
    assert_ne!(claims[1].1, claims[0].1);
    assert_eq!(server.script().device_keys.len(), 1, "the device key is the same");
    node.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_counter_and_key_after_a_restart_too() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    server.script().lose_replies = 1_000;
    let node = Setup::new(&server, dir.path()).start();
    until("answers are lost", || server.script().claims.len() >= 2).await;
    node.stop().await;
    let before = server.script().claims.len();
    let node = Setup::new(&server, dir.path()).start();
    until("more are lost", || server.script().claims.len() > before).await;
    server.script().lose_replies = 0;
    node.serving().await;
    let claims = server.script().claims.clone();
    assert!(claims.iter().all(|claim| *claim == claims[0]), "{claims:?}");
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_claimed_with_a_counter_that_is_not_on_disk() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    // The key of the SVID is on disk, the counter cannot be written.
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.pending_key(None, KeyType::EcP256).unwrap();
    drop(files);
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    disk.break_down(Verb::CreateTemp, std::io::ErrorKind::StorageFull);
    let node = setup.start();
    node.error("cannot keep the node's state").await;
    assert!(server.script().claims.is_empty());
    disk.mend();
    node.serving().await;
    assert_eq!(server.script().claims.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn no_device_key_is_registered_that_is_not_on_disk() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    server.script().device_key = None;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    node.stop().await;
    std::fs::remove_file(dir.path().join(DEVICE)).unwrap();
    server.script().device_key = Some(State::Registered);
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    disk.break_down(Verb::CreateTemp, std::io::ErrorKind::StorageFull);
    let node = setup.start();
    until("it is told", || {
        node.status().device_key.starts_with("not registered yet")
    })
    .await;
    assert!(server.script().device_keys.is_empty());
    disk.mend();
    server.break_connections();
    until("it is registered", || {
        node.status().device_key.starts_with("registered")
    })
    .await;
    let files = NodeFiles::open(dir.path(), &td());
    assert!(files.is_err(), "the directory is the node's");
    node.stop().await;
    let held = NodeFiles::open(dir.path(), &td())
        .unwrap()
        .device_key()
        .unwrap()
        .unwrap();
    assert_eq!(server.script().device_keys, [held.key.public_key()]);
    assert_eq!(held.agent_id, Some(id("/spire/agent/join_token/node-1")));
}

#[tokio::test]
async fn whom_a_person_has_to_let_in_asks_again_and_shows_no_old_token() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    let held = refusal(Reason::Held, "a person has to let it in");
    server.script().refuse_attestation = Some(held);
    let tokens = |server: &FakeServer| {
        server
            .script()
            .payloads
            .iter()
            .filter(|payload| *payload == b"node-1")
            .count()
    };
    // The token that the node was let in with, by its ID.
    let spent = || Evidence::JoinToken(TokenSource::Inline(Zeroizing::new("node-1".to_owned())));
    let node = Setup {
        evidence: spent(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error("a person has to let it in").await;
    let asked = server.calls("AttestAgent");
    until("it asks again", || server.calls("AttestAgent") > asked + 2).await;
    assert_eq!(tokens(&server), 0);
    server.script().refuse_attestation = None;
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_was_evicted_shows_its_token_again() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    server.script().device_keys.clear();
    server.script().payloads.clear();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let payloads = server.script().payloads.clone();
    assert_eq!(payloads.len(), 2);
    assert_eq!(payloads[1], b"token");
    node.stop().await;
}

#[tokio::test]
async fn a_key_that_was_in_two_hands_is_replaced() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    server.script().device_key = Some(State::MakeAnother);
    let node = Setup::new(&server, dir.path()).start();
    until("another key is registered", || {
        server.script().device_keys.len() == 2
    })
    .await;
    until("it is told", || {
        node.status().device_key.starts_with("registered")
    })
    .await;
    node.stop().await;
    let held = NodeFiles::open(dir.path(), &td())
        .unwrap()
        .device_key()
        .unwrap()
        .unwrap();
    let keys = server.script().device_keys.clone();
    assert_ne!(keys[0], keys[1]);
    assert_eq!((held.key.public_key(), held.counter), (keys[1].clone(), 1));
}

#[tokio::test]
async fn with_a_spire_server_the_node_says_so_and_lives_as_spires_do() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    until("it is told", || {
        node.status().device_key.contains("knows of none")
    })
    .await;
    node.serving().await;
    node.stop().await;
    std::fs::remove_file(dir.path().join(IDENTITY)).unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(server.script().payloads, [b"token", b"token"]);
    node.stop().await;
}

#[tokio::test]
async fn a_ban_destroys_the_device_key_too() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    until("it is registered", || {
        node.status().device_key.starts_with("registered")
    })
    .await;
    assert!(dir.path().join(DEVICE).exists());
    server.script().deny = Some(4);
    until("it is banned", || node.status().phase == Phase::Banned).await;
    until("its keys are destroyed", || !dir.path().join(DEVICE).exists()).await;
    assert_eq!(node.status().device_key, "");
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_device_key_is_replaced_and_stops_nothing() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    lost(&server, dir.path()).await;
    Store::open(dir.path()).unwrap().replace(DEVICE, b"{").unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert!(server.script().claims.is_empty());
    until("another is registered", || server.script().device_keys.len() == 2).await;
    node.stop().await;
}

/// As after a walk to the present authorities, and a power cut or a full disk before the node was let in by them.
#[tokio::test]
async fn a_node_whose_authority_is_gone_from_its_bundle_comes_back_when_its_disk_does() {
    let before = server().await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&before, dir.path()).start();
    until("it is registered", || {
        node.status().device_key.starts_with("registered")
    })
    .await;
    node.stop().await;
    before.stop();
    let name = landfast_identity::SpiffeId::server(&td());
    let after = FakeServer::start_as(Ca::new("after"), name).await;
    {
        let mut script = after.script();
        script.entries = vec![wire_entry("a", "/a", &["unix:uid:1"])];
        script.device_key = Some(State::Registered);
        script.device_keys.clone_from(&before.script().device_keys);
    }
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_bundle(&after.ca().bundle(), "").unwrap();
    drop(files);
    let setup = Setup::new(&after, dir.path());
    let disk = setup.disk.clone();
    disk.break_down(Verb::CreateTemp, std::io::ErrorKind::StorageFull);
    let node = setup.start();
    until("it cannot ask", || !node.status().last_error.is_empty()).await;
    assert!(after.script().claims.is_empty());
    disk.mend();
    node.serving().await;
    assert_eq!(after.script().claims.len(), 1);
    assert_eq!(after.calls("AttestAgent"), 1);
    node.stop().await;
}
