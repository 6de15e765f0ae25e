//! What workloads see of a step: those whom it touches, all of it; the others, nothing.

use super::*;
use crate::keeper::state::{Action, Pushed};

/// As many sets of selectors as there are entries.
fn world(entries: &[&str]) -> World {
    let mut world = World::new();
    let all: Vec<_> = entries.iter().map(|name| one(name)).collect();
    world.sync(&all);
    world.issue(&all);
    world.step(Event::RoundOver);
    world
}

fn one(name: &str) -> Entry {
    entry(name, &format!("/{name}"), &[&format!("unix:user:{name}")])
}

impl World {
    fn put(&mut self, entry: Entry) {
        self.step(Event::Pushed(Pushed {
            put: vec![Arc::new(entry)],
            ..Pushed::default()
        }));
    }

    fn of(&self, name: &str) -> watch::Receiver<Arc<WorkloadView>> {
        let mut view = self.watch(&[&format!("unix:user:{name}")]);
        view.mark_unchanged();
        view
    }
}

#[test]
fn a_changed_entry_is_told_to_its_own_and_to_nobody_else() {
    let mut world = world(&["a", "b"]);
    let (a, b) = (world.of("a"), world.of("b"));
    world.put(Entry {
        hint: "main".to_owned(),
        ..one("a")
    });
    assert!(a.has_changed().unwrap() && !b.has_changed().unwrap());
    assert_eq!(a.borrow().x509[0].hint, "main");
}

#[test]
fn a_new_entry_is_told_to_those_that_it_fits_and_a_lost_one_to_those_that_had_it() {
    let mut world = world(&["a", "b"]);
    let (a, b, c) = (world.of("a"), world.of("b"), world.of("c"));
    world.put(one("c"));
    assert_eq!(c.borrow().state, ViewState::WithoutX509, "it is being signed");
    world.issue(&[one("c")]);
    assert_eq!(ids(&c), ["c"]);
    // From b to a: both hear of it.
    world.put(Entry {
        selectors: selectors(&["unix:user:a"]),
        ..one("b")
    });
    assert_eq!(
        (ids(&a), b.borrow().state),
        (vec!["a".into(), "b".into()], ViewState::NoIdentity)
    );
    let (mut a, mut b) = (a, b);
    a.mark_unchanged();
    b.mark_unchanged();
    world.step(Event::Pushed(Pushed {
        gone: vec!["c".into()],
        ..Pushed::default()
    }));
    assert_eq!(c.borrow().state, ViewState::NoIdentity);
    assert!(!a.has_changed().unwrap() && !b.has_changed().unwrap());
}

/// Its view is the same; whoever follows it has to ask all the same.
#[test]
fn who_is_to_ask_for_another_entry_hears_of_it_though_it_looks_the_same() {
    let on_demand = |name: &str| Entry {
        on_demand: true,
        ..entry(name, "/same", &["unix:user:a"])
    };
    let asked = |world: &mut World| {
        world.views.ask_for_x509(&selectors(&["unix:user:a"]), Some(NOON));
        let asked = world.views.asked_for().now_or_never().unwrap();
        world.step(Event::Wanted(asked));
    };
    // Another takes its place in one step, under the same SPIFFE ID.
    let mut world = world(&[]);
    world.put(on_demand("x"));
    asked(&mut world);
    let view = world.of("a");
    world.step(Event::Pushed(Pushed {
        put: vec![Arc::new(on_demand("y"))],
        gone: vec!["x".into()],
        ..Pushed::default()
    }));
    assert_eq!(view.borrow().state, ViewState::WithoutX509);
    assert!(view.has_changed().unwrap());
    asked(&mut world);
    // One that is being signed is not fetched ahead any more.
    let ahead = Entry {
        on_demand: false,
        ..on_demand("y")
    };
    world.put(ahead);
    let view = world.of("a");
    world.put(on_demand("y"));
    assert!(view.has_changed().unwrap());
    asked(&mut world);
    // Nothing new to ask for.
    let view = world.of("a");
    world.put(on_demand("y"));
    assert!(!view.has_changed().unwrap());
}

