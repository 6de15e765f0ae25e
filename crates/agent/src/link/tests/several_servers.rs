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
    let node = Setup::of_two(&first, &second, dir.path()).start();
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
    let node = Setup::of_two(&first, &second, dir.path()).start();
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

/// Its own clock is wrong, or that of all servers: whatever is asked, what is signed is of another time.
#[tokio::test]
async fn a_node_whose_clock_differs_from_all_servers_does_not_go_round_and_round() {
    let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let second = first.beside().await;
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![first.address.to_string(), second.address.to_string()];
    for server in [&first, &second] {
        server.script().workload_validity = Some((7200, 10_800));
    }
    let node = Setup {
        servers,
        ..Setup::new(&first, dir.path())
    }
    .start();
    let signed = |server: &FakeServer| server.script().batch_sizes.len();
    until("each is asked", || signed(&first) == 1 && signed(&second) == 1).await;
    let accepted = || first.script().accepted + second.script().accepted;
    node.serving().await;
    let (at_first, connections) = (signed(&first), accepted());
    for revision in 1..20 {
        let before = signed(&second);
        for server in [&first, &second] {
            server.script().entries[0].revision_number = revision;
        }
        until("it is asked for again", || signed(&second) > before).await;
    }
    assert_eq!((signed(&first), accepted()), (at_first, connections));
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    // One of the two clocks is put right: nothing else is needed.
    second.script().workload_validity = None;
    for server in [&first, &second] {
        server.script().entries[0].revision_number = 20;
    }
    until("it is served", || node.serves(&["unix:uid:1"]) == ["/a"]).await;
    // From then on, another server is a help again.
    second.script().workload_validity = Some((7200, 10_800));
    first.script().workload_validity = None;
    for server in [&first, &second] {
        server.script().entries[0].revision_number = 21;
    }
    until("the first is asked", || signed(&first) > at_first).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_under_way_when_a_server_is_given_up_is_not_signed_twice() {
    let first = FakeServer::start().await;
    first.script().entries = (0..1000)
        .map(|n| wire_entry(&format!("{n:04}"), &format!("/w/{n}"), &["unix:uid:1"]))
        .collect();
    let second = first.beside().await;
    let hold = Arc::new(tokio::sync::Semaphore::new(1));
    first.script().hold_issuing = Some(Arc::clone(&hold));
    first.script().workload_validity = Some((7200, 10_800));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::of_two(&first, &second, dir.path()).start();
    until("two batches are asked for, and one is signed", || {
        first.calls("BatchNewX509SVID") == 2 && first.script().batch_sizes == [500]
    })
    .await;
    first.script().workload_validity = None;
    hold.add_permits(1);
    until("all are served", || node.serves(&["unix:uid:1"]).len() == 1000).await;
    assert_eq!(first.script().batch_sizes, [500, 500]);
    assert_eq!(second.script().batch_sizes, [500]);
    node.stop().await;
}

#[tokio::test]
async fn the_next_server_attests_the_node_when_the_clock_of_the_first_is_wrong() {
    for (begins, ends) in [(300, 3900), (-3900, -300)] {
        served_by_the_second("attested at another time", |first| {
            first.script().reattestable = true;
            first.script().agent_validity = Some((begins, ends));
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
    let node = Setup::of_two(&first, &second, dir.path()).start();
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
    let node = Setup::of_two(&first, &second, dir.path()).start();
    until("it renews", || second.calls("RenewAgent") == 1).await;
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn a_renewal_of_another_time_is_not_taken() {
    let clocks = [(300, 3900), (-3900, -300)];
    for ((begins, ends), reattestable) in clocks
        .into_iter()
        .flat_map(|clock| [(clock, false), (clock, true)])
    {
        let method = if reattestable { "AttestAgent" } else { "RenewAgent" };
        let first = server_with(&[("a", "/a", "unix:uid:1")]).await;
        let second = first.beside().await;
        // Half of its life is over when it comes.
        first.script().agent_validity = Some((-3000, 600));
        let full = tonic::Status::resource_exhausted("full");
        for server in [&first, &second] {
            server.script().reattestable = reattestable;
        }
        second.script().agent_validity = Some((begins, ends));
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::of_two(&first, &second, dir.path()).start();
        until("it is attested", || first.calls("AttestAgent") > 0).await;
        first.script().refuse.insert(method, full);
        until("it asks for one", || second.calls(method) > 0).await;
        // By the present one.
        until("the node goes on", || second.calls("SyncAuthorizedEntries") > 2).await;
        node.serving().await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
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
    let node = Setup::of_two(&first, &second, dir.path()).start();
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
