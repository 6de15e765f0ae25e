//! SVIDs are renewed, the node's own and those of workloads, or kept when that fails.

use super::*;

#[tokio::test]
async fn a_reattestable_node_renews_by_attesting_and_another_by_renewing() {
    for reattestable in [false, true] {
        let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
        server.script().reattestable = reattestable;
        // Half of its life is over when it comes, so each turn renews.
        server.script().agent_validity = Some((-3000, 600));
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::new(&server, dir.path()).start();
        let method = if reattestable { "AttestAgent" } else { "RenewAgent" };
        until(method, || server.calls(method) >= 3).await;
        let (attested, renewed) = (server.calls("AttestAgent"), server.calls("RenewAgent"));
        assert!(
            if reattestable { renewed == 0 } else { attested == 1 },
            "{attested} {renewed}"
        );
        // The new one is shown to the server.
        let before = server.script().shown_serials.len();
        until("the new SVID is shown", || {
            let script = server.script();
            let shown: std::collections::HashSet<_> = script.shown_serials
                [before.min(script.shown_serials.len())..]
                .iter()
                .collect();
            shown.len() >= 2
        })
        .await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_failed_renewal_of_the_node_leaves_it_working_with_what_it_has() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().agent_validity = Some((-3000, 600));
    server
        .script()
        .refuse
        .insert("RenewAgent", tonic::Status::resource_exhausted("later"));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    until("a renewal is tried", || server.calls("RenewAgent") >= 1).await;
    node.serving().await;
    server
        .script()
        .entries
        .push(wire_entry("b", "/b", &["unix:uid:1"]));
    until("synchronisation goes on", || {
        node.serves(&["unix:uid:1"]).len() == 2
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_tainted_authority_has_its_svids_replaced() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let before = server.calls("BatchNewX509SVID");
    server.script().tainted = true;
    until("they are asked for anew", || {
        server.calls("BatchNewX509SVID") > before
    })
    .await;
    until("the node's own too", || server.calls("RenewAgent") > 0).await;
    node.stop().await;
}

/// It may be revoked soon, and then the node would have to attest again, with a token that it has not.
#[tokio::test]
async fn a_node_under_a_tainted_authority_says_so_until_it_is_renewed_and_tries_again_soon() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let refusal = tonic::Status::internal("the disk is full");
    server.script().refuse.insert("RenewAgent", refusal);
    server.script().tainted = true;
    until("a renewal is tried", || server.calls("RenewAgent") > 0).await;
    node.serving().await;
    until("it is told", || {
        let complaint = node.status().complaint();
        complaint.contains("signed by a tainted authority") && complaint.contains("the disk is full")
    })
    .await;
    server.script().refuse.clear();
    until("it is renewed", || node.status().complaint().is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn an_expired_node_attests_again() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().agent_validity = Some((-3000, 2));
    let dir = tempfile::tempdir().unwrap();
    let clock = crate::testing::StoppedClock::at(real_clock().now().unwrap());
    server
        .script()
        .refuse
        .insert("RenewAgent", tonic::Status::unavailable("no"));
    let node = Setup {
        clock: clock.clone(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    server.script().agent_validity = None;
    clock.set(
        real_clock()
            .now()
            .unwrap()
            .saturating_add(Duration::from_secs(10)),
    );
    until("it attests again", || server.calls("AttestAgent") == 2).await;
    node.serving().await;
    node.stop().await;
}

/// The server has all the time in the world; the SVID has six seconds.
#[tokio::test]
async fn an_svid_that_lives_shorter_than_the_interval_is_renewed_in_time() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().workload_validity = Some((-300, 6));
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&server, dir.path());
    setup.interval = Duration::from_secs(3600);
    let node = setup.start();
    node.serving().await;
    for round in 2..4 {
        until("a renewal", || {
            assert_eq!(
                node.serves(&["unix:uid:1"]),
                ["/a"],
                "a gap before renewal {round}"
            );
            server.script().batch_sizes.len() >= round
        })
        .await;
    }
    assert!(server.script().batch_sizes.len() < 5, "renewed all the time");
    node.stop().await;
}

#[tokio::test]
async fn a_refused_batch_keeps_what_is_held() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    server
        .script()
        .refuse
        .insert("BatchNewX509SVID", tonic::Status::internal("disk full"));
    server.script().entries[0].revision_number = 1;
    node.error("BatchNewX509SVID: Internal: disk full").await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

#[tokio::test]
async fn a_clock_behind_the_svid_is_told_as_such_and_nothing_is_thrown_away() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    node.stop().await;
    let past = UnixTime::from_secs(real_clock().now().unwrap().as_secs() - 86_400);
    let clock = crate::testing::StoppedClock::at(past);
    let node = Setup {
        clock: clock.clone(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error("clock is behind by 86").await;
    assert!(dir.path().join(IDENTITY).exists());
    clock.set(real_clock().now().unwrap());
    node.serving().await;
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}
