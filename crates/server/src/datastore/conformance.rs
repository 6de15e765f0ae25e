//! What every datastore does, whatever is behind it. A store names itself once, at the end, and has all of these.

mod agents;
mod chain;
mod issuance;
mod people;
mod recoveries;
mod replaced;
mod rungs;

use std::sync::{Arc, Mutex};

use landfast_identity::{JwtAuthority, TrustDomain, X509Authority};

use super::*;
use crate::core::fixture::{DAY, NEW, START, agent, draft, foreign, id, sel};
use crate::issuance::SvidKind;
use crate::registry::{EndpointUrl, Profile, alias_selector};

pub(super) use agents::*;
pub(super) use chain::*;
pub(super) use issuance::*;
pub(super) use people::*;
pub(super) use recoveries::*;
pub(super) use replaced::*;
pub(super) use rungs::*;

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
            a_device_key_lives_and_dies_with_its_agent
            of_claims_at_once_with_one_counter_one_comes_in
            persons_are_kept_and_a_name_is_erased
            of_two_who_take_a_login_at_once_one_has_it
            no_entry_is_made_or_changed_for_a_login
            what_hangs_under_no_node_is_no_login
            a_token_has_one_winner
            bundles_and_relationships_keep_their_rules
            a_key_has_one_identity
            the_journal_is_saved_by_who_knows_it
            appended_authorities_go_with_the_journal
            steps_follow_one_another_and_are_added_once
            old_things_are_pruned_in_batches
            what_a_caller_who_left_has_asked_for_is_done
            a_probe_leaves_nothing
            what_an_entry_may_have_ahead_is_kept_and_judged
            what_nodes_have_is_listed_until_it_is_spent_or_revoked
            what_is_signed_while_a_ban_or_a_deletion_comes_is_not_recorded
            a_rung_has_a_key_of_its_own_and_nobody_has_more_than_any_reserve_takes
            of_what_begins_within_a_step_the_last_one_counts
            what_a_tainted_authority_signed_fills_no_reserve
            what_is_not_to_lie_about_is_marked_or_refused
            a_bundle_is_known_when_every_agent_that_counts_has_said_so
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
        .update_entry("e".into(), patch, MargoPaths::Ordinary, START)
        .await
        .unwrap();
    assert_eq!((updated.revision_number, updated.hint.len()), (1, 1024));
    assert_eq!(updated.selectors, entry.selectors);
    let mut agent = agent("/spire/agent/x", "0a", &["k:1", "k:2"]);
    agent.new_serial = Some("0b".into());
    agent.new_not_after = Some(START);
    agent.can_reattest = true;
    db.attest_agent(agent.clone(), NEW).await.unwrap();
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
    let same = db
        .update_entry("one".into(), patch, MargoPaths::Ordinary, START)
        .await;
    assert!(matches!(same, Err(RegistryError::Similar { existing }) if existing.id == "two"));
    let gone = db
        .update_entry("none".into(), EntryPatch::default(), MargoPaths::Ordinary, START)
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
    db.attest_agent(record.clone(), NEW).await.unwrap();
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
        ..PolicyPatch::default()
    };
    let first = db
        .set_policy("e".into(), patch("press 4"), Some(0), START)
        .await
        .unwrap();
    assert_eq!((first.revision, first.description.as_str()), (2, "press 4"));
    let late = db.set_policy("e".into(), patch("press 5"), Some(0), START).await;
    assert!(matches!(late, Err(RegistryError::PolicyChanged { found: 2, .. })));
    let none = db.set_policy("none".into(), patch("x"), None, START).await;
    assert!(matches!(none, Err(RegistryError::NoSuchEntry { .. })));
    let hint = EntryPatch {
        hint: Some("h".into()),
        ..EntryPatch::default()
    };
    db.update_entry("e".into(), hint, MargoPaths::Ordinary, START)
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
