//! The shelf on real files, on damaged ones, and on disks that fail.

mod away;
mod ban;
mod damage;
mod failing;
mod keys;
mod rungs;
mod starting;
mod unread;
mod writing;

use std::collections::BTreeMap;
use std::path::Path;

use landfast_identity::Bundle;
use tempfile::TempDir;

use super::shelf::Manner;
use super::*;
use crate::entry::EntryIndex;
use crate::keeper::state::{Held, State};
use crate::testing::{Ca, NOON, at, entry, id, td};

/// Each name is an entry, and has an SVID.
pub(super) fn holding(ca: &Ca, names: &[&str]) -> Snapshot {
    let entries = names
        .iter()
        .map(|name| Arc::new(entry(name, &format!("/{name}"), &["unix:uid:1"])));
    let held = names.iter().map(|name| {
        let svid = ca.svid(&id(&format!("/{name}")), at(-60), at(3600));
        (Arc::from(*name), Arc::new(Held::new(svid, 0, at(-30))))
    });
    Snapshot {
        entries: Arc::new(EntryIndex::new(entries)),
        held: Arc::new(held.collect()),
        bundle: Some(Arc::new(ca.bundle().with_sequence(7))),
        federated: Arc::new(BTreeMap::new()),
        synced_at: Some(NOON),
        round_over: true,
        banned: false,
        wanted: Arc::default(),
        rungs: Arc::default(),
        reading: false,
    }
}

pub(super) fn node() -> SpiffeId {
    id("/spire/agent/one")
}

pub(super) fn image(snapshot: &Snapshot) -> Image {
    Image {
        agent_id: node(),
        bootstrap: "operator's".to_owned(),
        newest: Some(Revision { epoch: 3, number: 14 }),
        snapshot: Arc::new(snapshot.clone()),
        tokens: Vec::new(),
    }
}

pub(super) const PLAIN: Manner = Manner {
    worthless: true,
    index: true,
    both: false,
    tokens: true,
    partly: false,
};

pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) ca: Ca,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            ca: Ca::new("one"),
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.dir.path(), None, &td())
    }

    pub(super) fn open(&self) -> (Shelf, Found) {
        Shelf::open(self.place(), Some(&node()))
    }

    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.dir.path().join("cache"))
    }
}

