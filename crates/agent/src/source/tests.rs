//! JWT-SVIDs for workloads, against a state of the keeper and a server that is away.

use std::collections::HashMap;

use landfast_identity::KeyType;
use tonic::transport::Channel;

use super::*;
use crate::entry::EntryIndex;
use crate::keeper::state::{Reach, Snapshot};
use crate::link::status::LinkStatus;
use crate::testing::{NOON, StoppedClock, at, entry, id, selectors, td};

struct World {
    source: AgentSource,
    _status: watch::Sender<LinkStatus>,
    _channel: watch::Sender<Option<Channel>>,
}

fn world(snapshot: Option<Snapshot>) -> World {
    let views = Views::new(&td());
    if let Some(snapshot) = snapshot {
        views.publish(Arc::new(snapshot), &Reach::All, Some(NOON));
    }
    let (status, channel) = (watch::Sender::new(LinkStatus::new()), watch::Sender::new(None));
    let source = AgentSource {
        views,
        link: LinkHandle::fixed(status.subscribe(), channel.subscribe()),
        tokens: JwtCache::new(StoppedClock::at(NOON)).0,
        budget: Budget::default(),
        wits: Wits::new(StoppedClock::at(NOON), KeyType::default()).0,
        clock: StoppedClock::at(NOON),
        ready: watch::channel(true).1,
        hand_outs: crate::handouts::tests::nowhere(),
        journal: crate::journal::tests::desk(),
    };
    World {
        source,
        _status: status,
        _channel: channel,
    }
}

fn synced(entries: Vec<Entry>) -> Snapshot {
    let entries = Arc::new(EntryIndex::new(entries.into_iter().map(Arc::new)));
    Snapshot {
        entries,
        synced_at: Some(NOON),
        round_over: true,
        ..Snapshot::default()
    }
}

/// Run out meanwhile.
fn over(entry: Entry) -> Entry {
    Entry {
        expires_at: Some(NOON),
        ..entry
    }
}

async fn ask(world: &World, audience: &[&str], wanted: Option<&str>) -> Result<usize, SourceError> {
    let audience: Vec<String> = audience.iter().map(|a| (*a).to_owned()).collect();
    let wanted = wanted.map(id);
    let fetched = world
        .source
        .fetch_jwt(&selectors(&["unix:uid:1"]), &audience, wanted.as_ref())
        .await;
    fetched.map(|tokens| tokens.len())
}

