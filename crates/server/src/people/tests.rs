//! The register by itself: who may what, and what takes two.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{IdPattern, SpiffeId, TrustDomain, UnixTime};
use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn td() -> TrustDomain {
    TrustDomain::parse("plant.test").unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::from_parts(&td(), path).unwrap()
}

fn role(verb: Verb, pattern: &str) -> Role {
    let pattern = IdPattern::parse(&format!("spiffe://plant.test{pattern}")).unwrap();
    Role { verb, pattern }
}

fn administers() -> Vec<Role> {
    vec![role(Verb::Administer, "/*"), role(Verb::Approve, "/*")]
}

fn new(name: &str, uid: u32, roles: Vec<Role>) -> Change {
    Change {
        person: PersonRef::random().unwrap(),
        name: Some(name.to_owned()),
        logins: vec![Login::Uid(uid)],
        roles,
        activate: false,
    }
}

fn more(person: &PersonRef, logins: Vec<Login>, roles: Vec<Role>) -> Change {
    Change {
        person: person.clone(),
        name: None,
        logins,
        roles,
        activate: false,
    }
}

fn grant(change: Change) -> Step {
    Step::Grant {
        change,
        id: proposal_id().unwrap(),
    }
}

/// A register with so many persons who administer and approve, as root has added them.
fn with(count: u32) -> (Register, Vec<PersonRef>) {
    let mut register = Register::empty(td());
    let mut persons = Vec::new();
    for n in 0..count {
        let change = new(&format!("person {n}"), 1000 + n, administers());
        let by = persons.first().cloned();
        match grant(change.clone())
            .apply(&mut register, by.as_ref(), NOW)
            .unwrap()
        {
            Done::Proposed { id, .. } => {
                let by: Vec<PersonRef> = persons.clone();
                let done = Step::Confirm { id }
                    .apply(&mut register, Some(&by[1]), NOW)
                    .unwrap();
                assert!(matches!(done, Done::InEffect { .. }), "{done:?}");
            }
            done => assert!(matches!(done, Done::InEffect { .. })),
        }
        persons.push(change.person);
    }
    (register, persons)
}

fn proposed(done: &Done) -> String {
    match done {
        Done::Proposed { id, .. } => id.clone(),
        other => panic!("{other:?} is no proposal"),
    }
}

#[test]
fn a_role_is_for_its_verb_and_its_pattern_and_reading_goes_with_each() {
    let (mut register, _) = with(1);
    let change = new(
        "approver",
        2000,
        vec![
            role(Verb::Approve, "/line4/*"),
            role(Verb::Revoke, "/line5/press"),
        ],
    );
    let reference = change.person.clone();
    grant(change).apply(&mut register, None, NOW).unwrap();
    let person = &register.persons[&reference];
    assert!(person.may(Verb::Approve, &id("/line4/robot")));
    assert!(!person.may(Verb::Approve, &id("/line4")));
    assert!(!person.may(Verb::Approve, &id("/line5/press")));
    assert!(person.may(Verb::Revoke, &id("/line5/press")));
    assert!(!person.may(Verb::Administer, &id("/line4/robot")));
    assert!(person.may(Verb::Read, &id("/line4/robot")) && person.may(Verb::Read, &id("/line5/press")));
    assert!(!person.may(Verb::Read, &id("/line6")));
    assert!(!person.may_all(Verb::Read, &td()) && !person.may_all(Verb::Approve, &td()));
    assert!(person.may_some(Verb::Revoke) && !person.may_some(Verb::Enrol));
    let inactive = Person {
        active: false,
        ..person.clone()
    };
    assert!(!inactive.may(Verb::Approve, &id("/line4/robot")) && !inactive.may_some(Verb::Read));
    // What is whole is whole of this trust domain.
    let foreign = IdPattern::parse("spiffe://other.test/*").unwrap();
    let foreign = Role {
        verb: Verb::Administer,
        pattern: foreign,
    };
    assert!(!foreign.is_whole(&td()) && !foreign.is_of(&td()));
}

