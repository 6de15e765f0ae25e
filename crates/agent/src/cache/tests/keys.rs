//! The seal key: made once, missing, another, damaged, elsewhere.

use super::*;
use crate::cache::shelf::{SLOTS, SVID};
use crate::cache::start::destroy_left;

fn written(place: &Place, ca: &Ca) -> Snapshot {
    let snapshot = holding(ca, &["a"]);
    let (mut shelf, _) = Shelf::open(place.clone(), Some(&node()));
    shelf.write(&image(&snapshot), PLAIN).unwrap();
    snapshot
}

#[test]
fn a_key_that_is_gone_costs_the_cache_and_is_made_again_only_when_the_server_was_heard() {
    let world = World::new();
    let place = world.place();
    written(&place, &world.ca);
    let kept = world.files();
    std::fs::remove_file(&place.key).unwrap();
    let (mut shelf, found) = world.open();
    assert!(found.image.is_none());
    assert!(found.complaints[0].contains("is gone, so the cache cannot be opened"));
    let next = holding(&world.ca, &["b"]);
    let unheard = Manner {
        worthless: false,
        ..PLAIN
    };
    shelf.write(&image(&next), unheard).unwrap();
    assert_eq!(world.files(), kept, "an operator may bring the key back");
    assert!(!place.key.exists());
    shelf.write(&image(&next), PLAIN).unwrap();
    drop(shelf);
    let found = world.open().1;
    assert_eq!(keys(&found.image.unwrap().snapshot), keys(&next));
    assert!(found.complaints.is_empty());
}

/// A key on a stick that is there.
fn on_a_stick(world: &World) -> (Place, PathBuf) {
    let medium = world.dir.path().join("medium");
    std::fs::create_dir(&medium).unwrap();
    let key = medium.join("agent.key");
    landfast_store::seal::FileSealKey::create(&key).unwrap();
    (Place::new(world.dir.path(), Some(&key), &td()), medium)
}

#[test]
fn a_key_on_a_medium_that_is_not_there_is_never_made_beside_it() {
    let world = World::new();
    let (place, medium) = on_a_stick(&world);
    let snapshot = written(&place, &world.ca);
    assert!(!world.dir.path().join("seal-key").exists());
    let away = world.dir.path().join("away");
    std::fs::rename(&medium, &away).unwrap();
    let kept = world.files();
    let (mut shelf, found) = Shelf::open(place.clone(), Some(&node()));
    assert!(found.image.is_none());
    assert!(
        found.complaints[0].contains("bring its medium back"),
        "{:?}",
        found.complaints
    );
    let next = holding(&world.ca, &["b"]);
    let unheard = Manner {
        worthless: false,
        ..PLAIN
    };
    shelf.write(&image(&next), unheard).unwrap();
    assert_eq!(world.files(), kept, "until the server was heard it is left alone");
    drop(shelf);
    std::fs::rename(&away, &medium).unwrap();
    let (mut shelf, found) = Shelf::open(place, Some(&node()));
    assert_eq!(keys(&found.image.unwrap().snapshot), keys(&snapshot));
    shelf.write(&image(&next), PLAIN).unwrap();
}

#[test]
fn what_the_server_took_away_while_the_medium_was_away_does_not_come_back_with_it() {
    let world = World::new();
    let mut without_svids = holding(&world.ca, &["a"]);
    without_svids.held = Arc::default();
    for before in [holding(&world.ca, &["a", "b"]), without_svids] {
        let world = World::new();
        let (place, medium) = on_a_stick(&world);
        let (mut shelf, _) = Shelf::open(place.clone(), Some(&node()));
        shelf.write(&image(&before), PLAIN).unwrap();
        drop(shelf);
        let away = world.dir.path().join("away");
        std::fs::rename(&medium, &away).unwrap();
        let (mut shelf, _) = Shelf::open(place.clone(), Some(&node()));
        let next = holding(&world.ca, &["b"]);
        for _ in 0..2 {
            let error = shelf.write(&image(&next), PLAIN).unwrap_err();
            assert!(error.to_string().contains("bring its medium back"), "{error}");
            let names: Vec<_> = world.files().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["begun"], "a mark of what was");
        }
        // The mount point alone is no medium.
        std::fs::create_dir(&medium).unwrap();
        shelf.write(&image(&next), PLAIN).unwrap_err();
        assert_eq!(files(&medium), []);
        std::fs::remove_dir(&medium).unwrap();
        drop(shelf);
        std::fs::rename(&away, &medium).unwrap();
        let (mut shelf, found) = Shelf::open(place.clone(), Some(&node()));
        assert!(found.image.is_none());
        assert!(found.complaints[0].contains("no index"), "{:?}", found.complaints);
        shelf.write(&image(&next), PLAIN).unwrap();
        drop(shelf);
        let found = Shelf::open(place, Some(&node())).1;
        assert_eq!(keys(&found.image.unwrap().snapshot), keys(&next));
        assert!(world.files().iter().all(|(name, _)| name != "begun"));
    }
}

