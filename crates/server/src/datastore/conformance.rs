//! What every datastore does, whatever is behind it. A store names itself once, at the end, and has all of these.

use std::sync::{Arc, Mutex};

use landfast_identity::{JwtAuthority, TrustDomain, X509Authority};

use super::*;
use crate::core::fixture::{DAY, START, agent, draft, foreign, id, sel};
use crate::issuance::SvidKind;
use crate::registry::{EndpointUrl, Profile, alias_selector};

pub(super) type Store = Arc<dyn Datastore>;

/// Makes a test of each of these for a store; `open` returns one that is empty, and what has to live as long.
macro_rules! conforms {
    ($open:path: $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (_place, store) = $open().await;
                $crate::datastore::conformance::$test(store).await;
            }
        )*
    };
    ($open:path) => {
        $crate::datastore::conformance::conforms! { $open:
            what_is_stored_is_loaded_as_it_was
            the_listener_hears_each_revision_once_and_in_order
            a_refusal_leaves_nothing
            removals_go_with_what_hangs_on_them
            a_policy_lives_and_dies_with_its_entry
            agents_stay_banned_and_are_promoted_once
            a_token_has_one_winner
            bundles_and_relationships_keep_their_rules
            a_key_has_one_identity
            the_journal_is_saved_by_who_knows_it
            appended_authorities_go_with_the_journal
            old_things_are_pruned_in_batches
            what_a_caller_who_left_has_asked_for_is_done
            a_probe_leaves_nothing
        }
    };
}
pub(super) use conforms;

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Ear(pub(super) Mutex<Vec<Committed>>);

impl CommitListener for Ear {
    fn committed(&self, commit: &Committed) {
        self.0.lock().unwrap().push(commit.clone());
    }

    fn reloaded(&self, _: Snapshot) {
        panic!("nothing was pruned");
    }
}

async fn loaded(db: &Store) -> Snapshot {
    let mut snapshot = db.load(Some(START)).await.unwrap();
    snapshot.entries.sort_by(|a, b| a.entry.id.cmp(&b.entry.id));
    snapshot
}

async fn make(db: &Store, path: &str, entry: &str) -> Created {
    let draft = draft("/spire/agent/x", path);
    let made = db.create_entry(draft, entry.into(), "me".into(), START).await;
    made.unwrap()
}

fn new(created: Created) -> Arc<Entry> {
    match created {
        Created::New(entry) => entry,
        Created::Similar(entry) => panic!("similar to {}", entry.id),
    }
}

fn b() -> TrustDomain {
    TrustDomain::parse("b.example").unwrap()
}

fn web(url: &str) -> Arc<Relationship> {
    Arc::new(Relationship {
        trust_domain: b(),
        url: EndpointUrl::parse(url).unwrap(),
        profile: Profile::Web,
    })
}

pub(super) async fn what_is_stored_is_loaded_as_it_was(db: Store) {
    let bundle = foreign("b.example").await;
    let x509 = bundle.x509_authorities()[0].certificate.clone();
    let jwt = JwtAuthority {
        tainted: true,
        expires_at: None,
        ..bundle.jwt_authorities()[0].clone()
    };
    let root = X509Authority {
        certificate: x509,
        tainted: true,
    };
    let bundle = bundle.with_x509_authorities(vec![root]).unwrap();
    let bundle = bundle.with_jwt_authorities(vec![jwt]).unwrap();
    let bundle = Arc::new(bundle.with_sequence(u64::MAX));
    db.set_bundle(Arc::clone(&bundle), BundleWrite::Set)
        .await
        .unwrap();
    let mut draft = draft("/spire/agent/x", "/w");
    draft.selectors = sel(&["unix:uid:1", "unix:user:ü"]);
    draft.federates_with = vec![b()];
    draft.dns_names = vec!["b.example".into(), "a.example".into()];
    draft.expires_at = Some(START.saturating_add(DAY));
    draft.hint = "\"ü\u{0}\"".into();
    draft.admin = true;
    draft.downstream = true;
    draft.store_svid = true;
    draft.jwt_svid_include_jti = true;
    draft.x509_svid_ttl = Some(DAY);
    let entry = new(db
        .create_entry(draft, "e".into(), "me".into(), START)
        .await
        .unwrap());
    let patch = EntryPatch {
        hint: Some("h".repeat(1024)),
        ..EntryPatch::default()
    };
    let updated = db
        .update_entry("e".into(), patch, MargoPaths::Ordinary)
        .await
        .unwrap();
    assert_eq!((updated.revision_number, updated.hint.len()), (1, 1024));
    assert_eq!(updated.selectors, entry.selectors);
    let mut agent = agent("/spire/agent/x", "0a", &["k:1", "k:2"]);
    agent.new_serial = Some("0b".into());
    agent.new_not_after = Some(START);
    agent.can_reattest = true;
    db.attest_agent(agent.clone()).await.unwrap();
    let relationship = Arc::new(Relationship {
        profile: Profile::Spiffe {
            endpoint_id: id("/endpoint"),
        },
        ..(*web("https://b.example/bundle")).clone()
    });
    db.create_relationship(Arc::clone(&relationship), None)
        .await
        .unwrap();
    let snapshot = loaded(&db).await;
    assert_eq!(snapshot.revision.number, 5);
    assert!(snapshot.revision.epoch > 0);
    assert_eq!(
        (&snapshot.entries[0].entry, snapshot.entries[0].revision),
        (&updated, 3)
    );
    assert_eq!(*snapshot.agents[0], agent);
    assert_eq!(snapshot.bundles, [bundle]);
    assert_eq!(snapshot.relationships, [relationship]);
}

