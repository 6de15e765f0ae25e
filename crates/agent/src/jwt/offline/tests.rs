//! When such a token is had, handed out, and given up.

use landfast_identity::UnixTime;
use tokio::sync::watch;

use super::*;
use crate::entry::{EntryIndex, Offline};
use crate::keeper::state::Reach;
use crate::link::status::LinkStatus;
use crate::testing::fake_server::reserve::policy;
use crate::testing::fake_server::{FakeServer, wire_entry};
use crate::testing::{Ca, NOON, StoppedClock, at, entry, id, td, until};

fn token(ca: &Ca, end: UnixTime, life: i64) -> Token {
    let begin = end.saturating_sub(Duration::from_secs(life.unsigned_abs()));
    Token {
        text: ca
            .jwt(&id("/a"), &["receiver".to_owned()], "kid", begin, end)
            .into(),
        id: id("/a"),
        held_since: begin,
        expires_at: end,
        key: None,
    }
}

fn key(audience: &[&str]) -> Key {
    let audience: Vec<_> = audience.iter().map(|one| (*one).to_owned()).collect();
    Key::new("a".into(), &audience)
}

#[tokio::test]
async fn it_is_handed_out_on_an_island_only_for_its_audience_and_while_it_is_valid() {
    let (ca, clock) = (Ca::new("one"), StoppedClock::at(NOON));
    let cache = JwtCache::new(clock.clone()).0;
    let receiver = key(&["receiver"]);
    cache.restore(vec![(receiver.for_later(), token(&ca, at(28_800), 28_800))]);
    let bundle =
        crate::link::bundle_wire::parse(&crate::testing::fake_server::wire_bundle(&ca, false), &td());
    let bundle = bundle.unwrap();
    let given = |key: &Key| cache.stands_in(key, &id("/a"), Some(&bundle));
    assert_eq!(given(&receiver), None, "the node is not an island");
    cache.on_an_island(true);
    assert!(given(&receiver).is_some());
    assert_eq!(given(&key(&["other"])), None);
    assert_eq!(given(&key(&["receiver", "other"])), None);
    assert_eq!(cache.stands_in(&receiver, &id("/b"), Some(&bundle)), None);
    let other = Ca::new("two").bundle();
    assert_eq!(
        cache.stands_in(&receiver, &id("/a"), Some(&other)),
        None,
        "its key is gone"
    );
    // An ordinary one that is valid comes first.
    cache.restore(vec![(receiver.clone(), token(&ca, at(300), 300))]);
    assert_eq!(given(&receiver), None);
    clock.set(at(300));
    assert!(given(&receiver).is_some());
    clock.set(at(28_800));
    assert_eq!(given(&receiver), None, "it is over");
    clock.set(at(0));
    cache.on_an_island(false);
    assert_eq!(given(&receiver), None);
}