#[test]
fn root_administers_and_never_approves_and_nobody_does_nothing() {
    for verb in [
        Verb::Read,
        Verb::Approve,
        Verb::Enrol,
        Verb::Revoke,
        Verb::Administer,
    ] {
        let root = Standing::Root;
        assert_eq!(root.may(verb, &id("/a")), verb != Verb::Approve);
        assert_eq!(root.may_all(verb, &td()), verb != Verb::Approve);
        assert_eq!(root.may_some(verb), verb != Verb::Approve);
        assert!(!Standing::Nobody.may(verb, &id("/a")) && !Standing::Nobody.may_some(verb));
        assert!(Standing::Administrator.may_all(verb, &td()));
    }
    assert_eq!(Standing::default(), Standing::Nobody);
}

#[test]
fn a_login_leads_to_its_person_also_behind_sudo_and_nobody_writes_himself_another() {
    let (register, persons) = with(2);
    let holder = |login: &Login| register.holder(login).cloned().map(Arc::new);
    let as_whom = |uid, audit| LocalLogin { uid, audit }.standing(holder);
    let whose = |standing: &Standing| standing.person().map(|person| person.reference.clone());
    let (first, second) = (Some(persons[0].clone()), Some(persons[1].clone()));
    // By the uid; behind sudo by the login.
    assert_eq!(whose(&as_whom(1000, Audit::Unset)), first);
    assert_eq!(whose(&as_whom(1001, Audit::Uid(1001))), second);
    assert_eq!(whose(&as_whom(0, Audit::Uid(1001))), second);
    // Root in person, and root with nobody behind it.
    assert_eq!(as_whom(0, Audit::Unset), Standing::Root);
    assert_eq!(as_whom(0, Audit::Uid(0)), Standing::Root);
    // Behind sudo who is nobody does not become root.
    assert_eq!(as_whom(0, Audit::Uid(4000)), Standing::Nobody);
    assert_eq!(as_whom(4000, Audit::Unset), Standing::Nobody);
    // A process in which nobody has logged in writes into its loginuid what it likes.
    assert_eq!(as_whom(4000, Audit::Uid(1000)), Standing::Nobody);
    assert_eq!(as_whom(1001, Audit::Uid(1000)), Standing::Nobody);
    // Nor does who hides where he came from.
    assert_eq!(as_whom(0, Audit::Unknown), Standing::Nobody);
    assert_eq!(as_whom(1000, Audit::Unknown), Standing::Nobody);
}

#[test]
fn of_a_person_with_two_users_each_may_stand_behind_the_other() {
    let (mut register, persons) = with(1);
    let change = more(&persons[0], vec![Login::Uid(1500)], Vec::new());
    grant(change).apply(&mut register, None, NOW).unwrap();
    let holder = |login: &Login| register.holder(login).cloned().map(Arc::new);
    let standing = LocalLogin {
        uid: 1500,
        audit: Audit::Uid(1000),
    }
    .standing(holder);
    assert!(matches!(standing, Standing::Person(_)));
}

#[test]
fn an_inactive_person_is_nobody_and_one_that_was_forgotten_too() {
    let (mut register, persons) = with(2);
    let step = Step::Withdraw {
        person: persons[0].clone(),
        logins: Vec::new(),
        roles: Vec::new(),
        deactivate: true,
    };
    step.apply(&mut register, None, NOW).unwrap();
    Step::Forget {
        person: persons[1].clone(),
    }
    .apply(&mut register, None, NOW)
    .unwrap();
    for uid in [1000, 1001] {
        let holder = |login: &Login| register.holder(login).cloned().map(Arc::new);
        let standing = LocalLogin {
            uid,
            audit: Audit::Unset,
        }
        .standing(holder);
        assert_eq!(standing, Standing::Nobody);
    }
    assert_eq!(register.persons.len(), 2, "the references stay");
    assert!(!register.names.contains_key(&persons[1]) && register.names.contains_key(&persons[0]));
    assert!(register.persons[&persons[1]].logins.is_empty());
    assert!(
        !register.persons[&persons[1]].roles.is_empty(),
        "what it could do is history"
    );
    let again = Change {
        activate: true,
        ..more(&persons[1], Vec::new(), Vec::new())
    };
    let refused = grant(again).apply(&mut register, None, NOW);
    assert!(matches!(refused, Err(PeopleError::Forgotten { .. })));
}