pub(super) async fn the_listener_hears_each_revision_once_and_in_order(db: Store) {
    make(&db, "/first", "first").await;
    let snapshot = loaded(&db).await;
    // Between the look and the listener.
    make(&db, "/second", "second").await;
    let ear = Arc::new(Ear::default());
    db.follow(ear.clone());
    // Every third one takes a name that is taken.
    let created = |n: u32| {
        let (draft, name) = (draft("/spire/agent/x", &format!("/w{n}")), format!("e{n}"));
        db.create_entry(draft, name, "me".into(), START)
    };
    let answers = (0..90).map(|n| created(if n % 3 == 2 { n - 1 } else { n }));
    let answers = futures_util::future::join_all(answers).await;
    let fresh = answers
        .iter()
        .filter(|a| matches!(a, Ok(Created::New(_))))
        .count();
    assert_eq!(fresh, 60);
    db.delete_entry("e0".into(), START).await.unwrap();
    let heard = ear.0.lock().unwrap();
    let revisions: Vec<_> = heard.iter().map(|commit| commit.revision).collect();
    let first = *revisions.first().unwrap();
    assert!(
        first == 2 || first == 3,
        "{first}: SQLite is followed from then on, PostgreSQL from what was loaded"
    );
    assert_eq!(
        revisions,
        (first..=63).collect::<Vec<_>>(),
        "each change the next revision"
    );
    assert_eq!(snapshot.revision.number, 1);
    assert!(matches!(&heard.last().unwrap().change, Change::RemoveEntry(id) if id == "e0"));
}

pub(super) async fn a_refusal_leaves_nothing(db: Store) {
    let mut bad = draft("/spire/agent/x", "/bad");
    bad.federates_with = vec![TrustDomain::parse("nobody.example").unwrap()];
    let (one, bad, two, taken) = tokio::join!(
        make(&db, "/one", "one"),
        db.create_entry(bad, "bad".into(), "me".into(), START),
        make(&db, "/two", "two"),
        async {
            let similar = make(&db, "/one", "other").await;
            let draft = draft("/spire/agent/y", "/one");
            (
                similar,
                db.create_entry(draft, "one".into(), "me".into(), START).await,
            )
        },
    );
    new(one);
    new(two);
    assert!(matches!(bad, Err(RegistryError::NoFederatedBundle { .. })));
    assert!(matches!(
        taken,
        (Created::Similar(_), Err(RegistryError::EntryIdTaken { .. }))
    ));
    let patch = EntryPatch {
        spiffe_id: Some(id("/two")),
        ..EntryPatch::default()
    };
    let same = db.update_entry("one".into(), patch, MargoPaths::Ordinary).await;
    assert!(matches!(same, Err(RegistryError::Similar { existing }) if existing.id == "two"));
    let gone = db
        .update_entry("none".into(), EntryPatch::default(), MargoPaths::Ordinary)
        .await;
    assert!(matches!(gone, Err(RegistryError::NoSuchEntry { .. })));
    assert!(!db.delete_entry("none".into(), START).await.unwrap());
    let snapshot = loaded(&db).await;
    assert_eq!(
        (snapshot.entries.len(), snapshot.revision.number),
        (2, 2),
        "what was refused took its revision back"
    );
}

