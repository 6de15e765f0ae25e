//! T-29: disks that are full, read-only, or fail at one step.

use std::io::ErrorKind;

use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use proptest::prelude::*;

use super::super::shelf::ShelfError;
use super::*;

pub(super) fn open(world: &World, script: &Script) -> (Shelf, Found) {
    let script = script.clone();
    let open = move |dir: &Path| Store::open_with(dir, |files| FaultyFiles::new(files, script.clone()));
    Shelf::open_by(world.place(), Some(&node()), Arc::new(open))
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

#[test]
fn an_index_that_is_too_large_costs_no_room_and_neither_does_one_that_fails() {
    let svids = |world: &World| {
        let files = world.files();
        files.iter().filter(|(name, _)| name.starts_with("svid-")).count()
    };
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let mut large = entry("a", "/a", &["unix:uid:1"]);
    large.hint = "x".repeat(17 << 20);
    let entries = Arc::new(EntryIndex::new([Arc::new(large)]));
    for _ in 0..3 {
        let snapshot = Snapshot {
            entries: Arc::clone(&entries),
            ..holding(&world.ca, &["a"])
        };
        let error = shelf.write(&image(&snapshot), PLAIN).unwrap_err();
        assert!(matches!(
            error,
            ShelfError::Store(landfast_store::StoreError::TooLarge { .. })
        ));
        assert_eq!(svids(&world), 0, "no index would name it");
    }
    for _ in 0..5 {
        script.fail_after(Verb::CreateTemp, 2, ErrorKind::StorageFull);
        let snapshot = holding(&world.ca, &["a", "b"]);
        shelf.write(&image(&snapshot), PLAIN).unwrap_err();
        script.mend();
        assert_eq!(svids(&world), 2, "those that the next attempt needs");
    }
}

#[test]
fn an_older_cache_that_is_mounted_over_it_does_not_count_for_more() {
    let world = World::new();
    let (mut shelf, _) = world.open();
    let first = holding(&world.ca, &["a", "b"]);
    for _ in 0..5 {
        shelf.write(&image(&first), PLAIN).unwrap();
    }
    let (dir, old) = (world.place().dir, world.dir.path().join("old"));
    std::fs::create_dir(&old).unwrap();
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for (name, bytes) in world.files() {
        crate::testing::write_private(&old.join(name), &bytes);
    }
    let after = holding(&world.ca, &["b"]);
    let both = Manner { both: true, ..PLAIN };
    shelf.write(&image(&after), both).unwrap();
    std::fs::rename(&dir, world.dir.path().join("new")).unwrap();
    std::fs::rename(&old, &dir).unwrap();
    shelf.write(&image(&after), PLAIN).unwrap();
    drop(shelf);
    for lost in ["", "index.a", "index.b"] {
        let path = dir.join(lost);
        let whole = (!lost.is_empty()).then(|| std::fs::read(&path).unwrap());
        if whole.is_some() {
            std::fs::remove_file(&path).unwrap();
        }
        let held = keys(&world.open().1.image.unwrap().snapshot);
        assert_eq!(held, keys(&after), "without {lost:?}");
        if let Some(whole) = whole {
            crate::testing::write_private(&path, &whole);
        }
    }
    // Nor do files that somebody removed one by one.
    let (mut shelf, _) = world.open();
    for (name, _) in world.files() {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    shelf.write(&image(&after), PLAIN).unwrap();
    drop(shelf);
    let found = world.open().1;
    assert_eq!(found.complaints, Vec::<String>::new());
    assert_eq!(keys(&found.image.unwrap().snapshot), keys(&after));
}

#[test]
fn a_directory_that_could_not_be_looked_at_is_not_taken_for_an_empty_one() {
    let (world, script) = (World::new(), Script::default());
    world
        .open()
        .0
        .write(&image(&holding(&world.ca, &["a"])), PLAIN)
        .unwrap();
    let before = world.files();
    script.break_down(Verb::List, ErrorKind::Other);
    let (mut shelf, found) = open(&world, &script);
    assert!(!found.complaints.is_empty());
    script.mend();
    let after = holding(&world.ca, &["b"]);
    let unheard = Manner {
        worthless: false,
        ..PLAIN
    };
    shelf.write(&image(&after), unheard).unwrap();
    assert_eq!(world.files(), before);
    shelf.write(&image(&after), PLAIN).unwrap();
    drop(shelf);
    assert_eq!(keys(&world.open().1.image.unwrap().snapshot), keys(&after));
}

#[test]
fn a_cache_that_could_not_be_destroyed_does_not_outlive_the_ban_either() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    for _ in 0..5 {
        shelf.write(&image(&holding(&world.ca, &["a"])), PLAIN).unwrap();
    }
    script.break_down(Verb::Remove, ErrorKind::ReadOnlyFilesystem);
    shelf.destroy().unwrap_err();
    assert!(!world.place().key.exists(), "what is left opens for nobody");
    script.mend();
    let after = holding(&world.ca, &["b"]);
    shelf.write(&image(&after), PLAIN).unwrap();
    drop(shelf);
    assert_eq!(keys(&world.open().1.image.unwrap().snapshot), keys(&after));
}

#[test]
fn an_entry_that_was_made_anew_is_another_though_its_revision_is_the_same() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let before = holding(&world.ca, &["a"]);
    shelf.write(&image(&before), PLAIN).unwrap();
    let mut anew = entry("a", "/a", &["unix:uid:2"]);
    anew.created_at += 1;
    let after = Snapshot {
        entries: Arc::new(EntryIndex::new([Arc::new(anew)])),
        held: Arc::default(),
        ..before
    };
    script.break_down(Verb::Write, ErrorKind::StorageFull);
    let both = Manner { both: true, ..PLAIN };
    shelf.write(&image(&after), both).unwrap_err();
    drop(shelf);
    assert!(world.open().1.image.unwrap().snapshot.held.is_empty());
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

/// Whatever fails in whatever order: a start finds what was last said to be on disk, or something that was tried since, whole; nothing that was taken
/// away with a word of success, and never less without a word.
fn a_start_finds_it(attempts: Vec<Attempt>) -> Result<(), TestCaseError> {
    let (world, script) = (World::new(), Script::default());
    let names = ["a", "b", "c", "d"];
    let (mut shelf, _) = open(&world, &script);
    let mut possible = vec![None];
    // What a write took away that did not go well.
    let mut taken: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    // After one, each write takes away until one goes well, or the agent starts anew.
    let mut owed = false;
    for attempt in attempts {
        let chosen: Vec<_> = attempt.entries.iter().map(|number| names[*number]).collect();
        let snapshot = holding(&world.ca, &chosen);
        if let Some((verb, nth)) = attempt.fails {
            script.fail_after(verb, nth, ErrorKind::StorageFull);
        }
        let manner = Manner {
            both: attempt.both,
            ..PLAIN
        };
        let written = shelf.write(&image(&snapshot), manner);
        script.mend();
        if written.is_ok() {
            possible.clear();
            taken.clear();
            owed = false;
        } else if attempt.both || owed {
            owed = true;
            taken.extend(names.iter().filter(|name| !chosen.contains(name)));
        }
        possible.push(Some(keys(&snapshot)));
        if attempt.restarts {
            drop(shelf);
            owed = false;
            let (next, found) = open(&world, &script);
            shelf = next;
            let held = found.image.as_ref().map(|image| keys(&image.snapshot));
            // A write that takes something away drops its key also when the disk refuses the rest: that and nothing else may be missing.
            let told = !found.complaints.is_empty();
            let less = |of: &BTreeMap<String, (String, Vec<u8>)>| {
                let held = held.as_ref()?;
                let known = held.iter().all(|(entry, key)| of.get(entry) == Some(key));
                let missing = of.keys().filter(|entry| !held.contains_key(*entry));
                Some(known && missing.into_iter().all(|entry| taken.contains(entry.as_str())))
            };
            let less = possible.iter().flatten().any(|of| less(of) == Some(true));
            prop_assert!(
                possible.contains(&held) || (told && less),
                "{:?}",
                found.complaints
            );
        }
    }
    Ok(())
}

/// The second write owes what it could not take away, the third one does it.
#[test]
fn what_a_full_disk_did_not_let_go_goes_with_the_next_write() {
    let full = Some((Verb::CreateTemp, 0));
    let attempt = |entries: &[usize], both, fails, restarts| Attempt {
        entries: entries.to_vec(),
        both,
        fails,
        restarts,
    };
    let attempts = vec![
        attempt(&[1, 2, 3], false, None, false),
        attempt(&[1, 2], true, full, false),
        attempt(&[1], false, full, true),
    ];
    a_start_finds_it(attempts).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_start_finds_what_was_written_last_or_tried_since(attempts in attempts()) {
        a_start_finds_it(attempts)?;
    }
}
