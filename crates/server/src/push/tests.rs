//! A subscription without a network: what it says, to whom it is silent, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use landfast_daemon::TaskTree;
use landfast_proto::landfast::sync::v1::{
    HeldBundle, HeldEntry, Standing, SubscribeRequest, SubscribeResponse,
};
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use prost::Message as _;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::*;
use crate::answers::{Budget, Reservation, Way};
use crate::core::fixture::{Rig, START, agent, draft, id};
use crate::registry::EntryPatch;
use crate::server::rig::reason;

const NODE: &str = "/spire/agent/x/1";

/// An agent that subscribes.
struct Node {
    rig: Rig,
    tree: TaskTree,
    verifies: Arc<AtomicBool>,
    digests: Arc<Digests>,
    /// Room for what is said.
    answers: Budget,
    /// How often a subscription has asked for the time: at least once each time that it wakes.
    asked: Arc<AtomicUsize>,
}

/// A clock that counts.
#[derive(Debug)]
struct Counting(landfast_lifecycle::SimClock, Arc<AtomicUsize>);

impl landfast_lifecycle::Clock for Counting {
    fn now(&self) -> Option<landfast_identity::UnixTime> {
        let asked = self.1.fetch_add(1, Ordering::Relaxed);
        // Time stands still for who does not rest: without this the test would not end.
        assert!(asked < 5000, "it wakes again and again");
        self.0.now()
    }
}

impl Node {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let record = agent(NODE, "0a", &["x:node:1"]);
        rig.core.registry.upsert_agent_on_attest(record).await.unwrap();
        let tree = TaskTree::new();
        let registry = Arc::clone(&rig.core.registry);
        let waking = async move { registry.wake_subscribers().await };
        tree.handle().spawn_job("subscribers", waking);
        Self {
            rig,
            tree,
            verifies: Arc::new(AtomicBool::new(true)),
            digests: Arc::default(),
            answers: Budget::new(1 << 20),
            asked: Arc::default(),
        }
    }

    fn subscribe(&self, said: SubscribeRequest) -> Answers {
        self.subscribe_for(said, Duration::from_secs(36_000))
    }

    fn subscribe_for(&self, said: SubscribeRequest, retires: Duration) -> Answers {
        let verifies = Arc::clone(&self.verifies);
        let registry = &self.rig.core.registry;
        let subscription = Subscription {
            registry: Arc::clone(registry),
            authorities: Arc::clone(&self.rig.core.authorities),
            digests: Arc::clone(&self.digests),
            clock: Arc::new(Counting(self.rig.clock.clone(), Arc::clone(&self.asked))),
            grounds: Grounds {
                agent: id(NODE),
                serial: "0a".to_owned(),
                not_after: START.saturating_add(Duration::from_secs(7200)),
                verifies: Box::new(move |_| verifies.load(Ordering::Relaxed)),
                cut: Arc::default(),
                retires: Instant::now() + retires,
            },
            subscriber: registry.subscribe(id(NODE), "0a"),
            held: Held::parse(said, true).unwrap(),
            ends: None,
        };
        let (slot, answers) = slot(Way::along(&self.answers, &id(NODE), None));
        self.tree
            .handle()
            .spawn_job("subscription", async move { subscription.run(slot).await });
        answers
    }

    async fn tear_down(self) {
        drop(self.tree);
    }
}

/// The database works on a thread of its own: meanwhile simulated time would pass, up to whatever is waited for next.
async fn still<T>(work: impl Future<Output = T>) -> T {
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let holds = tokio::task::spawn_blocking(move || waits.recv().is_err());
    let result = work.await;
    drop(done);
    assert!(holds.await.unwrap());
    result
}

/// Within a minute of simulated time, which passes when nothing else can.
async fn next(answers: &mut Answers) -> Result<SubscribeResponse, Status> {
    let next = tokio::time::timeout(Duration::from_secs(61), answers.next());
    next.await.expect("nothing was said").expect("the stream ended")
}

