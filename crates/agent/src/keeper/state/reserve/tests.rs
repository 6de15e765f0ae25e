//! The reserve: filled, kept, taken from, given up.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use landfast_identity::{Bundle, X509Authority};
use proptest::prelude::*;

use super::super::{Event, Issued, Reach, Snapshot, Synced};
use super::*;
use crate::entry::Offline;
use crate::keeper::state::Held;
use crate::testing::{Ca, NOON, at, entry, td};

mod fitting;

const HOUR: i64 = 3600;

/// What a server says to an order.
type Answer = fn(&World, &RungOrder) -> Result<Arc<X509Svid>, String>;

/// A keeper, and a server that signs for it.
struct World {
    ca: Ca,
    state: State,
    published: Arc<Snapshot>,
    /// How long what is signed lives.
    life: i64,
    turns: usize,
}

fn reserved(name: &str, hours: i64) -> Entry {
    let reserve = Duration::from_secs((hours * HOUR).unsigned_abs());
    Entry {
        offline: Offline {
            reserve,
            ..Offline::default()
        },
        ..entry(name, &format!("/{name}"), &["unix:uid:1"])
    }
}

impl World {
    fn new() -> Self {
        Self {
            ca: Ca::new("one"),
            state: State::default(),
            published: Arc::default(),
            life: HOUR,
            turns: 0,
        }
    }

    fn step(&mut self, now: UnixTime, event: Event) -> Vec<Action> {
        let actions = self.state.step(now, event);
        for action in &actions {
            match action {
                Action::Publish(snapshot, _) => self.published = Arc::clone(snapshot),
                Action::Note(Note::TookTurn { .. }) => self.turns += 1,
                _ => {}
            }
        }
        actions
    }

    /// A step of the server with these entries.
    fn sync(&mut self, now: UnixTime, entries: Vec<Entry>) {
        let synced = self.ca.synced(entries);
        self.step(now, Event::Synced(synced));
        self.step(now, Event::Contact(true));
    }

    /// Renews what is due.
    fn renew(&mut self, now: UnixTime) {
        let actions = self.step(now, Event::Due);
        let orders = actions.into_iter().find_map(|action| match action {
            Action::Issue(orders) => Some(orders),
            _ => None,
        });
        let issued = orders.unwrap().into_iter().map(|order| {
            let end = now.saturating_add(secs(self.life));
            let svid = self
                .ca
                .svid(&order.entry.spiffe_id, now.saturating_sub(secs(60)), end);
            Issued {
                entry_id: Arc::clone(&order.entry.id),
                revision: order.entry.revision,
                outcome: Ok(svid),
            }
        });
        let issued = issued.collect();
        self.step(now, Event::Issued(issued));
    }

    fn rungs_due(&mut self, now: UnixTime) -> Vec<RungOrder> {
        let actions = self.step(now, Event::RungsDue);
        let orders = actions.into_iter().find_map(|action| match action {
            Action::IssueRungs(orders) => Some(orders),
            _ => None,
        });
        orders.unwrap()
    }

    fn sign(&self, order: RungOrder) -> IssuedRung {
        let (begin, id) = (order.not_before, &order.entry.spiffe_id);
        let outcome = Ok(self.ca.svid(id, begin, begin.saturating_add(secs(self.life))));
        IssuedRung { order, outcome }
    }

    /// Has all that is missing. Answers how many that were.
    fn fill(&mut self, now: UnixTime) -> usize {
        let mut count = 0;
        loop {
            let orders = self.rungs_due(now);
            if orders.is_empty() {
                return count;
            }
            count += orders.len();
            let issued = orders.into_iter().map(|order| self.sign(order)).collect();
            self.step(now, Event::Rungs(issued));
        }
    }

    fn serves(&self, id: &str, now: UnixTime) -> Option<(UnixTime, String)> {
        let entry = self.published.entries.get(id)?;
        let held = self.published.svid(entry, now)?;
        Some((held.svid.not_before(), held.svid.serial_hex()))
    }

