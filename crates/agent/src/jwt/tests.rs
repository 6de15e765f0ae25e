//! The cache of tokens.

use std::sync::atomic::{AtomicU32, Ordering};

use landfast_identity::JwtAuthority;
use tokio::sync::watch;

use super::*;
use crate::testing::{Ca, NOON, StoppedClock, at, id, td, until};
use landfast_lifecycle::Clock as _;

mod clock;

struct World {
    cache: JwtCache,
    stragglers: Option<Stragglers>,
    clock: Arc<StoppedClock>,
    fetched: Arc<AtomicU32>,
    ca: Ca,
    bundle: Bundle,
}

impl World {
    fn new() -> Self {
        let ca = Ca::new("one");
        let bundle = bundle(&ca, false);
        let clock = StoppedClock::at(NOON);
        let (cache, stragglers) = JwtCache::new(clock.clone());
        Self {
            cache,
            stragglers: Some(stragglers),
            clock,
            fetched: Arc::default(),
            ca,
            bundle,
        }
    }

    fn fresh(&self) -> Token {
        let now = self.clock.now().unwrap();
        let expires_at = now.saturating_add(Duration::from_secs(300));
        let text = self
            .ca
            .jwt(&id("/a"), &["aud".to_owned()], "kid", now, expires_at)
            .into();
        Token {
            text,
            id: id("/a"),
            held_since: now,
            expires_at,
            key: None,
        }
    }

    async fn get(&self, audience: &[&str], answer: Result<Token, Refusal>) -> Result<Token, Refusal> {
        let audience: Vec<String> = audience.iter().map(|a| (*a).to_owned()).collect();
        let fetched = Arc::clone(&self.fetched);
        let fetch = || async move {
            fetched.fetch_add(1, Ordering::SeqCst);
            answer
        };
        let key = Key::new("a".into(), &audience);
        self.cache
            .token(key, &id("/a"), Some(&self.bundle), JwtCache::deadline(), fetch)
            .await
    }

    /// As [`Self::get`] from a server that answers when the gate opens.
    async fn slow(&self, mut gate: watch::Receiver<bool>, token: Token) -> Result<Token, Refusal> {
        let fetched = Arc::clone(&self.fetched);
        let fetch = || async move {
            fetched.fetch_add(1, Ordering::SeqCst);
            gate.wait_for(|open| *open).await.unwrap();
            Ok(token)
        };
        let key = Key::new("a".into(), &["a".to_owned()]);
        self.cache
            .token(key, &id("/a"), Some(&self.bundle), JwtCache::deadline(), fetch)
            .await
    }

    fn fetched(&self) -> u32 {
        self.fetched.load(Ordering::SeqCst)
    }
}

fn bundle(ca: &Ca, tainted: bool) -> Bundle {
    let authority = JwtAuthority {
        key_id: "kid".to_owned(),
        public_key: ca.public_key(),
        expires_at: None,
        tainted,
    };
    Bundle::new(td()).with_jwt_authorities(vec![authority]).unwrap()
}

#[tokio::test]
async fn a_token_is_kept_for_half_its_life_whatever_the_order_of_audiences() {
    let world = World::new();
    let first = world.get(&["a", "b"], Ok(world.fresh())).await.unwrap();
    world.clock.set(at(149));
    assert_eq!(
        world
            .get(&["b", "a", "b"], Err("not asked".into()))
            .await
            .unwrap(),
        first
    );
    assert_eq!(world.fetched(), 1);
    world.clock.set(at(150));
    let second = world.get(&["a", "b"], Ok(world.fresh())).await.unwrap();
    assert_ne!(second, first);
    assert_eq!(world.fetched(), 2);
    world.get(&["a"], Ok(world.fresh())).await.unwrap();
    assert_eq!(world.fetched(), 3, "another audience is another token");
}

/// As our server does by default: dated back by as much as it lives.
#[tokio::test]
async fn a_token_that_was_dated_back_is_kept_for_half_of_what_was_left() {
    let world = World::new();
    let back_dated = Token {
        held_since: at(-300),
        ..world.fresh()
    };
    let first = world.get(&["a"], Ok(back_dated)).await.unwrap();
    world.clock.set(at(149));
    let again = world.get(&["a"], Err("not asked".into())).await.unwrap();
    assert_eq!((again, world.fetched()), (first, 1));
    world.clock.set(at(150));
    world.get(&["a"], Ok(world.fresh())).await.unwrap();
    assert_eq!(world.fetched(), 2);
}

