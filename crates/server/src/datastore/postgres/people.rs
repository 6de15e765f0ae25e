//! Persons in PostgreSQL. Invariant: a register is read, changed and written in one transaction, which holds the counter of revisions: no other
//! server decides at the same time.

use std::sync::Arc;

use landfast_identity::{TrustDomain, UnixTime};

use super::entries;
use super::row::get;
use super::tx::Tx;
use crate::datastore::{Change, DatastoreError, people_text as text};
use crate::people::{Done, Person, PersonRef, Register, Step, Write};
use crate::registry::RegistryError;

pub(super) async fn step(
    tx: &mut Tx,
    td: &TrustDomain,
    step: Step,
    by: Option<&PersonRef>,
    now: UnixTime,
) -> Result<Done, RegistryError> {
    let before = register(tx, td).await?;
    let mut after = before.clone();
    let done = step.apply(&mut after, by, now)?;
    for id in after.identities_since(&before) {
        entries::can_be_a_login(tx, &id).await?;
    }
    for write in after.writes_since(&before) {
        put(tx, write).await?;
    }
    Ok(done)
}

pub(super) async fn register(tx: &mut Tx, td: &TrustDomain) -> Result<Register, DatastoreError> {
    let mut register = Register::empty(td.clone());
    for row in tx.rows(ALL, &[]).await? {
        let person = text::read_person(get(&row, "reference")?, get(&row, "body")?)?;
        register.persons.insert(person.reference.clone(), person);
    }
    for row in tx.rows("SELECT reference, name FROM person_names", &[]).await? {
        let reference = text::read_reference(get(&row, "reference")?)?;
        register.names.insert(reference, get(&row, "name")?);
    }
    for row in tx.rows("SELECT id, body FROM person_proposals", &[]).await? {
        let proposal = text::read_proposal(get(&row, "id")?, get(&row, "body")?)?;
        register.proposals.insert(proposal.id.clone(), proposal);
    }
    Ok(register)
}

async fn put(tx: &mut Tx, write: Write) -> Result<(), DatastoreError> {
    match write {
        Write::Person(person) => {
            let revision = tx.next_revision();
            put_person(tx, &person, revision).await?;
            if person.forgotten {
                // What the feed has of it names its logins. Who has not read that yet hears of the end only.
                let (reference, body) = (person.reference.as_str(), text::person(&person)?);
                tx.execute(SCRUB, &[&reference, &body]).await?;
            }
            tx.changed(revision, Change::PutPerson(Arc::new(person)), None);
        }
        Write::Name(reference, name) => put_name(tx, reference.as_str(), &name).await?,
        Write::EraseName(reference) => {
            let sql = "DELETE FROM person_names WHERE reference = $1";
            tx.execute(sql, &[&reference.as_str()]).await?;
        }
        Write::Proposal(proposal) => put_proposal(tx, &proposal.id, &text::proposal(&proposal)?).await?,
        Write::RemoveProposal(id) => {
            tx.execute("DELETE FROM person_proposals WHERE id = $1", &[&id])
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn put_person(tx: &mut Tx, person: &Person, revision: i64) -> Result<(), DatastoreError> {
    let (reference, body) = (person.reference.as_str(), text::person(person)?);
    tx.execute(PUT, &[&reference, &body, &revision]).await?;
    let sql = "DELETE FROM person_logins WHERE reference = $1";
    tx.execute(sql, &[&reference]).await?;
    for login in &person.logins {
        let login = login.what.to_string();
        tx.execute(LOGIN, &[&login, &reference]).await?;
    }
    Ok(())
}

pub(super) async fn put_name(tx: &mut Tx, reference: &str, name: &str) -> Result<(), DatastoreError> {
    tx.execute(NAME, &[&reference, &name]).await?;
    Ok(())
}

pub(super) async fn put_proposal(tx: &mut Tx, id: &str, body: &str) -> Result<(), DatastoreError> {
    tx.execute(PROPOSAL, &[&id, &body]).await?;
    Ok(())
}

pub(super) const ALL: &str = "SELECT reference, body FROM people";
const PUT: &str = "INSERT INTO people (reference, body, revision) VALUES ($1, $2, $3) \
    ON CONFLICT (reference) DO UPDATE SET body = excluded.body, revision = excluded.revision";
const LOGIN: &str = "INSERT INTO person_logins (login, reference) VALUES ($1, $2)";
const NAME: &str = "INSERT INTO person_names (reference, name) VALUES ($1, $2) ON CONFLICT (reference) DO UPDATE SET name = excluded.name";
const PROPOSAL: &str = "INSERT INTO person_proposals (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
const SCRUB: &str = "UPDATE changes SET body = $2 WHERE kind = 'person' AND object = $1";