    fn ladder(&self, id: &str) -> Vec<Window> {
        let ladder = self.published.rungs.get(id);
        ladder.map(|ladder| ladder.windows().to_vec()).unwrap_or_default()
    }
}

fn secs(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

fn filled(hours: i64) -> World {
    let mut world = World::new();
    world.sync(NOON, vec![reserved("a", hours)]);
    world.renew(NOON);
    world.fill(NOON);
    world
}

#[test]
fn a_new_reserve_is_filled_in_batches_after_one_that_shows_how_long_each_lives() {
    let mut world = World::new();
    world.sync(NOON, vec![reserved("a", 72), entry("b", "/b", &["unix:uid:1"])]);
    assert_eq!(world.rungs_due(NOON), [], "ordinary ones come first");
    assert_eq!(world.state.next_rung(NOON), None);
    world.renew(NOON);
    assert_eq!(world.state.next_rung(NOON), Some(NOON));
    let first = world.rungs_due(NOON);
    assert_eq!(first.len(), 1);
    let issued = first.into_iter().map(|order| world.sign(order)).collect();
    let actions = world.step(NOON, Event::Rungs(issued));
    let reaches =
        |action: &Action| matches!(action, Action::Publish(_, Reach::Entries(ids)) if ids.is_empty());
    assert!(
        actions.iter().any(reaches),
        "it is to be written, and nobody is told: {actions:?}"
    );
    assert_eq!(world.rungs_due(NOON).len(), BATCH);
    assert_eq!(world.fill(NOON), 143);
    assert_eq!(world.ladder("a").len(), 144);
    assert!(world.ladder("b").is_empty(), "it asks for none");
    let keys: BTreeSet<_> = world.published.rungs["a"]
        .rungs()
        .iter()
        .map(|rung| rung.key().to_vec())
        .collect();
    assert_eq!(keys.len(), 144, "each its own");
    // One a step at the far end, and what is spent goes.
    let next = world.state.next_rung(NOON).unwrap();
    assert_eq!(next, at(HOUR / 2));
    world.renew(at(HOUR / 2 + 300));
    assert_eq!(world.fill(at(HOUR / 2 + 300)), 1);
}

#[test]
fn nothing_of_the_reserve_is_served_while_the_server_renews() {
    let mut world = filled(8);
    let mut now = NOON;
    while now < at(4 * HOUR) {
        now = now.saturating_add(secs(60));
        world.step(now, Event::Tick);
        world.renew(now);
        world.fill(now);
        assert!(world.serves("a", now).is_some());
    }
    assert_eq!(world.turns, 0);
    let begins = world.ladder("a")[0].ends;
    assert!(begins > at(HOUR), "what is spent is gone: {begins}");
    // Those ahead, the one of now, the one before it, and what ended in the hours that servers take to be believed.
    assert!(world.ladder("a").len() <= 26);
}

#[test]
fn on_its_own_a_node_serves_one_rung_after_the_other_and_nothing_after_the_last() {
    let mut world = filled(8);
    world.step(at(60), Event::Contact(false));
    let mut now = at(60);
    let mut last = None;
    while now < at(8 * HOUR) {
        now = now.saturating_add(secs(60));
        world.step(now, Event::Tick);
        let (begins, serial) = world
            .serves("a", now)
            .unwrap_or_else(|| panic!("nothing at {now}"));
        assert!(begins <= now, "a future rung is served");
        if last.as_ref() != Some(&serial) {
            last = Some(serial);
        }
    }
    assert!((14..=17).contains(&world.turns), "{}", world.turns);
    let end = world.ladder("a").last().unwrap().ends;
    assert!(end >= at(8 * HOUR) && end <= at(9 * HOUR));
    world.step(end, Event::Tick);
    assert_eq!(world.serves("a", end), None, "what is over is not served");
    assert_eq!(
        world.ladder("a").len(),
        16,
        "nor is anything removed by the clock of a node on its own"
    );
    // Back in contact: all is had anew, and the reserve with it.
    world.sync(end, vec![reserved("a", 8)]);
    world.renew(end);
    assert!(world.serves("a", end).is_some());
    assert_eq!(world.fill(end), 16);
    assert_eq!(world.ladder("a").len(), 32, "the server's time may be wrong");
    world.renew(end.saturating_add(secs(HOUR)));
    // The last one ended a moment after that time.
    assert_eq!(
        world.ladder("a").len(),
        17,
        "what was spent by the servers' time is gone"
    );
}

#[test]
fn a_server_that_is_there_and_does_not_sign_is_stood_in_for_before_it_is_too_late() {
    let mut world = filled(8);
    world.step(at(2000), Event::Tick);
    assert_eq!(world.turns, 0, "the server has time until then");
    world.step(at(3500), Event::Tick);
    assert_eq!(world.turns, 1);
    assert!(world.serves("a", at(3600)).is_some());
}

#[test]
fn a_clock_that_leaps_on_an_island_and_comes_back_costs_no_fetch() {
    let mut world = filled(72);
    world.step(at(60), Event::Contact(false));
    let (before, ahead, after) = (at(600), at(600 + 60 * HOUR), at(900));
    for now in [before, ahead, after] {
        world.step(now, Event::Tick);
        let (begins, _) = world.serves("a", now).unwrap();
        assert!(begins <= now);
    }
    assert_eq!(world.ladder("a").len(), 144);
    let back = at(-48 * HOUR);
    world.step(back, Event::Tick);
    assert_eq!(world.serves("a", back), None);
    assert_eq!(world.ladder("a").len(), 144);
}

#[test]
fn what_is_restored_takes_its_turn_at_once() {
    let world = filled(8);
    for now in [at(5 * HOUR), at(7 * HOUR)] {
        let mut state = State::restored(&world.published);
        let actions = state.step(now, Event::Tick);
        let published = actions.iter().find_map(|action| match action {
            Action::Publish(snapshot, _) => Some(Arc::clone(snapshot)),
            _ => None,
        });
        let published = published.unwrap();
        let entry = published.entries.get("a").unwrap();
        assert!(published.svid(entry, now).is_some());
    }
}

#[test]
fn what_is_no_longer_asked_for_goes_at_once() {
    let changed: [(&str, Vec<Entry>, usize); 5] = [
        ("the entry is gone", vec![], 0),
        ("none is asked for", vec![entry("a", "/a", &["unix:uid:1"])], 0),
        (
            "the ID is another",
            vec![Entry {
                spiffe_id: crate::testing::id("/b"),
                revision: 1,
                ..reserved("a", 8)
            }],
            0,
        ),
        ("less is asked for", vec![reserved("a", 2)], 5),
        ("more is asked for", vec![reserved("a", 16)], 16),
    ];
    for (what, entries, left) in changed {
        let mut world = filled(8);
        world.sync(at(1), entries);
        assert_eq!(world.ladder("a").len(), left, "{what}");
    }
    let mut world = filled(8);
    world.step(at(1), Event::Banned);
    assert!(world.published.rungs.is_empty(), "a ban");
    // What comes for it afterwards is not kept.
    let mut world = filled(8);
    let late = RungOrder {
        entry: Arc::new(reserved("a", 8)),
        not_before: at(9 * HOUR),
    };
    let late = world.sign(late);
    world.sync(at(1), vec![]);
    world.step(at(2), Event::Rungs(vec![late]));
    assert!(world.published.rungs.is_empty());
}

#[test]
fn what_a_tainted_or_removed_authority_signed_is_never_served() {
    let other = Ca::new("two");
    let bundle = |world: &World, tainted: Option<bool>| {
        let authority = |ca: &Ca, tainted| X509Authority {
            certificate: ca.certificate.clone(),
            tainted,
        };
        let own = tainted.map(|tainted| authority(&world.ca, tainted));
        let all = own.into_iter().chain([authority(&other, false)]).collect();
        Bundle::new(td()).with_x509_authorities(all).unwrap()
    };
    for (what, tainted, left) in [
        ("trusted", Some(false), 16),
        ("tainted", Some(true), 0),
        ("removed", None, 0),
    ] {
        let mut world = filled(8);
        let synced = Synced {
            bundle: Arc::new(bundle(&world, tainted)),
            ..world.ca.synced(vec![reserved("a", 8)])
        };
        world.step(at(1), Event::Synced(synced));
        assert_eq!(world.ladder("a").len(), left, "{what}");
        // Nor is it taken in.
        let order = RungOrder {
            entry: Arc::new(reserved("a", 8)),
            not_before: at(20 * HOUR),
        };
        let signed = world.sign(order);
        world.step(at(1), Event::Rungs(vec![signed]));
        assert_eq!(world.ladder("a").len(), left + usize::from(left > 0), "{what}");
        world.step(at(2), Event::Contact(false));
        world.step(at(4 * HOUR), Event::Tick);
        assert_eq!(world.serves("a", at(4 * HOUR)).is_some(), left > 0, "{what}");
    }
}

/// Also after a restart, when what is held has forgotten where it came from.
#[test]
fn what_is_served_is_known_to_be_a_rung() {
    let mut world = filled(8);
    let is_rung = |world: &World, held: &Held| {
        let entry = world.published.entries.get("a").unwrap();
        world.published.is_of_reserve(entry, held)
    };
    let held = Arc::clone(&world.published.held["a"]);
    assert!(!is_rung(&world, &held));
    world.step(at(2 * HOUR), Event::Contact(false));
    world.step(at(2 * HOUR), Event::Tick);
    let held = Arc::clone(&world.published.held["a"]);
    assert!(held.was_rung() && is_rung(&world, &held));
    let restored = Held::new(Arc::clone(&held.svid), held.revision, held.received());
    assert!(!restored.was_rung() && is_rung(&world, &restored));
}

#[test]
fn a_changed_entry_keeps_what_there_is_until_its_place_is_taken() {
    let mut world = filled(8);
    let changed = Entry {
        revision: 7,
        ..reserved("a", 8)
    };
    world.life = HOUR / 2;
    world.sync(at(1), vec![changed]);
    assert_eq!(world.ladder("a").len(), 16);
    world.renew(at(1));
    assert_eq!(world.fill(at(1)), 32);
    assert_eq!(world.ladder("a").len(), 32);
    assert!(
        world.published.rungs["a"]
            .rungs()
            .iter()
            .all(|rung| rung.revision() == 7)
    );
}

#[test]
fn what_is_not_what_was_asked_for_is_not_taken_and_waited_for() {
    let lies: [(&str, Answer); 5] = [
        ("refused", |_, _| Err("no".to_owned())),
        ("later", |world, order| {
            let begin = order.not_before.saturating_add(secs(1));
            Ok(world
                .ca
                .svid(&order.entry.spiffe_id, begin, begin.saturating_add(secs(HOUR))))
        }),
        ("over", |world, order| {
            let end = order.not_before;
            Ok(world
                .ca
                .svid(&order.entry.spiffe_id, end.saturating_sub(secs(HOUR)), end))
        }),
        ("another's", |world, order| {
            let end = order.not_before.saturating_add(secs(HOUR));
            Ok(world.ca.svid(&crate::testing::id("/b"), order.not_before, end))
        }),
        ("of nobody", |_, order| {
            let end = order.not_before.saturating_add(secs(HOUR));
            Ok(Ca::new("two").svid(&order.entry.spiffe_id, order.not_before, end))
        }),
    ];
    for (what, lie) in lies {
        let mut world = World::new();
        world.state.rung_refusals = crate::keeper::refusals::Refusals::drawing(|| u64::MAX);
        world.sync(NOON, vec![reserved("a", 8)]);
        world.renew(NOON);
        let mut orders = world.rungs_due(NOON);
        let order = orders.pop().unwrap();
        let outcome = lie(&world, &order);
        let actions = world.step(NOON, Event::Rungs(vec![IssuedRung { order, outcome }]));
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Note(Note::NoRung { .. }))),
            "{what}"
        );
        assert!(world.ladder("a").is_empty(), "{what}");
        assert_eq!(world.rungs_due(at(1)), [], "{what}: not at once again");
        assert_eq!(world.state.next_rung(at(1)), Some(at(5)), "{what}");
        assert_eq!(world.fill(at(5)), 16, "{what}");
    }
}

