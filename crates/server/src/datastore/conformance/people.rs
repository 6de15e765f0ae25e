//! Persons.

use super::*;
use crate::people::{Change as More, Done, Login, PeopleError, PersonRef, Role, Step, proposal_id};

fn td() -> TrustDomain {
    TrustDomain::parse("plant.example").unwrap()
}

fn grant(name: &str, uid: u32) -> (PersonRef, Step) {
    let person = PersonRef::random().unwrap();
    let change = More {
        person: person.clone(),
        name: Some(name.to_owned()),
        logins: vec![Login::Uid(uid), Login::Spiffe(id(&format!("/ops/{uid}")))],
        roles: ["administer", "approve"]
            .map(|verb| Role::parse(&format!("{verb}:spiffe://plant.example/*")).unwrap())
            .into(),
        activate: false,
    };
    let step = Step::Grant {
        change,
        id: proposal_id().unwrap(),
    };
    (person, step)
}

pub(in crate::datastore) async fn persons_are_kept_and_a_name_is_erased(db: Store) {
    let ear = Arc::new(Ear::default());
    db.load(Some(START)).await.unwrap();
    db.follow(ear.clone());
    let change = |step, by: Option<&PersonRef>| db.change_people(td(), step, by.cloned(), START);
    let (first, step) = grant("Jo Müller", 1000);
    change(step, None).await.unwrap();
    let (second, step) = grant("Kim", 1001);
    change(step, Some(&first)).await.unwrap();
    let (third, step) = grant("Lee", 1002);
    let done = change(step, Some(&first)).await.unwrap();
    let Done::Proposed { id: proposal, .. } = done else {
        panic!("{done:?}")
    };
    let register = db.register(td()).await.unwrap();
    assert_eq!(register.names[&first], "Jo Müller");
    assert_eq!(
        register.persons[&first].logins[1].what,
        Login::Spiffe(id("/ops/1000"))
    );
    assert!(register.persons[&second].agreed.persons.contains(&first));
    assert_eq!(register.proposals[&proposal].change.name.as_deref(), Some("Lee"));
    assert!(!register.persons.contains_key(&third));
    let refused = change(Step::Confirm { id: proposal.clone() }, Some(&first)).await;
    assert!(matches!(
        refused,
        Err(RegistryError::People {
            source: PeopleError::SamePerson { .. }
        })
    ));
    change(Step::Confirm { id: proposal }, Some(&second))
        .await
        .unwrap();
    change(
        Step::Forget {
            person: first.clone(),
        },
        Some(&second),
    )
    .await
    .unwrap();
    // A login that somebody had is free again.
    let (fourth, step) = grant("Max", 1000);
    change(step, None).await.unwrap();
    let register = db.register(td()).await.unwrap();
    assert!(!register.names.contains_key(&first) && register.persons[&first].forgotten);
    assert!(register.persons[&third].active);
    let waiting: Vec<_> = register.proposals.values().collect();
    assert_eq!(waiting[0].change.person, fourth, "two are left");
    // What the index hears is what is loaded, and has no name.
    let heard = ear.0.lock().unwrap().clone();
    let revisions: Vec<u64> = heard.iter().map(|commit| commit.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4]);
    let loaded = db.load(None).await.unwrap();
    assert_eq!(loaded.people.len(), 3);
    for person in &loaded.people {
        assert_eq!(register.persons[&person.reference], **person);
    }
    let last = heard.iter().rev().find_map(|commit| match &commit.change {
        Change::PutPerson(person) if person.reference == first => Some(person.clone()),
        _ => None,
    });
    assert!(last.unwrap().logins.is_empty());
    for commit in &heard {
        let text = format!("{:?}", commit.change);
        assert!(!text.contains("Müller") && !text.contains("Kim"), "{text}");
    }
}

pub(in crate::datastore) async fn of_two_who_take_a_login_at_once_one_has_it(db: Store) {
    db.load(Some(START)).await.unwrap();
    let (_, first) = grant("one", 1000);
    db.change_people(td(), first, None, START).await.unwrap();
    let both = [grant("two", 1001), grant("three", 1001)];
    let done = both.map(|(_, step)| db.change_people(td(), step, None, START));
    let done = futures_util::future::join_all(done).await;
    let won = done.iter().filter(|done| done.is_ok()).count();
    assert_eq!(won, 1, "{done:?}");
    let lost = done.iter().find_map(|done| done.as_ref().err()).unwrap();
    assert!(matches!(
        lost,
        RegistryError::People {
            source: PeopleError::LoginTaken { .. }
        }
    ));
    assert_eq!(db.register(td()).await.unwrap().persons.len(), 2);
}

