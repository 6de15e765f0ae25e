//! Decisions one by one, then under random events.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{Ca, NOON, at, entry};

/// Keeps what the last `Publish` said, as the world outside does.
struct World {
    state: State,
    published: Arc<Snapshot>,
}

/// Refusals are waited out for as long as can be.
impl Default for World {
    fn default() -> Self {
        let state = State {
            refusals: Refusals::drawing(|| u64::MAX),
            ..State::default()
        };
        let published = Arc::default();
        Self { state, published }
    }
}

impl World {
    fn step(&mut self, now: UnixTime, event: Event) -> Vec<Action> {
        let actions = self.state.step(now, event);
        for action in &actions {
            if let Action::Publish(snapshot, _) = action {
                self.published = Arc::clone(snapshot);
            }
        }
        actions
    }

    fn sync(&mut self, now: UnixTime, ca: &Ca, entries: Vec<Entry>) -> Vec<String> {
        orders(&self.step(now, Event::Synced(ca.synced(entries))))
    }

    fn issue(&mut self, now: UnixTime, entry: &Entry, svid: Arc<X509Svid>) -> Vec<Action> {
        self.step(now, Event::Issued(vec![issued(entry, Ok(svid))]))
    }

    fn fail(&mut self, now: UnixTime, entry: &Entry) {
        self.step(now, Event::Issued(vec![issued(entry, Err("no".to_owned()))]));
    }

    fn serves(&self, entry: &Entry, now: UnixTime) -> Option<String> {
        let entry = self.published.entries.get(&entry.id)?;
        self.published.svid(entry, now).map(|held| held.svid.serial_hex())
    }
}

fn issued(entry: &Entry, outcome: Result<Arc<X509Svid>, String>) -> Issued {
    Issued {
        entry_id: Arc::clone(&entry.id),
        revision: entry.revision,
        outcome,
    }
}

fn orders(actions: &[Action]) -> Vec<String> {
    let orders = actions.iter().find_map(|action| {
        if let Action::Issue(orders) = action {
            Some(orders)
        } else {
            None
        }
    });
    orders
        .into_iter()
        .flatten()
        .map(|order| order.entry.id.to_string())
        .collect()
}

fn published(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Publish(..)))
}

fn hour(ca: &Ca, entry: &Entry, from: i64) -> Arc<X509Svid> {
    ca.svid(&entry.spiffe_id, at(from), at(from + 3600))
}

#[test]
fn a_mended_entry_is_asked_for_at_once_whatever_it_was_refused_for_before() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.fail(NOON, &a);
    assert!(world.sync(NOON, &ca, vec![a.clone()]).is_empty(), "it waits");
    let mended = Entry {
        revision: a.revision + 1,
        ..a.clone()
    };
    assert_eq!(world.sync(at(1), &ca, vec![mended.clone()]), ["a"]);
    // A refusal that comes late is of what the entry was.
    world.fail(at(1), &a);
    assert_eq!(world.sync(at(1), &ca, vec![mended.clone()]), ["a"]);
    world.fail(at(2), &mended);
    let again = Entry {
        revision: mended.revision + 1,
        ..mended
    };
    let pushed = Pushed {
        put: vec![Arc::new(again)],
        ..Pushed::default()
    };
    assert_eq!(orders(&world.step(at(2), Event::Pushed(pushed))), ["a"]);
}

#[test]
fn a_busy_server_does_not_keep_those_waiting_who_have_something() {
    let (ca, a, b) = (
        Ca::new("one"),
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    );
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone(), b]);
    world.step(NOON, Event::RoundPaused);
    assert!(!world.state.now.round_over, "there is nothing yet");
    world.issue(NOON, &a, hour(&ca, &a, 0));
    world.step(NOON, Event::RoundPaused);
    assert!(world.published.round_over);
    // b is due all the time; what comes next is a's renewal.
    assert_eq!(world.state.next_order(NOON), Some(NOON));
    assert!(world.state.next_new_order(NOON).is_some_and(|due| NOON < due));
}

#[test]
fn a_new_entry_is_asked_for_and_served_once_it_came() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    assert_eq!(world.sync(NOON, &ca, vec![a.clone()]), ["a"]);
    assert_eq!(world.serves(&a, NOON), None);
    let svid = hour(&ca, &a, -300);
    assert!(published(&world.issue(NOON, &a, Arc::clone(&svid))));
    assert_eq!(world.serves(&a, NOON), Some(svid.serial_hex()));
    assert!(world.sync(NOON, &ca, vec![a]).is_empty());
}

