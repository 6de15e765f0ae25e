//! What a role gives, and to whom.

use super::*;

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
