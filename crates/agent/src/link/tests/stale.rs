//! A server whose registry is older than what the node has seen (T-34): somebody's copy, a replica that lags, a disk of yesterday.

use landfast_proto::landfast::sync::v1 as wire;
use landfast_proto::spire::api::types;

use super::*;
use crate::persist::REVISION;
use crate::testing::fake_server::push::{current, gone, step};

async fn pushing(entries: &[(&str, &str, &str)], number: u64) -> FakeServer {
    let server = server_with(entries).await;
    server.pushes(7, number);
    server
}

#[tokio::test]
async fn nothing_older_than_what_was_seen_is_taken_also_after_a_restart() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], 49).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    // Within the minute in which it is not written again.
    server.put(wire_entry("a", "/a", &["unix:uid:1"])).await;
    until("it is heard", || node.status().newest.unwrap().number == 50).await;
    node.stop().await;
    assert!(
        dir.path().join(REVISION).exists(),
        "written at the end at the latest"
    );
    // An older copy, in which a was not yet and b was still there.
    {
        let mut script = server.script();
        script.push.revision = (7, 49);
        script.entries = vec![wire_entry("b", "/b", &["unix:uid:1"])];
    }
    for subscriptions in [true, false] {
        server.script().push.served = subscriptions;
        let node = Setup::new(&server, dir.path()).start();
        node.error("at revision 7.49, and this node has seen 7.50").await;
        assert!(node.serves(&["unix:uid:1"]).is_empty());
        assert!(node.status().complaint().contains(REVISION), "what to do");
        node.stop().await;
    }
    // The same number in an epoch before; and then restored as it should be.
    server.script().push.served = true;
    server.script().push.revision = (6, 5000);
    let node = Setup::new(&server, dir.path()).start();
    node.error("at revision 6.5000").await;
    server.script().push.revision = (8, 1);
    until("it is served", || node.serves(&["unix:uid:1"]) == ["/b"]).await;
    node.serving().await;
    assert_eq!(node.status().complaint(), "");
    node.stop().await;
    // An operator's own word.
    std::fs::remove_file(dir.path().join(REVISION)).unwrap();
    server.script().push.revision = (1, 1);
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_held_stays_and_the_next_server_is_asked() {
    let first = pushing(&[("a", "/a", "unix:uid:1")], 50).await;
    let second = first.beside().await;
    second.pushes(7, 51);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::of_two(&first, &second, dir.path()).start();
    node.serving().await;
    // In the middle of a subscription: its server goes back in time.
    first.script().push.revision = (7, 40);
    first.script().entries.clear();
    first
        .say(wire::SubscribeResponse {
            gone: vec![gone("a")],
            ..step(7, 40)
        })
        .await;
    until("the next one", || second.subscriptions() > 0).await;
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    let status = node.status();
    assert_eq!(status.address, second.address.to_string());
    assert!(
        status.complaint().contains(&first.address.to_string()),
        "it is told while it is so: {}",
        status.complaint()
    );
    assert_eq!(status.newest.unwrap().number, 51);
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_says_itself_that_it_is_older_is_not_used() {
    let first = pushing(&[], 50).await;
    let second = first.beside().await;
    second.script().entries = vec![wire_entry("a", "/a", &["unix:uid:1"])];
    second.pushes(7, 60);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers: servers.clone(),
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    let older = tonic::Status::failed_precondition("this registry is older");
    first.script().push.refuse = Some(older);
    first.end_subscription(None).await;
    until("the next one", || node.serves(&["unix:uid:1"]) == ["/a"]).await;
    assert_eq!(first.calls("SyncAuthorizedEntries"), 0, "it is not even asked");
    node.stop().await;
}

#[tokio::test]
async fn an_older_answer_to_a_poll_is_refused_and_an_empty_one_that_is_not_older_believed_at_once() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().push.revision = (7, 50);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        confirm_after: Duration::from_secs(3600),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.script().push.revision = (7, 49);
    server.script().entries.clear();
    node.error("at revision 7.49").await;
    let rounds = server.calls("SyncAuthorizedEntries");
    until("more rounds", || {
        server.calls("SyncAuthorizedEntries") > rounds + 2
    })
    .await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    server.script().push.revision = (7, 51);
    until("it is withdrawn", || node.serves(&["unix:uid:1"]).is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn what_an_older_registry_says_of_the_node_itself_counts_no_more_than_the_rest() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], 50).await;
    let other = server.beside().await;
    other.pushes(7, 51);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![server.address.to_string(), other.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    until("a is there", || node.serves(&["unix:uid:1"]) == ["/a"]).await;
    server.script().push.revision = (7, 49);
    server
        .say(wire::SubscribeResponse {
            standing: wire::Standing::Banned.into(),
            ..step(7, 49)
        })
        .await;
    until("the next one", || other.subscriptions() > 0).await;
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert!(dir.path().join(IDENTITY).exists());
    assert!(node.status().complaint().contains("at revision 7.49"));
    node.stop().await;
}

