//! A node that is told of changes. The interval of polls is an hour: only a subscription can explain what happens here.

mod life;

use landfast_proto::landfast::sync::v1 as wire;
use landfast_proto::spire::api::types::entry::AdditionalAttributes;
use tokio::sync::Semaphore;

use super::*;
use crate::keeper::taint::SPREAD;
use crate::testing::fake_server::push::{current, gone, put, step};

const HOUR: Duration = Duration::from_secs(3600);

fn setup<'a>(server: &FakeServer, dir: &'a Path) -> Setup<'a> {
    Setup {
        interval: HOUR,
        ..Setup::new(server, dir)
    }
}

async fn pushing(entries: &[(&str, &str, &str)]) -> FakeServer {
    let server = server_with(entries).await;
    server.pushes(7, 1);
    server
}

impl Node {
    fn view(&self, list: &[&str]) -> watch::Receiver<Arc<landfast_workload_api::WorkloadView>> {
        self.views.watch(&selectors(list), real_clock().now())
    }

    async fn serving_for(&self, list: &[&str], paths: &[&str]) {
        until("it serves", || self.serves(list) == paths).await;
    }

    async fn subscribed(&self) {
        until("it is subscribed", || self.status().subscribed_since.is_some()).await;
    }
}

#[tokio::test]
async fn a_node_is_told_what_it_has_and_what_changes_and_asks_for_nothing() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    node.subscribed().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    node.serving_for(&["unix:uid:2"], &["/b"]).await;
    server.put(wire_entry("a", "/a2", &["unix:uid:1"])).await;
    node.serving_for(&["unix:uid:1"], &["/a2"]).await;
    let view = node.view(&["unix:uid:2"]);
    server.take_away("b").await;
    until("it is withdrawn", || view.borrow().state == ViewState::NoIdentity).await;
    let newest = node.status().newest.unwrap();
    assert_eq!((newest.epoch, newest.number), (7, 4));
    for method in ["SyncAuthorizedEntries", "GetAuthorizedEntries", "GetBundle"] {
        assert_eq!(server.calls(method), 0, "{method}");
    }
    assert_eq!((server.subscriptions(), server.calls("AttestAgent")), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_change_goes_to_the_streams_that_it_touches_and_wakes_no_other() {
    let server = pushing(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    let (mut a, mut b, mut c) = (
        node.view(&["unix:uid:1"]),
        node.view(&["unix:uid:2"]),
        node.view(&["unix:uid:3"]),
    );
    for view in [&mut a, &mut b, &mut c] {
        view.mark_unchanged();
    }
    let mut entry = wire_entry("a", "/a", &["unix:uid:1"]);
    entry.hint = "main".to_owned();
    server.put(entry).await;
    until("the new hint", || {
        a.borrow().x509.iter().any(|served| served.hint == "main")
    })
    .await;
    assert!(!b.has_changed().unwrap(), "who has only b hears nothing");
    // Who had nothing hears of an entry that is for it.
    server.put(wire_entry("c", "/c", &["unix:uid:3"])).await;
    node.serving_for(&["unix:uid:3"], &["/c"]).await;
    assert!(c.has_changed().unwrap() && !b.has_changed().unwrap());
    a.mark_unchanged();
    server.take_away("c").await;
    until("c is gone", || c.borrow().state == ViewState::NoIdentity).await;
    assert!(!a.has_changed().unwrap() && !b.has_changed().unwrap());
    node.stop().await;
}

#[tokio::test]
async fn an_evicted_node_attests_again_and_serves_meanwhile() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    let used = tonic::Status::invalid_argument("join token has already been used");
    server.script().refuse_attestation = Some(used);
    server
        .say(wire::SubscribeResponse {
            standing: wire::Standing::Evicted.into(),
            // Not the way to take them away.
            gone: vec![gone("a")],
            ..step(7, 2)
        })
        .await;
    node.error("create a new one with `landfast token create`").await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert!(dir.path().join(IDENTITY).exists());
    server.script().refuse_attestation = None;
    server.script().deny = Some(2);
    until("it is let in", || server.script().attested_keys.len() >= 3).await;
    node.serving().await;
    node.subscribed().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

#[tokio::test]
async fn a_ban_that_is_told_destroys_the_keys() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    let view = node.view(&["unix:uid:1"]);
    server
        .say(wire::SubscribeResponse {
            standing: wire::Standing::Banned.into(),
            ..step(7, 2)
        })
        .await;
    until("the node is banned", || node.status().phase == Phase::Banned).await;
    assert_eq!(view.borrow().state, ViewState::NoIdentity);
    until("the keys are gone", || !dir.path().join(IDENTITY).exists()).await;
    assert!(node.status().subscribed_since.is_none());
    node.stop().await;
}

#[tokio::test]
async fn a_removal_does_not_wait_for_signatures_and_a_new_identity_not_for_renewals() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    let gate = Arc::new(Semaphore::new(0));
    server.script().hold_issuing = Some(Arc::clone(&gate));
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    until("b is asked for", || server.calls("BatchNewX509SVID") == 2).await;
    let view = node.view(&["unix:uid:1"]);
    server.take_away("a").await;
    until("a is withdrawn", || view.borrow().state == ViewState::NoIdentity).await;
    server.put(wire_entry("c", "/c", &["unix:uid:3"])).await;
    until("c is asked for beside b", || {
        server.calls("BatchNewX509SVID") == 3
    })
    .await;
    // What was asked for is not asked for again; what it is now, is.
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    server.put(wire_entry("d", "/d", &["unix:uid:4"])).await;
    until("all is heard", || node.status().newest.unwrap().number == 6).await;
    assert_eq!(server.calls("BatchNewX509SVID"), 3);
    gate.add_permits(9);
    for (list, path) in [("unix:uid:2", "/b"), ("unix:uid:3", "/c"), ("unix:uid:4", "/d")] {
        node.serving_for(&[list], &[path]).await;
    }
    until("b is renewed", || {
        server.script().batch_sizes.iter().sum::<usize>() == 5
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_step_is_adopted_whole_with_its_last_message() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        confirm_after: HOUR,
        ..setup(&server, dir.path())
    }
    .start();
    node.serving().await;
    let b = wire_entry("b", "/b", &["unix:uid:2"]);
    server.script().entries = vec![b.clone()];
    server
        .say(wire::SubscribeResponse {
            gone: vec![gone("a")],
            more: true,
            ..step(7, 2)
        })
        .await;
    // A question that is answered after the message was taken in.
    {
        let mut script = server.script();
        script.tainted = true;
        script.push.revision = (7, 2);
    }
    node.handle.nudge();
    until("a look", || server.calls("SyncAuthorizedEntries") > 0).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    server
        .say(wire::SubscribeResponse {
            put: vec![put(b)],
            bundles: vec![current(wire_bundle(server.ca(), true))],
            ..step(7, 2)
        })
        .await;
    node.serving_for(&["unix:uid:2"], &["/b"]).await;
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    assert!(node.views.snapshot().bundle.as_ref().unwrap().x509_authorities()[0].tainted);
    node.stop().await;
}

#[tokio::test]
async fn a_step_that_makes_no_sense_changes_nothing_and_the_node_asks_instead() {
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        interval: Duration::from_millis(20),
        ..setup(&server, dir.path())
    }
    .start();
    node.serving().await;
    let bad = wire::SubscribeResponse {
        put: vec![put(wire_entry("b", "/b", &["unix:uid:1"]))],
        gone: vec![gone("a"), gone("b")],
        ..step(7, 2)
    };
    server.script().push.begin_with = Some(vec![bad.clone()]);
    server.say(bad).await;
    until("it asks", || server.calls("SyncAuthorizedEntries") > 2).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    // An honest server again.
    server
        .script()
        .entries
        .push(wire_entry("c", "/c", &["unix:uid:3"]));
    node.serving_for(&["unix:uid:3"], &["/c"]).await;
    server.script().push.begin_with = None;
    until("subscribed for good", || {
        let rounds = server.calls("SyncAuthorizedEntries");
        node.status().subscribed_since.is_some() && rounds == server.calls("SyncAuthorizedEntries")
    })
    .await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

#[tokio::test]
async fn a_bundle_that_is_told_is_on_disk_and_comes_there_later_when_the_disk_is_full() {
    use faulty::Verb;
    let server = pushing(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        interval: Duration::from_millis(20),
        ..setup(&server, dir.path())
    };
    let disk = setup.disk.clone();
    let node = setup.start();
    node.serving().await;
    assert!(dir.path().join(crate::persist::BUNDLE).exists());
    disk.break_down(Verb::CreateTemp, std::io::ErrorKind::StorageFull);
    std::fs::remove_file(dir.path().join(crate::persist::BUNDLE)).unwrap();
    server.script().push.revision = (7, 2);
    let federated = Ca::of(&TrustDomain::parse("other.test").unwrap(), "o");
    server
        .say(wire::SubscribeResponse {
            bundles: vec![
                current(wire_bundle(server.ca(), true)),
                current(wire_bundle(&federated, false)),
            ],
            ..step(7, 2)
        })
        .await;
    until("it counts", || {
        let snapshot = node.views.snapshot();
        snapshot.bundle.as_ref().unwrap().x509_authorities()[0].tainted && snapshot.federated.len() == 1
    })
    .await;
    until("it is told", || node.status().disk.contains("make room")).await;
    disk.mend();
    until("it is on disk", || {
        dir.path().join(crate::persist::BUNDLE).exists()
    })
    .await;
    node.stop().await;
}

/// SPIRE's `disable_x509_svid_prefetch`, told and polled.
#[tokio::test]
async fn what_is_not_to_be_fetched_ahead_is_fetched_when_it_is_asked_for() {
    for subscriptions in [true, false] {
        let server = pushing(&[]).await;
        server.script().push.served = subscriptions;
        let mut entry = wire_entry("a", "/a", &["unix:uid:1"]);
        entry.additional_attributes = Some(AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        });
        server.script().entries = vec![entry, wire_entry("b", "/b", &["unix:uid:2"])];
        let dir = tempfile::tempdir().unwrap();
        let node = setup(&server, dir.path()).start();
        node.serving().await;
        node.serving_for(&["unix:uid:2"], &["/b"]).await;
        let ask = || {
            let caller = selectors(&["unix:uid:1"]);
            node.views.ask_for_x509(&caller, real_clock().now());
            node.view(&["unix:uid:1"])
        };
        assert_eq!(server.script().batch_sizes, [1]);
        assert_eq!(ask().borrow().state, ViewState::WithoutX509, "he waits");
        node.serving_for(&["unix:uid:1"], &["/a"]).await;
        ask();
        assert_eq!(server.script().batch_sizes, [1, 1]);
        node.stop().await;
    }
}