#[test]
fn a_bundle_that_root_keys_have_signed_reaches_programs_and_says_nothing_of_entries() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    let svid = hour(&ca, &a, 0);
    world.issue(NOON, &a, Arc::clone(&svid));
    let walked = Arc::new(Ca::new("two").bundle());
    assert!(published(&world.step(at(1), Event::Bundle(Arc::clone(&walked)))));
    assert!(world.published.bundle.as_ref().unwrap().content_eq(&walked));
    assert_eq!(world.published.synced_at, Some(NOON), "no server was heard");
    assert_eq!(world.serves(&a, at(1)), Some(svid.serial_hex()));
    assert!(!published(&world.step(at(2), Event::Bundle(walked))));
}

#[test]
fn what_is_not_fetched_ahead_is_asked_for_once_somebody_wants_it_and_then_kept() {
    let (ca, b) = (Ca::new("one"), entry("b", "/b", &["unix:uid:1"]));
    let a = Entry {
        on_demand: true,
        ..entry("a", "/a", &["unix:uid:1"])
    };
    let wanted = |name: &str| Event::Wanted([name.into()].into());
    let mut world = World::default();
    assert_eq!(world.sync(NOON, &ca, vec![a.clone(), b.clone()]), ["b"]);
    world.issue(NOON, &b, hour(&ca, &b, 0));
    world.step(NOON, Event::RoundOver);
    assert!(world.state.next_order(NOON).is_some_and(|due| NOON < due));
    for name in ["b", "nobody's"] {
        assert!(!published(&world.step(at(1), wanted(name))), "{name}");
    }
    assert!(orders(&world.step(at(1), Event::Due)).is_empty());
    assert!(published(&world.step(at(1), wanted("a"))));
    assert!(!published(&world.step(at(1), wanted("a"))), "it is known");
    assert_eq!(world.state.next_order(at(1)), Some(at(1)));
    assert_eq!(orders(&world.step(at(1), Event::Due)), ["a"]);
    world.issue(at(1), &a, hour(&ca, &a, 0));
    assert!(world.serves(&a, at(1)).is_some());
    assert_eq!(
        orders(&world.step(at(3000), Event::Due)),
        ["a", "b"],
        "renewed like others"
    );
    // Another of the same name, and the same one after a ban, is asked for by nobody.
    world.sync(at(3000), &ca, vec![b.clone()]);
    assert_eq!(world.sync(at(3000), &ca, vec![a.clone(), b.clone()]), ["b"]);
    world.step(at(3000), wanted("a"));
    world.step(at(3000), Event::Banned);
    assert_eq!(world.sync(at(3000), &ca, vec![a, b]), ["b"]);
}

#[test]
fn what_did_not_change_is_not_published_again() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, hour(&ca, &a, -300));
    assert!(published(&world.step(NOON, Event::RoundOver)));
    assert!(!published(
        &world.step(at(5), Event::Synced(ca.synced(vec![a.clone()])))
    ));
    assert!(!published(&world.step(at(5), Event::RoundOver)));
    assert!(!published(&world.step(at(6), Event::Tick)));
    // The positive control: a change is.
    let mut changed = a;
    changed.hint = "new".to_owned();
    assert!(published(
        &world.step(at(7), Event::Synced(ca.synced(vec![changed])))
    ));
}

#[test]
fn it_is_renewed_about_half_way_and_kept_until_the_new_one_came() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    let first = hour(&ca, &a, 0);
    world.issue(NOON, &a, Arc::clone(&first));
    assert!(world.sync(at(1200), &ca, vec![a.clone()]).is_empty());
    assert_eq!(world.sync(at(2400), &ca, vec![a.clone()]), ["a"]);
    world.fail(at(2400), &a);
    assert_eq!(world.serves(&a, at(2400)), Some(first.serial_hex()));
    let second = hour(&ca, &a, 2400);
    world.issue(at(2401), &a, Arc::clone(&second));
    assert_eq!(world.serves(&a, at(2401)), Some(second.serial_hex()));
}

#[test]
fn a_refused_entry_is_asked_for_again_with_growing_pauses() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut all = Vec::new();
    for _node in 0..40 {
        let mut world = World::default();
        world.state.refusals = Refusals::default();
        let mut asked = Vec::new();
        for second in 0..2000 {
            if !world.sync(at(second), &ca, vec![a.clone()]).is_empty() {
                asked.push(second);
                world.fail(at(second), &a);
            }
        }
        let pauses: Vec<i64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        for (pause, most) in pauses.iter().zip([5, 10, 20, 40, 80, 160, 300, 300]) {
            assert!((1..=1 + most).contains(pause), "{pauses:?}");
        }
        assert!(pauses.iter().all(|pause| *pause <= 301), "{pauses:?}");
        all.push(asked);
    }
    // No two nodes come at the same times.
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    let late = all.iter().filter(|asked| asked[6] - asked[5] > 80).count();
    assert!(
        (5..=35).contains(&late),
        "any pause is as likely as another: {late}"
    );
}