#[test]
fn a_login_belongs_to_one_person_and_is_none_of_a_machine_or_root() {
    let (mut register, persons) = with(1);
    let mut try_login = |login: Login| {
        let change = Change {
            logins: vec![login],
            ..new("other", 0, Vec::new())
        };
        grant(change).apply(&mut register, None, NOW)
    };
    let taken = try_login(Login::Uid(1000));
    assert!(matches!(taken, Err(PeopleError::LoginTaken { person, .. }) if person == persons[0]));
    assert_eq!(try_login(Login::Uid(0)), Err(PeopleError::RootLogin));
    for login in [
        Login::Uid(u32::MAX),
        Login::Spiffe(id("/spire/server")),
        Login::Spiffe(id("/spire/agent/x/1")),
        Login::Spiffe(id("")),
        Login::Spiffe(SpiffeId::parse("spiffe://other.test/ops").unwrap()),
    ] {
        let refused = try_login(login.clone());
        assert!(
            matches!(refused, Err(PeopleError::BadLogin { .. })),
            "{login}: {refused:?}"
        );
    }
    try_login(Login::Spiffe(id("/ops/jo"))).unwrap();
    // It is free once it is taken away.
    let step = Step::Withdraw {
        person: persons[0].clone(),
        logins: vec![Login::Uid(1000)],
        roles: Vec::new(),
        deactivate: false,
    };
    step.apply(&mut register, None, NOW).unwrap();
    grant(new("third", 1000, Vec::new()))
        .apply(&mut register, None, NOW)
        .unwrap();
}

#[test]
fn the_first_person_can_add_the_second() {
    let mut register = Register::empty(td());
    let reads = new("reader", 1000, vec![role(Verb::Read, "/*")]);
    assert_eq!(
        grant(reads).apply(&mut register, None, NOW),
        Err(PeopleError::FirstAdministers)
    );
    let part = new("part", 1000, vec![role(Verb::Administer, "/line4/*")]);
    assert_eq!(
        grant(part).apply(&mut register, None, NOW),
        Err(PeopleError::FirstAdministers)
    );
    let no_login = Change {
        logins: Vec::new(),
        ..new("nobody", 1, administers())
    };
    assert_eq!(
        grant(no_login).apply(&mut register, None, NOW),
        Err(PeopleError::FirstAdministers)
    );
    grant(new("first", 1000, administers()))
        .apply(&mut register, None, NOW)
        .unwrap();
}

#[test]
fn below_two_it_takes_effect_at_once_and_says_so_for_good() {
    let (register, persons) = with(2);
    let [first, second] = [&persons[0], &persons[1]].map(|one| &register.persons[one]);
    assert!(first.agreed.persons.is_empty() && first.agreed.is_alone());
    assert_eq!(second.agreed.persons, BTreeSet::from([persons[0].clone()]));
    assert!(second.roles[0].agreed.is_alone() && second.logins[0].agreed.is_alone());
}

#[test]
fn from_two_on_whatever_is_granted_waits_for_another_person() {
    let (register, persons) = with(2);
    let inactive = {
        let mut register = register.clone();
        grant(new("third", 3000, Vec::new()))
            .apply(&mut register, Some(&persons[0]), NOW)
            .unwrap();
        register
    };
    assert_eq!(inactive.proposals.len(), 1);
    let changes = [
        new("third", 3000, Vec::new()),
        more(&persons[0], vec![Login::Uid(3000)], Vec::new()),
        more(&persons[0], Vec::new(), vec![role(Verb::Approve, "/line4/*")]),
        more(&persons[1], Vec::new(), vec![role(Verb::Read, "/line4/*")]),
    ];
    for change in changes {
        let mut register = register.clone();
        let before = register.persons.clone();
        let done = grant(change.clone())
            .apply(&mut register, Some(&persons[0]), NOW)
            .unwrap();
        let id = proposed(&done);
        assert_eq!(register.persons, before, "nothing holds yet");
        let confirm = || Step::Confirm { id: id.clone() };
        let alone = confirm().apply(&mut register, Some(&persons[0]), NOW);
        assert!(matches!(alone, Err(PeopleError::SamePerson { .. })), "{alone:?}");
        assert_eq!(
            confirm().apply(&mut register, None, NOW),
            Err(PeopleError::MayNotConfirm),
            "root"
        );
        let done = confirm().apply(&mut register, Some(&persons[1]), NOW).unwrap();
        let Done::InEffect {
            agreed: Some(agreed), ..
        } = done
        else {
            panic!("{done:?}")
        };
        assert!(!agreed.is_alone());
        assert_eq!(agreed.persons, persons.iter().cloned().collect());
        assert!(register.proposals.is_empty());
        let again = confirm().apply(&mut register, Some(&persons[1]), NOW);
        assert!(matches!(again, Err(PeopleError::NoSuchProposal { .. })));
    }
}

