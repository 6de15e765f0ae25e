//! Persons and proposals, as the text that is stored. Invariant: what is read is what was written, and a text of a person has no name.

use std::error::Error;
use std::sync::Arc;

use landfast_identity::UnixTime;
use serde::{Deserialize, Serialize};

use super::DatastoreError;
use crate::people::{Agreement, Change, Granted, Login, Mark, Person, PersonRef, Proposal, Role};

#[derive(Serialize, Deserialize)]
struct PersonText {
    active: bool,
    forgotten: bool,
    agreed: AgreementText,
    logins: Vec<GrantedText>,
    roles: Vec<GrantedText>,
}

#[derive(Serialize, Deserialize)]
struct AgreementText {
    persons: Vec<String>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct GrantedText {
    what: String,
    agreed: AgreementText,
    /// Older rows have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ProposalText {
    person: String,
    name: Option<String>,
    logins: Vec<String>,
    roles: Vec<String>,
    activate: bool,
    agreed: Vec<String>,
    proposed_at: i64,
    expires_at: i64,
}

pub(super) fn person(person: &Person) -> Result<String, DatastoreError> {
    write(&PersonText {
        active: person.active,
        forgotten: person.forgotten,
        agreed: agreement(&person.agreed),
        logins: person.logins.iter().map(granted).collect(),
        roles: person.roles.iter().map(granted).collect(),
    })
}

pub(super) fn read_person(reference: &str, text: &str) -> Result<Person, DatastoreError> {
    let text: PersonText = serde_json::from_str(text).map_err(damaged)?;
    Ok(Person {
        reference: read_reference(reference)?,
        active: text.active,
        forgotten: text.forgotten,
        agreed: read_agreement(&text.agreed)?,
        logins: read_granted(text.logins, read_login)?,
        roles: read_granted(text.roles, read_role)?,
    })
}

pub(super) fn proposal(proposal: &Proposal) -> Result<String, DatastoreError> {
    let change = &proposal.change;
    write(&ProposalText {
        person: change.person.to_string(),
        name: change.name.clone(),
        logins: change.logins.iter().map(ToString::to_string).collect(),
        roles: change.roles.iter().map(ToString::to_string).collect(),
        activate: change.activate,
        agreed: proposal.agreed.iter().map(ToString::to_string).collect(),
        proposed_at: proposal.proposed_at.as_secs(),
        expires_at: proposal.expires_at.as_secs(),
    })
}

pub(super) fn read_proposal(id: &str, text: &str) -> Result<Proposal, DatastoreError> {
    let text: ProposalText = serde_json::from_str(text).map_err(damaged)?;
    let logins = text.logins.iter().map(|login| read_login(login));
    let roles = text.roles.iter().map(|role| read_role(role));
    let agreed = text.agreed.iter().map(|person| read_reference(person));
    Ok(Proposal {
        id: id.to_owned(),
        change: Change {
            person: read_reference(&text.person)?,
            name: text.name,
            logins: logins.collect::<Result<_, _>>()?,
            roles: roles.collect::<Result<_, _>>()?,
            activate: text.activate,
        },
        agreed: agreed.collect::<Result<_, _>>()?,
        proposed_at: UnixTime::from_secs(text.proposed_at),
        expires_at: UnixTime::from_secs(text.expires_at),
    })
}

pub(super) fn read_reference(text: &str) -> Result<PersonRef, DatastoreError> {
    PersonRef::parse(text).map_err(damaged)
}

fn agreement(agreed: &Agreement) -> AgreementText {
    AgreementText {
        persons: agreed.persons.iter().map(ToString::to_string).collect(),
        at: agreed.at.as_secs(),
    }
}

fn read_agreement(text: &AgreementText) -> Result<Agreement, DatastoreError> {
    let persons = text.persons.iter().map(|person| read_reference(person));
    Ok(Agreement {
        persons: persons.collect::<Result<_, _>>()?,
        at: UnixTime::from_secs(text.at),
    })
}

fn granted<T: ToString>(granted: &Granted<T>) -> GrantedText {
    GrantedText {
        what: granted.what.to_string(),
        agreed: agreement(&granted.agreed),
        mark: granted.mark.as_ref().map(|mark| mark.as_str().to_owned()),
    }
}

fn read_granted<T>(
    texts: Vec<GrantedText>,
    parse: impl Fn(&str) -> Result<T, DatastoreError>,
) -> Result<Vec<Granted<T>>, DatastoreError> {
    let read = |text: GrantedText| {
        Ok(Granted {
            what: parse(&text.what)?,
            agreed: read_agreement(&text.agreed)?,
            mark: text.mark.map(Mark::of_store),
        })
    };
    texts.into_iter().map(read).collect()
}

fn read_login(text: &str) -> Result<Login, DatastoreError> {
    Login::parse(text).map_err(damaged)
}

fn read_role(text: &str) -> Result<Role, DatastoreError> {
    Role::parse(text).map_err(damaged)
}

fn write(value: &impl Serialize) -> Result<String, DatastoreError> {
    serde_json::to_string(value).map_err(|source| DatastoreError::Failed {
        source: Arc::new(source),
    })
}

fn damaged(source: impl Error + Send + Sync + 'static) -> DatastoreError {
    DatastoreError::Corrupt {
        source: Arc::new(source),
    }
}