#[tokio::test(start_paused = true)]
async fn before_the_first_round_one_has_to_wait() {
    assert!(matches!(
        ask(&world(None), &["a"], None).await,
        Err(SourceError::Unavailable(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn only_the_entitled_are_served_and_only_what_they_name() {
    let all = || {
        synced(vec![
            entry("a", "/a", &["unix:uid:1"]),
            entry("b", "/b", &["unix:uid:2"]),
        ])
    };
    let nobody = ask(&world(Some(synced(vec![]))), &["a"], None).await;
    assert!(matches!(nobody, Err(SourceError::NoIdentity)));
    assert!(matches!(
        ask(&world(Some(all())), &["a"], Some("/b")).await,
        Err(SourceError::NoIdentity)
    ));
    // Entitled, but the server is away: that is another answer, and the log learns why.
    let away = ask(&world(Some(all())), &["a"], Some("/a")).await.unwrap_err();
    assert_eq!(
        away.to_string(),
        "not available: spiffe://plant.test/a: the server cannot be reached"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cached_token_is_served_while_the_server_is_away_and_not_after_a_ban() {
    let world = world(Some(synced(vec![entry("a", "/a", &["unix:uid:1"])])));
    let token = Token {
        text: "t".into(),
        id: id("/a"),
        held_since: NOON,
        expires_at: at(300),
        key: None,
    };
    let key = Key::new("a".into(), &["aud".to_owned()]);
    world
        .source
        .tokens
        .token(key, &id("/a"), None, JwtCache::deadline(), || async { Ok(token) })
        .await
        .unwrap();
    assert_eq!(ask(&world, &["aud"], None).await.unwrap(), 1);
    world.source.views.publish(
        Arc::new(Snapshot {
            banned: true,
            ..synced(vec![])
        }),
        &Reach::All,
        Some(NOON),
    );
    assert!(matches!(
        ask(&world, &["aud"], None).await,
        Err(SourceError::NoIdentity)
    ));
}

#[tokio::test(start_paused = true)]
async fn audiences_are_mandatory_and_bounded() {
    let world = world(Some(synced(vec![entry("a", "/a", &["unix:uid:1"])])));
    for bad in [vec![], vec![""], vec!["a", ""], vec!["a"; 33]] {
        assert!(matches!(
            ask(&world, &bad, None).await,
            Err(SourceError::InvalidArgument(_))
        ));
    }
    assert!(matches!(
        ask(&world, &["a"; 32], None).await,
        Err(SourceError::Unavailable(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_validated_with_the_bundles_of_the_caller() {
    let other = landfast_identity::TrustDomain::parse("other.test").unwrap();
    let mut a = entry("a", "/a", &["unix:uid:1"]);
    a.federates_with = vec![other.clone()];
    let mut snapshot = synced(vec![a]);
    snapshot.federated = Arc::new([(other.clone(), Arc::new(Bundle::new(other.clone())))].into());
    snapshot.held = Arc::new(HashMap::new());
    let world = world(Some(snapshot));
    let entitled = world.source.validation_bundles(&selectors(&["unix:uid:1"]));
    assert!(entitled.get(&other).is_some() && entitled.get(&td()).is_some());
    let stranger = world.source.validation_bundles(&selectors(&["unix:uid:2"]));
    assert!(stranger.get(&other).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_found_banned_before_its_first_round_refuses() {
    let banned = Snapshot {
        banned: true,
        ..Snapshot::default()
    };
    assert!(matches!(
        ask(&world(Some(banned)), &["a"], None).await,
        Err(SourceError::NoIdentity)
    ));
}

#[tokio::test(start_paused = true)]
async fn who_loses_an_entry_or_the_node_while_waiting_for_a_token_does_not_get_it() {
    use futures_util::FutureExt as _;
    let mine = || synced(vec![entry("a", "/a", &["unix:uid:1"])]);
    for (after, gets) in [
        (mine(), true),
        (synced(vec![]), false),
        (synced(vec![entry("a", "/other", &["unix:uid:1"])]), false),
        (synced(vec![entry("a", "/a", &["unix:uid:2"])]), false),
        (synced(vec![over(entry("a", "/a", &["unix:uid:1"]))]), false),
        (
            Snapshot {
                banned: true,
                ..mine()
            },
            false,
        ),
    ] {
        let world = world(Some(mine()));
        let (open, mut gate) = watch::channel(false);
        let token = Token {
            text: "t".into(),
            id: id("/a"),
            held_since: NOON,
            expires_at: at(300),
            key: None,
        };
        let (key, wanted) = (Key::new("a".into(), &["aud".to_owned()]), id("/a"));
        let slow = || async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok(token)
        };
        let mut first = Box::pin(
            world
                .source
                .tokens
                .token(key, &wanted, None, JwtCache::deadline(), slow),
        );
        assert!((&mut first).now_or_never().is_none());
        let mut asked = Box::pin(ask(&world, &["aud"], None));
        assert!(
            (&mut asked).now_or_never().is_none(),
            "it waits for the same request"
        );
        world
            .source
            .views
            .publish(Arc::new(after), &Reach::All, Some(NOON));
        open.send(true).unwrap();
        let got = asked.await;
        assert!(
            if gets {
                matches!(got, Ok(1))
            } else {
                matches!(got, Err(SourceError::NoIdentity))
            },
            "{got:?}"
        );
    }
}

/// As above, of WIT-SVIDs: two identities, of which one may go while its token is fetched.
#[tokio::test(start_paused = true)]
async fn who_loses_an_entry_or_the_node_while_waiting_for_a_wit_svid_does_not_get_it() {
    use futures_util::FutureExt as _;
    let key = Arc::new(landfast_identity::PrivateKey::generate().unwrap());
    let authority = landfast_identity::WitAuthority {
        key_id: "k".to_owned(),
        public_key: key.public_key(),
        expires_at: None,
        tainted: false,
    };
    let bundle = Bundle::new(td()).with_wit_authorities(vec![authority]).unwrap();
    let of = |entries| Snapshot {
        bundle: Some(Arc::new(bundle.clone())),
        ..synced(entries)
    };
    let (a, b) = (
        || entry("a", "/a", &["unix:uid:1"]),
        || entry("b", "/b", &["unix:uid:1"]),
    );
    for (after, gets) in [
        (of(vec![a(), b()]), vec!["/a", "/b"]),
        (of(vec![b()]), vec!["/b"]),
        (of(vec![entry("a", "/other", &["unix:uid:1"]), b()]), vec!["/b"]),
        (of(vec![entry("a", "/a", &["unix:uid:2"]), b()]), vec!["/b"]),
        (of(vec![over(a()), b()]), vec!["/b"]),
        (of(vec![]), vec![]),
        (
            Snapshot {
                banned: true,
                ..of(vec![a(), b()])
            },
            vec![],
        ),
    ] {
        let world = world(Some(of(vec![a(), b()])));
        let (open, gate) = watch::channel(false);
        let (ids, cache) = ([id("/a"), id("/b")], &world.source.wits.cache);
        let mut first: Vec<_> = ["a", "b"]
            .into_iter()
            .zip(&ids)
            .map(|(name, id)| {
                let token = Token {
                    text: "t".into(),
                    id: id.clone(),
                    held_since: NOON,
                    expires_at: at(300),
                    key: Some(crate::jwt::BoundKey(Arc::clone(&key))),
                };
                let mut gate = gate.clone();
                let slow = || async move {
                    gate.wait_for(|open| *open).await.unwrap();
                    Ok(token)
                };
                Box::pin(cache.token(Key::new(name.into(), &[]), id, None, JwtCache::deadline(), slow))
            })
            .collect();
        assert!(first.iter_mut().all(|first| first.now_or_never().is_none()));
        let mine = selectors(&["unix:uid:1"]);
        let mut asked = world.source.fetch_wit(&mine, None);
        assert!(
            (&mut asked).now_or_never().is_none(),
            "it waits for the same requests"
        );
        world
            .source
            .views
            .publish(Arc::new(after), &Reach::All, Some(NOON));
        open.send(true).unwrap();
        match (asked.await, gets.is_empty()) {
            (Err(SourceError::NoIdentity), true) => {}
            (Ok(fetched), false) => {
                let ids: Vec<_> = fetched.svids.iter().map(|wit| wit.id.path()).collect();
                assert_eq!(ids, gets);
            }
            (got, _) => panic!("{got:?}, not {gets:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_waits_once_however_many_tokens_it_is_for() {
    let entries = (0..40).map(|n| entry(&format!("e{n}"), &format!("/{n}"), &["unix:uid:1"]));
    let world = world(Some(synced(entries.collect())));
    let begun = Instant::now();
    assert!(matches!(
        ask(&world, &["a"], None).await,
        Err(SourceError::Unavailable(_))
    ));
    // By the paused clock: groups of eight, each of which waits two seconds for a connection.
    assert!(
        begun.elapsed() <= std::time::Duration::from_millis(5001),
        "{:?}",
        begun.elapsed()
    );
}