#[test]
fn what_root_proposes_takes_two_persons() {
    let (mut register, persons) = with(2);
    let id = proposed(
        &grant(new("third", 3000, administers()))
            .apply(&mut register, None, NOW)
            .unwrap(),
    );
    let confirm = |by: &PersonRef, register: &mut Register| {
        Step::Confirm { id: id.clone() }.apply(register, Some(by), NOW)
    };
    let first = confirm(&persons[0], &mut register).unwrap();
    assert!(matches!(first, Done::Proposed { .. }), "one person is not two");
    assert!(matches!(
        confirm(&persons[0], &mut register),
        Err(PeopleError::SamePerson { .. })
    ));
    assert!(matches!(
        confirm(&persons[1], &mut register).unwrap(),
        Done::InEffect { .. }
    ));
}

#[test]
fn who_has_lost_the_right_has_no_say_any_more() {
    let (mut register, persons) = with(3);
    let id = proposed(
        &grant(new("mole", 6000, administers()))
            .apply(&mut register, Some(&persons[0]), NOW)
            .unwrap(),
    );
    let step = Step::Withdraw {
        person: persons[0].clone(),
        logins: Vec::new(),
        roles: Vec::new(),
        deactivate: true,
    };
    step.apply(&mut register, Some(&persons[1]), NOW).unwrap();
    let confirm = |by: &PersonRef, register: &mut Register| {
        Step::Confirm { id: id.clone() }.apply(register, Some(by), NOW)
    };
    assert_eq!(
        confirm(&persons[0], &mut register),
        Err(PeopleError::MayNotConfirm)
    );
    assert!(
        matches!(
            confirm(&persons[1], &mut register).unwrap(),
            Done::Proposed { .. }
        ),
        "the first one no longer counts"
    );
    assert!(matches!(
        confirm(&persons[2], &mut register).unwrap(),
        Done::InEffect { .. }
    ));
}

#[test]
fn a_reader_confirms_nothing_and_does_not_count_as_one_of_two() {
    let (mut register, persons) = with(1);
    let reader = new(
        "reader",
        2000,
        vec![role(Verb::Read, "/*"), role(Verb::Approve, "/line4/*")],
    );
    let reference = reader.person.clone();
    grant(reader)
        .apply(&mut register, Some(&persons[0]), NOW)
        .unwrap();
    assert!(!register.needs_two());
    let (mut register, persons) = {
        let (mut two, persons) = with(2);
        two.persons
            .insert(reference.clone(), register.persons[&reference].clone());
        (two, persons)
    };
    let id = proposed(
        &grant(new("third", 3000, Vec::new()))
            .apply(&mut register, Some(&persons[0]), NOW)
            .unwrap(),
    );
    let refused = Step::Confirm { id }.apply(&mut register, Some(&reference), NOW);
    assert_eq!(refused, Err(PeopleError::MayNotConfirm));
}

#[test]
fn a_proposal_is_over_after_a_week_and_is_rejected_by_one() {
    let (mut register, persons) = with(2);
    let propose = |uid, register: &mut Register| {
        proposed(
            &grant(new("third", uid, Vec::new()))
                .apply(register, Some(&persons[0]), NOW)
                .unwrap(),
        )
    };
    let id = propose(3000, &mut register);
    let late = Step::Confirm { id }.apply(&mut register, Some(&persons[1]), NOW.saturating_add(WEEK));
    assert!(matches!(late, Err(PeopleError::NoSuchProposal { .. })));
    assert!(register.proposals.is_empty(), "and its name is gone with it");
    let id = propose(3000, &mut register);
    let rejected = Step::Reject { id: id.clone() }
        .apply(&mut register, None, NOW)
        .unwrap();
    assert!(matches!(rejected, Done::Rejected { .. }));
    let gone = Step::Confirm { id }.apply(&mut register, Some(&persons[1]), NOW);
    assert!(matches!(gone, Err(PeopleError::NoSuchProposal { .. })));
}

