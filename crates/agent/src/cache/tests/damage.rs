//! T-33: every byte changed, every sector cut, files of others (G-16).

use super::*;

/// Two generations of two entries, of which one was renewed between, and tokens.
fn two_generations(world: &World) -> [Snapshot; 2] {
    let (mut shelf, _) = world.open();
    let first = holding(&world.ca, &["a", "b"]);
    let audience = ["receiver".to_owned()];
    let token = Token {
        text: world.ca.jwt(&id("/a"), &audience, "kid", at(-10), at(290)).into(),
        id: id("/a"),
        held_since: at(-10),
        expires_at: at(290),
        key: None,
    };
    let with_token = |snapshot: &Snapshot| Image {
        tokens: vec![(Key::new("a".into(), &audience), token.clone())],
        ..image(snapshot)
    };
    shelf.write(&with_token(&first), PLAIN).unwrap();
    let mut second = first.clone();
    let fresh = holding(&world.ca, &["a"]).held["a"].clone();
    Arc::make_mut(&mut second.held).insert("a".into(), fresh);
    shelf.write(&with_token(&second), PLAIN).unwrap();
    [first, second]
}

/// What is found is of one generation or the other, entry by entry, and anything less than the newest whole comes with a word.
fn judge(world: &World, generations: &[Snapshot; 2], what: &str) -> (bool, usize, bool) {
    let found = world.open().1;
    let wanted = generations.each_ref().map(keys);
    let Some(image) = found.image else {
        assert!(!found.complaints.is_empty(), "{what}: empty without a word");
        return (false, 0, true);
    };
    let held = keys(&image.snapshot);
    for (entry, key) in &held {
        let known = wanted.iter().any(|of| of.get(entry) == Some(key));
        assert!(known, "{what}: a wrong key for {entry}");
    }
    let whole = held == wanted[1] && image.tokens.len() == 1;
    assert!(
        whole || !found.complaints.is_empty(),
        "{what}: less without a word"
    );
    (whole, held.len(), !found.complaints.is_empty())
}

#[test]
fn every_byte_and_every_cut_is_found_and_the_older_generation_helps() {
    let world = World::new();
    let generations = two_generations(&world);
    assert_eq!(judge(&world, &generations, "undamaged"), (true, 2, false));
    let cache = world.dir.path().join("cache");
    let (mut images, mut served) = (0, 0);
    for (name, whole) in world.files() {
        let path = cache.join(&name);
        let newest = generations[1].clone();
        let mut damaged = |bytes: &[u8], what: &str| {
            crate::testing::write_private(&path, bytes);
            let what = format!("{name}, {what}");
            let (whole, held, told) = judge(&world, &generations, &what);
            images += 1;
            served += held;
            // One file of them costs at most one identity: that of the entry whose only SVID it holds.
            assert!(
                held + 1 >= newest.held.len(),
                "{what}: {held} identities are left"
            );
            // An SVID that only the older index names is not looked at while the newer one is whole.
            assert!(
                told || (whole && name.starts_with("svid-")),
                "{what}: not noticed"
            );
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            damaged(&bytes, &format!("byte {at} flipped"));
        }
        for cut in (0..whole.len()).step_by(512).chain([whole.len() - 1]) {
            damaged(&whole[..cut], &format!("cut at {cut}"));
            let mut torn = whole.clone();
            torn[cut..].fill(0);
            if torn != whole {
                damaged(&torn, &format!("zero from {cut} on"));
            }
        }
        crate::testing::write_private(&path, &whole);
        assert_eq!(judge(&world, &generations, "mended"), (true, 2, false));
    }
    assert!(images > 3000, "{images}");
    assert!(served > images, "{served} of {images}");
}

