//! The reserve on disk: whole after a restart, none of it readable, and gone when it is to go.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use landfast_store::Store;

use super::*;
use crate::cache::plan::Change;
use crate::entry::{Entry, Offline};
use crate::keeper::rungs::{Ladder, Rung};
use crate::keeper::state::{Action, Event};

/// With a reserve of so many rungs for the first entry, which asks for it.
pub(super) fn reserved(ca: &Ca, names: &[&str], rungs: i64) -> Snapshot {
    let before = holding(ca, names);
    let offline = Offline {
        reserve: Duration::from_secs(7200),
        tokens: vec![("receiver".to_owned(), Duration::from_secs(600))],
    };
    let entries = before.entries.iter().map(|entry| {
        let first = &*entry.id == names[0];
        let offline = if first {
            offline.clone()
        } else {
            Offline::default()
        };
        Arc::new(Entry {
            offline,
            ..Entry::clone(entry)
        })
    });
    let each = (0..rungs).map(|number| {
        let begin = 1800 * number;
        let svid = ca.svid(&id(&format!("/{}", names[0])), at(begin), at(begin + 3600));
        Arc::new(Rung::new(&svid, 0, NOON))
    });
    let ladder = Arc::new(Ladder::new(each.collect()));
    Snapshot {
        entries: Arc::new(EntryIndex::new(entries.collect::<Vec<_>>())),
        rungs: Arc::new([(Arc::from(names[0]), ladder)].into_iter().collect()),
        ..before
    }
}

pub(super) fn rung_files(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut files = world.files();
    files.retain(|(name, _)| name.starts_with("rung-"));
    files
}

fn keys_of(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let ladders = snapshot.rungs.values();
    let rungs = ladders.flat_map(|ladder| ladder.rungs().to_vec());
    rungs.map(|rung| rung.key().to_vec()).collect()
}

#[test]
fn a_reserve_comes_back_whole_with_what_asks_for_it_and_is_sealed_meanwhile() {
    let world = World::new();
    let snapshot = reserved(&world.ca, &["a", "b"], 20);
    let (mut shelf, _) = world.open();
    shelf.write(&image(&snapshot), PLAIN).unwrap();
    assert_eq!(rung_files(&world).len(), 20);
    let keys = keys_of(&snapshot);
    for (name, bytes) in world.files() {
        for key in &keys {
            assert!(
                !bytes.windows(key.len()).any(|part| part == key),
                "{name} holds a key"
            );
        }
    }
    drop(shelf);
    let (_, found) = world.open();
    assert_eq!(found.complaints, Vec::<String>::new());
    let read = found.image.unwrap().snapshot;
    assert_eq!(keys_of(&read), keys);
    assert_eq!(read.rungs["a"].windows(), snapshot.rungs["a"].windows());
    let offline = |snapshot: &Snapshot, id: &str| snapshot.entries.get(id).unwrap().offline.clone();
    assert_eq!(offline(&read, "a"), offline(&snapshot, "a"));
    assert_eq!(offline(&read, "b"), Offline::default());
    // A rung takes the place of what is held.
    let actions = State::restored(&read).step(at(7000), Event::Tick);
    let served = actions.iter().find_map(|action| match action {
        Action::Publish(snapshot, _) => Some(snapshot.held["a"].svid.not_before()),
        _ => None,
    });
    assert_eq!(served, Some(at(1800 * 3)));
}

#[test]
fn another_rung_is_one_file_more_and_one_that_is_given_up_is_none() {
    let world = World::new();
    let snapshot = reserved(&world.ca, &["a"], 20);
    let (mut shelf, _) = world.open();
    shelf.write(&image(&snapshot), PLAIN).unwrap();
    let before = rung_files(&world);
    let few = |rungs: &[Arc<Rung>]| {
        let ladder = Arc::new(Ladder::new(rungs.to_vec()));
        Snapshot {
            rungs: Arc::new([(Arc::from("a"), ladder)].into_iter().collect()),
            ..snapshot.clone()
        }
    };
    let less = few(&snapshot.rungs["a"].rungs()[3..]);
    assert_eq!(
        Change::between(&snapshot, &less, &snapshot.rungs),
        Change::Withdrawn
    );
    let both = Manner { both: true, ..PLAIN };
    shelf.write(&image(&less), both).unwrap();
    let after = rung_files(&world);
    assert_eq!(after.len(), 17);
    assert!(
        after.iter().all(|file| before.contains(file)),
        "none is written anew"
    );
    let none = Snapshot {
        rungs: Arc::default(),
        ..snapshot.clone()
    };
    shelf.write(&image(&none), both).unwrap();
    assert_eq!(rung_files(&world).len(), 0);
}

