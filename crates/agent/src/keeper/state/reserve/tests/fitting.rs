//! A reserve is of one entry as it is now, by a bundle as it is now, and is spent by a time that can be believed.

use super::*;
use crate::keeper::state::Rest;

fn changed(hours: i64) -> Entry {
    Entry {
        revision: 7,
        ..reserved("a", hours)
    }
}

#[test]
fn an_entry_made_anew_under_the_same_id_has_nothing_of_the_one_before() {
    let mut world = filled(8);
    let (_, serial) = world.serves("a", at(1)).unwrap();
    let anew = || Entry {
        created_at: 77,
        ..reserved("a", 8)
    };
    let late = RungOrder {
        entry: Arc::new(reserved("a", 8)),
        not_before: at(9 * HOUR),
    };
    let late = world.sign(late);
    world.sync(at(1), vec![anew()]);
    assert!(world.ladder("a").is_empty(), "the server has marked them revoked");
    world.step(at(1), Event::Rungs(vec![late]));
    assert!(world.ladder("a").is_empty(), "nor what was asked for before");
    let (_, still) = world.serves("a", at(1)).unwrap();
    assert_eq!(still, serial, "until there is another");
    world.renew(at(1));
    assert_ne!(world.serves("a", at(1)).unwrap().1, serial, "at once");
    assert_eq!(world.fill(at(1)), 16);
    let (_, serial) = world.serves("a", at(2)).unwrap();
    world.sync(at(2), vec![anew()]);
    world.renew(at(2));
    assert_eq!(world.ladder("a").len(), 16, "the same, said again");
    assert_eq!(world.serves("a", at(2)).unwrap().1, serial);
}

#[test]
fn what_becomes_privileged_has_no_reserve_whatever_is_asked_for() {
    let admin = || Entry {
        privileged: true,
        ..changed(8)
    };
    let another = || Entry {
        privileged: true,
        ..Entry {
            spiffe_id: crate::testing::id("/a"),
            ..entry("z", "/z", &["unix:uid:2"])
        }
    };
    for (what, entries) in [
        ("the entry", vec![admin()]),
        ("its ID by another entry", vec![reserved("a", 8), another()]),
    ] {
        let mut world = filled(8);
        world.sync(at(1), entries);
        assert!(world.ladder("a").is_empty(), "{what}");
        world.renew(at(1));
        assert_eq!(world.fill(at(1)), 0, "{what}");
        let order = RungOrder {
            entry: Arc::clone(world.published.entries.get("a").unwrap()),
            not_before: at(HOUR),
        };
        let signed = world.sign(order);
        world.step(at(2), Event::Rungs(vec![signed]));
        world.step(at(2), Event::Contact(false));
        world.step(at(2 * HOUR), Event::Tick);
        assert_eq!(world.serves("a", at(2 * HOUR)), None, "{what}");
    }
}

#[test]
fn on_an_island_what_an_entry_was_before_takes_no_place_of_what_it_is() {
    let mut world = filled(8);
    world.sync(at(1), vec![changed(8)]);
    world.renew(at(1));
    let (_, serial) = world.serves("a", at(1)).unwrap();
    world.step(at(2), Event::Contact(false));
    let mut now = at(2);
    while now < at(HOUR) {
        assert_eq!(world.serves("a", now).unwrap().1, serial, "{now}");
        now = now.saturating_add(secs(60));
        world.step(now.min(at(HOUR)), Event::Tick);
    }
    // Of two evils: there is nothing newer.
    world.step(at(2 * HOUR), Event::Tick);
    assert!(world.serves("a", at(2 * HOUR)).is_some());
}

#[test]
fn a_changed_entry_is_filled_anew_though_there_is_no_room_beside_what_it_was() {
    let mut world = filled(8);
    world.state.reserve_limit = Some(world.published.reserve_size() - 100);
    assert_eq!(world.state.next_rung(at(1)), None);
    world.sync(at(1), vec![changed(8)]);
    world.renew(at(1));
    assert_eq!(world.fill(at(1)), 16);
    let ladder = &world.published.rungs["a"];
    assert!(ladder.rungs().iter().all(|rung| rung.revision() == 7));
    // Though not without an end.
    let mut world = filled(8);
    world.state.reserve_limit = Some(world.published.reserve_size() / 2);
    world.sync(at(1), vec![changed(8)]);
    world.renew(at(1));
    assert_eq!(world.rungs_due(at(1)), []);
}