#[test]
fn nothing_is_asked_for_that_would_outlast_its_entry() {
    for (ends, rungs) in [(HOUR - 1, 0), (HOUR, 1), (3 * HOUR, 5), (48 * HOUR, 16)] {
        let mut world = World::new();
        let entry = Entry {
            expires_at: Some(at(ends)),
            ..reserved("a", 8)
        };
        world.sync(NOON, vec![entry]);
        world.renew(NOON);
        assert_eq!(world.fill(NOON), rungs, "{ends}");
        assert!(world.ladder("a").iter().all(|window| window.ends <= at(ends)));
        assert!(world.state.next_rung(NOON).is_some_and(|next| next > NOON));
    }
}

#[test]
fn a_node_keeps_no_more_than_its_share_of_the_disk() {
    let mut world = World::new();
    world.state.reserve_limit = Some(8_000);
    world.sync(NOON, vec![reserved("a", 72)]);
    world.renew(NOON);
    let orders = world.fill(NOON);
    assert!(orders <= 1 + BATCH, "{orders}");
    assert_eq!(world.state.next_rung(NOON), None);
    assert!(world.published.reserve_size() >= 8_000);
}

#[derive(Clone, Debug)]
enum Move {
    Contact(bool),
    Pass(i64),
    Restart,
    Leap(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => any::<bool>().prop_map(Move::Contact),
        6 => (1_i64..5000).prop_map(Move::Pass),
        1 => Just(Move::Restart),
        1 => (-20_000_i64..20_000).prop_map(Move::Leap),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Links that come and go, restarts, a clock that leaps for a while: since the last contact for as long as the reserve lasts something valid is
    /// served, and never anything that has not begun, is over, or was never signed for this entry.
    #[test]
    fn no_fetch_fails_while_the_reserve_lasts(moves in moves()) {
        let (mut world, mut now) = (filled(8), NOON);
        let (mut contact, mut last) = (true, NOON);
        let mut signed: HashMap<String, UnixTime> = HashMap::new();
        for step in moves {
            match step {
                Move::Contact(is) => {
                    contact = is;
                    world.step(now, Event::Contact(is));
                }
                Move::Pass(seconds) => now = now.saturating_add(secs(seconds)),
                Move::Restart => world.state = State::restored(&world.published),
                Move::Leap(seconds) => {
                    let there = UnixTime::from_secs(now.as_secs() + seconds);
                    if !contact {
                        world.step(there, Event::Tick);
                        if let Some((begins, _)) = world.serves("a", there) {
                            prop_assert!(begins <= there);
                        }
                    }
                }
            }
            if contact {
                world.sync(now, vec![reserved("a", 8)]);
                world.renew(now);
                world.fill(now);
                last = now;
            }
            world.step(now, Event::Tick);
            let served = world.serves("a", now);
            if now < last.saturating_add(secs(8 * HOUR)) {
                prop_assert!(served.is_some(), "nothing at {now}, last contact {last}");
            }
            if let Some((begins, serial)) = served {
                prop_assert!(begins <= now && now < begins.saturating_add(secs(HOUR + 60)));
                signed.insert(serial, begins);
            }
        }
    }
}