#[test]
fn who_asks_before_anything_is_known_is_told_when_there_is_something_to_ask_for() {
    let mut world = World::new();
    let view = world.watch(&["unix:user:a"]);
    let mine = selectors(&["unix:user:a"]);
    world.views.ask_for_x509(&mine, Some(NOON));
    assert!(world.views.asked_for().now_or_never().is_none(), "nobody knows");
    world.put(Entry {
        on_demand: true,
        ..one("a")
    });
    assert!(view.has_changed().unwrap());
    assert_eq!(view.borrow().state, ViewState::WithoutX509);
    world.views.ask_for_x509(&mine, Some(NOON));
    let asked = world.views.asked_for().now_or_never().unwrap();
    assert_eq!(asked, ["a".into()].into());
}

#[test]
fn many_changes_at_once_touch_whom_they_touch() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = world(&names);
    let (changed, other) = (world.of("n7"), world.of("n99"));
    let put = names[..90].iter().map(|name| {
        Arc::new(Entry {
            hint: "main".to_owned(),
            ..one(name)
        })
    });
    let pushed = Pushed {
        put: put.collect(),
        ..Pushed::default()
    };
    world.step(Event::Pushed(pushed));
    assert!(changed.has_changed().unwrap() && !other.has_changed().unwrap());
}

#[test]
fn a_bundle_is_told_to_all_and_another_trust_domains_to_those_that_federate_with_it() {
    let mut world = world(&["a", "b"]);
    let other = Ca::of(&TrustDomain::parse("other.test").unwrap(), "o");
    world.put(Entry {
        federates_with: vec![TrustDomain::parse("other.test").unwrap()],
        ..one("b")
    });
    let (mut a, mut b) = (world.of("a"), world.of("b"));
    let bundle = Arc::new(other.bundle());
    let federated = [(bundle.trust_domain().clone(), bundle)];
    world.step(Event::Pushed(Pushed {
        federated: Some(federated.into_iter().collect()),
        ..Pushed::default()
    }));
    assert!(!a.has_changed().unwrap() && b.has_changed().unwrap());
    b.mark_unchanged();
    world.step(Event::Pushed(Pushed {
        bundle: Some(Arc::new(Ca::new("two").bundle())),
        ..Pushed::default()
    }));
    assert!(a.has_changed().unwrap() && b.has_changed().unwrap());
    a.mark_unchanged();
    assert_eq!(b.borrow().federated.len(), 1);
}

#[test]
fn a_step_that_changes_nothing_publishes_nothing_and_orders_what_is_due() {
    let mut world = world(&["a"]);
    let actions = world.state.step(NOON, Event::Pushed(Pushed::default()));
    let publishes = |action: &Action| matches!(action, Action::Publish(..));
    assert!(!actions.iter().any(publishes), "{actions:?}");
    let entry = Arc::new(one("c"));
    let actions = world.state.step(
        NOON,
        Event::Pushed(Pushed {
            put: vec![Arc::clone(&entry)],
            ..Pushed::default()
        }),
    );
    let orders = |action: &Action| matches!(action, Action::Issue(orders) if orders.len() == 1 && orders[0].entry == entry);
    assert!(actions.iter().any(orders), "{actions:?}");
    // Asked for again by itself, also when it was asked for as something else before.
    assert_eq!(world.state.next_order(NOON), Some(NOON));
    world.issue(&[one("c")]);
    assert!(world.state.next_order(NOON).unwrap() > NOON);
    world.put(Entry {
        revision: 1,
        ..one("c")
    });
    assert_eq!(world.state.next_order(NOON), Some(NOON));
}

#[test]
fn the_first_step_after_a_ban_is_all_there_is() {
    let mut world = world(&["a", "b"]);
    let (a, b) = (world.of("a"), world.of("b"));
    world.step(Event::Banned);
    assert_eq!(a.borrow().state, ViewState::NoIdentity);
    world.put(one("a"));
    assert_eq!(a.borrow().state, ViewState::WithoutX509);
    assert_eq!(b.borrow().state, ViewState::NoIdentity);
    world.issue(&[one("a")]);
    world.step(Event::RoundOver);
    assert_eq!((ids(&a), ids(&b).len()), (vec!["a".into()], 0));
}