#[tokio::test]
async fn a_valid_token_is_served_when_no_new_one_can_be_had_and_an_expired_one_never() {
    let world = World::new();
    let first = world.get(&["a"], Ok(world.fresh())).await.unwrap();
    world.clock.set(at(299));
    assert_eq!(world.get(&["a"], Err("away".into())).await.unwrap(), first);
    world.clock.set(at(300));
    assert_eq!(world.get(&["a"], Err("away".into())).await, Err("away".into()));
}

#[tokio::test]
async fn a_token_of_a_tainted_or_removed_key_is_not_served() {
    let mut world = World::new();
    world.get(&["a"], Ok(world.fresh())).await.unwrap();
    world.bundle = bundle(&world.ca, true);
    assert_eq!(world.get(&["a"], Err("away".into())).await, Err("away".into()));
    world.bundle = bundle(&world.ca, false);
    assert!(
        world.get(&["a"], Err("away".into())).await.is_ok(),
        "the positive control"
    );
    world.bundle = Bundle::new(td());
    assert_eq!(world.get(&["a"], Err("away".into())).await, Err("away".into()));
}

#[tokio::test]
async fn a_token_of_a_tainted_key_does_not_stay_in_memory() {
    let world = World::new();
    let views = Views::new(&td());
    let publish = |bundle: Bundle| {
        let bundle = Some(Arc::new(bundle));
        let snapshot = Snapshot {
            bundle,
            ..Snapshot::default()
        };
        views.publish(Arc::new(snapshot), &crate::keeper::state::Reach::All, Some(NOON));
    };
    publish(bundle(&world.ca, false));
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "a test has no task tree")]
    let task = tokio::spawn(world.cache.clone().keep_clean(views.clone(), stop.clone()));
    world.get(&["a"], Ok(world.fresh())).await.unwrap();
    publish(bundle(&world.ca, false));
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.cache.len(), 1, "its key is good");
    publish(bundle(&world.ca, true));
    until("it is forgotten", || world.cache.len() == 0).await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_token_of_another_id_or_expired_on_arrival_is_refused() {
    let world = World::new();
    let foreign = Token {
        id: id("/b"),
        ..world.fresh()
    };
    assert!(world.get(&["a"], Ok(foreign)).await.is_err());
    let old = Token {
        expires_at: NOON,
        ..world.fresh()
    };
    assert!(world.get(&["a"], Ok(old)).await.is_err());
    assert_eq!(world.cache.len(), 0);
}

