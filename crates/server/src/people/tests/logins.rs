//! By which login somebody is whom.

use super::*;

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
        Login::Spiffe(id("/landfast/person/p-aaaaaaaaaaaaaaaaaaaaaaaaaa/b")),
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
fn a_login_has_one_spelling_and_what_is_recorded_of_it_is_no_name() {
    let key = "SHA256:DBrTalH5j/9Qgng1y8NHejO3r5hekUb6NCsuVfCumUc";
    for text in [
        "uid:1000",
        "spiffe://plant.test/ops/jo",
        &format!("ssh:{key}"),
        "oidc:https://id.plant.test/realm#jo@plant.test",
        "oidc:https://id.plant.test#a#b",
    ] {
        let login = Login::parse(text).unwrap();
        assert_eq!(login.to_string(), text);
        assert!(
            !login.recorded().contains("jo@") && !login.recorded().contains("#a"),
            "{text}"
        );
    }
    for bad in [
        "ssh:abc",
        "ssh:MD5:aa",
        "oidc:https://id.plant.test",
        "oidc:https://id.plant.test#",
        "oidc:http://id.plant.test#jo",
        "oidc:https://#jo",
        "oidc:https://id.plant.test?x#jo",
        "oidc:https://id.plant.test#j o",
        &format!("oidc:https://id.plant.test#{}", "x".repeat(256)),
    ] {
        assert!(Login::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_session_is_of_one_person_by_one_login() {
    let (register, persons) = with(2);
    let login = Login::Uid(1000);
    let [first, second] = [&persons[0], &persons[1]].map(|one| &register.persons[one]);
    let session_id = Session::id(&td(), first, &login).unwrap();
    let session = Session::of(&session_id).unwrap();
    assert_eq!(session.person, persons[0]);
    assert_eq!(session.login(first), Some(login.clone()));
    assert_eq!(session.login(second), None);
    assert_eq!(
        Session::id(&td(), first, &Login::Uid(1001)),
        None,
        "no login of his"
    );
    let by_another = Session::of(&Session::id(&td(), second, &Login::Uid(1001)).unwrap()).unwrap();
    assert_eq!(by_another.login(first), None);
    // The holder of the login, and somebody else's reference.
    let mixed = session_id
        .path()
        .replace(persons[0].as_str(), persons[1].as_str());
    let mixed = Session::of(&id(&mixed)).unwrap();
    assert_eq!((mixed.login(first), mixed.login(second)), (None, None));
    for bad in [
        "/landfast/person".to_owned(),
        format!("/landfast/person/{}", persons[0]),
        "/landfast/person/jo/abc".to_owned(),
        format!("/ops/person/{}/abc", persons[0]),
        format!("{}/more", session_id.path()),
    ] {
        assert_eq!(Session::of(&id(&bad)), None, "{bad}");
    }
}

#[test]
fn a_session_that_was_ended_does_not_come_back_with_its_login_or_its_person() {
    let (mut register, persons) = with(1);
    let login = Login::Uid(1000);
    let session = |register: &Register| {
        let id = Session::id(&td(), &register.persons[&persons[0]], &login).unwrap();
        (Session::of(&id).unwrap(), id)
    };
    let holds =
        |session: &Session, register: &Register| session.login(&register.persons[&persons[0]]).is_some();
    let withdraw = |register: &mut Register, logins: &[Login], deactivate| {
        let step = Step::Withdraw {
            person: persons[0].clone(),
            logins: logins.to_vec(),
            roles: Vec::new(),
            deactivate,
        };
        step.apply(register, None, NOW).unwrap();
    };
    let (first, id) = session(&register);
    assert!(holds(&first, &register));
    // Nobody who has the ID finds out by guessing what it was begun by.
    let guess = ring::digest::digest(&ring::digest::SHA256, login.to_string().as_bytes());
    assert!(!id.path().ends_with(&names::base32(guess.as_ref(), 26)));

    withdraw(&mut register, std::slice::from_ref(&login), false);
    grant(more(&persons[0], vec![login.clone()], Vec::new()))
        .apply(&mut register, None, NOW)
        .unwrap();
    assert!(!holds(&first, &register), "the login was given anew");
    let (second, _) = session(&register);
    withdraw(&mut register, &[], true);
    let back = Change {
        activate: true,
        ..more(&persons[0], Vec::new(), Vec::new())
    };
    grant(back.clone()).apply(&mut register, None, NOW).unwrap();
    assert!(!holds(&second, &register), "he was away");
    // Who is active already is not shut out by being activated.
    let (third, _) = session(&register);
    let again = Change {
        logins: vec![Login::Uid(7)],
        ..back
    };
    grant(again).apply(&mut register, None, NOW).unwrap();
    assert!(holds(&third, &register));
}

#[test]
fn a_person_is_renamed_by_one_and_forgotten_for_good() {
    let (mut register, persons) = with(2);
    let rename = |name: &str| Step::Rename {
        person: persons[0].clone(),
        name: name.to_owned(),
    };
    let done = rename(" Jo Roth ").apply(&mut register, None, NOW).unwrap();
    assert!(matches!(done, Done::InEffect { agreed: None, .. }), "{done:?}");
    assert_eq!(register.names[&persons[0]], "Jo Roth");
    assert_eq!(
        rename("Jo Roth").apply(&mut register, None, NOW),
        Err(PeopleError::Nothing)
    );
    assert!(rename("a\nb").apply(&mut register, None, NOW).is_err());
    let person = persons[0].clone();
    Step::Forget { person }.apply(&mut register, None, NOW).unwrap();
    let refused = rename("Jo").apply(&mut register, None, NOW);
    assert!(matches!(refused, Err(PeopleError::Forgotten { .. })));
    assert!(!register.names.contains_key(&persons[0]));
}