#[test]
fn what_a_tainted_authority_signed_is_asked_for_again_within_seconds_however_often_it_was_refused() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, ca.svid(&a.spiffe_id, NOON, at(90_000)));
    let synced = tainted(&ca, vec![a.clone()]);
    let mut asked = Vec::new();
    for second in 1..600 {
        if !orders(&world.step(at(second), Event::Synced(synced.clone()))).is_empty() {
            asked.push(second);
            world.fail(at(second), &a);
        }
    }
    let longest = asked.windows(2).map(|two| two[1] - two[0]).max();
    assert!(longest.is_some_and(|longest| longest <= 16), "{asked:?}");
}

fn tainted(ca: &Ca, entries: Vec<Entry>) -> Synced {
    let mut authority = ca.bundle().x509_authorities()[0].clone();
    authority.tainted = true;
    let bundle = Bundle::new(crate::testing::td())
        .with_x509_authorities(vec![authority])
        .unwrap();
    Synced {
        bundle: Arc::new(bundle),
        ..ca.synced(entries)
    }
}

#[test]
fn a_taint_that_comes_during_a_wait_is_not_waited_out() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, ca.svid(&a.spiffe_id, NOON, at(90_000)));
    for _ in 0..8 {
        world.fail(at(60_000), &a);
    }
    assert_eq!(world.state.next_order(at(60_000)), Some(at(60_300)));
    let synced = || Event::Synced(tainted(&ca, vec![a.clone()]));
    world.step(at(60_001), synced());
    assert_eq!(world.state.next_order(at(60_001)), Some(at(60_015)));
    assert!(orders(&world.step(at(60_014), synced())).is_empty());
    assert_eq!(orders(&world.step(at(60_015), synced())), ["a"]);
}

/// Of five minutes, half are left when it is renewed first.
#[test]
fn a_refusal_is_not_waited_out_until_nothing_is_left() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, ca.svid(&a.spiffe_id, NOON, at(300)));
    for _ in 0..8 {
        world.fail(at(150), &a);
    }
    assert_eq!(world.state.next_order(at(150)), Some(at(225)));
    world.fail(at(225), &a);
    assert_eq!(world.state.next_order(at(225)), Some(at(263)));
    // It has ended: nobody is served by it, and there is no hurry.
    world.fail(at(300), &a);
    assert_eq!(world.state.next_order(at(300)), Some(at(600)));
}

#[test]
fn entries_that_are_refused_together_are_asked_for_apart() {
    let ca = Ca::new("one");
    let all = ["a", "b", "c"].map(|name| entry(name, &format!("/{name}"), &["unix:uid:1"]));
    let mut world = World::default();
    let mut shares = [0.2, 0.6, 1.0].iter();
    let draws = move || (shares.next().unwrap() * u64::MAX as f64) as u64;
    world.state.refusals = Refusals::drawing(draws);
    world.sync(NOON, &ca, all.to_vec());
    for entry in &all {
        world.fail(NOON, entry);
    }
    let mut asked = Vec::new();
    for second in 0..=5 {
        for id in orders(&world.step(at(second), Event::Due)) {
            let entry = all.iter().find(|entry| *entry.id == *id).unwrap();
            world.issue(at(second), entry, hour(&ca, entry, 0));
            asked.push((second, id));
        }
    }
    let wanted = [(1, "a"), (3, "b"), (5, "c")];
    assert_eq!(asked, wanted.map(|(second, id)| (second, id.to_owned())));
}

#[test]
fn an_expired_svid_is_withdrawn_at_its_second() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    let actions = world.issue(NOON, &a, hour(&ca, &a, 0));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Wake(when) if *when == at(3600)))
    );
    assert!(!published(&world.step(at(3599), Event::Tick)));
    assert!(world.serves(&a, at(3599)).is_some());
    let actions = world.step(at(3600), Event::Tick);
    assert!(published(&actions));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Note(Note::Withdrawn { .. })))
    );
    assert_eq!(world.serves(&a, at(3600)), None);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_loses_nothing() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, hour(&ca, &a, -300));
    assert!(published(&world.step(at(100_000), Event::Tick)));
    assert_eq!(world.serves(&a, at(100_000)), None);
    assert!(
        published(&world.step(at(1), Event::Tick)),
        "going back is a change"
    );
    assert!(world.serves(&a, at(1)).is_some());
}