#[test]
fn a_proposal_is_judged_again_when_it_takes_effect() {
    let (mut register, persons) = with(2);
    let propose = |name: &str, register: &mut Register| {
        proposed(
            &grant(new(name, 3000, Vec::new()))
                .apply(register, Some(&persons[0]), NOW)
                .unwrap(),
        )
    };
    let (one, other) = (propose("one", &mut register), propose("other", &mut register));
    Step::Confirm { id: one }
        .apply(&mut register, Some(&persons[1]), NOW)
        .unwrap();
    let refused = Step::Confirm { id: other }.apply(&mut register, Some(&persons[1]), NOW);
    assert!(matches!(refused, Err(PeopleError::LoginTaken { .. })));
}

#[derive(Clone, Debug)]
enum Move {
    Grant { to: usize, by: usize, verb: bool },
    New { by: usize, uid: u32 },
    Confirm { by: usize },
    Deactivate { whom: usize },
    Activate { whom: usize, by: usize },
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        (0..6_usize, 0..6_usize, any::<bool>()).prop_map(|(to, by, verb)| Move::Grant { to, by, verb }),
        (0..6_usize, 0..8_u32).prop_map(|(by, uid)| Move::New { by, uid: 5000 + uid }),
        (0..6_usize).prop_map(|by| Move::Confirm { by }),
        (0..6_usize).prop_map(|whom| Move::Deactivate { whom }),
        (0..6_usize, 0..6_usize).prop_map(|(whom, by)| Move::Activate { whom, by }),
    ]
}

proptest! {
    /// Whatever is done in whatever order: a login has one person, and while two can confirm nobody has more than before without two.
    #[test]
    fn nothing_is_gained_without_two_while_there_are_two(moves in proptest::collection::vec(moves(), 0..40)) {
        let (mut register, _) = with(2);
        for (n, one) in moves.into_iter().enumerate() {
            let all: Vec<PersonRef> = register.persons.keys().cloned().collect();
            let pick = |n: usize| all.get(n).or_else(|| all.first()).unwrap().clone();
            let (step, by) = match one {
                Move::Grant { to, by, verb } => {
                    let verb = if verb { Verb::Approve } else { Verb::Enrol };
                    let pattern = format!("/line{n}/*");
                    (grant(more(&pick(to), Vec::new(), vec![role(verb, &pattern)])), Some(pick(by)))
                }
                Move::New { by, uid } => (grant(new("one more", uid, administers())), Some(pick(by))),
                Move::Confirm { by } => {
                    let Some(id) = register.proposals.keys().next().cloned() else { continue };
                    (Step::Confirm { id }, Some(pick(by)))
                }
                Move::Deactivate { whom } => {
                    let (person, logins, roles) = (pick(whom), Vec::new(), Vec::new());
                    (Step::Withdraw { person, logins, roles, deactivate: true }, None)
                }
                Move::Activate { whom, by } => {
                    let change = Change { activate: true, ..more(&pick(whom), Vec::new(), Vec::new()) };
                    (grant(change), Some(pick(by)))
                }
            };
            let (before, two) = (register.clone(), register.needs_two());
            let done = step.apply(&mut register, by.as_ref(), NOW);
            let gained = |person: &Person| before.persons.get(&person.reference).is_none_or(|old| {
                person.roles.len() > old.roles.len() || person.logins.len() > old.logins.len() || (person.active && !old.active)
            });
            if two && register.persons.values().any(gained) {
                let Ok(Done::InEffect { agreed: Some(agreed), .. }) = &done else {
                    panic!("{done:?} gave something")
                };
                prop_assert!(agreed.persons.len() >= 2);
                prop_assert!(agreed.persons.iter().all(|person| before.may_confirm(person)));
            }
            let logins: Vec<_> = register.persons.values().flat_map(|one| one.logins.iter().map(|login| login.what.clone())).collect();
            let distinct: BTreeSet<_> = logins.iter().cloned().collect();
            prop_assert_eq!(distinct.len(), logins.len());
            if done.is_err() {
                prop_assert_eq!(&before, &register);
            }
        }
    }
}
