//! What the server says of the node itself, and what is not its word.

use super::*;
use crate::link::failure::denied_details;

/// Refusals of whatever stands between, broken connections, nobody there: none of them is the server's word on the node.
#[tokio::test]
async fn an_outage_is_neither_an_eviction_nor_a_ban() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let words = "the agent is banned and evicted, said a proxy";
    let with_details = |code| tonic::Status::with_details(code, words, denied_details(4).into());
    for status in [
        tonic::Status::unavailable(words),
        with_details(tonic::Code::Unavailable),
        with_details(tonic::Code::Internal),
        tonic::Status::deadline_exceeded(words),
        tonic::Status::permission_denied(words),
    ] {
        server.script().refuse.insert("SyncAuthorizedEntries", status);
        node.error(words).await;
        server.break_connections();
        let asked = server.calls("SyncAuthorizedEntries");
        until("more rounds", || {
            server.calls("SyncAuthorizedEntries") > asked + 2
        })
        .await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
        server.script().refuse.clear();
        node.serving().await;
    }
    assert_eq!(server.calls("AttestAgent"), 1, "it is still the same node");
    assert!(dir.path().join(IDENTITY).exists());
    node.stop().await;
}

#[tokio::test]
async fn a_ban_of_somebody_who_is_not_the_server_is_not_heard() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let other = FakeServer::start_as(Ca::new("other"), landfast_identity::SpiffeId::server(&td())).await;
    let unnamed = FakeServer::start_as(Ca::new("third"), id("/not-the-server")).await;
    for impostor in [&other, &unnamed] {
        impostor.script().deny = Some(4);
        impostor.pushes(9, 1);
    }
    let dir = tempfile::tempdir().unwrap();
    let all = [&server, &other, &unnamed];
    let node = Setup {
        servers: all.iter().map(|server| server.address.to_string()).collect(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.stop();
    node.error("of an authority this node does not know").await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert!(dir.path().join(IDENTITY).exists());
    assert!(other.script().calls.is_empty() && unnamed.script().calls.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_banned_node_destroys_its_keys_and_lives_on() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let view = node.views.watch(&selectors(&["unix:uid:1"]), real_clock().now());
    server.script().deny = Some(4);
    until("the node is banned", || node.status().phase == Phase::Banned).await;
    until("nothing is served", || {
        view.borrow().state == ViewState::NoIdentity
    })
    .await;
    assert!(view.borrow().x509.is_empty());
    until("the keys are gone from disk", || {
        !dir.path().join(IDENTITY).exists()
    })
    .await;
    assert!(!dir.path().join(PENDING).exists());
    assert!(node.tasks.iter().all(|task| !task.is_finished()), "it lives on");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_is_not_attested_any_more_attests_again_and_serves_meanwhile() {
    for reason in [1, 2, 3, 5] {
        let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::new(&server, dir.path()).start();
        node.serving().await;
        let first = server.script().attested_keys[0].clone();
        let refusal = tonic::Status::invalid_argument(
            "failed to attest: join token does not exist or has already been used",
        );
        server.script().refuse_attestation = Some(refusal);
        server.script().deny = Some(reason);
        node.error("create a new one with `landfast token create`").await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"], "reason {reason}");
        assert!(dir.path().join(IDENTITY).exists());
        // The operator mends it.
        server.script().refuse_attestation = None;
        node.serving().await;
        assert_ne!(
            *server.script().attested_keys.last().unwrap(),
            first,
            "a new key for a new SVID"
        );
        node.stop().await;
    }
}

#[tokio::test]
async fn a_denial_that_is_lifted_is_found_out_without_a_new_token() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    server.script().refuse_attestation = Some(tonic::Status::invalid_argument("used"));
    server.script().deny = Some(2);
    node.error("create a new one").await;
    server.script().deny = None;
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own file")]
async fn a_denial_that_is_lifted_is_found_out_though_there_is_nothing_to_attest_with() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = kept.path().join("token");
    std::fs::write(&file, "token").unwrap();
    let node = Setup {
        evidence: Evidence::JoinToken(TokenSource::File(file.clone())),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    // Used, so that it was cleared away.
    std::fs::remove_file(&file).unwrap();
    server.script().deny = Some(3);
    node.error("cannot read").await;
    server.script().deny = None;
    node.serving().await;
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_away_costs_nothing_that_is_valid() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    server.stop();
    until("the node notices", || node.status().phase == Phase::Disconnected).await;
    assert!(!node.status().reachable);
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert!(dir.path().join(IDENTITY).exists());
    node.stop().await;
}