/// Asked in the transaction itself: the index of a server may not have heard of it yet.
pub(in crate::datastore) async fn no_entry_is_made_or_changed_for_a_login(db: Store) {
    db.load(Some(START)).await.unwrap();
    let make = |name: &str, path: &str| {
        let draft = draft("/spire/agent/x", path);
        db.create_entry(draft, name.to_owned(), "me".to_owned(), START)
    };
    make("old", "/ops/1000").await.unwrap();
    make("other", "/other").await.unwrap();
    let (person, step) = grant("one", 1000);
    db.change_people(td(), step, None, START).await.unwrap();
    let refused = |outcome: Result<(), RegistryError>| match outcome {
        Err(RegistryError::IsLogin { person: holder, .. }) => assert_eq!(holder, person.to_string()),
        other => panic!("{other:?}"),
    };
    refused(make("new", "/ops/1000").await.map(|_| ()));
    let change = |name: &str, path: Option<&str>| {
        let patch = EntryPatch {
            spiffe_id: path.map(id),
            hint: Some("changed".to_owned()),
            ..EntryPatch::default()
        };
        db.update_entry(name.to_owned(), patch, MargoPaths::Ordinary, START)
    };
    refused(change("old", None).await.map(|_| ()));
    refused(change("old", Some("/free")).await.map(|_| ()));
    refused(change("other", Some("/ops/1000")).await.map(|_| ()));
    change("other", Some("/free")).await.unwrap();
    assert!(
        db.delete_entry("old".to_owned(), START).await.unwrap(),
        "it takes away"
    );
}

/// Else who makes what is above it is that person.
pub(in crate::datastore) async fn what_hangs_under_no_node_is_no_login(db: Store) {
    db.load(Some(START)).await.unwrap();
    let make = |name: &str, parent: &str, path: &str| {
        let draft = draft(parent, path);
        db.create_entry(draft, name.to_owned(), "me".to_owned(), START)
    };
    make("alias", "/spire/server", "/alias").await.unwrap();
    make("below", "/alias", "/ops/1000").await.unwrap();
    make("beside", "/spire/agent/x", "/ops/1000").await.unwrap();
    let (_, step) = grant("one", 1000);
    let refused = db.change_people(td(), step, None, START).await;
    match refused {
        Err(RegistryError::LoginBelow { id: login, parent }) => {
            assert_eq!(login, id("/ops/1000"));
            assert_eq!(parent, id("/alias").to_string());
        }
        other => panic!("{other:?}"),
    }
    assert!(db.register(td()).await.unwrap().persons.is_empty());
    let (first, step) = grant("one", 1001);
    db.change_people(td(), step, None, START).await.unwrap();
    let (second, step) = grant("two", 1002);
    db.change_people(td(), step, None, START).await.unwrap();
    // Nor by a proposal, nor when something comes in between.
    let (_, step) = grant("three", 1000);
    let refused = db.change_people(td(), step, Some(first.clone()), START).await;
    assert!(
        matches!(refused, Err(RegistryError::LoginBelow { .. })),
        "{refused:?}"
    );
    assert!(db.delete_entry("below".to_owned(), START).await.unwrap());
    let (_, step) = grant("three", 1000);
    let done = db.change_people(td(), step, Some(first.clone()), START).await;
    let Ok(Done::Proposed { id: proposal, .. }) = done else {
        panic!("{done:?}")
    };
    make("below", "/alias", "/ops/1000").await.unwrap();
    let confirm = || {
        db.change_people(
            td(),
            Step::Confirm { id: proposal.clone() },
            Some(second.clone()),
            START,
        )
    };
    let refused = confirm().await;
    assert!(
        matches!(refused, Err(RegistryError::LoginBelow { .. })),
        "{refused:?}"
    );
    assert!(db.delete_entry("below".to_owned(), START).await.unwrap());
    confirm().await.unwrap();
}
