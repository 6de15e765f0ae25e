//! What was taken away while the disk takes nothing new: it does not come back with a restart.

use std::io::ErrorKind;

use landfast_store::faulty::{Script, Verb};

use super::failing::open;
use super::*;

pub(super) const BOTH: Manner = Manner { both: true, ..PLAIN };

/// One of ten minutes.
pub(super) fn token(ca: &Ca, of: &str) -> (Key, Token) {
    let (audience, id) = (["receiver".to_owned()], id(&format!("/{of}")));
    let token = Token {
        text: ca.jwt(&id, &audience, "kid", at(-10), at(290)).into(),
        id,
        held_since: at(-10),
        expires_at: at(290),
        key: None,
    };
    (Key::new(of.into(), &audience), token)
}

impl World {
    /// What a start would find now, while the shelf is open.
    pub(super) fn beside(&self) -> Found {
        Self::of(self.files(), &self.place().key)
    }

    /// The same with these files.
    pub(super) fn of(files: impl IntoIterator<Item = (String, Vec<u8>)>, key: &Path) -> Found {
        let copy = Self::new();
        let place = copy.place();
        std::fs::create_dir_all(&place.dir).unwrap();
        for (name, bytes) in files {
            crate::testing::write_private(&place.dir.join(name), &bytes);
        }
        crate::testing::write_private(&place.key, &std::fs::read(key).unwrap());
        copy.open().1
    }
}

/// The keeper keeps what is held of a changed entry until it has another SVID, and so it does over a link that breaks in between.
#[test]
fn on_a_full_disk_an_entry_that_is_for_others_now_leaves_no_key_to_those_before() {
    let made_anew: fn(&mut crate::entry::Entry) = |entry| entry.created_at += 1;
    let changed: fn(&mut crate::entry::Entry) = |entry| entry.revision += 1;
    for change in [made_anew, changed] {
        let (world, script) = (World::new(), Script::default());
        let (mut shelf, _) = open(&world, &script);
        let before = holding(&world.ca, &["a", "b"]);
        shelf.write(&image(&before), PLAIN).unwrap();
        let mut others = entry("a", "/a", &["unix:uid:2"]);
        change(&mut others);
        let same = before.entries.get("b").cloned().unwrap();
        let after = Snapshot {
            entries: Arc::new(EntryIndex::new([Arc::new(others), same])),
            ..before
        };
        // The index alone finds no room, and then nothing does.
        script.fail(Verb::CreateTemp, ErrorKind::StorageFull);
        shelf.write(&image(&after), BOTH).unwrap_err();
        script.break_down(Verb::Write, ErrorKind::StorageFull);
        for _ in 0..3 {
            shelf.write(&image(&after), BOTH).unwrap_err();
            let found = world.beside();
            let held = keys(&found.image.unwrap().snapshot);
            assert_eq!(held.into_keys().collect::<Vec<_>>(), ["b"]);
            assert!(!found.complaints.is_empty());
        }
        script.mend();
        shelf.write(&image(&after), BOTH).unwrap();
        let image = world.beside().image.unwrap();
        assert_eq!(keys(&image.snapshot), keys(&after), "sealed again from memory");
        assert!(image.snapshot.entries.iter().eq(after.entries.iter()));
    }
}