pub(super) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            (
                file.file_name().into_string().unwrap(),
                std::fs::read(file.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// By entry: serial and key.
pub(super) fn keys(snapshot: &Snapshot) -> BTreeMap<String, (String, Vec<u8>)> {
    let each = snapshot.held.iter().map(|(entry, held)| {
        let key = held.svid.key().as_pkcs8_der().to_vec();
        (entry.to_string(), (held.svid.serial_hex(), key))
    });
    each.collect()
}

#[test]
fn what_was_held_is_held_again_and_no_key_is_to_be_found_on_disk() {
    let world = World::new();
    let other = Ca::of(&TrustDomain::parse("other.test").unwrap(), "other");
    let mut snapshot = holding(&world.ca, &["a", "b", "c"]);
    let mut with_all = entry("a", "/a", &["unix:uid:1", "unix:gid:2"]);
    with_all.federates_with = vec![other.bundle().trust_domain().clone()];
    with_all.hint = "first".to_owned();
    with_all.expires_at = Some(at(86_400));
    with_all.revision = 4;
    with_all.created_at = 99;
    with_all.privileged = true;
    with_all.on_demand = true;
    let rest = snapshot.entries.iter().filter(|entry| &*entry.id != "a").cloned();
    snapshot.entries = Arc::new(EntryIndex::new(
        rest.chain([Arc::new(with_all)]).collect::<Vec<_>>(),
    ));
    let mut own = world.ca.bundle();
    let tainted = own
        .x509_authorities()
        .iter()
        .cloned()
        .map(|mut authority| {
            authority.tainted = true;
            authority
        })
        .collect();
    own = Bundle::new(td())
        .with_x509_authorities(tainted)
        .unwrap()
        .with_jwt_authorities(vec![landfast_identity::JwtAuthority {
            key_id: "kid".to_owned(),
            public_key: world.ca.public_key(),
            expires_at: Some(at(5000)),
            tainted: false,
        }])
        .unwrap()
        .with_sequence(7)
        .with_refresh_hint(Some(std::time::Duration::from_secs(300)));
    snapshot.bundle = Some(Arc::new(own));
    snapshot.federated = Arc::new([(other.bundle().trust_domain().clone(), Arc::new(other.bundle()))].into());
    let audience = ["receiver".to_owned()];
    let token = Token {
        text: world.ca.jwt(&id("/a"), &audience, "kid", at(-10), at(290)).into(),
        id: id("/a"),
        held_since: at(-10),
        expires_at: at(290),
        key: None,
    };
    let written = Image {
        tokens: vec![(Key::new("a".into(), &audience), token)],
        ..image(&snapshot)
    };
    let (mut shelf, found) = world.open();
    assert!(
        found.image.is_none() && found.complaints.is_empty(),
        "{:?}",
        found.complaints
    );
    shelf.write(&written, PLAIN).unwrap();
    drop(shelf);
    let (_shelf, found) = world.open();
    assert_eq!(found.complaints, Vec::<String>::new());
    let read = found.image.unwrap();
    assert_eq!(read.agent_id, written.agent_id);
    assert_eq!(read.bootstrap, written.bootstrap);
    assert_eq!(read.newest, written.newest);
    assert!(read.tokens == written.tokens);
    let (old, new) = (&written.snapshot, &read.snapshot);
    assert!(old.entries.iter().eq(new.entries.iter()));
    assert_eq!(keys(old), keys(new));
    assert_eq!(new.synced_at, Some(NOON));
    assert!(new.round_over && !new.banned);
    let (one, two) = (old.bundle.as_ref().unwrap(), new.bundle.as_ref().unwrap());
    assert!(one.content_eq(two), "{one:?} {two:?}");
    assert!(two.x509_authorities()[0].tainted);
    assert_eq!(one.refresh_hint(), two.refresh_hint());
    assert!(
        old.federated
            .iter()
            .all(|(name, bundle)| new.federated[name].content_eq(bundle))
    );
    for (id, held) in old.held.iter() {
        assert_eq!(new.held[id].renew_at, held.renew_at, "it is due when it was due");
    }
    // A thief without the key file finds neither keys nor names.
    let scalar = |key: &[u8]| key.windows(16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for (name, bytes) in world.files() {
        for (_, key) in keys(old).values() {
            let found = scalar(key)
                .iter()
                .any(|part| bytes.windows(16).any(|of| of == part));
            assert!(!found, "{name} holds a part of a key");
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("plant.test") && !text.contains("PRIVATE"),
            "{name}"
        );
    }
}

#[test]
fn what_expired_while_nobody_looked_is_held_and_not_served() {
    let world = World::new();
    let (mut shelf, _) = world.open();
    shelf.write(&image(&holding(&world.ca, &["a"])), PLAIN).unwrap();
    drop(shelf);
    let snapshot = world.open().1.image.unwrap().snapshot;
    let entry = snapshot.entries.get("a").unwrap();
    assert!(snapshot.svid(entry, at(3599)).is_some());
    assert!(snapshot.svid(entry, at(3600)).is_none());
    assert!(snapshot.svid(entry, at(-61)).is_none());
    let mut state = State::restored(&snapshot);
    let actions = state.step(at(3600), crate::keeper::state::Event::Due);
    let due = actions
        .iter()
        .any(|action| matches!(action, crate::keeper::state::Action::Issue(orders) if orders.len() == 1));
    assert!(due, "another is asked for");
}

#[test]
fn a_change_writes_what_is_new_and_one_index_and_sweeps_what_no_index_names() {
    let world = World::new();
    let (mut shelf, _) = world.open();
    let first = holding(&world.ca, &["a", "b"]);
    shelf.write(&image(&first), PLAIN).unwrap();
    let names = |world: &World| -> Vec<String> { world.files().into_iter().map(|(name, _)| name).collect() };
    assert_eq!(
        names(&world).len(),
        4,
        "both indexes, two SVIDs: {:?}",
        names(&world)
    );
    let before = world.files();
    let mut second = first.clone();
    let fresh = holding(&world.ca, &["a"]).held["a"].clone();
    Arc::make_mut(&mut second.held).insert("a".into(), fresh);
    shelf.write(&image(&second), PLAIN).unwrap();
    let after = world.files();
    assert_eq!(after.len(), 5, "the older index and what it names stay");
    let rewritten: Vec<_> = before.iter().filter(|file| !after.contains(file)).collect();
    assert_eq!(rewritten.len(), 1, "nothing is written twice but an index");
    assert_eq!(rewritten[0].0, "index.a");
    shelf.write(&image(&second), PLAIN).unwrap();
    assert_eq!(names(&world).len(), 4, "no index names the old SVID");
    // Taken away: neither index brings it back.
    let third = holding(&world.ca, &["b"]);
    let third = Snapshot {
        held: Arc::new([("b".into(), second.held["b"].clone())].into_iter().collect()),
        ..third
    };
    let both = Manner { both: true, ..PLAIN };
    shelf.write(&image(&third), both).unwrap();
    drop(shelf);
    assert_eq!(names(&world).len(), 3);
    for lost in ["index.a", "index.b"] {
        let path = world.dir.path().join("cache").join(lost);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = world.open().1;
        let held = found.image.unwrap().snapshot;
        assert_eq!(keys(&held).into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(found.complaints.len(), 1, "{:?}", found.complaints);
        crate::testing::write_private(&path, &whole);
    }
}

#[test]
fn a_ban_leaves_nothing_and_the_cache_of_another_node_is_not_used() {
    let world = World::new();
    let (mut shelf, _) = world.open();
    let audience = ["receiver".to_owned()];
    let token = Token {
        text: world.ca.jwt(&id("/b"), &audience, "kid", at(-10), at(290)).into(),
        id: id("/b"),
        held_since: at(-10),
        expires_at: at(290),
        key: None,
    };
    let first = Image {
        tokens: vec![(Key::new("b".into(), &audience), token)],
        ..image(&holding(&world.ca, &["a"]))
    };
    shelf.write(&first, PLAIN).unwrap();
    drop(shelf);
    for whose in [None, Some(id("/spire/agent/two"))] {
        let found = Shelf::open(world.place(), whose.as_ref()).1;
        assert!(found.image.is_none());
        assert!(found.complaints[0].contains("is of node spiffe://plant.test/spire/agent/one"));
    }
    // Nor does it count more than what the other node writes.
    let two = id("/spire/agent/two");
    let (mut shelf, _) = Shelf::open(world.place(), Some(&two));
    let others = Image {
        agent_id: two.clone(),
        ..image(&holding(&world.ca, &["b"]))
    };
    let unheard = Manner {
        worthless: false,
        ..PLAIN
    };
    let before = world.files();
    shelf.write(&others, unheard).unwrap();
    assert_eq!(
        world.files(),
        before,
        "it is left alone until the server has been heard"
    );
    let no_tokens = Manner {
        tokens: false,
        ..PLAIN
    };
    shelf.write(&others, no_tokens).unwrap();
    drop(shelf);
    let (mut shelf, found) = Shelf::open(world.place(), Some(&two));
    let read = found.image.unwrap();
    assert!(read.tokens.is_empty(), "those of the other node");
    let held = keys(&read.snapshot);
    assert_eq!(held.into_keys().collect::<Vec<_>>(), ["b"]);
    shelf.destroy().unwrap();
    assert_eq!(world.files(), []);
    shelf.destroy().unwrap();
}