#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
#[tokio::test]
async fn one_is_had_for_each_declared_audience_and_given_up_with_the_declaration() {
    let server = FakeServer::start().await;
    server.script().entries = vec![wire_entry("a", "/a", &["unix:uid:1"])];
    let tokens = [("receiver", 28_800), ("historian", 3600)];
    server.script().reserve.policies = [("a".to_owned(), policy(0, &tokens))].into();
    let dir = tempfile::tempdir().unwrap();
    let node = crate::link::tests::Setup::new(&server, dir.path()).start();
    let cache = JwtCache::new(crate::testing::real_clock()).0;
    let stop = CancellationToken::new();
    let task = OfflineTokens {
        views: node.views.clone(),
        link: node.handle.clone(),
        tokens: cache.clone(),
        refused: HashMap::new(),
        left_out: 0,
    };
    server.pushes(7, 1);
    let running = tokio::spawn(task.run(stop.clone()));
    until("both tokens", || cache.len() == 2).await;
    assert!(cache.held().iter().all(|(key, _)| key.is_for_later()));
    assert_eq!(server.calls("NewToken"), 2);
    assert_eq!(server.calls("NewJWTSVID"), 0);
    let changed = landfast_proto::landfast::entry::v1::EntryPolicy {
        revision: 2,
        ..policy(0, &tokens[..1])
    };
    server.set_policy("a", changed).await;
    until("one is given up", || cache.len() == 1).await;
    assert_eq!(server.calls("NewToken"), 2);
    stop.cancel();
    running.await.unwrap().unwrap();
    node.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
#[tokio::test]
async fn a_banned_node_and_a_node_without_its_server_ask_for_none() {
    let clock = StoppedClock::at(NOON);
    let cache = JwtCache::new(clock).0;
    let ca = Ca::new("one");
    let views = Views::new(&td());
    let offline = Offline {
        tokens: vec![("receiver".to_owned(), Duration::from_secs(3600))],
        ..Offline::default()
    };
    let asking = Entry {
        offline,
        ..entry("a", "/a", &["unix:uid:1"])
    };
    let snapshot = Snapshot {
        entries: Arc::new(EntryIndex::new([Arc::new(asking)])),
        synced_at: Some(NOON),
        ..Snapshot::default()
    };
    views.publish(Arc::new(snapshot.clone()), &Reach::All, Some(NOON));
    cache.restore(vec![(key(&["receiver"]).for_later(), token(&ca, at(100), 3600))]);
    let status = watch::Sender::new(LinkStatus::new());
    let task = OfflineTokens {
        views: views.clone(),
        link: LinkHandle::fixed(status.subscribe(), watch::channel(None).1),
        tokens: cache.clone(),
        refused: HashMap::new(),
        left_out: 0,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(task.run(stop.clone()));
    tokio::task::yield_now().await;
    assert_eq!(cache.len(), 1, "half over, and there is no server");
    let banned = Snapshot {
        banned: true,
        ..snapshot
    };
    views.publish(Arc::new(banned), &Reach::All, Some(NOON));
    until("it is given up", || cache.len() == 0).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[test]
fn nobody_who_asks_for_many_tokens_pushes_out_those_for_an_island() {
    let (ca, clock) = (Ca::new("one"), StoppedClock::at(NOON));
    let cache = JwtCache::of("test", 3, clock).0;
    let declared = key(&["receiver"]).for_later();
    cache.restore(vec![(declared.clone(), token(&ca, at(28_800), 28_800))]);
    for number in 0..10 {
        let asked = key(&[&format!("asked-{number}")]);
        cache.restore(vec![(asked, token(&ca, at(300), 300))]);
    }
    let held = cache.held();
    assert!(held.iter().any(|(key, _)| *key == declared));
    assert_eq!(held.len(), 4, "as many ordinary ones as ever");
}

#[test]
fn a_node_wants_no_more_of_them_than_it_keeps() {
    let tokens = |entry: usize| {
        let each = (0..16).map(|number| (format!("{entry}-{number}"), Duration::from_secs(3600)));
        Offline {
            tokens: each.collect(),
            ..Offline::default()
        }
    };
    let entries = (0..100).map(|number| {
        let name = format!("e{number}");
        Arc::new(Entry {
            offline: tokens(number),
            ..entry(&name, &format!("/{name}"), &["unix:uid:1"])
        })
    });
    let many = Snapshot {
        entries: Arc::new(EntryIndex::new(entries)),
        ..Snapshot::default()
    };
    let (these, left_out) = wanted(&many);
    assert_eq!((these.len(), left_out), (MOST, 1600 - MOST));
    let again = wanted(&many).0;
    assert!(these.keys().all(|key| again.contains_key(key)), "always the same");
}

#[test]
fn a_privileged_entry_has_none_nor_has_anybody_with_its_id() {
    let asking = |privileged| Entry {
        privileged,
        offline: Offline {
            tokens: vec![("receiver".to_owned(), Duration::from_secs(3600))],
            ..Offline::default()
        },
        ..entry("a", "/a", &["unix:uid:1"])
    };
    let other = Entry {
        privileged: true,
        spiffe_id: id("/a"),
        ..entry("z", "/z", &["unix:uid:2"])
    };
    for (entries, count) in [
        (vec![asking(false)], 1),
        (vec![asking(true)], 0),
        (vec![asking(false), other], 0),
    ] {
        let snapshot = Snapshot {
            entries: Arc::new(EntryIndex::new(entries.into_iter().map(Arc::new))),
            ..Snapshot::default()
        };
        assert_eq!(wanted(&snapshot).0.len(), count);
    }
}
