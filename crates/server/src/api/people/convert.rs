//! Messages of the register of persons, in and out. Invariant: what comes in is parsed whole, or refused.

use landfast_identity::ssh::SshFingerprint;
use landfast_identity::{IdPattern, SpiffeId, TrustDomain};
use landfast_proto::landfast::people::v1::{self as pb, login::Kind};
use tonic::Status;

use super::status;
use crate::people::{Agreement, Change, Login, OidcSubject, Person, PersonRef, Proposal, Role, Verb};

pub(super) fn change_in(change: pb::Change, td: &TrustDomain) -> Result<Change, Status> {
    let is_new = change.person.is_empty();
    let person = match is_new {
        true => PersonRef::random().ok_or_else(|| status::internal("the random source failed"))?,
        false => reference_in(&change.person)?,
    };
    if !is_new && !change.name.is_empty() {
        return Err(Status::invalid_argument("only a new person is given a name"));
    }
    if change.logins.len() > Person::MAX_LOGINS || change.roles.len() > Person::MAX_ROLES {
        return Err(Status::invalid_argument(
            "more logins or roles than a person can have",
        ));
    }
    let logins = change.logins.into_iter().map(login_in);
    let roles = change.roles.into_iter().map(|role| role_in(role, td));
    Ok(Change {
        person,
        name: is_new.then_some(change.name),
        logins: logins.collect::<Result<_, _>>()?,
        roles: roles.collect::<Result<_, _>>()?,
        activate: change.activate,
    })
}

pub(super) fn reference_in(text: &str) -> Result<PersonRef, Status> {
    PersonRef::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

pub(super) fn login_in(login: pb::Login) -> Result<Login, Status> {
    match login.kind {
        Some(Kind::Uid(uid)) => Ok(Login::Uid(uid)),
        Some(Kind::SpiffeId(id)) => {
            let id = SpiffeId::parse(&id).map_err(|error| Status::invalid_argument(error.to_string()))?;
            Ok(Login::Spiffe(id))
        }
        Some(Kind::SshKey(key)) => {
            let key = key.parse::<SshFingerprint>();
            let wrong = "an SSH key is named by its fingerprint, SHA256:… as ssh-keygen -l shows it";
            key.map(Login::Ssh)
                .map_err(|_bad| Status::invalid_argument(wrong))
        }
        Some(Kind::Oidc(pb::Oidc { issuer, subject })) => {
            let subject = OidcSubject::new(&issuer, &subject);
            let wrong = "an OIDC login is an issuer, an https URL without query or fragment, and a subject of at most 255 plain characters";
            subject
                .map(Login::Oidc)
                .ok_or_else(|| Status::invalid_argument(wrong))
        }
        None => Err(Status::invalid_argument(
            "a login of a kind that this server does not know",
        )),
    }
}

pub(super) fn role_in(role: pb::Role, td: &TrustDomain) -> Result<Role, Status> {
    let verb = match role.verb() {
        pb::Verb::Read => Verb::Read,
        pb::Verb::Approve => Verb::Approve,
        pb::Verb::Enrol => Verb::Enrol,
        pb::Verb::Revoke => Verb::Revoke,
        pb::Verb::Administer => Verb::Administer,
        pb::Verb::Unspecified => {
            return Err(Status::invalid_argument(
                "a role with a verb that this server does not know",
            ));
        }
    };
    let pattern = match role.pattern.as_str() {
        "" => format!("spiffe://{td}/*"),
        given => given.to_owned(),
    };
    let pattern = IdPattern::parse(&pattern).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Role { verb, pattern })
}

pub(super) fn login_out(login: &Login) -> pb::Login {
    pb::Login {
        kind: Some(match login {
            Login::Uid(uid) => Kind::Uid(*uid),
            Login::Spiffe(id) => Kind::SpiffeId(id.to_string()),
            Login::Ssh(key) => Kind::SshKey(key.to_string()),
            Login::Oidc(who) => Kind::Oidc(pb::Oidc {
                issuer: who.issuer().to_owned(),
                subject: who.subject().to_owned(),
            }),
        }),
    }
}

pub(super) fn role_out(role: &Role) -> pb::Role {
    let verb = match role.verb {
        Verb::Read => pb::Verb::Read,
        Verb::Approve => pb::Verb::Approve,
        Verb::Enrol => pb::Verb::Enrol,
        Verb::Revoke => pb::Verb::Revoke,
        Verb::Administer => pb::Verb::Administer,
    };
    pb::Role {
        verb: verb.into(),
        pattern: role.pattern.to_string(),
    }
}

pub(super) fn person_out(person: &Person, name: &str) -> pb::Person {
    pb::Person {
        reference: person.reference.to_string(),
        name: name.to_owned(),
        active: person.active,
        forgotten: person.forgotten,
        agreed: Some(agreement_out(&person.agreed)),
        logins: person
            .logins
            .iter()
            .map(|login| pb::GrantedLogin {
                login: Some(login_out(&login.what)),
                agreed: Some(agreement_out(&login.agreed)),
            })
            .collect(),
        roles: person
            .roles
            .iter()
            .map(|role| pb::GrantedRole {
                role: Some(role_out(&role.what)),
                agreed: Some(agreement_out(&role.agreed)),
            })
            .collect(),
    }
}

pub(super) fn proposal_out(proposal: &Proposal) -> pb::Proposal {
    let change = &proposal.change;
    pb::Proposal {
        id: proposal.id.clone(),
        change: Some(pb::Change {
            person: change.person.to_string(),
            name: change.name.clone().unwrap_or_default(),
            logins: change.logins.iter().map(login_out).collect(),
            roles: change.roles.iter().map(role_out).collect(),
            activate: change.activate,
        }),
        is_new: change.name.is_some(),
        agreed: proposal.agreed.iter().map(ToString::to_string).collect(),
        proposed_at: proposal.proposed_at.as_secs(),
        expires_at: proposal.expires_at.as_secs(),
    }
}

fn agreement_out(agreed: &Agreement) -> pb::Agreement {
    pb::Agreement {
        persons: agreed.persons.iter().map(ToString::to_string).collect(),
        at: agreed.at.as_secs(),
    }
}
