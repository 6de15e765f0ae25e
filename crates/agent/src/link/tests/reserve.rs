//! The reserve, as it is had from a server: beside everything else, and from none that has no such service.

use super::*;
use crate::testing::fake_server::reserve::policy;
use landfast_proto::landfast::entry::v1::EntryPolicy;

async fn pushing(entries: &[(&str, &str, &str)], policies: &[(&str, EntryPolicy)]) -> FakeServer {
    let server = server_with(entries).await;
    server.pushes(7, 1);
    let policies = policies
        .iter()
        .map(|(id, policy)| ((*id).to_owned(), policy.clone()));
    server.script().reserve.policies = policies.collect();
    server
}

/// As in real use: a turn is made when there is a reason.
pub(super) fn setup<'a>(server: &FakeServer, dir: &'a Path) -> Setup<'a> {
    Setup {
        interval: Duration::from_secs(3600),
        ..Setup::new(server, dir)
    }
}

impl Node {
    fn rungs(&self, entry: &str) -> usize {
        let snapshot = self.views.snapshot();
        snapshot.rungs.get(entry).map_or(0, |ladder| ladder.rungs().len())
    }

    async fn holds(&self, entry: &str, rungs: usize) {
        until(&format!("{rungs} rungs of {entry}"), || {
            self.rungs(entry) == rungs
        })
        .await;
    }
}

const HOUR: u32 = 3600;

#[tokio::test]
async fn a_reserve_is_filled_without_making_anybody_wait_and_given_up_when_it_is_not_asked_for() {
    let server = pushing(
        &[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")],
        &[("a", policy(48 * HOUR, &[]))],
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.holds("a", 96).await;
    assert_eq!(node.status().phase, Phase::Serving);
    let sizes: Vec<usize> = server.script().reserve.asked.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 64, 31], "in batches");
    assert_eq!(node.rungs("b"), 0);
    // A policy comes as a step does, and so does its end.
    server
        .set_policy(
            "b",
            EntryPolicy {
                revision: 2,
                ..policy(2 * HOUR, &[])
            },
        )
        .await;
    node.holds("b", 4).await;
    server
        .set_policy(
            "a",
            EntryPolicy {
                revision: 3,
                ..policy(0, &[])
            },
        )
        .await;
    node.holds("a", 0).await;
    server
        .set_policy(
            "b",
            EntryPolicy {
                privileged: true,
                revision: 4,
                ..policy(2 * HOUR, &[])
            },
        )
        .await;
    node.holds("b", 0).await;
    let asked = server.rungs();
    // SPIRE's way to ask says nothing of policies, and takes none away.
    server
        .set_policy(
            "b",
            EntryPolicy {
                revision: 5,
                ..policy(2 * HOUR, &[])
            },
        )
        .await;
    node.holds("b", 4).await;
    server.script().push.served = false;
    server.break_connections();
    node.handle.nudge();
    until("it polls", || server.calls("SyncAuthorizedEntries") > 0).await;
    until("it is in step", || node.status().last_error.is_empty()).await;
    assert_eq!((node.rungs("b"), server.rungs()), (4, asked + 4));
    node.stop().await;
}

#[tokio::test]
async fn changes_are_heard_and_new_identities_signed_while_the_server_takes_its_time_for_the_reserve() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[("a", policy(48 * HOUR, &[]))]).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    server.script().reserve.hold = Some(Arc::clone(&gate));
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    until("rungs are asked for", || server.calls("NewRungs") == 1).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    server.put(wire_entry("c", "/c", &["unix:uid:3"])).await;
    until("c is there", || node.serves(&["unix:uid:3"]) == ["/c"]).await;
    server.take_away("a").await;
    until("a is gone", || node.serves(&["unix:uid:1"]).is_empty()).await;
    assert_eq!(server.calls("NewRungs"), 1);
    gate.add_permits(1000);
    // What was signed for an entry that is gone is kept by nobody.
    until("the answer came", || server.rungs() == 1).await;
    server.put(wire_entry("d", "/d", &["unix:uid:4"])).await;
    until("d is there", || node.serves(&["unix:uid:4"]) == ["/d"]).await;
    assert_eq!(node.rungs("a"), 0);
    node.stop().await;
}