#[test]
fn a_file_in_the_place_of_another_is_found() {
    let world = World::new();
    let generations = two_generations(&world);
    let cache = world.dir.path().join("cache");
    let files = world.files();
    for (name, whole) in &files {
        for (_, other) in files.iter().filter(|(other, _)| other != name) {
            crate::testing::write_private(&cache.join(name), other);
            let (whole, _, told) = judge(&world, &generations, name);
            assert!(told || (whole && name.starts_with("svid-")), "{name}");
        }
        std::fs::remove_file(cache.join(name)).unwrap();
        // There need not be tokens.
        if name != "tokens" {
            judge(&world, &generations, name);
        }
        crate::testing::write_private(&cache.join(name), whole);
    }
    // Of another plant, whole and under a key of its own.
    let theirs = World::new();
    two_generations(&theirs);
    for (name, bytes) in theirs.files() {
        crate::testing::write_private(&cache.join(name), &bytes);
    }
    let found = world.open().1;
    assert!(found.image.is_none());
    assert!(
        found.complaints[0].contains("it was sealed under key"),
        "{:?}",
        found.complaints
    );
}

#[test]
fn a_damaged_index_is_passed_over_for_the_older_one_and_written_anew() {
    let world = World::new();
    let generations = two_generations(&world);
    let path = world.dir.path().join("cache/index.a");
    crate::testing::write_private(&path, b"torn");
    let (mut shelf, found) = world.open();
    assert_eq!(keys(&found.image.unwrap().snapshot), keys(&generations[0]));
    assert!(found.complaints[0].contains("index.a is passed over: it is not a sealed file"));
    shelf.write(&image(&generations[1]), PLAIN).unwrap();
    drop(shelf);
    let found = world.open().1;
    assert!(found.complaints.is_empty(), "{:?}", found.complaints);
    assert_eq!(keys(&found.image.unwrap().snapshot), keys(&generations[1]));
}

/// Under one key, as when a node was enrolled anew.
#[test]
fn an_index_of_another_node_counts_for_nothing_beside_one_of_ours() {
    for ours_is_newer in [true, false] {
        let world = World::new();
        let two = id("/spire/agent/two");
        let ours = holding(&world.ca, &["a"]);
        // Of the same entry: of the other node it has another key.
        let theirs = holding(&world.ca, &["a"]);
        let cache = world.dir.path().join("cache");
        let write = |whose: &SpiffeId, snapshot: &Snapshot, times: usize| {
            let (mut shelf, _) = Shelf::open(world.place(), Some(whose));
            for _ in 0..times {
                let image = Image {
                    agent_id: whose.clone(),
                    ..image(snapshot)
                };
                shelf.write(&image, PLAIN).unwrap();
            }
            drop(shelf);
            let files = world.files();
            std::fs::remove_dir_all(&cache).unwrap();
            files
        };
        let mut mine = write(&node(), &ours, 1);
        let mut other = write(&two, &theirs, if ours_is_newer { 1 } else { 5 });
        if ours_is_newer {
            mine = write(&node(), &ours, 5);
        }
        mine.retain(|(name, _)| name != "index.a");
        other.retain(|(name, _)| name != "index.b");
        std::fs::create_dir(&cache).unwrap();
        std::fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        if ours_is_newer {
            mine.retain(|(name, _)| !name.starts_with("svid-"));
        }
        for (name, bytes) in mine.into_iter().chain(other) {
            crate::testing::write_private(&cache.join(name), &bytes);
        }
        let (mut shelf, found) = world.open();
        let said = found.complaints.join("; ");
        assert!(
            said.contains("is of node spiffe://plant.test/spire/agent/two"),
            "{said}"
        );
        let held = keys(&found.image.unwrap().snapshot);
        match ours_is_newer {
            // Its SVID is gone: the other node's is no substitute.
            true => assert!(held.is_empty(), "{:?}", held.keys()),
            false => assert_eq!(held, keys(&ours)),
        }
        let next = holding(&world.ca, &["b"]);
        shelf.write(&image(&next), PLAIN).unwrap();
        drop(shelf);
        let found = world.open().1;
        assert_eq!(found.complaints, Vec::<String>::new());
        assert_eq!(keys(&found.image.unwrap().snapshot), keys(&next));
    }
}
