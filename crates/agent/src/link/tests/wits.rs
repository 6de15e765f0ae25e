//! WIT-SVIDs of a node: asked for when wanted, each with a key of its own, and never of a server that has none.

use landfast_identity::{UnixTime, wit};
use landfast_lifecycle::Clock as _;
use landfast_workload_api::{FetchedWits, IdentitySource as _, SourceError};
use tonic::Status;

use super::*;
use crate::jwt::JwtCache;
use crate::jwt::budget::Budget;
use crate::source::AgentSource;
use crate::testing::StoppedClock;
use crate::testing::fake_server::Lie;
use crate::wit::Wits;

/// A node with an entry for each of two users, and what its Workload API is served from.
struct World {
    server: FakeServer,
    node: Node,
    link: LinkHandle,
    source: AgentSource,
    clock: Arc<StoppedClock>,
    stop: CancellationToken,
    cleaner: tokio::task::JoinHandle<Result<(), Infallible>>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(keys: &[(&'static str, bool)]) -> Self {
        let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
        server.script().wit = keys.to_vec();
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::new(&server, dir.path()).start();
        node.serving().await;
        let clock = StoppedClock::at(real_clock().now().unwrap());
        // Nudges of its own, so that the test can see them.
        let link = LinkHandle::fixed(node.handle.status.clone(), node.handle.channel.clone());
        let (wits, _) = Wits::new(clock.clone(), KeyType::EcP256);
        let stop = CancellationToken::new();
        let clean = wits.cache.clone().keep_clean(node.views.clone(), stop.clone());
        #[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
        let cleaner = tokio::spawn(clean);
        let source = AgentSource {
            views: node.views.clone(),
            link: link.clone(),
            tokens: JwtCache::new(real_clock()).0,
            budget: Budget::default(),
            wits,
            clock: clock.clone(),
            ready: watch::channel(true).1,
            hand_outs: crate::handouts::tests::nowhere(),
            journal: crate::journal::tests::desk(),
        };
        Self {
            server,
            node,
            link,
            source,
            clock,
            stop,
            cleaner,
            _dir: dir,
        }
    }

    async fn ask(&self, user: &str) -> Result<FetchedWits, SourceError> {
        self.source.fetch_wit(&selectors(&[user]), None).await
    }

    fn asked(&self) -> u32 {
        self.server.calls("BatchNewWITSVID")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.cleaner.await.unwrap().unwrap();
        self.node.stop().await;
    }
}

#[tokio::test]
async fn each_identity_has_one_with_a_key_made_here_and_asked_for_once() {
    let world = World::new(&[("k1", false)]).await;
    assert_eq!(
        (world.source.has_wit(), world.asked()),
        (Some(true), 0),
        "nobody has asked"
    );
    let fetched = world.ask("unix:uid:1").await.unwrap();
    let [one] = <[_; 1]>::try_from(fetched.svids).unwrap();
    let svid = wit::parse_unverified(&one.token).unwrap();
    assert_eq!(
        (one.id.path(), svid.id().path(), svid.key_id()),
        ("/a", "/a", "k1")
    );
    assert_eq!(*svid.confirmation_key(), one.key.public_key());
    let now = world.clock.now().unwrap();
    let half = now.saturating_add(Duration::from_secs(1800));
    assert!(fetched.again_at.since(half).max(half.since(fetched.again_at)) <= Duration::from_secs(361));
    let again = world.ask("unix:uid:1").await.unwrap();
    assert_eq!(
        (again.svids[0].token.as_str(), world.asked()),
        (one.token.as_str(), 1)
    );
    let other = world.ask("unix:uid:2").await.unwrap();
    assert_eq!((other.svids[0].id.path(), world.asked()), ("/b", 2));
    assert_ne!(other.svids[0].key.public_key(), one.key.public_key());
    for stranger in [
        world.ask("unix:uid:3").await,
        world
            .source
            .fetch_wit(&selectors(&["unix:uid:1"]), Some(&id("/b")))
            .await,
    ] {
        assert!(matches!(stranger, Err(SourceError::NoIdentity)), "{stranger:?}");
    }
    assert_eq!(world.asked(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_server_without_keys_for_them_is_never_asked() {
    let world = World::new(&[]).await;
    assert_eq!(world.source.has_wit(), Some(false));
    let refused = world.ask("unix:uid:1").await;
    assert!(matches!(refused, Err(SourceError::Unsupported)), "{refused:?}");
    assert_eq!(world.asked(), 0);
    assert_eq!(world.node.serves(&["unix:uid:1"]), ["/a"]);
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_refuses_is_left_alone_for_a_while() {
    let world = World::new(&[("k1", false)]).await;
    let refusals = [
        (Status::unimplemented("WIT functionality is disabled"), false),
        (Status::resource_exhausted("later"), false),
        (Status::not_found("entry not found or not authorized"), true),
    ];
    for (nth, (refusal, hurries)) in (0_u32..).zip(refusals) {
        world.source.wits.forget_pauses();
        world.server.script().refuse_each = Some(refusal.clone());
        for _ in 0..20 {
            match (world.ask("unix:uid:1").await, refusal.code()) {
                (Err(SourceError::Unsupported), tonic::Code::Unimplemented) => {}
                (Err(SourceError::Unavailable(reason)), _) => assert!(reason.contains(refusal.message())),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.asked(), nth + 1, "{refusal}");
        assert_eq!(world.link.was_nudged(), hurries, "{refusal}");
    }
    world.server.script().refuse_each = None;
    world.source.wits.forget_pauses();
    world.ask("unix:uid:1").await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_token_of_another_workload_or_for_another_key_is_not_handed_out() {
    let world = World::new(&[("k1", false)]).await;
    for lie in [Lie::OtherKey, Lie::OtherWorkload] {
        world.server.script().lie = Some(lie);
        world.source.wits.forget_pauses();
        let refused = world.ask("unix:uid:1").await;
        assert!(
            matches!(refused, Err(SourceError::Unavailable(_))),
            "{lie:?}: {refused:?}"
        );
        assert_eq!(world.source.wits.cache.len(), 0, "{lie:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_renewal_that_fails_takes_nothing_away_before_the_end() {
    let world = World::new(&[("k1", false)]).await;
    world.server.script().wit_life = Some(600);
    let start = world.clock.now().unwrap();
    let at = |secs: u64| start.saturating_add(Duration::from_secs(secs));
    let first = world.ask("unix:uid:1").await.unwrap();
    let token = first.svids[0].token.clone();
    world
        .server
        .script()
        .refuse
        .insert("BatchNewWITSVID", Status::unavailable("away"));
    world.clock.set(at(400));
    let kept = world.ask("unix:uid:1").await.unwrap();
    assert_eq!(kept.svids[0].token, token);
    assert!(kept.again_at <= at(400), "it is due");
    world.clock.set(at(602));
    let over = world.ask("unix:uid:1").await;
    assert!(matches!(over, Err(SourceError::Unavailable(_))), "{over:?}");
    world.server.script().refuse.clear();
    world.source.wits.forget_pauses();
    world.clock.set(start);
    let renewed = world.ask("unix:uid:1").await.unwrap();
    assert_eq!(
        renewed.svids[0].token, token,
        "valid again, by a clock that was set back"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_a_tainted_key_signed_is_replaced_and_what_no_entry_wants_forgotten() {
    let world = World::new(&[("k1", false)]).await;
    let first = world.ask("unix:uid:1").await.unwrap().svids.remove(0);
    world.ask("unix:uid:2").await.unwrap();
    world.server.script().wit = vec![("k1", true), ("k2", false)];
    until("both are forgotten", || world.source.wits.cache.len() == 0).await;
    let second = world.ask("unix:uid:1").await.unwrap().svids.remove(0);
    assert_eq!(wit::parse_unverified(&second.token).unwrap().key_id(), "k2");
    assert_ne!(second.key.public_key(), first.key.public_key());
    world.server.script().entries.remove(0);
    until("the key of the one without an entry is forgotten", || {
        world.source.wits.cache.len() == 0
    })
    .await;
    assert!(matches!(
        world.ask("unix:uid:1").await,
        Err(SourceError::NoIdentity)
    ));
    world.server.script().wit = Vec::new();
    until("the server has none any more", || {
        world.source.has_wit() == Some(false)
    })
    .await;
    let refused = world.ask("unix:uid:2").await;
    assert!(matches!(refused, Err(SourceError::Unsupported)), "{refused:?}");
    world.stop().await;
}

/// A key that cannot be read, or whose ID another one has, costs itself and not the bundle.
#[tokio::test]
async fn odd_keys_in_the_bundle_are_left_out() {
    let ca = Ca::new("one");
    let mut wire = wire_bundle(&ca, false);
    let key = |key_id: &str, public_key: &[u8]| landfast_proto::spire::api::types::WitKey {
        public_key: public_key.to_vec().into(),
        key_id: key_id.to_owned(),
        expires_at: 7,
        tainted: true,
    };
    let public = ca.public_key();
    let good = public.spki_der();
    wire.wit_authorities = vec![
        key("good", good),
        key("", good),
        key("twice", good),
        key("twice", good),
        key("kid", good),
        key("odd", b"no key"),
    ];
    let bundle = bundle_wire::parse(&wire, &td()).unwrap();
    let ids: Vec<_> = bundle
        .wit_authorities()
        .iter()
        .map(|a| a.key_id.as_str())
        .collect();
    assert_eq!((ids, bundle.jwt_authorities().len()), (vec!["good"], 1));
    let good = &bundle.wit_authorities()[0];
    assert_eq!(
        (good.expires_at, good.tainted),
        (Some(UnixTime::from_secs(7)), true)
    );
}