#[test]
fn an_svid_from_the_future_is_not_adopted_and_the_clock_is_blamed() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    let actions = world.issue(NOON, &a, hour(&ca, &a, 90));
    let blamed = actions.iter().any(|action| {
        matches!(action, Action::Note(Note::RenewalFailed { reason, .. }) if reason.starts_with("clock is behind by 90 s"))
    });
    assert!(blamed, "{actions:?}");
    assert_eq!(world.serves(&a, NOON), None);
}

#[test]
fn an_svid_of_another_id_is_not_adopted() {
    let (ca, a, b) = (
        Ca::new("one"),
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    );
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    assert!(!published(&world.issue(NOON, &a, hour(&ca, &b, 0))));
    assert_eq!(world.serves(&a, NOON), None);
}

#[test]
fn a_removed_entry_takes_its_svid_with_it() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, hour(&ca, &a, 0));
    world.sync(at(5), &ca, vec![]);
    assert_eq!(world.published.held.len(), 0);
    assert_eq!(world.published.entries.len(), 0);
    // Nor does an answer that comes late bring it back.
    world.issue(at(6), &a, hour(&ca, &a, 0));
    assert_eq!(world.published.held.len(), 0);
}

#[test]
fn a_changed_entry_is_asked_for_again_and_an_old_id_is_never_served() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, hour(&ca, &a, 0));
    let revised = Entry {
        revision: 1,
        ..a.clone()
    };
    assert_eq!(world.sync(at(5), &ca, vec![revised.clone()]), ["a"]);
    assert!(
        world.serves(&revised, at(5)).is_some(),
        "same ID: kept until the new one came"
    );
    let renamed = Entry {
        revision: 2,
        spiffe_id: crate::testing::id("/other"),
        ..a
    };
    assert_eq!(world.sync(at(6), &ca, vec![renamed.clone()]), ["a"]);
    assert_eq!(
        world.serves(&renamed, at(6)),
        None,
        "another ID: no longer entitled to the old one"
    );
}

#[test]
fn svids_of_a_tainted_authority_are_renewed_within_seconds() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    world.issue(NOON, &a, hour(&ca, &a, 0));
    assert!(world.sync(at(5), &ca, vec![a.clone()]).is_empty());
    let mut synced = ca.synced(vec![a.clone()]);
    let mut authority = ca.bundle().x509_authorities()[0].clone();
    authority.tainted = true;
    synced.bundle = Arc::new(
        Bundle::new(crate::testing::td())
            .with_x509_authorities(vec![authority])
            .unwrap(),
    );
    world.step(at(6), Event::Synced(synced.clone()));
    let due = world.state.next_order(at(6)).unwrap();
    assert!((at(6)..=at(11)).contains(&due), "the link wakes for it: {due}");
    assert_eq!(orders(&world.step(due, Event::Synced(synced.clone()))), ["a"]);
    assert!(world.serves(&a, due).is_some());
    world.issue(due, &a, hour(&Ca::new("two"), &a, 0));
    assert!(orders(&world.step(due, Event::Synced(synced))).is_empty(), "done");
}

#[test]
fn a_clock_that_is_set_back_puts_off_neither_the_replacement_nor_the_next_attempt() {
    let (ca, a, b) = (
        Ca::new("one"),
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    );
    let mut world = World::default();
    let list = vec![a.clone(), b.clone()];
    world.sync(NOON, &ca, list.clone());
    world.issue(NOON, &a, ca.svid(&a.spiffe_id, at(-90_000), at(90_000)));
    world.fail(NOON, &b);
    let mut synced = ca.synced(list);
    let mut authority = ca.bundle().x509_authorities()[0].clone();
    authority.tainted = true;
    synced.bundle = Arc::new(
        Bundle::new(crate::testing::td())
            .with_x509_authorities(vec![authority])
            .unwrap(),
    );
    world.step(at(1), Event::Synced(synced.clone()));
    // A day back, when nobody looks.
    let back = -86_400;
    world.step(at(back), Event::Tick);
    let due = world.state.next_order(at(back)).unwrap();
    assert!((at(back)..=at(back + 5)).contains(&due), "{due}");
    let both = at(back + 5);
    assert_eq!(
        orders(&world.step(both, Event::Synced(synced.clone()))),
        ["b", "a"]
    );
    world.fail(at(back + 6), &b);
    // Under the same authority again: not at once, and not a day later either.
    world.issue(at(back + 6), &a, ca.svid(&a.spiffe_id, at(-90_000), at(90_000)));
    let soon = at(back + 7);
    assert!(orders(&world.step(soon, Event::Synced(synced.clone()))).is_empty());
    let later = at(back + 301);
    assert_eq!(orders(&world.step(later, Event::Synced(synced))), ["b", "a"]);
}

