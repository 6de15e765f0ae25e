//! What takes two.

use super::*;

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