fn ids(step: &SubscribeResponse) -> Vec<&str> {
    let put = step.put.iter();
    put.map(|put| put.entry.as_ref().unwrap().id.as_str()).collect()
}

/// As the agent would say it after this step.
fn held(step: &SubscribeResponse) -> SubscribeRequest {
    let entry = |put: &landfast_proto::landfast::sync::v1::AuthorizedEntry| HeldEntry {
        id: put.entry.as_ref().unwrap().id.clone(),
        version: put.version,
    };
    let bundle = |bundle: &landfast_proto::landfast::sync::v1::CurrentBundle| HeldBundle {
        trust_domain: bundle.bundle.as_ref().unwrap().trust_domain.clone(),
        digest: bundle.digest.clone(),
    };
    SubscribeRequest {
        newest: step.revision,
        entries: step.put.iter().map(entry).collect(),
        bundles: step.bundles.iter().map(bundle).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_everything_is_told_so_in_few_bytes_and_who_lacks_something_gets_that() {
    let node = Node::new().await;
    let (one, two) = (
        node.rig.entry(draft(NODE, "/one")).await,
        node.rig.entry(draft(NODE, "/two")).await,
    );
    let first = next(&mut node.subscribe(SubscribeRequest::default()))
        .await
        .unwrap();
    assert_eq!((first.put.len(), first.bundles.len(), first.more), (2, 1, false));
    let all = held(&first);
    let nothing = next(&mut node.subscribe(all.clone())).await.unwrap();
    assert_eq!(
        nothing,
        SubscribeResponse {
            revision: first.revision,
            time: nothing.time,
            ..SubscribeResponse::default()
        }
    );
    assert!(nothing.time > 0 && nothing.time >= first.time, "what time it is");
    assert!(nothing.encoded_len() < 20);

    // One of another version, one that is unknown here, and a bundle that is.
    let mut other = all.clone();
    other.entries[0].version += 1;
    other.entries[1].id = "0-unknown".to_owned();
    other.bundles[0].digest = bytes::Bytes::new();
    let stranger = HeldBundle {
        trust_domain: "gone.test".to_owned(),
        digest: other.bundles[0].digest.clone(),
    };
    other.bundles.push(stranger);
    let step = next(&mut node.subscribe(other)).await.unwrap();
    let mut expected = vec![one.id.as_str(), two.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids(&step), expected);
    assert_eq!(step.gone.len(), 1);
    assert_eq!(step.gone[0].entry_id, "0-unknown");
    assert_eq!(Some(step.gone[0].revision), step.revision.map(|at| at.number));
    assert_eq!(step.bundles.len(), 1);
    assert_eq!(step.bundles_gone, ["gone.test"]);
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_says_twice_or_namelessly_is_refused_and_versions_of_another_history_mean_nothing() {
    let entry = |id: &str| HeldEntry {
        id: id.to_owned(),
        version: 7,
    };
    let bundle = |trust_domain: &str| HeldBundle {
        trust_domain: trust_domain.to_owned(),
        ..HeldBundle::default()
    };
    let with = |ids: &[&str], domains: &[&str]| SubscribeRequest {
        entries: ids.iter().map(|id| entry(id)).collect(),
        bundles: domains.iter().map(|domain| bundle(domain)).collect(),
        ..SubscribeRequest::default()
    };
    assert!(Held::parse(with(&["b", "a"], &["b.test", "a.test"]), true).is_ok());
    let long = "x".repeat(256);
    for (ids, domains) in [
        (&["a", "b", "a"][..], &[][..]),
        (&[""], &[]),
        (&[long.as_str()], &[]),
        (&[], &["a.test", "a.test"]),
        (&[], &["No Domain"]),
    ] {
        assert!(
            Held::parse(with(ids, domains), true).is_err(),
            "{ids:?} {domains:?}"
        );
    }

    let node = Node::new().await;
    node.rig.entry(draft(NODE, "/one")).await;
    let first = next(&mut node.subscribe(SubscribeRequest::default()))
        .await
        .unwrap();
    let (view, own) = (
        node.rig.core.registry.view(&id(NODE)),
        node.rig.core.authorities.bundle(),
    );
    let mut of_here = Held::parse(held(&first), true).unwrap();
    assert!(of_here.step(&view, &own, &node.digests).is_empty());
    let mut of_elsewhere = Held::parse(held(&first), false).unwrap();
    assert_eq!(
        ids(&of_elsewhere.step(&view, &own, &node.digests).page()).len(),
        1
    );
    // Numbers come again after a restore, with the epoch they do not.
    let mut restored = view.clone();
    restored.revision.epoch += 1;
    let mut of_before = Held::parse(held(&first), true).unwrap();
    assert_eq!(
        ids(&of_before.step(&restored, &own, &node.digests).page()).len(),
        1
    );
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn many_entries_come_in_pages_and_the_last_says_so() {
    let node = Node::new().await;
    for n in 0..600 {
        let mut wanted = draft(NODE, &format!("/w{n}"));
        wanted.dns_names = vec![format!("{n:0>60}.test"); 4];
        wanted.dns_names = (0..4)
            .map(|at| format!("w{n}-{at}-{}.test", "x".repeat(40)))
            .collect();
        node.rig.entry(wanted).await;
    }
    let mut answers = node.subscribe(SubscribeRequest::default());
    let (mut pages, mut found) = (0, 0);
    loop {
        let page = next(&mut answers).await.unwrap();
        assert!(page.encoded_len() < 128 * 1024);
        assert_eq!(
            page.revision.map(|at| at.number),
            Some(node.rig.core.registry.revision().number)
        );
        (pages, found) = (pages + 1, found + page.put.len());
        if !page.more {
            break;
        }
    }
    assert!(pages > 1 && found == 600, "{pages} pages, {found} entries");
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_an_agent_is_slow_is_said_once_and_nothing_is_kept_for_it() {
    let node = Node::new().await;
    let made = node.rig.entry(draft(NODE, "/one")).await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    let first = next(&mut answers).await.unwrap();
    for hint in 0..50 {
        let patch = EntryPatch {
            hint: Some(hint.to_string()),
            ..EntryPatch::default()
        };
        let registry = &node.rig.core.registry;
        still(registry.update_entry(&made.id, patch)).await.unwrap();
        // The subscription has its turn, and the agent takes nothing.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (early, late) = (
        next(&mut answers).await.unwrap(),
        next(&mut answers).await.unwrap(),
    );
    let hint = |step: &SubscribeResponse| step.put[0].entry.as_ref().unwrap().hint.clone();
    assert_eq!((hint(&early), hint(&late)), ("0".to_owned(), "49".to_owned()));
    assert!(first.put[0].version < early.put[0].version && early.put[0].version < late.put[0].version);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(answers.next().now_or_never().is_none(), "there is no more");
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_takes_nothing_for_half_a_minute_is_to_subscribe_again() {
    let node = Node::new().await;
    let made = node.rig.entry(draft(NODE, "/one")).await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    next(&mut answers).await.unwrap();
    let registry = &node.rig.core.registry;
    for hint in ["a", "b"] {
        let patch = EntryPatch {
            hint: Some(hint.to_owned()),
            ..EntryPatch::default()
        };
        still(registry.update_entry(&made.id, patch)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(PATIENCE - Duration::from_secs(2)).await;
    assert_eq!(registry.subscriptions(), 1, "not yet");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(registry.subscriptions(), 0, "it has ended, and holds nothing");
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert!(status.message().contains("subscribe again"));
    assert!(answers.next().await.is_none());
    node.tear_down().await;
}

impl Node {
    /// Room for nothing small: a half of it, twice.
    async fn fill(&self) -> [Reservation; 2] {
        let half = async |who| self.answers.reserve(&id(who), 128 << 10, None).await.unwrap();
        [half("/a").await, half("/b").await]
    }

    /// Seconds in each of which something changes.
    async fn changes(&self, entry: &str, seconds: usize) {
        for second in 0..seconds {
            let patch = EntryPatch {
                hint: Some(second.to_string()),
                ..EntryPatch::default()
            };
            still(self.rig.core.registry.update_entry(entry, patch))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_keeps_its_place_while_things_change() {
    let node = Node::new().await;
    let made = node.rig.entry(draft(NODE, "/one")).await;
    let [held, _held] = node.fill().await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = id("/c");
    let mut after = Box::pin(node.answers.reserve(&after, 128 << 10, None));
    assert!((&mut after).now_or_never().is_none());
    node.changes(&made.id, 5).await;
    drop(held);
    let (step, _after) = tokio::join!(next(&mut answers), after);
    assert_eq!(ids(&step.unwrap()), [made.id.as_str()]);
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_gives_nobody_more_time_to_wait() {
    let node = Node::new().await;
    let made = node.rig.entry(draft(NODE, "/one")).await;
    let _held = node.fill().await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    node.changes(&made.id, 22).await;
    assert_eq!(node.rig.core.registry.subscriptions(), 0, "it has been given up");
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    node.tear_down().await;
}

/// What it would be told of an entry that has ended makes nobody busy before there is an ear.
#[tokio::test(start_paused = true)]
async fn an_entry_that_ends_while_nobody_listens_wakes_nobody_again_and_again() {
    let node = Node::new().await;
    let mut wanted = draft(NODE, "/one");
    wanted.expires_at = Some(START.saturating_add(Duration::from_secs(20)));
    node.rig.entry(wanted).await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    let registry = &node.rig.core.registry;
    for _ in 0..70 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(registry.subscriptions(), 0, "it has been given up");
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    let asked = node.asked.load(Ordering::Relaxed);
    assert!((3..50).contains(&asked), "{asked}");
    node.tear_down().await;
}

/// T-20: it may take nothing for as long as it likes.
#[tokio::test(start_paused = true)]
async fn a_ban_ends_also_what_an_agent_does_not_take() {
    let node = Node::new().await;
    let registry = &node.rig.core.registry;
    let mut answers = node.subscribe(SubscribeRequest::default());
    // The first message lies there.
    tokio::time::sleep(Duration::from_millis(1)).await;
    still(node.rig.entry(draft(NODE, "/one"))).await;
    still(registry.ban_agent(&id(NODE))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(registry.subscriptions(), 0);
    let last = next(&mut answers).await.unwrap();
    assert_eq!(
        (last.standing(), last.bundles.len(), last.put.len()),
        (Standing::Banned, 0, 0)
    );
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentBanned));
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lets_go_is_forgotten() {
    let node = Node::new().await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    next(&mut answers).await.unwrap();
    assert_eq!(node.rig.core.registry.subscriptions(), 1);
    drop(answers);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.rig.core.registry.subscriptions(), 0);
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_ends_by_its_time_is_gone_then_and_with_it_what_hangs_under_it() {
    let node = Node::new().await;
    let end = START.saturating_add(Duration::from_secs(600));
    let mut wanted = draft(NODE, "/cell");
    wanted.expires_at = Some(end);
    let cell = node.rig.entry(wanted).await;
    let pump = node.rig.entry(draft("/cell", "/cell/pump")).await;
    let stays = node.rig.entry(draft(NODE, "/stays")).await;
    let mut answers = node.subscribe(SubscribeRequest::default());
    assert_eq!(next(&mut answers).await.unwrap().put.len(), 3);
    let step = tokio::time::timeout(Duration::from_secs(700), answers.next());
    let step = step.await.unwrap().unwrap().unwrap();
    let mut gone: Vec<_> = step.gone.iter().map(|gone| gone.entry_id.clone()).collect();
    let mut expected = vec![cell.id.clone(), pump.id.clone()];
    gone.sort_unstable();
    expected.sort_unstable();
    assert_eq!((gone, ids(&step)), (expected, vec![]));
    assert!(node.rig.now() >= end && node.rig.now() <= end.saturating_add(Duration::from_secs(1)));
    assert_eq!(node.rig.core.registry.view(&id(NODE)).entries[0].entry, stays);
    node.tear_down().await;
}

/// How the stream ends after this, whatever is said before.
async fn end_after(node: &Node, change: impl AsyncFnOnce(&Node)) -> Result<(), Status> {
    let mut answers = node.subscribe(SubscribeRequest::default());
    next(&mut answers).await.unwrap();
    still(change(node)).await;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(8000), answers.next());
        match next.await.expect("it goes on") {
            None => return Ok(()),
            Some(Err(status)) => return Err(status),
            Some(Ok(_)) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_call_any_more_is_told_nothing_more() {
    // Attested elsewhere.
    let node = Node::new().await;
    let status = end_after(&node, async |node: &Node| {
        let record = agent(NODE, "0b", &["x:node:1"]);
        let registry = &node.rig.core.registry;
        registry.upsert_agent_on_attest(record).await.unwrap();
    })
    .await
    .unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentNotActive), "{status:?}");
    node.tear_down().await;

    // The authority of its certificate was revoked.
    let node = Node::new().await;
    let status = end_after(&node, async |node: &Node| {
        node.verifies.store(false, Ordering::Relaxed);
        node.rig.core.registry.wake_everybody();
    })
    .await
    .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    node.tear_down().await;

    // The certificate of the connection has ended, and there is no other.
    let node = Node::new().await;
    let before = Instant::now();
    let status = end_after(&node, async |_: &Node| {}).await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentExpired), "{status:?}");
    let passed = before.elapsed().as_secs();
    assert!((7200..=7202).contains(&passed), "{passed}");
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_to_connect_anew_is_not_refused() {
    let renew = async |node: &Node| {
        let end = node.rig.now().saturating_add(Duration::from_secs(36_000));
        let registry = &node.rig.core.registry;
        registry.stage_renewal(&id(NODE), "0b", end).await.unwrap();
    };
    // The certificate of the connection has ended, and the agent has another.
    let node = Node::new().await;
    end_after(&node, renew).await.unwrap();
    node.tear_down().await;
    // The other has been used.
    let node = Node::new().await;
    let before = Instant::now();
    end_after(&node, async |node: &Node| {
        renew(node).await;
        let registry = &node.rig.core.registry;
        registry.standing(&id(NODE), "0b", node.rig.now()).await;
    })
    .await
    .unwrap();
    assert!(before.elapsed() < Duration::from_secs(60));
    node.tear_down().await;
    // The connection is old.
    let node = Node::new().await;
    let mut answers = node.subscribe_for(SubscribeRequest::default(), Duration::from_secs(1800));
    next(&mut answers).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(1801), answers.next());
    assert!(end.await.unwrap().is_none());
    node.tear_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_waits_a_little_for_what_an_agent_has_seen_and_then_refuses() {
    let node = Node::new().await;
    let (stale, registry, who) = (Stale::default(), &node.rig.core.registry, id(NODE));
    let known = registry.revision();
    stale.catch_up(registry, known, &who).await.unwrap();
    let mut newer = known;
    newer.number += 1;
    let status = stale.catch_up(registry, newer, &who).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("restore"), "{status:?}");
    let changes = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        still(node.rig.entry(draft(NODE, "/one"))).await;
    };
    let (caught_up, ()) = tokio::join!(stale.catch_up(registry, newer, &who), changes);
    caught_up.unwrap();
    let mut other = known;
    (other.epoch, other.number) = (known.epoch + 1, 0);
    let before = Instant::now();
    stale.catch_up(registry, other, &who).await.unwrap_err();
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "another epoch does not come by waiting"
    );
    other.epoch = known.epoch - 1;
    other.number = u64::MAX;
    stale.catch_up(registry, other, &who).await.unwrap();
    node.tear_down().await;
}
