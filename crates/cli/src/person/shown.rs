//! Persons and proposals, for people and for programs. Invariant: one fact a line, and the same facts in both.

use landfast_proto::landfast::people::v1::{self as pb, login::Kind};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;

pub(super) const VERBS: [(pb::Verb, &str); 5] = [
    (pb::Verb::Read, "read"),
    (pb::Verb::Approve, "approve"),
    (pb::Verb::Enrol, "enrol"),
    (pb::Verb::Revoke, "revoke"),
    (pb::Verb::Administer, "administer"),
];

/// As it is given to the command line.
pub(crate) fn login(login: &pb::Login) -> String {
    match &login.kind {
        Some(Kind::Uid(uid)) => format!("uid:{uid}"),
        Some(Kind::SpiffeId(id)) => id.clone(),
        Some(Kind::SshKey(key)) => format!("ssh:{key}"),
        Some(Kind::Oidc(pb::Oidc { issuer, subject })) => format!("oidc:{issuer}#{subject}"),
        None => "of an unknown kind".to_owned(),
    }
}

/// As it is given to the command line.
pub(crate) fn role(role: &pb::Role) -> String {
    let verb = VERBS.iter().find(|(verb, _)| *verb == role.verb());
    let verb = verb.map_or("unknown", |(_, name)| *name);
    match role.pattern.as_str() {
        "" => verb.to_owned(),
        pattern => format!("{verb}={pattern}"),
    }
}

pub(super) fn persons(persons: &[pb::Person], json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(&Value::from_iter(persons.iter().map(person_json)));
    }
    let rows = persons.iter().map(|person| {
        vec![
            person.reference.clone(),
            name(person),
            standing(person).to_owned(),
            output::lines(logins(person).map(|(login, _)| login), "none"),
            output::lines(roles(person).map(|(role, _)| role), "none"),
        ]
    });
    output::print(&output::table(
        &["PERSON", "NAME", "STANDING", "LOGINS", "ROLES"],
        rows,
    ))
}

pub(super) fn person(person: &pb::Person, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(&person_json(person));
    }
    let with = |(what, agreed): (String, Option<&pb::Agreement>)| format!("{what}, {}", by(agreed));
    output::print(&output::facts(&[
        ("person", person.reference.clone()),
        ("name", name(person)),
        ("standing", standing(person).to_owned()),
        ("added", by(person.agreed.as_ref())),
        ("logins", output::lines(logins(person).map(with), "none")),
        ("roles", output::lines(roles(person).map(with), "none")),
    ]))
}

pub(super) fn proposals(proposals: &[pb::Proposal], json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(&Value::from_iter(proposals.iter().map(proposal_json)));
    }
    let rows = proposals.iter().map(|proposal| {
        let change = proposal.change.clone().unwrap_or_default();
        vec![
            proposal.id.clone(),
            change.person.clone(),
            output::lines(what(proposal), "nothing"),
            output::lines(&proposal.agreed, "nobody"),
            output::when(proposal.expires_at, "-"),
        ]
    });
    let columns = &["PROPOSAL", "PERSON", "WHAT", "AGREED", "EXPIRES"];
    output::print(&output::table(columns, rows))
}

/// Each thing that would be granted.
fn what(proposal: &pb::Proposal) -> Vec<String> {
    let change = proposal.change.clone().unwrap_or_default();
    let mut what = Vec::new();
    if proposal.is_new {
        what.push(format!("a new person, {}", change.name));
    }
    if change.activate {
        what.push("active again".to_owned());
    }
    what.extend(change.logins.iter().map(|one| format!("login {}", login(one))));
    what.extend(change.roles.iter().map(|one| format!("role {}", role(one))));
    what
}

fn name(person: &pb::Person) -> String {
    match person.forgotten {
        true => "forgotten".to_owned(),
        false => person.name.clone(),
    }
}

fn standing(person: &pb::Person) -> &'static str {
    match (person.forgotten, person.active) {
        (true, _) => "forgotten",
        (false, true) => "active",
        (false, false) => "inactive",
    }
}

fn logins(person: &pb::Person) -> impl Iterator<Item = (String, Option<&pb::Agreement>)> {
    let granted = |granted: &'_ pb::GrantedLogin| granted.login.as_ref().map(login).unwrap_or_default();
    person
        .logins
        .iter()
        .map(move |one| (granted(one), one.agreed.as_ref()))
}

fn roles(person: &pb::Person) -> impl Iterator<Item = (String, Option<&pb::Agreement>)> {
    let granted = |granted: &'_ pb::GrantedRole| granted.role.as_ref().map(role).unwrap_or_default();
    person
        .roles
        .iter()
        .map(move |one| (granted(one), one.agreed.as_ref()))
}

fn by(agreed: Option<&pb::Agreement>) -> String {
    let Some(agreed) = agreed else {
        return "by nobody known".to_owned();
    };
    let who = match agreed.persons.as_slice() {
        [] => "by no person".to_owned(),
        [one] => format!("by {one} alone"),
        several => format!("by {}", several.join(" and ")),
    };
    format!("{} {who}", output::when(agreed.at, "-"))
}

fn agreed_json(agreed: Option<&pb::Agreement>) -> Value {
    agreed.map_or(Value::Null, |agreed| {
        json!({
            "persons": agreed.persons,
            "at": output::time_json(agreed.at),
            "alone": agreed.persons.len() < 2,
        })
    })
}

fn person_json(person: &pb::Person) -> Value {
    let granted = |(what, agreed): (String, Option<&pb::Agreement>), name: &str| {
        let mut all = json!({ "agreed": agreed_json(agreed) });
        if let Some(all) = all.as_object_mut() {
            all.insert(name.to_owned(), Value::String(what));
        }
        all
    };
    json!({
        "person": person.reference,
        "name": Some(&person.name).filter(|name| !name.is_empty()),
        "standing": standing(person),
        "agreed": agreed_json(person.agreed.as_ref()),
        "logins": Value::from_iter(logins(person).map(|one| granted(one, "login"))),
        "roles": Value::from_iter(roles(person).map(|one| granted(one, "role"))),
    })
}

fn proposal_json(proposal: &pb::Proposal) -> Value {
    let change = proposal.change.clone().unwrap_or_default();
    json!({
        "id": proposal.id,
        "person": change.person,
        "new": proposal.is_new,
        "name": Some(&change.name).filter(|name| !name.is_empty()),
        "activate": change.activate,
        "logins": Value::from_iter(change.logins.iter().map(login)),
        "roles": Value::from_iter(change.roles.iter().map(role)),
        "agreed": proposal.agreed,
        "proposed_at": output::time_json(proposal.proposed_at),
        "expires_at": output::time_json(proposal.expires_at),
    })
}