#[tokio::test]
async fn many_who_want_the_same_ask_once() {
    let world = World::new();
    let (open, gate) = watch::channel(false);
    let token = world.fresh();
    let one = || async {
        let (mut gate, token, fetched) = (gate.clone(), token.clone(), Arc::clone(&world.fetched));
        let fetch = || async move {
            fetched.fetch_add(1, Ordering::SeqCst);
            gate.wait_for(|open| *open).await.unwrap();
            Ok(token)
        };
        let key = Key::new("a".into(), &["aud".to_owned()]);
        world
            .cache
            .token(key, &id("/a"), None, JwtCache::deadline(), fetch)
            .await
    };
    let all = futures_util::future::join_all((0..50).map(|_| one()));
    let release = async {
        tokio::task::yield_now().await;
        open.send(true).unwrap();
    };
    let (all, ()) = tokio::join!(all, release);
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(world.fetched(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_take_the_request_with_him() {
    let world = World::new();
    let (open, gate) = watch::channel(false);
    let wanted = id("/a");
    let ask = || {
        let (mut gate, token, fetched) = (gate.clone(), world.fresh(), Arc::clone(&world.fetched));
        let fetch = move || async move {
            fetched.fetch_add(1, Ordering::SeqCst);
            gate.wait_for(|open| *open).await.unwrap();
            Ok(token)
        };
        let key = Key::new("a".into(), &["aud".to_owned()]);
        Box::pin(world.cache.token(key, &wanted, None, JwtCache::deadline(), fetch))
    };
    let (mut first, mut second) = (ask(), ask());
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    open.send(true).unwrap();
    assert!(second.await.is_ok());
    assert_eq!(world.fetched(), 1);
}

#[tokio::test]
async fn the_cache_is_bounded_and_drops_what_was_not_used_for_longest() {
    let world = World::new();
    let token = world.fresh();
    world.get(&["first"], Ok(token.clone())).await.unwrap();
    for n in 0..MAX_TOKENS {
        world.get(&["first"], Err("cached".into())).await.unwrap();
        world.get(&[&n.to_string()], Ok(token.clone())).await.unwrap();
    }
    assert_eq!(world.cache.len(), MAX_TOKENS);
    assert!(world.get(&["first"], Err("gone".into())).await.is_ok());
    assert!(world.get(&["0"], Err("gone".into())).await.is_err());
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
async fn who_has_a_good_token_waits_a_moment_only_and_the_request_goes_on_without_him() {
    let mut world = World::new();
    let stop = CancellationToken::new();
    let task = tokio::spawn(world.stragglers.take().unwrap().run(stop.clone()));
    let (open, gate) = watch::channel(false);
    let first = world.get(&["a"], Ok(world.fresh())).await.unwrap();
    world.clock.set(at(200));
    let started = Instant::now();
    let second = world.fresh();
    let asked = world.slow(gate.clone(), second.clone());
    let served = timeout_at(started + Duration::from_secs(60), asked).await;
    assert_eq!(served.expect("an answer").unwrap().text, first.text);
    assert_eq!(started.elapsed(), PATIENCE);
    // Others need not find out again that the server is slow.
    let served = world.get(&["a"], Err("not asked".into())).await.unwrap();
    assert_eq!((served.text, started.elapsed()), (first.text, PATIENCE));
    open.send(true).unwrap();
    // Nobody waits for it now.
    until("the new token is in the cache", || {
        let inner = world.cache.lock();
        inner.tokens.values().all(|(token, _)| token.text == second.text)
    })
    .await;
    let served = world.get(&["a"], Err("not asked".into())).await.unwrap();
    assert_eq!((served.text, world.fetched()), (second.text, 2));
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
async fn who_has_none_waits_five_seconds_at_most_and_the_next_one_finds_it() {
    let mut world = World::new();
    let stop = CancellationToken::new();
    let stragglers = tokio::spawn(world.stragglers.take().unwrap().run(stop.clone()));
    let (open, gate) = watch::channel(false);
    let begun = Instant::now();
    let refused = world.slow(gate.clone(), world.fresh()).await;
    assert_eq!(refused, Err("the server has not answered yet".into()));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    // It ends at once when it comes.
    let asking = world.slow(gate.clone(), world.fresh());
    let opening = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        open.send_replace(true);
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(asking, opening);
    assert!(answer.is_ok());
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    assert_eq!(world.fetched(), 1, "it was the same request");
    stop.cancel();
    stragglers.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_no_good_token_or_loses_it_meanwhile_waits() {
    let world = World::new();
    let (open, gate) = watch::channel(false);
    let later = || async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        open.send(true).unwrap();
    };
    let (got, ()) = tokio::join!(world.slow(gate.clone(), world.fresh()), later());
    let first = got.unwrap();
    open.send(false).unwrap();
    world.clock.set(at(299));
    let second = world.fresh();
    let over = async {
        tokio::time::sleep(PATIENCE / 2).await;
        world.clock.set(at(300));
        later().await;
    };
    let (got, ()) = tokio::join!(world.slow(gate.clone(), second.clone()), over);
    let got = got.unwrap();
    assert_eq!(got.text, second.text);
    assert_ne!(got.text, first.text);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
async fn what_has_run_out_is_dropped_though_nobody_asks_and_nothing_is_published() {
    let world = World::new();
    let stop = CancellationToken::new();
    let task = tokio::spawn(world.cache.clone().keep_clean(Views::new(&td()), stop.clone()));
    world.get(&["a"], Ok(world.fresh())).await.unwrap();
    tokio::time::sleep(2 * CLEAN_EVERY).await;
    assert_eq!(world.cache.len(), 1, "it is good");
    world.clock.set(at(300));
    tokio::time::sleep(KEEP_OVER - CLEAN_EVERY).await;
    assert_eq!(world.cache.len(), 1, "the clock may have leapt");
    tokio::time::sleep(3 * CLEAN_EVERY).await;
    assert_eq!(world.cache.len(), 0);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_comes_after_a_ban_is_not_kept_until_the_node_is_let_in_again() {
    let world = World::new();
    for banned in [true, false] {
        let snapshot = Snapshot {
            banned,
            ..Snapshot::default()
        };
        world.cache.purge(&snapshot);
        world.get(&["a"], Ok(world.fresh())).await.unwrap();
        assert_eq!(world.cache.len(), usize::from(!banned));
    }
}