pub(super) async fn removals_go_with_what_hangs_on_them(db: Store) {
    let bundle = Arc::new(foreign("b.example").await);
    db.set_bundle(bundle, BundleWrite::Set).await.unwrap();
    for n in 0..3 {
        let mut draft = draft("/spire/agent/x", &format!("/w{n}"));
        draft.federates_with = vec![b()];
        db.create_entry(draft, format!("e{n}"), "me".into(), START)
            .await
            .unwrap();
    }
    let record = agent("/spire/agent/join_token/t", "0a", &[]);
    db.attest_agent(record.clone()).await.unwrap();
    let mut alias = draft("/spire/agent/join_token/t", "/alias");
    alias.selectors = alias_selector(&record.id).unwrap();
    db.create_entry(alias, "alias".into(), "me".into(), START)
        .await
        .unwrap();
    let in_use = db.delete_bundle(b(), DeleteMode::Restrict, START).await;
    assert!(matches!(in_use, Err(RegistryError::BundleInUse { entries: 3 })));
    assert!(db.delete_agent(record.id.clone(), START).await.unwrap());
    assert!(!db.delete_agent(record.id, START).await.unwrap());
    let snapshot = loaded(&db).await;
    assert_eq!(
        (snapshot.agents.len(), snapshot.entries.len()),
        (0, 3),
        "the alias went with its agent"
    );
    assert!(
        db.delete_bundle(b(), DeleteMode::Dissociate, START)
            .await
            .unwrap()
    );
    let snapshot = loaded(&db).await;
    assert!(
        snapshot
            .entries
            .iter()
            .all(|e| e.entry.federates_with.is_empty() && e.entry.revision_number == 1)
    );
    assert!(snapshot.bundles.is_empty());
    // Six, an agent and its alias, three updates and a bundle.
    assert_eq!(snapshot.revision.number, 6 + 2 + 4);
}

pub(super) async fn a_policy_lives_and_dies_with_its_entry(db: Store) {
    make(&db, "/w", "e").await;
    let patch = |text: &str| PolicyPatch {
        description: Some(text.into()),
    };
    let first = db
        .set_policy("e".into(), patch("press 4"), Some(0))
        .await
        .unwrap();
    assert_eq!((first.revision, first.description.as_str()), (2, "press 4"));
    let late = db.set_policy("e".into(), patch("press 5"), Some(0)).await;
    assert!(matches!(late, Err(RegistryError::PolicyChanged { found: 2, .. })));
    let none = db.set_policy("none".into(), patch("x"), None).await;
    assert!(matches!(none, Err(RegistryError::NoSuchEntry { .. })));
    let hint = EntryPatch {
        hint: Some("h".into()),
        ..EntryPatch::default()
    };
    db.update_entry("e".into(), hint, MargoPaths::Ordinary)
        .await
        .unwrap();
    let snapshot = loaded(&db).await;
    assert_eq!(
        snapshot.entries[0].policy,
        Some(first),
        "an update leaves it alone"
    );
    assert_eq!(snapshot.entries[0].version(), 3);
    db.delete_entry("e".into(), START).await.unwrap();
    make(&db, "/w", "e").await;
    assert_eq!(loaded(&db).await.entries[0].policy, None);
}

pub(super) async fn agents_stay_banned_and_are_promoted_once(db: Store) {
    let record = agent("/spire/agent/x", "0a", &["k:1"]);
    let change = |change| db.change_agent(record.id.clone(), change);
    assert!(!change(AgentChange::Ban).await.unwrap(), "there is none");
    db.attest_agent(record.clone()).await.unwrap();
    let version = AgentChange::Version("1.0".into());
    assert!(change(version).await.unwrap());
    let stage = AgentChange::Stage {
        serial: "0b".into(),
        not_after: START.saturating_add(9 * DAY),
    };
    assert!(change(stage).await.unwrap());
    let promote = |serial: &str| AgentChange::Promote {
        serial: serial.into(),
    };
    assert!(!change(promote("0c")).await.unwrap());
    assert!(change(promote("0b")).await.unwrap());
    assert!(change(promote("0b")).await.unwrap());
    let stored = Arc::clone(&loaded(&db).await.agents[0]);
    assert_eq!(
        (stored.serial.as_str(), stored.agent_version.as_str()),
        ("0b", "1.0")
    );
    assert_eq!(stored.not_after, START.saturating_add(9 * DAY));
    assert!(change(AgentChange::Ban).await.unwrap());
    assert!(matches!(change(promote("0b")).await, Err(RegistryError::Banned)));
    let again = db.attest_agent(record.clone()).await;
    assert!(matches!(again, Err(RegistryError::Banned)));
    assert!(loaded(&db).await.agents[0].is_banned());
    assert!(db.delete_agent(record.id.clone(), START).await.unwrap());
    db.attest_agent(record.clone()).await.unwrap();
}