#[test]
fn what_is_restored_beside_a_newer_bundle_is_fitted_to_it() {
    let world = filled(8);
    for (tainted, left) in [(false, true), (true, false)] {
        let authority = X509Authority {
            certificate: world.ca.certificate.clone(),
            tainted,
        };
        let bundle = Bundle::new(td()).with_x509_authorities(vec![authority]).unwrap();
        let mut snapshot = Snapshot::clone(&world.published);
        snapshot.bundle = Some(Arc::new(bundle));
        let mut begun = World::new();
        begun.state = State::restored(&snapshot);
        begun.published = Arc::new(snapshot);
        begun.step(at(2 * HOUR), Event::Tick);
        assert_eq!(begun.serves("a", at(2 * HOUR)).is_some(), left, "{tainted}");
    }
}

#[test]
fn a_server_of_another_time_costs_no_reserve() {
    let mut world = filled(72);
    let ahead = at(200 * HOUR);
    world.sync(ahead, vec![reserved("a", 72)]);
    world.renew(ahead);
    world.fill(ahead);
    world.sync(ahead, vec![changed(72)]);
    world.renew(ahead.saturating_add(secs(60)));
    // Back, and on its own.
    world.step(at(600), Event::Contact(false));
    let mut now = at(600);
    while now < at(72 * HOUR) {
        world.step(now, Event::Tick);
        assert!(world.serves("a", now).is_some(), "nothing at {now}");
        now = now.saturating_add(secs(600));
    }
    // A time that goes on for an hour is believed.
    let mut world = filled(72);
    for hour in 200..203 {
        world.sync(at(hour * HOUR), vec![reserved("a", 72)]);
        world.renew(at(hour * HOUR));
    }
    assert!(world.ladder("a").is_empty());
}

/// As a start finds it that has read the first two of eight hours, and the rest of it.
fn begun_with_two(world: World) -> (World, Rest) {
    let all = world.published.rungs["a"].rungs().to_vec();
    let ladders = |rungs: &[Arc<Rung>]| {
        [(Arc::from("a"), Arc::new(Ladder::new(rungs.to_vec())))]
            .into_iter()
            .collect()
    };
    let rungs: crate::keeper::rungs::Ladders = ladders(&all[..2]);
    let snapshot = Snapshot {
        rungs: Arc::new(rungs),
        reading: true,
        ..Snapshot::clone(&world.published)
    };
    let entries = Arc::clone(&snapshot.entries);
    let rest = Rest {
        ladders: ladders(&all[2..]),
        entries,
    };
    let begun = World {
        state: State::restored(&snapshot),
        published: Arc::new(snapshot),
        ..world
    };
    (begun, rest)
}

#[test]
fn nothing_is_asked_for_before_the_rest_of_the_reserve_is_read() {
    let whole = filled(8).ladder("a").len();
    let (mut begun, rest) = begun_with_two(filled(8));
    begun.sync(at(60), vec![reserved("a", 8)]);
    assert_eq!(begun.rungs_due(at(60)), []);
    assert_eq!(begun.state.next_rung(at(60)), None);
    begun.step(at(61), Event::Rest(rest));
    assert_eq!(begun.ladder("a").len(), whole);
    assert_eq!(begun.rungs_due(at(61)), [], "it is whole");
    assert!(begun.state.next_rung(at(61)).is_some());
}

#[test]
fn what_was_taken_away_meanwhile_does_not_come_back_with_the_rest() {
    let whole = filled(8).ladder("a").len();
    let anew = Entry {
        created_at: 1,
        ..reserved("a", 8)
    };
    let cases = [
        ("nothing", vec![reserved("a", 8)], false, whole),
        ("the entry", vec![], false, 0),
        ("the entry, which was made anew", vec![anew], false, 0),
        ("the policy", vec![entry("a", "/a", &["unix:uid:1"])], false, 0),
        (
            "the node, which was banned and is in again",
            vec![reserved("a", 8)],
            true,
            0,
        ),
    ];
    for (what, entries, banned, left) in cases {
        let (mut begun, rest) = begun_with_two(filled(8));
        if banned {
            begun.step(at(59), Event::Banned);
        }
        begun.sync(at(60), entries);
        begun.step(at(61), Event::Rest(rest));
        let rungs = begun
            .published
            .rungs
            .get("a")
            .map_or(0, |ladder| ladder.rungs().len());
        assert_eq!(rungs, left, "{what}");
    }
    // The authority.
    let (mut begun, rest) = begun_with_two(filled(8));
    let authority = X509Authority {
        certificate: begun.ca.certificate.clone(),
        tainted: true,
    };
    let bundle = Bundle::new(td()).with_x509_authorities(vec![authority]).unwrap();
    begun.step(at(60), Event::Bundle(Arc::new(bundle)));
    begun.step(at(61), Event::Rest(rest));
    assert!(begun.published.rungs.is_empty());
}