#[test]
fn a_rung_that_is_damaged_gone_or_anothers_is_passed_over_and_said() {
    for what in ["flipped", "gone", "renamed"] {
        let world = World::new();
        let snapshot = reserved(&world.ca, &["a"], 5);
        let (mut shelf, _) = world.open();
        shelf.write(&image(&snapshot), PLAIN).unwrap();
        drop(shelf);
        let (files, cache) = (rung_files(&world), world.dir.path().join("cache"));
        let first = cache.join(&files[0].0);
        match what {
            "flipped" => {
                let mut bytes = files[0].1.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                crate::testing::write_private(&first, &bytes);
            }
            "gone" => std::fs::remove_file(&first).unwrap(),
            _ => crate::testing::write_private(&first, &files[1].1),
        }
        let (_, found) = world.open();
        let said = found.complaints.join("; ");
        assert!(
            said.contains("1 of 5 SVIDs in the reserve of spiffe://plant.test/a"),
            "{what}: {said}"
        );
        let read = found.image.unwrap().snapshot;
        assert_eq!(read.rungs["a"].rungs().len(), 4, "{what}");
        assert_eq!(keys(&read), keys(&snapshot), "what is served is whole");
    }
}

#[test]
fn a_reserve_is_written_at_once_when_it_is_new_or_taken_away_and_else_seldom() {
    let ca = Ca::new("one");
    let full = reserved(&ca, &["a"], 20);
    let with = |rungs: &[Arc<Rung>]| Snapshot {
        rungs: Arc::new(
            [(Arc::from("a"), Arc::new(Ladder::new(rungs.to_vec())))]
                .into_iter()
                .collect(),
        ),
        ..full.clone()
    };
    let rungs = full.rungs["a"].rungs();
    let none = Snapshot {
        rungs: Arc::default(),
        ..full.clone()
    };
    let between = |old: &Snapshot, new: &Snapshot| Change::between(old, new, &old.rungs);
    assert_eq!(between(&none, &full), Change::Filled);
    assert_eq!(between(&full, &none), Change::Withdrawn);
    let spare = |old: &Snapshot, new: &Snapshot| matches!(between(old, new), Change::Spare(_));
    assert!(spare(&with(&rungs[..19]), &full), "one more at the far end");
    assert_eq!(between(&full, &with(rungs)), Change::Nothing);
    // A renewal: the reserve stands in for what is on disk.
    let svid = ca.svid(&id("/a"), at(4000), at(7600));
    let mut renewed = full.clone();
    let held = Arc::new(Held::new(svid, 0, at(4000)));
    Arc::make_mut(&mut renewed.held).insert("a".into(), held);
    assert!(spare(&full, &renewed));
    let hour = Change::Renewed(Duration::from_secs(3600));
    for on_disk in [&none.rungs, &with(&rungs[..3]).rungs] {
        let change = Change::between(&full, &renewed, on_disk);
        assert_eq!(change, hour, "what stands in is in memory only");
    }
    // A few at a time, and none of them on disk.
    let change = Change::between(&with(&rungs[..16]), &full, &with(&rungs[..15]).rungs);
    assert_eq!(change, Change::Filled);
    let lacks = |on_disk: &Snapshot| Change::of_what_lacks(&full, &on_disk.rungs);
    assert_eq!(lacks(&with(&rungs[..19])), Change::Filled);
    assert_eq!(lacks(&with(rungs)), Change::Nothing);
    // What is over by then is spent, not taken away.
    let spent = Snapshot {
        rungs: with(&rungs[1..]).rungs,
        ..renewed
    };
    assert!(spare(&full, &spent));
    let more = Snapshot {
        rungs: with(&rungs[2..]).rungs,
        ..spent.clone()
    };
    assert_eq!(between(&full, &more), Change::Withdrawn);
}