/// Its place in memory is known for both: the second index fails, so that the first is of the new entry.
#[test]
fn nor_does_the_older_index_when_only_the_newer_one_found_room() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let before = holding(&world.ca, &["a", "b"]);
    shelf.write(&image(&before), PLAIN).unwrap();
    let mut others = entry("a", "/a", &["unix:uid:2"]);
    others.revision += 1;
    let same = before.entries.get("b").cloned().unwrap();
    let after = Snapshot {
        entries: Arc::new(EntryIndex::new([Arc::new(others), same])),
        ..before
    };
    script.fail_after(Verb::CreateTemp, 1, ErrorKind::StorageFull);
    shelf.write(&image(&after), BOTH).unwrap_err();
    let newer = world.dir.path().join("cache/index.a");
    std::fs::remove_file(newer).unwrap();
    let held = keys(&world.beside().image.unwrap().snapshot);
    assert_eq!(held.into_keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn on_a_full_disk_what_was_taken_away_loses_its_tokens() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let before = holding(&world.ca, &["a", "b"]);
    let tokens = vec![token(&world.ca, "a"), token(&world.ca, "b")];
    let first = Image {
        tokens,
        ..image(&before)
    };
    shelf.write(&first, PLAIN).unwrap();
    assert_eq!(world.beside().image.unwrap().tokens.len(), 2);
    let without = Snapshot {
        entries: Arc::new(EntryIndex::new(before.entries.get("b").cloned())),
        held: Arc::new([("b".into(), before.held["b"].clone())].into_iter().collect()),
        ..before
    };
    let after = Image {
        tokens: vec![token(&world.ca, "b")],
        ..image(&without)
    };
    script.break_down(Verb::Write, ErrorKind::StorageFull);
    shelf.write(&after, BOTH).unwrap_err();
    let found = world.beside().image.unwrap();
    let of = |image: &Image| -> Vec<String> {
        let each = image.tokens.iter().map(|(key, _)| key.entry().to_string());
        each.collect()
    };
    assert!(
        found.snapshot.entries.get("a").is_some(),
        "the index is as it was"
    );
    assert!(!of(&found).contains(&"a".to_owned()), "and would give them out");
    assert!(!shelf.owes_tokens(false), "not beside that index");
    script.mend();
    assert!(shelf.owes_tokens(true));
    shelf.write(&after, BOTH).unwrap();
    assert!(!shelf.owes_tokens(true));
    let found = world.beside().image.unwrap();
    assert!(found.snapshot.entries.get("a").is_none());
    assert_eq!(of(&found), ["b"], "those that are left are there again");
}

/// When the flash has had its share of indexes.
#[test]
fn what_is_gone_loses_keys_and_tokens_though_no_index_is_written() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let before = holding(&world.ca, &["a", "b"]);
    let tokens = vec![token(&world.ca, "a"), token(&world.ca, "b")];
    let first = Image {
        tokens,
        ..image(&before)
    };
    shelf.write(&first, PLAIN).unwrap();
    let after = Image {
        tokens: vec![token(&world.ca, "b")],
        ..image(&Snapshot {
            entries: Arc::new(EntryIndex::new(before.entries.get("b").cloned())),
            held: Arc::new([("b".into(), before.held["b"].clone())].into_iter().collect()),
            ..before
        })
    };
    let written = script.written();
    let keys_only = Manner {
        index: false,
        tokens: false,
        ..BOTH
    };
    let with_tokens = Manner {
        tokens: true,
        ..keys_only
    };
    let later = Manner {
        both: false,
        ..with_tokens
    };
    for manner in [keys_only, with_tokens, later] {
        shelf.write(&after, manner).unwrap();
        assert_eq!(script.written(), written, "{manner:?}");
        let found = world.beside().image.unwrap();
        assert!(
            found.snapshot.entries.get("a").is_some(),
            "the index is as it was"
        );
        let held = keys(&found.snapshot).into_keys().collect::<Vec<_>>();
        assert_eq!((held.as_slice(), found.tokens.len()), (&["b".to_owned()][..], 0));
    }
    shelf.write(&after, PLAIN).unwrap();
    let found = world.beside();
    assert_eq!(found.complaints, Vec::<String>::new());
    let found = found.image.unwrap();
    assert_eq!(found.snapshot.entries.iter().count(), 1);
    assert!(found.tokens == after.tokens);
    std::fs::remove_file(world.dir.path().join("cache/index.a")).unwrap();
    let older = world.beside().image.unwrap();
    assert!(
        older.snapshot.entries.get("a").is_none(),
        "both places know of it"
    );
}

#[test]
fn an_entry_that_is_new_costs_no_token_on_a_full_disk() {
    let (world, script) = (World::new(), Script::default());
    let (mut shelf, _) = open(&world, &script);
    let before = holding(&world.ca, &["a"]);
    let of = |snapshot: &Snapshot| Image {
        tokens: vec![token(&world.ca, "a")],
        ..image(snapshot)
    };
    shelf.write(&of(&before), PLAIN).unwrap();
    let more = holding(&world.ca, &["a", "b"]);
    script.break_down(Verb::Write, ErrorKind::StorageFull);
    shelf.write(&of(&more), BOTH).unwrap_err();
    let found = world.beside().image.unwrap();
    assert_eq!(keys(&found.snapshot), keys(&before));
    assert_eq!(found.tokens.len(), 1);
}
