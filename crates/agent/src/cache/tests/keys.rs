//! The seal key: made once, missing, another, damaged, elsewhere.

use super::*;

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

#[test]
fn a_key_on_a_medium_that_is_not_there_is_never_made_beside_it() {
    let world = World::new();
    let medium = world.dir.path().join("medium");
    std::fs::create_dir(&medium).unwrap();
    let key = medium.join("agent.key");
    let place = Place::new(world.dir.path(), Some(&key), &td());
    let snapshot = written(&place, &world.ca);
    assert!(!world.dir.path().join("seal-key").exists());
    let away = world.dir.path().join("away");
    std::fs::rename(&medium, &away).unwrap();
    let (mut shelf, found) = Shelf::open(place.clone(), Some(&node()));
    assert!(found.image.is_none());
    assert!(
        found.complaints[0].contains("bring its medium back"),
        "{:?}",
        found.complaints
    );
    let next = holding(&world.ca, &["b"]);
    let error = shelf.write(&image(&next), PLAIN).unwrap_err();
    assert!(error.to_string().contains("bring its medium back"), "{error}");
    // The mount point alone is no medium.
    std::fs::create_dir(&medium).unwrap();
    shelf.write(&image(&next), PLAIN).unwrap_err();
    assert_eq!(files(&medium), []);
    std::fs::remove_dir(&medium).unwrap();
    drop(shelf);
    std::fs::rename(&away, &medium).unwrap();
    let (mut shelf, found) = Shelf::open(place, Some(&node()));
    assert_eq!(
        keys(&found.image.unwrap().snapshot),
        keys(&snapshot),
        "nothing was lost"
    );
    shelf.write(&image(&next), PLAIN).unwrap();
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