#[tokio::test]
async fn a_trust_bundle_does_not_go_back_within_one_epoch() {
    for subscriptions in [true, false] {
        let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
        let second = first.beside().await;
        for server in [&first, &second] {
            server.pushes(7, 50);
            let mut script = server.script();
            script.push.served = subscriptions;
            script.tainted = true;
            script.sequence = 5;
        }
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::of_two(&first, &second, dir.path()).start();
        let tainted = || {
            let bundle = node.views.snapshot().bundle.clone();
            bundle.is_some_and(|bundle| bundle.x509_authorities()[0].tainted)
        };
        until("the taint counts", tainted).await;
        node.serving().await;
        // The same registry, and a bundle from before the taint.
        {
            let mut script = first.script();
            script.tainted = false;
            script.sequence = 4;
            script.push.revision = (7, 60);
        }
        if subscriptions {
            let older = types::Bundle {
                sequence_number: 4,
                ..wire_bundle(first.ca(), false)
            };
            let message = wire::SubscribeResponse {
                bundles: vec![current(older)],
                ..step(7, 60)
            };
            first.say(message).await;
        }
        until("it is told", || {
            node.status().complaint().contains("trust bundle has sequence 4")
        })
        .await;
        let asked = |server: &FakeServer| server.calls("SyncAuthorizedEntries") + server.calls("Subscribe");
        until("the next one is asked", || asked(&second) > 0).await;
        assert!(tainted(), "it is not taken");
        // A registry that was restored begins anew.
        for server in [&first, &second] {
            let mut script = server.script();
            script.tainted = false;
            script.sequence = 1;
            script.push.revision = (8, 1);
        }
        first.break_connections();
        second.break_connections();
        until("it is taken", || !tainted()).await;
        node.stop().await;
    }
}

/// Behind one address there may be several servers, or one that catches up between two answers.
#[tokio::test]
async fn each_answer_is_judged_by_its_own_revision() {
    for method in ["SyncAuthorizedEntries", "GetAuthorizedEntries", "GetBundle"] {
        let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
        server.script().push.revision = (7, 50);
        if method == "GetAuthorizedEntries" {
            let unknown = tonic::Status::unimplemented("unknown method SyncAuthorizedEntries");
            server.script().refuse.insert("SyncAuthorizedEntries", unknown);
        }
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::new(&server, dir.path()).start();
        node.serving().await;
        {
            let mut script = server.script();
            script.dated_as.insert(method, (7, 49));
            script.entries.clear();
            script.tainted = true;
        }
        node.error(&format!("{method}: the server's registry is at revision 7.49"))
            .await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"], "{method}");
        let bundle = node.views.snapshot().bundle.clone().unwrap();
        assert!(!bundle.x509_authorities()[0].tainted, "{method}");
        server.script().dated_as.clear();
        until("it is withdrawn", || node.serves(&["unix:uid:1"]).is_empty()).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_subscriber_looks_whether_its_server_went_back() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], 50).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        backstop: Duration::from_millis(30),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.script().push.revision = (7, 40);
    node.error("SyncAuthorizedEntries: the server's registry is at revision 7.40")
        .await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

#[tokio::test]
async fn an_older_registry_is_not_subscribed_to_though_it_has_nothing_to_say() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], 50).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        interval: Duration::from_secs(3600),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.script().push.revision = (7, 49);
    server.end_subscription(None).await;
    node.error("Subscribe: the server's registry is at revision 7.49")
        .await;
    assert!(node.status().subscribed_since.is_none());
    node.stop().await;
}

#[tokio::test]
async fn a_trust_bundle_does_not_go_back_over_a_restart_either() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], 50).await;
    {
        let mut script = server.script();
        script.tainted = true;
        script.sequence = 5;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    node.stop().await;
    {
        let mut script = server.script();
        script.tainted = false;
        script.sequence = 4;
        script.push.revision = (7, 60);
    }
    let node = Setup::new(&server, dir.path()).start();
    node.error("trust bundle has sequence 4, and this node holds one of 5")
        .await;
    assert!(node.views.snapshot().bundle.is_none(), "nothing of it is taken");
    node.stop().await;
}