pub(super) fn token(n: u8) -> NewToken {
    NewToken {
        hash: [n; 32],
        expires_at: START.saturating_add(DAY),
        alias: Some(id("/gateway")),
    }
}

pub(super) fn redemption(token: u8, key: u8) -> Redemption {
    Redemption {
        hash: [token; 32],
        key_hash: [key; 32],
        agent_id: id(&format!("/spire/agent/join_token/t{token}")),
        alias_entry_id: format!("alias-{token}-{key}"),
        now: START,
        retry_window: DAY,
    }
}

pub(super) async fn a_token_has_one_winner(db: Store) {
    db.create_token(token(1)).await.unwrap();
    assert!(matches!(
        db.create_token(token(1)).await,
        Err(RegistryError::TokenExists)
    ));
    let all = (1..=40).map(|key| db.redeem_token(redemption(1, key)));
    let all = futures_util::future::join_all(all).await;
    let winners: Vec<_> = all.iter().filter(|a| a.as_ref().is_ok_and(|r| r.first)).collect();
    assert_eq!(winners.len(), 1);
    let losers = all.iter().filter(|a| matches!(a, Err(TokenError::Used))).count();
    assert_eq!(losers, 39);
    assert_eq!(loaded(&db).await.entries.len(), 1, "one alias");
    let key = u8::try_from(all.iter().position(Result::is_ok).unwrap()).unwrap() + 1;
    let again = db.redeem_token(redemption(1, key)).await.unwrap();
    assert!(!again.first, "the same key again");
    let late = Redemption {
        now: START.saturating_add(2 * DAY),
        ..redemption(1, key)
    };
    assert!(matches!(db.redeem_token(late).await, Err(TokenError::Used)));
    assert!(matches!(
        db.redeem_token(redemption(9, 1)).await,
        Err(TokenError::Unknown)
    ));
    db.create_token(token(2)).await.unwrap();
    let late = Redemption {
        now: START.saturating_add(DAY),
        ..redemption(2, 1)
    };
    assert!(matches!(db.redeem_token(late).await, Err(TokenError::Expired)));
    // An eviction between the redemption and the agent ends the token.
    db.redeem_token(redemption(2, 1)).await.unwrap();
    db.delete_agent(redemption(2, 1).agent_id, START).await.unwrap();
    assert!(matches!(
        db.redeem_token(redemption(2, 1)).await,
        Err(TokenError::Revoked)
    ));
    let evicted = agent("/spire/agent/join_token/t2", "0a", &[]);
    assert!(matches!(
        db.attest_agent(evicted).await,
        Err(RegistryError::TokenRevoked)
    ));
    db.create_token(token(2)).await.unwrap();
}

pub(super) async fn bundles_and_relationships_keep_their_rules(db: Store) {
    let bundle = foreign("b.example").await;
    let at = |sequence| Arc::new(bundle.clone().with_sequence(sequence));
    let missing = db
        .create_relationship(web("https://b.example/a"), Some(at(3)))
        .await;
    missing.unwrap();
    let twice = db.create_relationship(web("https://b.example/a"), None).await;
    assert!(matches!(twice, Err(RegistryError::RelationshipExists { .. })));
    let under = Some(web("https://b.example/a"));
    assert!(db.adopt_bundle(at(4), under.clone()).await.unwrap());
    assert!(!db.adopt_bundle(at(4), under.clone()).await.unwrap());
    let older = db.adopt_bundle(at(2), under.clone()).await;
    assert!(matches!(
        older,
        Err(RegistryError::OlderBundle {
            stored: 4,
            published: 2,
            ..
        })
    ));
    let patch = RelationshipPatch {
        url: Some(EndpointUrl::parse("https://b.example/b").unwrap()),
        ..RelationshipPatch::default()
    };
    db.update_relationship(b(), patch).await.unwrap();
    let changed = db.adopt_bundle(at(5), under).await;
    assert!(matches!(changed, Err(RegistryError::RelationshipChanged { .. })));
    let exists = db.set_bundle(at(9), BundleWrite::Create).await;
    assert!(matches!(exists, Err(RegistryError::BundleExists { .. })));
    assert!(db.delete_relationship(b(), START).await.unwrap());
    assert!(!db.delete_relationship(b(), START).await.unwrap());
    assert!(db.delete_bundle(b(), DeleteMode::Restrict, START).await.unwrap());
    assert!(!db.delete_bundle(b(), DeleteMode::Restrict, START).await.unwrap());
}