#[test]
fn what_is_missing_is_asked_for_before_what_expires_soonest() {
    let ca = Ca::new("one");
    let list: Vec<Entry> = ["a", "b", "c"]
        .iter()
        .map(|n| entry(n, &format!("/{n}"), &["unix:uid:1"]))
        .collect();
    let mut world = World::default();
    world.sync(NOON, &ca, list.clone());
    world.issue(NOON, &list[0], ca.svid(&list[0].spiffe_id, at(0), at(4000)));
    world.issue(NOON, &list[1], ca.svid(&list[1].spiffe_id, at(0), at(3000)));
    assert_eq!(world.sync(at(2900), &ca, list), ["c", "b", "a"]);
}

#[test]
fn a_ban_destroys_everything_and_a_later_sync_begins_anew() {
    let (ca, a) = (Ca::new("one"), entry("a", "/a", &["unix:uid:1"]));
    let mut world = World::default();
    world.sync(NOON, &ca, vec![a.clone()]);
    let svid = hour(&ca, &a, 0);
    let weak = Arc::downgrade(&svid);
    world.issue(NOON, &a, svid);
    assert!(published(&world.step(at(1), Event::Banned)));
    assert!(world.published.banned && world.published.held.is_empty());
    assert!(weak.upgrade().is_none(), "the key is gone from memory");
    assert_eq!(world.sync(at(2), &ca, vec![a]), ["a"]);
    assert!(!world.published.banned);
}

#[derive(Clone, Debug)]
enum Move {
    Sync(u8),
    Issue { entry: u8, from: i64, life: i64 },
    Fail(u8),
    Round,
    Pass(i64),
    Jump(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0_u8..16).prop_map(Move::Sync),
        4 => (0_u8..4, -4000_i64..400, 60_i64..8000).prop_map(|(entry, from, life)| Move::Issue { entry, from, life }),
        3 => (0_u8..4).prop_map(Move::Fail),
        1 => Just(Move::Round),
        5 => (0_i64..4000).prop_map(Move::Pass),
        1 => (-9000_i64..9000).prop_map(Move::Jump),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The model remembers the newest adopted SVID of each present entry. Whatever happens, exactly that one is served
    /// while it is valid, and never after.
    #[test]
    fn valid_svids_are_never_dropped_and_expired_ones_never_served(moves in moves()) {
        let ca = Ca::new("one");
        let all: Vec<Entry> = (0..4).map(|n| entry(&n.to_string(), &format!("/{n}"), &["unix:uid:1"])).collect();
        let mut model: HashMap<u8, Arc<X509Svid>> = HashMap::new();
        let mut present = 0_u8;
        let mut world = World::default();
        let mut now = NOON;
        for step in moves {
            match step {
                Move::Sync(mask) => {
                    present = mask;
                    model.retain(|n, _| mask >> n & 1 == 1);
                    let entries = all.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, e)| e.clone());
                    world.sync(now, &ca, entries.collect());
                }
                Move::Issue { entry, from, life } => {
                    let begin = UnixTime::from_secs(now.as_secs() + from);
                    let end = UnixTime::from_secs(begin.as_secs() + life);
                    let svid = ca.svid(&all[usize::from(entry)].spiffe_id, begin, end);
                    world.issue(now, &all[usize::from(entry)], Arc::clone(&svid));
                    if present >> entry & 1 == 1 && begin <= now && now < end {
                        model.insert(entry, svid);
                    }
                }
                Move::Fail(entry) => world.fail(now, &all[usize::from(entry)]),
                Move::Round => drop(world.step(now, Event::RoundOver)),
                Move::Pass(seconds) | Move::Jump(seconds) => now = UnixTime::from_secs(now.as_secs() + seconds),
            }
            world.step(now, Event::Tick);
            for (n, entry) in (0_u8..).zip(&all) {
                let expected = model.get(&n).filter(|svid| svid.not_before() <= now && now < svid.not_after());
                prop_assert_eq!(world.serves(entry, now), expected.map(|svid| svid.serial_hex()));
            }
        }
    }
}
