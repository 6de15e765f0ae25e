//! What workloads see of the state.

mod pushed;

use futures_util::FutureExt as _;

use super::super::state::{Event, Issued, State};
use super::*;
use crate::entry::Entry;
use crate::testing::{Ca, NOON, at, entry, selectors, td};

struct World {
    ca: Ca,
    state: State,
    views: Views,
    now: UnixTime,
}

impl World {
    fn new() -> Self {
        Self {
            ca: Ca::new("one"),
            state: State::default(),
            views: Views::new(&td()),
            now: NOON,
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.state.step(self.now, event) {
            if let super::super::state::Action::Publish(snapshot, reach) = action {
                self.views.publish(snapshot, &reach, Some(self.now));
            }
        }
    }

    fn sync(&mut self, entries: &[Entry]) {
        let synced = self.ca.synced(entries.to_vec());
        self.step(Event::Synced(synced));
    }

    fn issue(&mut self, entries: &[Entry]) {
        let issued = entries.iter().map(|entry| Issued {
            entry_id: Arc::clone(&entry.id),
            revision: entry.revision,
            outcome: Ok(self.ca.svid(&entry.spiffe_id, NOON, at(3600))),
        });
        let issued = issued.collect();
        self.step(Event::Issued(issued));
    }

    fn watch(&self, list: &[&str]) -> watch::Receiver<Arc<WorkloadView>> {
        self.views.watch(&selectors(list), Some(self.now))
    }
}

fn ids(view: &watch::Receiver<Arc<WorkloadView>>) -> Vec<String> {
    view.borrow()
        .x509
        .iter()
        .map(|served| served.entry_id.clone())
        .collect()
}

#[test]
fn before_the_first_round_everybody_waits_and_after_it_strangers_are_refused() {
    let mut world = World::new();
    let view = world.watch(&["unix:uid:1"]);
    assert_eq!(view.borrow().state, ViewState::Starting);
    world.sync(&[]);
    assert_eq!(view.borrow().state, ViewState::NoIdentity);
}

#[test]
fn the_first_answer_is_whole() {
    let mut world = World::new();
    let list = [
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    ];
    let view = world.watch(&["unix:uid:1"]);
    world.sync(&list);
    world.issue(&list[1..]);
    assert_eq!(
        view.borrow().state,
        ViewState::WithoutX509,
        "b alone would become the default identity"
    );
    world.issue(&list[..1]);
    assert_eq!(view.borrow().state, ViewState::Ready);
    assert_eq!(ids(&view), ["a", "b"]);
}

#[test]
fn an_entry_that_cannot_be_had_does_not_hold_up_the_others_for_ever() {
    let mut world = World::new();
    let list = [
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    ];
    let view = world.watch(&["unix:uid:1"]);
    world.sync(&list);
    world.issue(&list[1..]);
    world.step(Event::RoundOver);
    assert_eq!(
        (view.borrow().state, ids(&view)),
        (ViewState::Ready, vec!["b".to_owned()])
    );
}

#[test]
fn who_asks_for_what_is_not_fetched_ahead_waits_for_it_and_is_then_given_what_there_is() {
    for comes in [true, false] {
        let mut world = World::new();
        let on_demand = Entry {
            on_demand: true,
            ..entry("a", "/a", &["unix:uid:1"])
        };
        let list = [on_demand, entry("b", "/b", &["unix:uid:1"])];
        world.sync(&list);
        world.issue(&list[1..]);
        world.step(Event::RoundOver);
        let caller = selectors(&["unix:uid:1"]);
        world.views.ask_for_x509(&selectors(&["unix:uid:2"]), Some(NOON));
        assert!(world.views.asked_for().now_or_never().is_none(), "a stranger");
        world.views.ask_for_x509(&caller, Some(NOON));
        let view = world.watch(&["unix:uid:1"]);
        assert_eq!(
            view.borrow().state,
            ViewState::WithoutX509,
            "b would be the default"
        );
        let asked = world.views.asked_for().now_or_never().unwrap();
        assert_eq!(asked, ["a".into()].into());
        world.step(Event::Wanted(asked));
        assert_eq!(view.borrow().state, ViewState::WithoutX509);
        world.views.ask_for_x509(&caller, Some(NOON));
        assert!(world.views.asked_for().now_or_never().is_none(), "it is known");
        if comes {
            world.issue(&list[..1]);
            assert_eq!(
                (view.borrow().state, ids(&view)),
                (ViewState::Ready, vec!["a".to_owned(), "b".to_owned()])
            );
        } else {
            world.now = at(4);
            world.step(Event::Tick);
            assert_eq!(view.borrow().state, ViewState::WithoutX509);
            world.now = at(5);
            world.step(Event::Tick);
            assert_eq!(
                (view.borrow().state, ids(&view)),
                (ViewState::Ready, vec!["b".to_owned()])
            );
        }
    }
}

#[test]
fn the_oldest_entry_with_a_hint_has_it_whether_or_not_its_svid_can_be_had() {
    let mut world = World::new();
    let hinted = |name: &str, created_at| Entry {
        hint: "main".to_owned(),
        created_at,
        ..entry(name, &format!("/{name}"), &["unix:uid:1"])
    };
    let list = [hinted("a", 9), hinted("b", 3), entry("c", "/c", &["unix:uid:1"])];
    let view = world.watch(&["unix:uid:1"]);
    let told = || -> Vec<_> {
        let view = view.borrow();
        view.x509
            .iter()
            .map(|served| (served.entry_id.clone(), served.told))
            .collect()
    };
    let expected = |list: &[(&str, bool)]| -> Vec<_> {
        list.iter()
            .map(|(name, told)| ((*name).to_owned(), *told))
            .collect()
    };
    world.sync(&list);
    world.issue(&list[..1]);
    world.step(Event::RoundOver);
    assert_eq!(told(), expected(&[("a", false)]));
    assert_eq!(view.borrow().state, ViewState::WithoutX509, "nothing to tell");
    world.issue(&list[2..]);
    assert_eq!(told(), expected(&[("a", false), ("c", true)]));
    assert_eq!(view.borrow().state, ViewState::Ready);
    world.issue(&list[1..2]);
    assert_eq!(told(), expected(&[("a", false), ("b", true), ("c", true)]));
}

#[test]
fn only_those_concerned_are_told() {
    let mut world = World::new();
    let list = [
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:2"]),
    ];
    world.sync(&list);
    world.issue(&list);
    world.step(Event::RoundOver);
    let (mut one, mut two) = (world.watch(&["unix:uid:1"]), world.watch(&["unix:uid:2"]));
    one.mark_unchanged();
    two.mark_unchanged();
    world.issue(&list[..1]);
    assert!(one.has_changed().unwrap());
    assert!(!two.has_changed().unwrap());
}

#[test]
fn the_same_selectors_share_one_view_and_unwatched_ones_are_swept() {
    let mut world = World::new();
    world.sync(&[]);
    let (a, b) = (world.watch(&["unix:uid:1"]), world.watch(&["unix:uid:1"]));
    assert!(a.same_channel(&b));
    for n in 0..10_000 {
        drop(
            world
                .views
                .watch(&selectors(&[&format!("unix:uid:{n}")]), Some(NOON)),
        );
    }
    assert!(world.views.table.lock().unwrap().slots.len() <= MIN_SWEEP + 1);
    assert_eq!(world.views.watched(), 1);
    let c = world.watch(&["unix:uid:1"]);
    assert!(a.same_channel(&c), "a watched view survives the sweep");
}

#[test]
fn an_svid_is_gone_from_the_view_when_it_expires() {
    let mut world = World::new();
    let list = [entry("a", "/a", &["unix:uid:1"])];
    world.sync(&list);
    world.issue(&list);
    world.step(Event::RoundOver);
    let view = world.watch(&["unix:uid:1"]);
    assert_eq!(view.borrow().state, ViewState::Ready);
    world.now = at(3600);
    world.step(Event::Tick);
    assert_eq!(
        (view.borrow().state, ids(&view).len()),
        (ViewState::WithoutX509, 0)
    );
}

#[test]
fn the_default_svid_comes_back_to_its_place_after_it_ran_out() {
    let mut world = World::new();
    let (a, b) = (
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
    );
    let list = [a, b];
    world.sync(&list);
    let issued = |world: &World, entry: &Entry, from, to| Issued {
        entry_id: Arc::clone(&entry.id),
        revision: entry.revision,
        outcome: Ok(world.ca.svid(&entry.spiffe_id, from, to)),
    };
    let batch = vec![
        issued(&world, &list[0], NOON, at(600)),
        issued(&world, &list[1], NOON, at(3600)),
    ];
    world.step(Event::Issued(batch));
    world.step(Event::RoundOver);
    let view = world.watch(&["unix:uid:1"]);
    assert_eq!(ids(&view), ["a", "b"]);
    world.now = at(600);
    world.step(Event::Tick);
    assert_eq!(
        (view.borrow().state, ids(&view)),
        (ViewState::Ready, vec!["b".to_owned()])
    );
    let renewed = issued(&world, &list[0], at(600), at(1200));
    world.step(Event::Issued(vec![renewed]));
    assert_eq!(ids(&view), ["a", "b"]);
}

#[test]
fn a_view_that_ran_out_before_the_keeper_woke_is_not_handed_out() {
    let mut world = World::new();
    let list = [entry("a", "/a", &["unix:uid:1"])];
    world.sync(&list);
    world.issue(&list);
    world.step(Event::RoundOver);
    let first = world.watch(&["unix:uid:1"]);
    world.now = at(3600);
    let second = world.watch(&["unix:uid:1"]);
    assert_eq!(second.borrow().state, ViewState::WithoutX509);
    assert!(second.borrow().x509.is_empty() && first.borrow().x509.is_empty());
}

#[test]
fn without_a_time_of_day_nothing_is_served() {
    let mut world = World::new();
    let list = [entry("a", "/a", &["unix:uid:1"])];
    world.sync(&list);
    world.issue(&list);
    let view = world.views.watch(&selectors(&["unix:uid:1"]), None);
    assert!(view.borrow().x509.is_empty());
    world.views.publish(world.views.snapshot(), &Reach::All, None);
    assert!(view.borrow().x509.is_empty());
}

#[test]
fn a_banned_node_refuses_everybody() {
    let mut world = World::new();
    let list = [entry("a", "/a", &["unix:uid:1"])];
    world.sync(&list);
    world.issue(&list);
    let view = world.watch(&["unix:uid:1"]);
    assert!(!view.borrow().x509.is_empty());
    world.step(Event::Banned);
    assert_eq!(
        (view.borrow().state, view.borrow().x509.len()),
        (ViewState::NoIdentity, 0)
    );
}

#[test]
fn foreign_bundles_come_only_with_entries_that_federate() {
    let mut world = World::new();
    let other = TrustDomain::parse("other.test").unwrap();
    let mut a = entry("a", "/a", &["unix:uid:1"]);
    a.federates_with = vec![other.clone()];
    let b = entry("b", "/b", &["unix:uid:2"]);
    let mut synced = world.ca.synced(vec![a, b]);
    synced
        .federated
        .insert(other.clone(), Arc::new(Ca::of(&other, "x").bundle()));
    world.step(Event::Synced(synced));
    assert_eq!(world.watch(&["unix:uid:1"]).borrow().federated.len(), 1);
    assert_eq!(world.watch(&["unix:uid:2"]).borrow().federated.len(), 0);
}

#[test]
fn a_node_found_banned_before_its_first_round_refuses_everybody_too() {
    let mut world = World::new();
    let view = world.watch(&["unix:uid:1"]);
    world.step(Event::Banned);
    assert_eq!(view.borrow().state, ViewState::NoIdentity);
}

/// Any order of changes: what was not looked at again is what it would be if it had been.
#[test]
fn views_beyond_the_reach_of_a_change_are_as_if_computed_anew() {
    let sets: [&[&str]; 4] = [
        &["unix:uid:1"],
        &["unix:uid:2"],
        &["unix:uid:1", "unix:uid:2"],
        &["unix:uid:3"],
    ];
    let a = entry("a", "/a", &["unix:uid:1"]);
    let b = entry("b", "/b", &["unix:uid:2"]);
    let c = entry("c", "/c", &["unix:uid:1"]);
    let both = [a.clone(), b.clone(), c.clone()];
    let mut world = World::new();
    let watched = sets.map(|set| world.watch(set));
    let rounds: [(&[Entry], &[Entry]); 6] = [
        (&both, &both[..1]),
        (&both, &both[1..2]),
        (&both, &both[2..]),
        (&both[1..], &[]),
        (&both, &both[..2]),
        (&[], &[]),
    ];
    for (round, (synced, issued)) in rounds.into_iter().enumerate() {
        world.sync(synced);
        world.issue(issued);
        world.now = at(i64::try_from(round).unwrap());
        let anew = Views::new(&td());
        anew.publish(world.views.snapshot(), &Reach::All, Some(world.now));
        for (set, watched) in sets.iter().zip(&watched) {
            let wanted = anew.watch(&selectors(set), Some(world.now));
            assert!(
                same(&watched.borrow(), &wanted.borrow()),
                "round {round}, {set:?}"
            );
        }
    }
}

#[test]
fn the_first_entry_that_asks_for_a_hash_outdates_attestations_before_views_change() {
    let mut world = World::new();
    let by_user = [entry("a", "/a", &["unix:uid:1"])];
    let by_hash = [entry("a", "/a", &["unix:uid:1", "unix:sha256:00"])];
    let begun = world.views.outdated();
    world.sync(&by_user);
    assert!(!begun.is_cancelled(), "nothing more is asked for");
    world.sync(&by_hash);
    assert!(begun.is_cancelled());
    let begun = world.views.outdated();
    world.sync(&by_hash);
    world.sync(&by_user);
    assert!(!begun.is_cancelled(), "it looked for hashes");
    world.sync(&by_hash);
    assert!(begun.is_cancelled(), "but one begun in between did not");
}
