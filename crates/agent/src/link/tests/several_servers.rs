//! A server that is reached and yet of no use: the next of the list is asked.

use super::*;

/// The first is of no use in this way.
async fn served_by_the_second(what: &str, spoil: impl FnOnce(&FakeServer)) {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    spoil(&first);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    // Whoever waits between the two waits for longer than the test does.
    let retry = (Duration::from_secs(120), Duration::from_secs(120));
    let node = Setup {
        servers,
        retry,
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.status().address, second.address.to_string(), "{what}");
    until(what, || node.serves(&["unix:uid:1"]) == ["/a"]).await;
    node.stop().await;
}

#[tokio::test]
async fn when_the_connection_to_the_server_that_pushes_breaks_the_next_one_is_asked_first() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    first.pushes(7, 1);
    let second = first.beside().await;
    second.pushes(7, 1);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!((first.subscriptions(), second.subscriptions()), (1, 0));
    // It would let itself be dialled; one whose cable is cut would let a dial wait for seconds.
    first.break_connections();
    until("the next one", || second.subscriptions() == 1).await;
    // Ended well, as servers end connections by age: it is dialled anew, and from the first on.
    second.end_subscription(None).await;
    until("the first one", || first.subscriptions() == 2).await;
    assert_eq!(second.subscriptions(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_asks_begins_with_the_next_server_too() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.status().address, first.address.to_string());
    // It would let itself be dialled, as above.
    first.break_connections();
    until("the next one", || {
        node.status().address == second.address.to_string()
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_first_answers_that_it_cannot() {
    use tonic::Status;
    for refusal in [
        Status::unavailable("the datastore of the server failed"),
        Status::internal("internal error"),
        Status::resource_exhausted("the disk of the server is full"),
        Status::deadline_exceeded("too slow"),
    ] {
        for method in ["AttestAgent", "SyncAuthorizedEntries", "BatchNewX509SVID"] {
            served_by_the_second(&format!("{method}: {refusal}"), |first| {
                first.script().refuse.insert(method, refusal.clone());
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_first_can_issue_nothing() {
    served_by_the_second("each refused", |first| {
        first.script().refuse_each = Some(tonic::Status::resource_exhausted("full"));
    })
    .await;
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_clock_of_the_first_is_wrong() {
    for (begins, ends) in [(300, 3900), (-3900, -300)] {
        served_by_the_second("of another time", |first| {
            first.script().workload_validity = Some((begins, ends));
        })
        .await;
    }
}

#[tokio::test]
async fn the_last_server_is_believed_about_each_svid() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().refuse_each = Some(tonic::Status::resource_exhausted("full"));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert!(node.views.snapshot().round_over);
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_for_what_the_node_is_or_asks_moves_nobody_to_another_server() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    first
        .script()
        .refuse
        .insert("SyncAuthorizedEntries", tonic::Status::permission_denied("no"));
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.error("SyncAuthorizedEntries: PermissionDenied").await;
    let turns = first.calls("SyncAuthorizedEntries");
    until("more turns", || first.calls("SyncAuthorizedEntries") > turns + 2).await;
    assert_eq!(second.calls("SyncAuthorizedEntries"), 0);
    node.stop().await;
}

#[tokio::test]
async fn the_node_renews_its_own_svid_at_the_next_server_too() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    // Half of its life is over when it comes.
    first.script().agent_validity = Some((-3000, 600));
    first
        .script()
        .refuse
        .insert("RenewAgent", tonic::Status::resource_exhausted("full"));
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    until("it renews", || second.calls("RenewAgent") == 1).await;
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn a_renewal_of_another_time_is_not_taken() {
    for (begins, ends) in [(300, 3900), (-3900, -300)] {
        let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
        let second = first.beside().await;
        // Half of its life is over when it comes.
        first.script().agent_validity = Some((-3000, 600));
        let full = tonic::Status::resource_exhausted("full");
        first.script().refuse.insert("RenewAgent", full);
        second.script().agent_validity = Some((begins, ends));
        let dir = tempfile::tempdir().unwrap();
        let servers = vec![first.address.to_string(), second.address.to_string()];
        let node = Setup {
            servers,
            ..Setup::new(&first, dir.path())
        }
        .start();
        until("it asks for one", || second.calls("RenewAgent") == 1).await;
        // By the present one.
        until("the node goes on", || second.calls("SyncAuthorizedEntries") > 2).await;
        node.serving().await;
        node.stop().await;
    }
}

#[tokio::test]
async fn the_first_server_is_asked_again_when_the_connection_to_the_next_ends() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    let ill = tonic::Status::unavailable("the datastore of the server failed");
    first.script().refuse.insert("SyncAuthorizedEntries", ill);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    let (asked, rounds) = (
        first.calls("SyncAuthorizedEntries"),
        second.calls("SyncAuthorizedEntries"),
    );
    until("rounds go on", || {
        second.calls("SyncAuthorizedEntries") > rounds + 2
    })
    .await;
    assert_eq!(
        first.calls("SyncAuthorizedEntries"),
        asked,
        "while the second serves, the first is left in peace"
    );
    second.break_connections();
    until("the first is asked, and in vain", || {
        first.calls("SyncAuthorizedEntries") > asked
    })
    .await;
    let rounds = second.calls("SyncAuthorizedEntries");
    until("the second serves again", || {
        second.calls("SyncAuthorizedEntries") > rounds + 2
    })
    .await;
    first.script().refuse.clear();
    second.break_connections();
    until("it is back at the first", || {
        node.status().address == first.address.to_string()
    })
    .await;
    node.serving().await;
    node.stop().await;
}

/// A machine without power closes no connection.
#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    first.pushes(7, 1);
    let second = first.beside().await;
    second.pushes(7, 1);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        servers: vec![first.address.to_string(), second.address.to_string()],
        interval: Duration::from_secs(3600),
        keep_alive: Duration::from_millis(500),
        ..Setup::new(&first, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.status().address, first.address.to_string());
    first.fall_silent();
    until("the next one", || second.subscriptions() > 0).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert_eq!(first.calls("AttestAgent") + second.calls("AttestAgent"), 1);
    node.stop().await;
}
