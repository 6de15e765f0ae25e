//! How subscriptions begin and end, and what is done where there is none.

use super::*;

#[tokio::test]
async fn a_server_without_subscriptions_is_asked_as_before_and_once_a_connection_whether_it_has_some() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let rounds = server.calls("SyncAuthorizedEntries");
    until("more rounds", || {
        server.calls("SyncAuthorizedEntries") > rounds + 5
    })
    .await;
    assert_eq!(server.calls("Subscribe"), 1);
    assert_eq!(node.status().polls_because, "the server has no subscriptions");
    // An upgrade ends the connection.
    server.pushes(7, 1);
    server.break_connections();
    node.subscribed().await;
    let rounds = server.calls("SyncAuthorizedEntries");
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    node.serving_for(&["unix:uid:2"], &["/b"]).await;
    assert_eq!(server.calls("SyncAuthorizedEntries"), rounds);
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_that_ends_is_begun_again_with_what_is_held() {
    let server = pushing(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    let mut a = node.view(&["unix:uid:1"]);
    a.mark_unchanged();
    type End<'a> = Box<dyn Fn() -> futures_util::future::BoxFuture<'a, ()> + 'a>;
    let ends: [End<'_>; 4] = [
        Box::new(|| Box::pin(server.end_subscription(None))),
        Box::new(|| {
            let slow = tonic::Status::aborted("subscribe again");
            Box::pin(server.end_subscription(Some(slow)))
        }),
        Box::new(|| {
            let away = tonic::Status::unavailable("the agent is banned and evicted, said a proxy");
            Box::pin(server.end_subscription(Some(away)))
        }),
        Box::new(|| {
            server.break_connections();
            Box::pin(async {})
        }),
    ];
    for (round, end) in ends.iter().enumerate() {
        let before = server.subscriptions();
        // What it misses meanwhile comes with the next subscription.
        server.script().entries[1].hint = format!("{round}");
        server.script().entries[1].revision_number += 1;
        end().await;
        until(&format!("subscription after end {round}"), || {
            server.subscriptions() > before
        })
        .await;
        node.subscribed().await;
        let view = node.view(&["unix:uid:2"]);
        until("what was missed", || {
            view.borrow()
                .x509
                .iter()
                .any(|served| served.hint == format!("{round}"))
        })
        .await;
        let asked = server.script().push.asked.last().cloned().unwrap();
        assert_eq!(asked.entries.len(), 2);
        // Unless it has polled meanwhile, it knows of b too what the server called it.
        let known = |held: &wire::HeldEntry| held.id == "a" && held.version > 0;
        assert!(asked.entries.iter().any(known), "{asked:?}");
        assert!(!asked.bundles[0].digest.is_empty());
        assert_eq!(asked.newest.unwrap().epoch, 7);
    }
    assert!(!a.has_changed().unwrap(), "who has only a noticed nothing");
    until("all is well", || node.status().last_error.is_empty()).await;
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}

/// The head of the answer says how new the server is, and not that the node is in step.
#[tokio::test]
async fn a_node_is_in_step_when_it_was_told_so_and_not_before() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    node.subscribed().await;
    let before = node.status().newest.unwrap();
    {
        let mut script = server.script();
        let busy = tonic::Status::unavailable("not now");
        script.refuse.insert("SyncAuthorizedEntries", busy);
        script.dated_as.insert("Subscribe", (7, 9));
        script.push.begin_with = Some(vec![wire::SubscribeResponse {
            standing: 77,
            ..step(7, 9)
        }]);
    }
    server.end_subscription(None).await;
    until("it was told nonsense", || server.subscriptions() > 3).await;
    let asked = server.script().push.asked.last().unwrap().newest.unwrap();
    assert_eq!((asked.epoch, asked.number), (before.epoch, before.number));
    assert_eq!(node.status().newest, Some(before));
    {
        let mut script = server.script();
        script.push.begin_with = None;
        script.push.revision = (7, 9);
    }
    until("it was told", || {
        node.status().newest.is_some_and(|newest| newest.number == 9)
    })
    .await;
    node.subscribed().await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_may_not_subscribe_now_asks_and_tries_again() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let full = tonic::Status::resource_exhausted("too many subscriptions");
    server.script().push.refuse = Some(full);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        interval: Duration::from_millis(20),
        ..setup(&server, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    until("it tries again", || server.subscriptions() > 2).await;
    let status = node.status();
    assert!(
        status.polls_because.contains("too many subscriptions"),
        "{status:?}"
    );
    assert_eq!(status.phase, Phase::Serving);
    server.script().push.refuse = None;
    node.subscribed().await;
    assert_eq!(node.status().polls_because, "");
    node.stop().await;
}

#[tokio::test]
async fn what_a_subscription_did_not_tell_is_found_and_asked_for_anew() {
    let server = pushing(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        backstop: Duration::from_millis(30),
        ..setup(&server, dir.path())
    }
    .start();
    node.serving().await;
    let looks = server.calls("SyncAuthorizedEntries");
    until("some looks", || server.calls("SyncAuthorizedEntries") > looks + 3).await;
    assert_eq!(server.subscriptions(), 1, "all is well");
    {
        let mut script = server.script();
        script.entries.remove(0);
        script.entries.push(wire_entry("c", "/c", &["unix:uid:3"]));
        script.push.revision.1 += 2;
    }
    node.serving_for(&["unix:uid:3"], &["/c"]).await;
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    let asked = server.script().push.asked.last().cloned().unwrap();
    assert!(asked.entries.iter().all(|held| held.version == 0), "{asked:?}");
    assert_eq!(server.subscriptions(), 2);
    node.stop().await;
}

#[tokio::test]
async fn a_look_that_is_ahead_of_a_step_under_way_does_not_make_it_a_stale_one() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        backstop: Duration::from_millis(20),
        confirm_after: HOUR,
        ..setup(&server, dir.path())
    }
    .start();
    node.serving().await;
    node.subscribed().await;
    let b = wire_entry("b", "/b", &["unix:uid:2"]);
    let looks = server.calls("GetBundle");
    {
        let mut script = server.script();
        script.entries.push(b.clone());
        script.push.revision = (7, 9);
    }
    // The first that sees it is the last: it gives what differs an hour to come.
    until("a look", || server.calls("GetBundle") > looks).await;
    server
        .say(wire::SubscribeResponse {
            put: vec![put(b)],
            ..step(7, 2)
        })
        .await;
    node.serving_for(&["unix:uid:2"], &["/b"]).await;
    assert_eq!(node.status().complaint(), "");
    assert_eq!(server.subscriptions(), 1, "the server is not left");
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_that_the_server_ends_begins_anew_on_another_connection_and_no_call_is_lost() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    node.subscribed().await;
    let connections = server.script().accepted;
    let gate = Arc::new(Semaphore::new(0));
    server.script().hold_issuing = Some(Arc::clone(&gate));
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    until("b is asked for", || server.calls("BatchNewX509SVID") == 2).await;
    server.end_subscription(None).await;
    until("it is heard", || node.status().subscribed_since.is_none()).await;
    assert!(node.handle.channel.borrow().is_some(), "questions go on");
    gate.add_permits(9);
    node.serving_for(&["unix:uid:2"], &["/b"]).await;
    assert_eq!(server.calls("BatchNewX509SVID"), 2);
    node.subscribed().await;
    assert_eq!(server.subscriptions(), 2);
    assert!(server.script().accepted > connections, "over another connection");
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}
