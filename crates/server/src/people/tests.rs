//! The register by itself: who may what, and what takes two.

mod logins;
mod roles;
mod two;

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