#[tokio::test]
async fn over_a_thin_link_a_reserve_comes_in_small_batches() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[("a", policy(48 * HOUR, &[]))]).await;
    server.script().reserve.late = 1;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.holds("a", 96).await;
    let sizes: Vec<usize> = server.script().reserve.asked.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 32, 63], "a half, and twice what came");
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_has_no_room_or_no_such_service_costs_nothing_but_the_reserve() {
    let missing = tonic::Status::unimplemented("unknown service landfast.reserve.v1.Reserve");
    let mut busy = tonic::Status::unavailable("others need the server more");
    busy.metadata_mut()
        .insert(landfast_proto::PUSHBACK, 600_000.into());
    let ill = tonic::Status::internal("the datastore is away");
    for refusal in [missing, busy, ill] {
        let server = pushing(&[("a", "/a", "unix:uid:1")], &[("a", policy(48 * HOUR, &[]))]).await;
        server.script().refuse.insert("NewRungs", refusal.clone());
        let dir = tempfile::tempdir().unwrap();
        let node = setup(&server, dir.path()).start();
        until("rungs are asked for", || server.calls("NewRungs") == 1).await;
        // The link had its turn.
        server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
        until("b is there", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
        let status = node.status();
        assert_eq!(
            (status.phase, status.last_error.as_str()),
            (Phase::Serving, ""),
            "{refusal}"
        );
        assert_eq!(server.calls("NewRungs"), 1, "{refusal}: not at once again");
        assert_eq!(server.subscriptions(), 1, "{refusal}: the connection stays");
        node.stop().await;
    }
}

#[tokio::test]
async fn rungs_that_are_not_what_was_asked_for_are_not_kept() {
    for lie in [Lie::OtherTime, Lie::OtherWorkload] {
        let server = pushing(&[("a", "/a", "unix:uid:1")], &[]).await;
        let dir = tempfile::tempdir().unwrap();
        let node = setup(&server, dir.path()).start();
        until("it serves", || node.serves(&["unix:uid:1"]) == ["/a"]).await;
        server.script().lie = Some(lie);
        server.set_policy("a", policy(8 * HOUR, &[])).await;
        until("a rung came", || server.rungs() > 0).await;
        server.script().lie = None;
        server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
        until("b is there", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
        assert_eq!(node.rungs("a"), 0, "{lie:?}");
        assert_eq!(node.status().last_error, "");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_ban_that_is_told_with_rungs_destroys_all() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[("a", policy(2 * HOUR, &[]))]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    node.holds("a", 4).await;
    let banned = tonic::Status::with_details(
        tonic::Code::PermissionDenied,
        "agent is banned",
        failure::denied_details(4).into(),
    );
    server.script().refuse.insert("NewRungs", banned);
    server
        .set_policy(
            "a",
            EntryPolicy {
                revision: 2,
                ..policy(20 * HOUR, &[])
            },
        )
        .await;
    until("the node is banned", || node.status().phase == Phase::Banned).await;
    assert_eq!(node.rungs("a"), 0);
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn each_bundle_that_is_held_is_acknowledged_once_a_connection() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[]).await;
    server.script().sequence = 4;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    let acknowledged = |server: &FakeServer| server.script().reserve.acknowledged.clone();
    until("the first", || acknowledged(&server) == [4]).await;
    server.pushes(7, 9);
    let mut bundle = wire_bundle(server.ca(), false);
    bundle.sequence_number = 5;
    server
        .say(landfast_proto::landfast::sync::v1::SubscribeResponse {
            bundles: vec![crate::testing::fake_server::push::current(bundle)],
            ..crate::testing::fake_server::push::step(7, 9)
        })
        .await;
    until("the second", || acknowledged(&server) == [4, 5]).await;
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    until("b is there", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
    assert_eq!(acknowledged(&server), [4, 5]);
    node.stop().await;
}

/// A rotation waits for the node's word.
/// What was refused is said again beside a subscription; without one it is no reason to ask for anything.
#[tokio::test]
async fn an_acknowledgement_that_cannot_be_said_now_makes_no_turn_after_the_other() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[]).await;
    server.script().sequence = 4;
    let dir = tempfile::tempdir().unwrap();
    let busy = || tonic::Status::resource_exhausted("no");
    server.script().refuse.insert("PostStatus", busy());
    let node = Setup {
        retry: (Duration::from_millis(100), Duration::from_secs(1)),
        ..setup(&server, dir.path())
    }
    .start();
    until("it is refused", || server.calls("PostStatus") >= 2).await;
    server.script().push.refuse = Some(busy());
    let before = (server.calls("Subscribe"), server.calls("SyncAuthorizedEntries"));
    server
        .end_subscription(Some(tonic::Status::aborted("too slow")))
        .await;
    until("it asks for another", || {
        server.calls("Subscribe") >= before.0 + 5
    })
    .await;
    let (asked, polled) = (
        server.calls("Subscribe") - before.0,
        server.calls("SyncAuthorizedEntries") - before.1,
    );
    assert!(polled <= asked + 3, "{polled} polls beside {asked} subscriptions");
    node.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_that_the_server_did_not_take_is_said_again() {
    let server = pushing(&[("a", "/a", "unix:uid:1")], &[]).await;
    server.script().sequence = 4;
    let dir = tempfile::tempdir().unwrap();
    let busy = tonic::Status::resource_exhausted("too many reports from this caller");
    server.script().refuse.insert("PostStatus", busy);
    let node = setup(&server, dir.path()).start();
    let asked = || server.script().calls.get("PostStatus").copied();
    // The first says which version this is.
    until("it is refused", || asked() >= Some(2)).await;
    assert!(server.script().reserve.acknowledged.is_empty());
    server.script().refuse.remove("PostStatus");
    until("it is said again", || server.script().reserve.acknowledged == [4]).await;
    node.stop().await;
}