/// A node whose programs have nothing that is due has no other reason to wake.
#[tokio::test]
async fn a_taint_that_is_told_has_the_nodes_own_svid_renewed_though_nothing_else_is_due() {
    let server = pushing(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.serving().await;
    node.subscribed().await;
    server.script().tainted = true;
    server
        .say(wire::SubscribeResponse {
            bundles: vec![current(wire_bundle(server.ca(), true))],
            ..step(7, 2)
        })
        .await;
    until("it is renewed", || server.calls("RenewAgent") > 0).await;
    node.stop().await;
}

/// The turn that it makes due in has looked already, and looks no more.
#[tokio::test]
async fn the_nodes_own_svid_that_falls_due_while_others_are_signed_is_renewed_after_them() {
    let begin = real_clock().now().unwrap();
    let clock = crate::testing::StoppedClock::at(begin);
    // One that is drawn to be replaced at once is so before others are signed.
    let (server, _dir, node) = loop {
        let (server, dir) = (pushing(&[]).await, tempfile::tempdir().unwrap());
        let node = Setup {
            clock: clock.clone(),
            ..setup(&server, dir.path())
        }
        .start();
        node.serving().await;
        node.subscribed().await;
        let svid = node.status().agent_svid.unwrap();
        if landfast_lifecycle::spread_within(SPREAD, svid.serial_hex().as_bytes()).as_secs() > 0 {
            break (server, dir, node);
        }
        node.stop().await;
    };
    let permits = Arc::new(Semaphore::new(0));
    server.script().hold_issuing = Some(Arc::clone(&permits));
    server.script().tainted = true;
    clock.set(begin.saturating_add(Duration::from_secs(10)));
    let entry = wire_entry("a", "/a", &["unix:uid:1"]);
    server.script().entries = vec![entry.clone()];
    server
        .say(wire::SubscribeResponse {
            bundles: vec![current(wire_bundle(server.ca(), true))],
            put: vec![put(entry)],
            ..step(7, 2)
        })
        .await;
    until("it is asked for", || server.calls("BatchNewX509SVID") > 0).await;
    clock.set(begin.saturating_add(Duration::from_secs(20)));
    permits.add_permits(10);
    until("it is renewed", || server.calls("RenewAgent") > 0).await;
    node.stop().await;
}