fn record(path: &str, key: Option<u8>) -> IssuanceRecord {
    IssuanceRecord {
        kind: if key.is_some() {
            SvidKind::X509
        } else {
            SvidKind::Wit
        },
        spiffe_id: id(path),
        serial: "0a".into(),
        key_hash: key.map(|key| [key; 32]),
        authority_id: "a".into(),
        requester: "agent".into(),
        attestation: "join_token".into(),
        entry_id: Some("e".into()),
        not_before: START,
        not_after: START.saturating_add(DAY),
        issued_at: START,
    }
}

pub(super) fn authority(id: &str, slot: crate::authority::Slot) -> AuthorityRow {
    AuthorityRow {
        id: id.into(),
        kind: crate::authority::Kind::Jwt,
        slot,
        key_name: format!("jwt-{id}"),
        certificate: None,
        descent: None,
        public_key: crate::core::fixture::key(),
        created_at: START,
        activated_at: Some(START),
        not_before: START,
        not_after: START.saturating_add(30 * DAY),
        last_svid_ends: None,
        tainted: false,
    }
}

pub(super) async fn a_key_has_one_identity(db: Store) {
    use crate::authority::Slot;
    let saved = db.save_journal(0, vec![authority("a", Slot::Active)]).await;
    saved.unwrap().unwrap();
    let minted = IssuanceRecord {
        entry_id: None,
        requester: "local uid 0".into(),
        ..record("/minted", Some(1))
    };
    let batch = vec![
        minted,
        record("/one", Some(1)),
        record("/two", Some(1)),
        record("/one", Some(1)),
        record("/wit", None),
        record("/spire/agent/x", Some(2)),
    ];
    let answers = db.record(batch).await.unwrap();
    let taken = Recorded::KeyTaken(id("/one").to_string());
    assert_eq!(
        answers,
        [
            Recorded::Yes,
            Recorded::Yes,
            taken.clone(),
            Recorded::Yes,
            Recorded::Yes,
            Recorded::Yes
        ]
    );
    let answers = db.record(vec![
        record("/two", Some(1)),
        record("/spire/agent/y", Some(2)),
        record("/z", Some(2)),
    ]);
    let agent = Recorded::KeyTaken(id("/spire/agent/x").to_string());
    assert_eq!(answers.await.unwrap(), [taken, Recorded::Yes, agent]);
    assert_eq!(
        db.records(id("/one")).await.unwrap(),
        vec![record("/one", Some(1)); 2]
    );
    assert_eq!(db.records(id("/wit")).await.unwrap(), [record("/wit", None)]);
    let journal = db.journal().await.unwrap();
    assert_eq!(journal.rows[0].last_svid_ends, Some(START.saturating_add(DAY)));
    let unknown = IssuanceRecord {
        authority_id: "forgotten".into(),
        ..record("/late", Some(3))
    };
    assert!(db.record(vec![unknown]).await.is_err());
    assert!(
        db.records(id("/late")).await.unwrap().is_empty(),
        "nothing leaves without its authority"
    );
}

pub(super) async fn the_journal_is_saved_by_who_knows_it(db: Store) {
    use crate::authority::Slot;
    let (one, two) = (authority("one", Slot::Active), authority("two", Slot::Prepared));
    let first = db.save_journal(0, vec![one.clone()]).await.unwrap().unwrap();
    assert_eq!((first.version, first.sequence, first.rows.len()), (1, 1, 1));
    let stale = db.save_journal(0, vec![two.clone()]).await.unwrap();
    assert!(stale.is_none());
    let second = db
        .save_journal(1, vec![one.clone(), two.clone()])
        .await
        .unwrap()
        .unwrap();
    assert_eq!((second.version, second.sequence), (2, 2));
    let turned = vec![
        AuthorityRow {
            slot: Slot::Old,
            ..one
        },
        AuthorityRow {
            slot: Slot::Active,
            ..two
        },
    ];
    let third = db.save_journal(2, turned.clone()).await.unwrap().unwrap();
    assert_eq!(
        (third.version, third.sequence),
        (3, 2),
        "the same are in the bundle"
    );
    assert_eq!(third.rows[1].public_key, turned[1].public_key);
    let both = vec![
        AuthorityRow {
            slot: Slot::Active,
            ..turned[0].clone()
        },
        turned[1].clone(),
    ];
    assert!(db.save_journal(3, both).await.is_err(), "one a slot");
    let above = Above::default();
    let fourth = db
        .save_below(3, vec![turned[1].clone()], above)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((fourth.version, fourth.sequence, fourth.rows.len()), (4, 3, 1));
    assert_eq!(db.journal().await.unwrap().version, 4);
}