/// At noon two hours and ten minutes later, of 144 of one entry and none of the other.
#[test]
fn a_start_reads_few_of_a_large_reserve_and_the_rest_behind() {
    let world = World::new();
    let snapshot = reserved(&world.ca, &["a", "b"], 144);
    let (mut shelf, _) = world.open();
    shelf.write(&image(&snapshot), PLAIN).unwrap();
    drop(shelf);
    let now = at(7800);
    let (mut shelf, found) = Shelf::open_at(world.place(), Some(&node()), Some(now), Arc::new(Store::open));
    assert_eq!(found.complaints, Vec::<String>::new());
    let read = found.image.unwrap().snapshot;
    assert!(read.reading && shelf.has_rest());
    let first = read.rungs["a"].rungs().len();
    assert!(first <= 12, "{first}");
    let mut state = State::restored(&read);
    let actions = state.step(now, Event::Tick);
    let served = actions.iter().find_map(|action| match action {
        Action::Publish(snapshot, _) => Some(snapshot.held["a"].svid.not_before()),
        _ => None,
    });
    assert_eq!(served, Some(at(7200)), "the one whose turn it is");
    let (rest, complaints) = shelf.read_rest(&AtomicBool::new(false)).unwrap();
    assert_eq!(complaints, Vec::<String>::new());
    assert!(!shelf.has_rest());
    assert_eq!(rest.ladders["a"].rungs().len(), 144 - first);
    let actions = state.step(now, Event::Rest(rest));
    let whole = actions.iter().find_map(|action| match action {
        Action::Publish(snapshot, _) => Some(snapshot.clone()),
        _ => None,
    });
    let whole = whole.unwrap();
    assert_eq!(keys_of(&whole), keys_of(&snapshot));
    assert!(!whole.reading);
    assert_eq!(
        shelf.read_rest(&AtomicBool::new(false)).unwrap().0.ladders.len(),
        0,
        "once"
    );
}

/// Of three entries: both indexes, the tokens, three SVIDs, and of rungs none while what is held lasts.
#[test]
fn a_start_opens_no_rung_while_what_is_held_lasts() {
    let world = World::new();
    let snapshot = reserved(&world.ca, &["a", "b", "c"], 144);
    world.open().0.write(&image(&snapshot), PLAIN).unwrap();
    // An SVID of an hour and a minute, which is always replaced in its last eighth.
    for (now, rungs) in [
        (at(600), false),
        (at(3000), false),
        (at(3200), true),
        (at(4000), true),
    ] {
        let script = landfast_store::faulty::Script::default();
        let faulty = script.clone();
        let open = move |dir: &Path| {
            Store::open_with(dir, |files| {
                landfast_store::faulty::FaultyFiles::new(files, faulty.clone())
            })
        };
        let (shelf, found) = Shelf::open_at(world.place(), Some(&node()), Some(now), Arc::new(open));
        let read = found.image.unwrap().snapshot;
        let reads = script.calls().into_iter();
        let reads = reads
            .filter(|verb| *verb == landfast_store::faulty::Verb::Read)
            .count();
        let few = read.rungs.get("a").map_or(0, |ladder| ladder.rungs().len());
        assert_eq!((few > 0, reads), (rungs, 6 + few), "{now}");
        assert!(read.reading && shelf.has_rest());
        let mut state = State::restored(&read);
        state.step(now, Event::Tick);
        let held = state
            .snapshot()
            .svid(read.entries.get("a").unwrap(), now)
            .cloned();
        assert!(held.is_some_and(|held| held.window().holds(now)), "{now}");
    }
}

#[test]
fn one_that_is_damaged_is_told_with_the_rest_and_costs_itself_alone() {
    let world = World::new();
    let snapshot = reserved(&world.ca, &["a"], 20);
    let (mut shelf, _) = world.open();
    shelf.write(&image(&snapshot), PLAIN).unwrap();
    drop(shelf);
    for (name, mut bytes) in rung_files(&world).into_iter().take(2) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        crate::testing::write_private(&world.dir.path().join("cache").join(name), &bytes);
    }
    let (mut shelf, found) = Shelf::open_at(
        world.place(),
        Some(&node()),
        Some(at(7800)),
        Arc::new(Store::open),
    );
    assert_eq!(found.complaints, Vec::<String>::new());
    let first = found.image.unwrap().snapshot.rungs["a"].rungs().len();
    let (rest, complaints) = shelf.read_rest(&AtomicBool::new(false)).unwrap();
    let said = complaints.join("; ");
    assert!(
        said.contains("2 of 20 SVIDs in the reserve of spiffe://plant.test/a"),
        "{said}"
    );
    let rest = rest.ladders.get("a").map_or(0, |ladder| ladder.rungs().len());
    assert_eq!(first + rest, 18);
}
