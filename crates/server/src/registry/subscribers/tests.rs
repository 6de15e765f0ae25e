//! Who is marked by what.

use futures_util::FutureExt as _;

use super::*;
use crate::core::fixture::{Rig, agent, draft, entry, foreign, id, sel};
use crate::registry::{EntryDraft, EntryPatch, PolicyPatch};

const SERVER: &str = "/spire/server";

async fn joined(rig: &Rig, name: &str, selectors: &[&str]) -> Subscriber {
    let record = agent(name, "0a", selectors);
    rig.core.registry.upsert_agent_on_attest(record).await.unwrap();
    let subscriber = rig.core.registry.subscribe(id(name), "0a");
    look_up(rig).await;
    subscriber.marked().now_or_never();
    subscriber
}

/// Until there is nothing to be looked up any more.
async fn look_up(rig: &Rig) {
    let looked = tokio::time::timeout(Duration::from_millis(1), rig.core.registry.wake_subscribers());
    looked.await.unwrap_err();
}

fn is_marked(subscriber: &Subscriber) -> bool {
    let dated = subscriber.begin_to_look().is_some();
    assert_eq!(subscriber.marked().now_or_never().is_some(), dated);
    dated
}

/// A follower of a database that lost its place does not know what it missed.
#[tokio::test(start_paused = true)]
async fn a_registry_that_was_read_anew_marks_everybody() {
    let rig = Rig::new().await;
    let one = joined(&rig, "/spire/agent/x/1", &["x:node:1"]).await;
    let other = joined(&rig, "/spire/agent/x/2", &["x:node:2"]).await;
    assert!(!is_marked(&one) && !is_marked(&other));
    let snapshot = rig.core.datastore.load(None).await.unwrap();
    crate::datastore::CommitListener::reloaded(&*rig.core.registry.index, snapshot);
    look_up(&rig).await;
    assert!(is_marked(&one) && is_marked(&other));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_one_agent_marks_that_one_alone() {
    let rig = Rig::new().await;
    let one = joined(&rig, "/spire/agent/x/1", &["x:rack:a", "x:node:1"]).await;
    let other = joined(&rig, "/spire/agent/x/2", &["x:rack:a", "x:node:2"]).await;
    assert!(!is_marked(&one) && !is_marked(&other));

    let made = rig.entry(draft("/spire/agent/x/1", "/w")).await;
    assert!(is_marked(&one) && !is_marked(&other), "at once");
    let of_node = EntryDraft::new(id(SERVER), id("/node-1"), sel(&["x:node:1", "x:rack:a"]));
    let alias = rig.entry(of_node).await;
    look_up(&rig).await;
    assert!(is_marked(&one) && !is_marked(&other), "its alias");
    let below = rig.entry(draft("/node-1", "/line4")).await;
    rig.entry(draft("/line4", "/line4/pump")).await;
    look_up(&rig).await;
    assert!(
        is_marked(&one) && !is_marked(&other),
        "what hangs under its alias"
    );

    // A move takes from one and gives to the other.
    let elsewhere = EntryPatch {
        parent_id: Some(id("/spire/agent/x/2")),
        ..EntryPatch::default()
    };
    rig.core.registry.update_entry(&made.id, elsewhere).await.unwrap();
    assert!(is_marked(&one) && is_marked(&other));
    let policy = PolicyPatch {
        description: Some("pump".to_owned()),
        ..PolicyPatch::default()
    };
    let registry = &rig.core.registry;
    registry.set_entry_policy(&below.id, policy, None).await.unwrap();
    look_up(&rig).await;
    assert!(is_marked(&one) && !is_marked(&other), "a policy");
    assert!(registry.delete_entry(&alias.id).await.unwrap());
    look_up(&rig).await;
    assert!(is_marked(&one) && !is_marked(&other), "its alias is gone");
    registry
        .set_agent_version(&id("/spire/agent/x/1"), "2")
        .await
        .unwrap();
    look_up(&rig).await;
    assert!(!is_marked(&one), "a version is nobody's business");
    registry.ban_agent(&id("/spire/agent/x/1")).await.unwrap();
    assert!(is_marked(&one) && !is_marked(&other), "a ban");
}

#[tokio::test(start_paused = true)]
async fn agents_are_found_by_the_selectors_they_have_now_and_by_none_when_they_are_gone() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    for name in ["/spire/agent/x/1", "/spire/agent/x/2", "/spire/agent/x/3"] {
        joined(&rig, name, &["x:rack:a", "x:was"]).await;
    }
    let having = |selectors: &[&str]| {
        let mut ids = registry.read().agents_having(&sel(selectors));
        ids.sort_unstable();
        ids.iter().map(|id| id.path().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(having(&["x:rack:a", "x:was"]).len(), 3);
    joined(&rig, "/spire/agent/x/2", &["x:rack:a", "x:is"]).await;
    assert_eq!(having(&["x:rack:a"]).len(), 3);
    assert_eq!(having(&["x:was"]), ["/spire/agent/x/1", "/spire/agent/x/3"]);
    assert_eq!(having(&["x:is", "x:rack:a"]), ["/spire/agent/x/2"]);
    for nobody in [&["x:is", "x:was"][..], &["x:rack:a", "x:never"], &[]] {
        assert!(having(nobody).is_empty(), "{nobody:?}");
    }
    for name in ["/spire/agent/x/1", "/spire/agent/x/2", "/spire/agent/x/3"] {
        assert!(!registry.read().has_no_nodes());
        assert!(registry.delete_agent(&id(name)).await.unwrap());
    }
    assert!(registry.read().has_no_nodes());
}

#[tokio::test(start_paused = true)]
async fn a_federated_bundle_marks_those_who_follow_it() {
    let rig = Rig::new().await;
    let mut one = joined(&rig, "/spire/agent/x/1", &["x:node:1"]).await;
    let other = joined(&rig, "/spire/agent/x/2", &["x:node:2"]).await;
    let bundle = foreign("other.test").await;
    let domains = vec![bundle.trust_domain().clone()];
    assert!(one.follow(domains.clone()), "it has to look again");
    assert!(!one.follow(domains));
    let registry = &rig.core.registry;
    registry.set_federated_bundle(bundle.clone()).await.unwrap();
    look_up(&rig).await;
    assert!(is_marked(&one) && !is_marked(&other));
    assert!(!one.follow(Vec::new()));
    registry.set_federated_bundle(bundle).await.unwrap();
    look_up(&rig).await;
    assert!(!is_marked(&one));
    drop((one, other));
    let state = registry.index.subscribers.state();
    assert!(state.of.is_empty() && state.federated.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_told_to_the_old_certificates_subscription_alone() {
    let rig = Rig::new().await;
    let old = joined(&rig, "/spire/agent/x/1", &[]).await;
    let (who, registry) = (id("/spire/agent/x/1"), &rig.core.registry);
    let end = rig.now().saturating_add(Duration::from_secs(600));
    registry.stage_renewal(&who, "0b", end).await.unwrap();
    assert!(!is_marked(&old), "the renewal itself changes nothing");
    let new = registry.subscribe(who.clone(), "0b");
    registry.standing(&who, "0b", rig.now()).await;
    assert!(is_marked(&old) && old.told() == Told::Renewed);
    assert!(!is_marked(&new) && new.told() == Told::GoOn);
}

#[tokio::test(start_paused = true)]
async fn an_agent_has_so_many_subscriptions_and_the_newest_stay() {
    let rig = Rig::new().await;
    let oldest = joined(&rig, "/spire/agent/x/1", &[]).await;
    let newer: Vec<_> = (0..PER_AGENT)
        .map(|_| rig.core.registry.subscribe(id("/spire/agent/x/1"), "0a"))
        .collect();
    assert!(is_marked(&oldest) && oldest.told() == Told::Superseded);
    assert!(newer.iter().all(|one| one.told() == Told::GoOn));
    drop(oldest);
    let state = rig.core.registry.index.subscribers.state();
    assert_eq!(state.flags(&id("/spire/agent/x/1")).len(), PER_AGENT);
}

/// Those whom one change concerns are woken in turns, and whoever else has something to hear comes in between.
#[tokio::test(start_paused = true)]
async fn a_crowd_does_not_keep_others_waiting() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut crowd = Vec::new();
    for n in 0..10 * AT_ONCE {
        let name = format!("/spire/agent/x/{n}");
        registry
            .upsert_agent_on_attest(agent(&name, "0a", &["x:rack:a"]))
            .await
            .unwrap();
        crowd.push(registry.subscribe(id(&name), "0a"));
    }
    let other = joined(&rig, "/spire/agent/x/other", &["x:rack:b"]).await;
    rig.entry(EntryDraft::new(id(SERVER), id("/rack-b"), sel(&["x:rack:b"])))
        .await;
    look_up(&rig).await;
    assert!(is_marked(&other));

    rig.entry(EntryDraft::new(id(SERVER), id("/rack-a"), sel(&["x:rack:a"])))
        .await;
    let mut waking = std::pin::pin!(registry.wake_subscribers());
    assert!(waking.as_mut().now_or_never().is_none());
    let woken = |crowd: &[Subscriber]| {
        let woken = |one: &&Subscriber| one.marked().now_or_never().is_some();
        crowd.iter().filter(woken).count()
    };
    let first = woken(&crowd);
    assert!((1..=2 * AT_ONCE).contains(&first), "{first} at once");
    rig.entry(draft("/rack-b", "/w")).await;
    assert!(waking.as_mut().now_or_never().is_none());
    assert!(is_marked(&other));
    let second = woken(&crowd);
    assert!(first + second < crowd.len(), "{first}, {second}");
    let rest = tokio::time::timeout(Duration::from_millis(1), waking);
    rest.await.unwrap_err();
    assert_eq!(first + second + woken(&crowd), crowd.len(), "each once");
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_can_wait_are_a_change_for_everybody() {
    let rig = Rig::new().await;
    let one = joined(&rig, "/spire/agent/x/1", &["x:node:1"]).await;
    let all = &rig.core.registry.index.subscribers;
    for n in 0..=MOST_WAITING {
        all.tell(vec![Concern::Below(id(&format!("/p{n}")))]);
    }
    assert!(all.state().waiting.len() <= MOST_WAITING);
    assert!(all.state().everybody.is_some());
    look_up(&rig).await;
    assert!(is_marked(&one));
    drop(one);
    all.tell(vec![Concern::Below(id("/p"))]);
    assert!(all.state().waiting.is_empty(), "nobody is there");
}

/// Numbers that look random and are the same each time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn selectors(&mut self) -> landfast_identity::SelectorSet {
        let mut some: Vec<_> = ["x:s:0", "x:s:1", "x:s:2", "x:s:3"]
            .into_iter()
            .filter(|_| self.below(2) == 0)
            .collect();
        some.push("x:s:all");
        sel(&some)
    }

    fn parent(&mut self) -> SpiffeId {
        match self.below(3) {
            0 => id(SERVER),
            1 => id(&format!("/spire/agent/x/{}", self.below(AGENTS))),
            _ => self.subject(),
        }
    }

    fn subject(&mut self) -> SpiffeId {
        id(&format!("/n{}", self.below(5)))
    }
}

const AGENTS: usize = 5;

/// The way up finds whomever a change gives or takes something, also when several changes are applied before it is walked.
#[tokio::test(start_paused = true)]
async fn whoever_has_something_else_than_before_was_marked() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut draws = Draws(7);
    let mut ids: Vec<String> = Vec::new();
    let mut subscribers = Vec::new();
    for n in 0..AGENTS {
        subscribers.push(joined(&rig, &format!("/spire/agent/x/{n}"), &["x:s:all"]).await);
    }
    let has = |n: usize| {
        let found = registry.authorized(&id(&format!("/spire/agent/x/{n}"))).entries;
        found
            .iter()
            .map(|entry| (entry.entry.id.clone(), entry.version()))
            .collect::<Vec<_>>()
    };
    let mut changed = 0;
    for round in 0..400 {
        let before: Vec<_> = (0..AGENTS).map(has).collect();
        for _ in 0..=draws.below(3) {
            match draws.below(8) {
                0..=2 => {
                    let made = EntryDraft::new(draws.parent(), draws.subject(), draws.selectors());
                    if let Ok(crate::registry::Created::New(made)) =
                        registry.create_entry(made, &crate::core::fixture::me()).await
                    {
                        ids.push(made.id.clone());
                    }
                }
                3 if !ids.is_empty() => {
                    let patch = EntryPatch {
                        parent_id: Some(draws.parent()),
                        spiffe_id: Some(draws.subject()),
                        selectors: Some(draws.selectors()),
                        ..EntryPatch::default()
                    };
                    // May be similar to another.
                    drop(registry.update_entry(&ids[draws.below(ids.len())], patch).await);
                }
                4 | 5 if !ids.is_empty() => {
                    let gone = ids.swap_remove(draws.below(ids.len()));
                    assert!(registry.delete_entry(&gone).await.unwrap());
                }
                6 if !ids.is_empty() => {
                    let patch = PolicyPatch {
                        description: Some(round.to_string()),
                        ..PolicyPatch::default()
                    };
                    let at = draws.below(ids.len());
                    registry.set_entry_policy(&ids[at], patch, None).await.unwrap();
                }
                _ => {
                    let mut record = agent(&format!("/spire/agent/x/{}", draws.below(AGENTS)), "0a", &[]);
                    record.selectors = draws.selectors();
                    registry.upsert_agent_on_attest(record).await.unwrap();
                }
            }
        }
        look_up(&rig).await;
        for (n, before) in before.iter().enumerate() {
            let (marked, now) = (is_marked(&subscribers[n]), has(n));
            changed += usize::from(*before != now);
            assert!(
                marked || *before == now,
                "round {round}: agent {n} had {before:?}, has {now:?}"
            );
        }
    }
    assert!(changed > 300, "too little happens: {changed}");
    let made = entry(&rig.core, draft("/spire/agent/x/0", "/last")).await;
    assert!(is_marked(&subscribers[0]));
    assert!(registry.delete_entry(&made.id).await.unwrap());
}