pub(super) async fn appended_authorities_go_with_the_journal(db: Store) {
    let bundle = foreign("b.example").await;
    let jwt = crate::authority::AppendedKey::Jwt(bundle.jwt_authorities()[0].clone());
    let x509 = crate::authority::AppendedKey::X509(bundle.x509_authorities()[0].clone());
    let row = |key: &crate::authority::AppendedKey| AppendedRow {
        key: key.clone(),
        by: "downstream".into(),
        at: START,
        revoked: false,
    };
    let mut rows = vec![row(&jwt), row(&x509)];
    let saved = db.save_appended(0, rows.clone()).await.unwrap().unwrap();
    assert_eq!(
        (saved.version, saved.sequence, saved.appended.clone()),
        (1, 1, rows.clone())
    );
    assert!(db.save_appended(0, Vec::new()).await.unwrap().is_none());
    rows[0].revoked = true;
    rows.truncate(1);
    let saved = db.save_appended(1, rows.clone()).await.unwrap().unwrap();
    assert_eq!((saved.sequence, saved.appended), (2, rows));
}

pub(super) async fn old_things_are_pruned_in_batches(db: Store) {
    use crate::authority::Slot;
    for n in 0..3_u8 {
        let mut draft = draft("/spire/agent/x", &format!("/w{n}"));
        draft.expires_at = Some(START.saturating_add(DAY));
        db.create_entry(draft, format!("e{n}"), "me".into(), START)
            .await
            .unwrap();
        db.create_token(token(n)).await.unwrap();
    }
    db.save_journal(0, vec![authority("a", Slot::Active)])
        .await
        .unwrap();
    db.record(vec![record("/r", Some(1)); 3]).await.unwrap();
    let later = START.saturating_add(2 * DAY);
    let kinds = |at| {
        [
            Prune::Entries { now: at },
            Prune::Tokens { before: at },
            Prune::Records { expired_before: at },
            Prune::Tombstones { before: at },
        ]
    };
    for what in kinds(START) {
        assert_eq!(db.prune(what, 2).await.unwrap(), 0, "{what:?}");
    }
    for what in kinds(later).into_iter().take(3) {
        assert_eq!(db.prune(what, 2).await.unwrap(), 2, "{what:?}");
        assert_eq!(db.prune(what, 2).await.unwrap(), 1, "{what:?}");
    }
    let buried = Prune::Tombstones {
        before: later.saturating_add(DAY),
    };
    assert_eq!(db.prune(buried, 2).await.unwrap(), 2);
    assert_eq!(db.prune(buried, 2).await.unwrap(), 1);
    let snapshot = loaded(&db).await;
    assert_eq!((snapshot.entries.len(), snapshot.revision.number), (0, 6));
}

pub(super) async fn what_a_caller_who_left_has_asked_for_is_done(db: Store) {
    let ear = Arc::new(Ear::default());
    loaded(&db).await;
    db.follow(ear.clone());
    let mut made = 0;
    // Polled once, it is in the queue; a writer may be so quick that it has been answered as well, and then nobody left.
    loop {
        made += 1;
        let left = db.create_entry(
            draft("/spire/agent/x", &format!("/w{made}")),
            format!("e{made}"),
            "me".into(),
            START,
        );
        let mut left = Box::pin(left);
        let waits =
            |cx: &mut std::task::Context<'_>| std::task::Poll::Ready(left.as_mut().poll(cx).is_pending());
        if std::future::poll_fn(waits).await {
            break;
        }
        assert!(made < 1000, "it never waits");
    }
    make(&db, "/other", "other").await;
    assert_eq!(loaded(&db).await.entries.len(), made + 1);
    assert_eq!(ear.0.lock().unwrap().len(), made + 1);
}

pub(super) async fn a_probe_leaves_nothing(db: Store) {
    make(&db, "/w", "e").await;
    db.probe().await.unwrap();
    assert_eq!(loaded(&db).await.revision.number, 1);
    db.standing(0).unwrap();
}
