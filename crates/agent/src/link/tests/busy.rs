//! A server that has no room for more signatures: it is left alone for as long as it says, and nothing else suffers.

use landfast_proto::{NEEDED_BY, PUSHBACK};
use landfast_workload_api::IdentitySource as _;

use super::*;
use crate::jwt::JwtCache;
use crate::jwt::budget::Budget;
use crate::source::AgentSource;

fn busy(milliseconds: u64) -> tonic::Status {
    let mut status = tonic::Status::unavailable("no room");
    status.metadata_mut().insert(PUSHBACK, milliseconds.into());
    status
}

/// Further rounds: what was to be done in them has had its turn.
async fn rounds(server: &FakeServer, more: u32) {
    let before = server.calls("SyncAuthorizedEntries");
    until("rounds go on", || {
        server.calls("SyncAuthorizedEntries") >= before + more
    })
    .await;
}

#[tokio::test]
async fn a_busy_server_is_not_asked_again_and_not_left() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let other = server.beside().await;
    server.script().refuse.insert("BatchNewX509SVID", busy(600_000));
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![server.address.to_string(), other.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    rounds(&server, 5).await;
    assert_eq!(server.calls("BatchNewX509SVID"), 1);
    assert_eq!(server.calls("AttestAgent"), 1);
    assert!(other.script().calls.is_empty());
    assert_eq!(node.status().last_error, "");
    assert!(!node.views.snapshot().round_over, "what is wanted is under way");
    // Changes come all the same, and what they want is tried once.
    let new = wire_entry("b", "/b", &["unix:uid:2"]);
    server.script().entries.push(new);
    until("the entry is known", || node.views.snapshot().entries.len() == 2).await;
    rounds(&server, 3).await;
    assert_eq!(server.calls("BatchNewX509SVID"), 2);
    assert_eq!(
        server.script().batch_sizes,
        Vec::<usize>::new(),
        "without the other"
    );
    node.stop().await;
}

#[tokio::test]
async fn when_the_time_is_over_it_is_asked_again_and_serves() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().refuse.insert("BatchNewX509SVID", busy(1));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    until("it is asked again", || server.calls("BatchNewX509SVID") >= 3).await;
    server.script().refuse.clear();
    until("it serves", || node.serves(&["unix:uid:1"]) == ["/a"]).await;
    until("the round is over", || node.views.snapshot().round_over).await;
    node.stop().await;
}

#[tokio::test]
async fn a_renewal_that_can_wait_does_not_keep_what_is_urgent_waiting() {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("d", "/d", "unix:uid:4")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    until("it serves", || node.serves(&["unix:uid:4"]) == ["/d"]).await;
    // One that ends before them.
    server.script().workload_validity = Some((-300, 1800));
    let b = wire_entry("b", "/b", &["unix:uid:2"]);
    server.script().entries.push(b);
    until("b too", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
    server.script().workload_validity = None;
    let renew = |name: &str| {
        let mut script = server.script();
        let entry = script.entries.iter_mut().find(|entry| entry.id == name);
        entry.unwrap().revision_number += 1;
    };
    server.script().refuse.insert("BatchNewX509SVID", busy(600_000));
    let before = server.calls("BatchNewX509SVID");
    renew("a");
    until("a is refused", || server.calls("BatchNewX509SVID") > before).await;
    server.script().refuse.clear();
    let c = wire_entry("c", "/c", &["unix:uid:3"]);
    server.script().entries.push(c);
    until("what is missing comes", || node.serves(&["unix:uid:3"]) == ["/c"]).await;
    renew("b");
    until("what ends sooner comes", || {
        server.calls("BatchNewX509SVID") == before + 3
    })
    .await;
    renew("d");
    rounds(&server, 5).await;
    assert_eq!(server.calls("BatchNewX509SVID"), before + 3, "a and d wait");
    node.stop().await;
}

#[tokio::test]
async fn a_node_does_not_hurry_a_server_that_is_too_busy_to_renew_it() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().agent_validity = Some((-3000, 600));
    server.script().refuse.insert("RenewAgent", busy(600_000));
    let other = server.beside().await;
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![server.address.to_string(), other.address.to_string()];
    let node = Setup {
        servers,
        ..Setup::new(&server, dir.path())
    }
    .start();
    until("a renewal is tried", || server.calls("RenewAgent") >= 1).await;
    rounds(&server, 5).await;
    assert_eq!(server.calls("RenewAgent"), 1);
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert!(other.script().calls.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn requests_say_by_when_they_are_needed() {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("it serves", || !node.serves(&["unix:uid:2"]).is_empty()).await;
    let said = server.script().needed_by.clone();
    assert_eq!(said, [("BatchNewX509SVID", 0)], "{NEEDED_BY}: both are missing");
    let ends = |path| {
        let snapshot = node.views.snapshot();
        let held = snapshot.held.values().find(|held| held.svid.id().path() == path);
        held.unwrap().svid.not_after().as_secs()
    };
    let soonest = ends("/a").min(ends("/b"));
    let again = |revision| {
        for entry in &mut server.script().entries {
            entry.revision_number = revision;
        }
    };
    again(1);
    until("another batch", || server.script().needed_by.len() >= 2).await;
    assert_eq!(server.script().needed_by[1], ("BatchNewX509SVID", soonest));
    // With one that is missing it is needed now.
    server
        .script()
        .entries
        .push(wire_entry("c", "/c", &["unix:uid:3"]));
    again(2);
    until("a third", || server.script().needed_by.len() >= 3).await;
    assert_eq!(server.script().needed_by[2], ("BatchNewX509SVID", 0));
    node.stop().await;
}

#[tokio::test]
async fn tokens_are_not_asked_of_a_busy_server_either() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let source = AgentSource {
        views: node.views.clone(),
        link: node.handle.clone(),
        tokens: JwtCache::new(real_clock()).0,
        budget: Budget::default(),
        wits: crate::wit::Wits::new(real_clock(), KeyType::default()).0,
        clock: real_clock(),
        ready: watch::channel(true).1,
        hand_outs: crate::handouts::tests::nowhere(),
        journal: crate::journal::tests::desk(),
    };
    let ask = async |audience: &str| {
        let (caller, audience) = (selectors(&["unix:uid:1"]), [audience.to_owned()]);
        source.fetch_jwt(&caller, &audience, None).await
    };
    assert_eq!(ask("before").await.unwrap().len(), 1);
    assert!(server.script().needed_by.contains(&("NewJWTSVID", 0)));
    server.script().refuse.insert("NewJWTSVID", busy(600_000));
    for n in 0..5 {
        let refused = ask(&format!("audience {n}")).await.unwrap_err().to_string();
        assert!(refused.contains("no room"), "{refused}");
    }
    assert_eq!(server.calls("NewJWTSVID"), 2);
    assert_eq!(ask("before").await.unwrap().len(), 1, "what is held is given");
    // A limit that is named without a time stops nothing.
    server
        .script()
        .refuse
        .insert("NewJWTSVID", tonic::Status::unavailable("away"));
    assert_eq!(server.calls("NewJWTSVID"), 2);
    node.stop().await;
}
