//! Against a server that behaves as SPIRE's: it keeps account of its nodes, has only the published API, and says nothing of removals but by
//! absence.

use super::*;
use crate::testing::fake_server::Nodes;

/// A SPIRE server that has generated these tokens.
async fn spire(tokens: &[&str]) -> FakeServer {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:1")]).await;
    server.script().nodes = Some(Nodes::with_tokens(tokens));
    server
}

fn nodes(server: &FakeServer, act: impl FnOnce(&mut Nodes)) {
    act(server.script().nodes.as_mut().unwrap());
}

fn token_file(dir: &Path, token: &str) -> Evidence {
    let path = dir.join("token");
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&path, token).unwrap();
    Evidence::JoinToken(TokenSource::File(path))
}

/// A device certificate; the server of these tests asks no question about it.
fn device(dir: &Path) -> Evidence {
    let svid = Ca::new("maker").svid(&id("/device"), UnixTime::EPOCH, crate::testing::NOON);
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, text).unwrap();
        path
    };
    Evidence::X509Pop {
        certificate: write("device.pem", &svid.leaf().to_pem()),
        private_key: write("device.key", &svid.key().to_pem()),
    }
}

async fn rounds(server: &FakeServer, more: u32) {
    let before = server.calls("GetBundle");
    until("more rounds", || server.calls("GetBundle") >= before + more).await;
}

#[tokio::test]
async fn an_entry_that_is_missing_from_an_answer_is_withdrawn_at_once() {
    let server = spire(&["token"]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        confirm_after: Duration::from_secs(3600),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"]);
    server.script().entries.remove(0);
    until("the other alone is served", || {
        node.serves(&["unix:uid:1"]) == ["/b"]
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn an_answer_without_entries_is_not_believed_once() {
    let server = spire(&["token"]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        confirm_after: Duration::from_secs(3600),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    let view = node.views.watch(&selectors(&["unix:uid:1"]), real_clock().now());
    server.script().forget_entries = 2;
    until("the server has said so", || server.script().forget_entries == 0).await;
    rounds(&server, 3).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"]);
    assert!(!view.has_changed().unwrap(), "not even for a moment");
    assert_eq!(node.status().phase, Phase::Serving);
    // What it says after that counts by itself.
    server.script().entries.remove(0);
    until("a removal", || node.serves(&["unix:uid:1"]) == ["/b"]).await;
    node.stop().await;
}

#[tokio::test]
async fn an_answer_without_entries_is_believed_when_it_is_repeated_later() {
    let server = spire(&["token"]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        // The question is asked when it is time, not when the next round is due.
        interval: Duration::from_secs(3600),
        confirm_after: Duration::from_millis(600),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.script().entries.clear();
    let asked = server.calls("SyncAuthorizedEntries");
    node.handle.nudge();
    until("it is asked", || server.calls("SyncAuthorizedEntries") > asked).await;
    let served = node.serves(&["unix:uid:1"]).len();
    // On a machine that stalled here it may have been asked again meanwhile.
    let twice = server.calls("SyncAuthorizedEntries") > asked + 1;
    assert!(twice || served == 2, "given up when it was asked once");
    let view = node.views.watch(&selectors(&["unix:uid:1"]), real_clock().now());
    until("nobody is entitled any more", || {
        view.borrow().state == ViewState::NoIdentity
    })
    .await;
    assert_eq!(server.calls("SyncAuthorizedEntries"), asked + 2);
    node.stop().await;
}

#[tokio::test]
async fn a_server_without_the_two_phase_synchronisation_is_asked_for_all() {
    let server = spire(&["token"]).await;
    let unknown = tonic::Status::unimplemented("unknown method SyncAuthorizedEntries");
    server.script().refuse.insert("SyncAuthorizedEntries", unknown);
    server.script().page = 1;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"]);
    assert!(server.calls("GetAuthorizedEntries") > 0);
    server.script().entries.remove(0);
    until("a removal", || node.serves(&["unix:uid:1"]) == ["/b"]).await;
    // The next version of the server has it.
    server.script().refuse.clear();
    server
        .script()
        .entries
        .push(wire_entry("c", "/c", &["unix:uid:1"]));
    until("an addition", || node.serves(&["unix:uid:1"]) == ["/b", "/c"]).await;
    let before = server.calls("GetAuthorizedEntries");
    rounds(&server, 2).await;
    assert_eq!(server.calls("GetAuthorizedEntries"), before);
    node.stop().await;
}

#[tokio::test]
async fn a_node_with_a_token_renews_and_an_evicted_one_says_what_it_needs() {
    let server = spire(&["first"]).await;
    server.script().agent_validity = Some((-3000, 600));
    let dir = tempfile::tempdir().unwrap();
    let etc = tempfile::tempdir().unwrap();
    let node = Setup {
        evidence: token_file(etc.path(), "first"),
        ..Setup::new(&server, dir.path())
    }
    .start();
    until("it renews", || server.calls("RenewAgent") >= 3).await;
    node.serving().await;
    assert_eq!(server.calls("AttestAgent"), 1);
    server.script().agent_validity = None;
    until("a renewal for long", || {
        node.status().agent_not_after.is_some_and(|end| {
            end > real_clock()
                .now()
                .unwrap()
                .saturating_add(Duration::from_secs(1800))
        })
    })
    .await;
    nodes(&server, Nodes::evict);
    node.error("on a SPIRE server: `spire-server token generate`")
        .await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"], "what is held stays");
    nodes(&server, |nodes| nodes.generate("second"));
    drop(token_file(etc.path(), "second"));
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_with_a_device_certificate_comes_back_by_itself() {
    let server = spire(&[]).await;
    server.script().agent_validity = Some((-3000, 600));
    let dir = tempfile::tempdir().unwrap();
    let etc = tempfile::tempdir().unwrap();
    let node = Setup {
        evidence: device(etc.path()),
        ..Setup::new(&server, dir.path())
    }
    .start();
    until("it attests to renew", || server.calls("AttestAgent") >= 3).await;
    assert_eq!(server.calls("RenewAgent"), 0);
    server.script().agent_validity = None;
    node.serving().await;
    // Evicted, its serial number forgotten by a restore, answered as expired: each time it attests.
    rounds(&server, 3).await;
    for _ in 0..2 {
        let before = server.calls("AttestAgent");
        nodes(&server, Nodes::evict);
        until("it attests again", || server.calls("AttestAgent") > before).await;
        rounds(&server, 2).await;
        assert_eq!(node.status().phase, Phase::Serving);
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_banned_node_stays_banned_until_it_is_evicted() {
    let server = spire(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let etc = tempfile::tempdir().unwrap();
    let evidence = device(etc.path());
    let node = Setup {
        evidence: evidence.clone(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    nodes(&server, Nodes::ban);
    until("it is banned", || node.status().phase == Phase::Banned).await;
    until("its keys are gone", || !dir.path().join(IDENTITY).exists()).await;
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    node.stop().await;
    // SPIRE refuses the attestation of a banned node without the detail that says so.
    let node = Setup {
        evidence: evidence.clone(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error("failed to attest: agent is banned").await;
    nodes(&server, Nodes::evict);
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a", "/b"]);
    node.stop().await;
}