#[test]
fn a_key_elsewhere_is_not_made_on_the_disk_of_the_data_directory() {
    let world = World::new();
    let medium = world.dir.path().join("medium");
    std::fs::create_dir(&medium).unwrap();
    let place = Place::new(world.dir.path(), Some(&medium.join("agent.key")), &td());
    let (mut shelf, found) = Shelf::open(place.clone(), Some(&node()));
    assert!(
        found.complaints[0].contains("its medium is not mounted"),
        "{:?}",
        found.complaints
    );
    shelf
        .write(&image(&holding(&world.ca, &["a"])), PLAIN)
        .unwrap_err();
    assert_eq!(files(&medium), []);
    // The operator may have it there all the same.
    drop(shelf);
    written(&world.place(), &world.ca);
    std::fs::rename(world.dir.path().join("seal-key"), &place.key).unwrap();
    assert!(Shelf::open(place, Some(&node())).1.image.is_some());
    // On another disk it is made. A machine without one of memory has no other to try it on.
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let world = World::new();
    if shelf::device(other.path()) == shelf::device(world.dir.path()) {
        return;
    }
    let place = Place::new(world.dir.path(), Some(&other.path().join("agent.key")), &td());
    written(&place, &world.ca);
    assert!(place.key.exists());
}

#[test]
fn keys_that_must_not_be_stored_go_also_from_where_links_lead() {
    let world = World::new();
    written(&world.place(), &world.ca);
    let other = tempfile::tempdir().unwrap();
    let (dir, key) = (other.path().join("cache"), other.path().join("key"));
    std::fs::rename(world.place().dir, &dir).unwrap();
    std::fs::rename(world.place().key, &key).unwrap();
    std::os::unix::fs::symlink(&dir, world.place().dir).unwrap();
    std::os::unix::fs::symlink(&key, world.place().key).unwrap();
    crate::testing::write_private(&dir.join(".index.a.0.tmp"), b"half");
    crate::testing::write_private(&dir.join("another's"), b"not ours");
    start::remove(&world.place().dir, &world.place().key).unwrap();
    let left: Vec<_> = files(&dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["another's"]);
    assert!(!key.exists() && !world.place().key.exists() && !world.place().dir.exists());
    start::remove(&world.place().dir, &world.place().key).unwrap();
}

#[test]
fn a_damaged_key_is_named_and_replaced_when_nothing_is_lost_by_it() {
    let world = World::new();
    let place = world.place();
    written(&place, &world.ca);
    let mut key = std::fs::read(&place.key).unwrap();
    key[20] ^= 1;
    crate::testing::write_private(&place.key, &key);
    let (mut shelf, found) = world.open();
    assert!(found.image.is_none());
    assert!(
        found.complaints[0].contains("seal-key is damaged"),
        "{:?}",
        found.complaints
    );
    let next = holding(&world.ca, &["b"]);
    shelf.write(&image(&next), PLAIN).unwrap();
    drop(shelf);
    assert_eq!(keys(&world.open().1.image.unwrap().snapshot), keys(&next));
}

#[test]
fn an_empty_cache_beside_a_key_of_a_node_that_had_one_is_not_taken_for_a_first_start() {
    let world = World::new();
    written(&world.place(), &world.ca);
    std::fs::remove_dir_all(world.dir.path().join("cache")).unwrap();
    let found = world.open().1;
    assert!(found.image.is_none());
    assert!(
        found.complaints[0].contains("holds nothing"),
        "{:?}",
        found.complaints
    );
    let first = Shelf::open(world.place(), None).1;
    assert!(
        first.complaints.is_empty(),
        "a node that is not attested: {:?}",
        first.complaints
    );
}

#[test]
fn what_a_ban_has_left_when_the_power_was_cut_goes_at_the_next_start() {
    let world = World::new();
    let place = world.place();
    assert_eq!(destroy_left(&place), None);
    assert!(!place.key.exists(), "nothing is made where nothing was");
    written(&place, &world.ca);
    // Any part of it: here without an index, and with a key that opens it or none.
    for key in [true, false] {
        let left: Vec<_> = world.files();
        assert!(left.iter().any(|(name, _)| name.starts_with(SVID)));
        std::fs::remove_file(place.dir.join(SLOTS[0])).unwrap();
        std::fs::remove_file(place.dir.join(SLOTS[1])).unwrap();
        if !key {
            std::fs::remove_file(&place.key).unwrap();
        }
        assert_eq!(destroy_left(&place), None);
        assert_eq!(world.files(), []);
        assert!(!place.key.exists());
        written(&place, &world.ca);
    }
}
