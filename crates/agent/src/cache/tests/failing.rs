//! T-29: disks that are full, read-only, or fail at one step.

use std::io::ErrorKind;

use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use proptest::prelude::*;

use super::*;

fn open(world: &World, script: &Script) -> (Shelf, Found) {
    let script = script.clone();
    Shelf::open_by(world.place(), Some(&node()), move |dir| {
        Store::open_with(dir, |files| FaultyFiles::new(files, script.clone()))
    })
}

#[test]
fn wherever_a_write_fails_one_whole_generation_is_there_and_the_next_write_mends_it() {
    let steps = [
        (Verb::CreateTemp, ErrorKind::StorageFull),
        (Verb::Write, ErrorKind::StorageFull),
        (Verb::Sync, ErrorKind::Other),
        (Verb::Rename, ErrorKind::ReadOnlyFilesystem),
        (Verb::SyncDir, ErrorKind::Other),
        (Verb::Remove, ErrorKind::ReadOnlyFilesystem),
    ];
    for (verb, kind) in steps {
        // The first such call, the second, and so on, until none fails any more.
        for nth in 0.. {
            let world = World::new();
            let script = Script::default();
            let (mut shelf, _) = open(&world, &script);
            let first = holding(&world.ca, &["a", "b"]);
            shelf.write(&image(&first), PLAIN).unwrap();
            let mut second = first.clone();
            let fresh = holding(&world.ca, &["a"]).held["a"].clone();
            Arc::make_mut(&mut second.held).insert("a".into(), fresh);
            shelf.write(&image(&first), PLAIN).unwrap();
            shelf.write(&image(&second), PLAIN).unwrap();
            script.fail_after(verb, nth, kind);
            let third = {
                let mut third = second.clone();
                let fresh = holding(&world.ca, &["b"]).held["b"].clone();
                Arc::make_mut(&mut third.held).insert("b".into(), fresh);
                third
            };
            let failed = shelf.write(&image(&third), PLAIN).is_err();
            script.mend();
            drop(shelf);
            let found = world.open().1;
            assert!(
                found.complaints.is_empty(),
                "{verb:?} {nth}: {:?}",
                found.complaints
            );
            let held = keys(&found.image.unwrap().snapshot);
            assert!(held == keys(&second) || held == keys(&third), "{verb:?} {nth}");
            assert!(
                failed || held == keys(&third),
                "{verb:?} {nth}: said to be on disk"
            );
            let (mut shelf, _) = open(&world, &script);
            shelf.write(&image(&third), PLAIN).unwrap();
            drop(shelf);
            let found = world.open().1;
            assert_eq!(keys(&found.image.unwrap().snapshot), keys(&third));
            if !failed {
                assert!(nth > 0, "{verb:?} never failed");
                break;
            }
        }
    }
}

#[test]
fn on_a_full_disk_what_was_taken_away_loses_its_key() {
    let world = World::new();
    let script = Script::default();
    let (mut shelf, _) = open(&world, &script);
    shelf
        .write(&image(&holding(&world.ca, &["a", "b"])), PLAIN)
        .unwrap();
    let kept = world.open_beside();
    let mut after = holding(&world.ca, &["b"]);
    after.held = Arc::new([("b".into(), kept)].into_iter().collect());
    script.break_down(Verb::Write, ErrorKind::StorageFull);
    let both = Manner { both: true, ..PLAIN };
    shelf.write(&image(&after), both).unwrap_err();
    drop(shelf);
    let found = world.open().1;
    let held = keys(&found.image.unwrap().snapshot);
    assert!(!held.contains_key("a"), "{:?}", held.keys());
    assert!(!found.complaints.is_empty());
}

impl World {
    /// The SVID of b as it is on disk.
    fn open_beside(&self) -> Arc<Held> {
        let copy = Self::new();
        for (name, bytes) in self.files() {
            let dir = copy.dir.path().join("cache");
            std::fs::create_dir_all(&dir).unwrap();
            crate::testing::write_private(&dir.join(name), &bytes);
        }
        let key = std::fs::read(self.dir.path().join("seal-key")).unwrap();
        crate::testing::write_private(&copy.dir.path().join("seal-key"), &key);
        copy.open().1.image.unwrap().snapshot.held["b"].clone()
    }
}

/// One write of some entries, in this manner, of which one call fails, or none; and whether the agent starts anew afterwards.
#[derive(Clone, Debug)]
struct Attempt {
    entries: Vec<usize>,
    both: bool,
    fails: Option<(Verb, usize)>,
    restarts: bool,
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let verbs = [
        Verb::CreateTemp,
        Verb::Write,
        Verb::Sync,
        Verb::Rename,
        Verb::SyncDir,
        Verb::Remove,
        Verb::List,
    ];
    let fails = proptest::option::of((proptest::sample::select(verbs.to_vec()), 0..4_usize));
    let entries = proptest::sample::subsequence(vec![0, 1, 2, 3], 0..=4);
    let attempt =
        (entries, any::<bool>(), fails, any::<bool>()).prop_map(|(entries, both, fails, restarts)| Attempt {
            entries,
            both,
            fails,
            restarts,
        });
    proptest::collection::vec(attempt, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever fails in whatever order: a start finds what was last said to be on disk, or something that was tried since, whole; nothing
    /// that was taken away with a word of success, and never less without a word.
    #[test]
    fn a_start_finds_what_was_written_last_or_tried_since(attempts in attempts()) {
        let (world, script) = (World::new(), Script::default());
        let names = ["a", "b", "c", "d"];
        let (mut shelf, _) = open(&world, &script);
        let mut possible = vec![None];
        for attempt in attempts {
            let chosen: Vec<_> = attempt.entries.iter().map(|number| names[*number]).collect();
            let snapshot = holding(&world.ca, &chosen);
            if let Some((verb, nth)) = attempt.fails {
                script.fail_after(verb, nth, ErrorKind::StorageFull);
            }
            let manner = Manner { both: attempt.both, ..PLAIN };
            let written = shelf.write(&image(&snapshot), manner);
            script.mend();
            if written.is_ok() {
                possible.clear();
            }
            possible.push(Some(keys(&snapshot)));
            if attempt.restarts {
                drop(shelf);
                let (next, found) = open(&world, &script);
                shelf = next;
                let held = found.image.as_ref().map(|image| keys(&image.snapshot));
                // A write that takes something away drops its key also when the disk refuses the rest.
                let told = !found.complaints.is_empty();
                let less = possible.iter().flatten().any(|of| {
                    held.iter().flatten().all(|(entry, key)| of.get(entry) == Some(key))
                });
                prop_assert!(possible.contains(&held) || (told && (less || held.is_none())), "{:?}", found.complaints);
            }
        }
    }
}
