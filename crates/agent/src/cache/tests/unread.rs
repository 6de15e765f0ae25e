//! What is taken away while the reserve is not read: it leaves the disk all the same, and takes nothing else with it.

use std::io::ErrorKind;
use std::sync::atomic::AtomicBool;

use landfast_store::faulty::{FaultyFiles, Script, Verb};
use landfast_store::{OpenStore, Store};

use super::rungs::{reserved, rung_files};
use super::*;

/// A start over a cache with 20 rungs of each of two entries, before any of the rest is read.
fn half_read(world: &World, open: OpenStore) -> (Shelf, Snapshot) {
    let (mut snapshot, others) = (
        reserved(&world.ca, &["a", "b"], 20),
        reserved(&world.ca, &["b"], 20),
    );
    let all = Arc::make_mut(&mut snapshot.rungs);
    all.extend(
        others
            .rungs
            .iter()
            .map(|(id, ladder)| (id.clone(), ladder.clone())),
    );
    world.open().0.write(&image(&snapshot), PLAIN).unwrap();
    let (mut shelf, found) = Shelf::open_at(world.place(), Some(&node()), Some(at(4000)), open);
    assert!(shelf.read_rest(&AtomicBool::new(true)).is_none() && shelf.has_rest());
    let read = Snapshot::clone(&found.image.unwrap().snapshot);
    (shelf, read)
}

/// The entry goes while its rungs are not read: they go unread, and those of the other stay.
#[test]
fn what_is_gone_leaves_the_disk_before_all_is_read() {
    let world = World::new();
    let (mut shelf, mut after) = half_read(&world, Arc::new(Store::open));
    after.entries = Arc::new(EntryIndex::new(after.entries.get("a").cloned()));
    shelf.take_away_unread(&image(&after)).unwrap();
    assert_eq!(rung_files(&world).len(), 20);
    let (rest, complaints) = shelf.read_rest(&AtomicBool::new(false)).unwrap();
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(rest.ladders.keys().map(|id| &**id).collect::<Vec<_>>(), ["a"]);
    drop(shelf);
    let left = world.open().1.image.unwrap().snapshot;
    assert_eq!(left.rungs["a"].rungs().len(), 20);
    assert!(!left.rungs.contains_key("b") && !left.held.contains_key("b"));
}

const PARTLY: Manner = Manner {
    both: true,
    partly: true,
    ..PLAIN
};

/// Of an authority, while the rungs that it signed are not read, and of one of the entries that have some, in the same step.
#[test]
fn what_is_trusted_no_longer_is_on_disk_before_all_is_read() {
    for gone in [false, true] {
        let world = World::new();
        let (mut shelf, mut after) = half_read(&world, Arc::new(Store::open));
        after.bundle = Some(Arc::new(world.ca.tainted(8)));
        if gone {
            after.entries = Arc::new(EntryIndex::new(after.entries.get("a").cloned()));
            after.held = Arc::new([("a".into(), after.held["a"].clone())].into_iter().collect());
            Arc::make_mut(&mut after.rungs).remove("b");
        }
        let left: &[&str] = if gone { &["a"] } else { &["a", "b"] };
        shelf.write(&image(&after), PARTLY).unwrap();
        for index in ["index.a", "index.b"] {
            // As after a power cut, whichever of both is damaged.
            let path = world.dir.path().join("cache").join(index);
            let kept = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let found = world.beside().image.unwrap().snapshot;
            assert!(found.bundle.as_ref().unwrap().x509_authorities()[0].tainted);
            let names: Vec<_> = found.rungs.keys().map(|id| &**id).collect();
            assert_eq!(names, left, "{index}");
            assert!(
                State::restored(&found).snapshot().rungs.is_empty(),
                "none is served"
            );
            crate::testing::write_private(&path, &kept);
        }
        let (rest, complaints) = shelf.read_rest(&AtomicBool::new(false)).unwrap();
        assert_eq!(complaints, Vec::<String>::new(), "all files are where they were");
        let each = rest.ladders.iter();
        let had: Vec<_> = each
            .map(|(id, ladder)| {
                let first = after.rungs.get(id).map_or(0, |ladder| ladder.rungs().len());
                (&**id, first + ladder.rungs().len())
            })
            .collect();
        assert_eq!(had, left.iter().map(|id| (*id, 20)).collect::<Vec<_>>());
        assert_eq!(rung_files(&world).len(), 20 * left.len());
        let whole = Snapshot {
            rungs: Arc::default(),
            ..after
        };
        shelf
            .write(&image(&whole), Manner { both: true, ..PLAIN })
            .unwrap();
        assert_eq!(rung_files(&world).len(), 0, "then they go");
    }
}

#[test]
fn what_no_index_could_say_costs_nothing_that_is_not_read() {
    let (world, script) = (World::new(), Script::default());
    let faulty = script.clone();
    let open = move |dir: &Path| Store::open_with(dir, |files| FaultyFiles::new(files, faulty.clone()));
    let (mut shelf, mut after) = half_read(&world, Arc::new(open));
    after.bundle = Some(Arc::new(world.ca.tainted(8)));
    script.break_down(Verb::CreateTemp, ErrorKind::StorageFull);
    shelf.write(&image(&after), PARTLY).unwrap_err();
    assert_eq!(rung_files(&world).len(), 40);
    script.mend();
    shelf.write(&image(&after), PARTLY).unwrap();
    let (_, complaints) = shelf.read_rest(&AtomicBool::new(false)).unwrap();
    assert_eq!(complaints, Vec::<String>::new());
}
