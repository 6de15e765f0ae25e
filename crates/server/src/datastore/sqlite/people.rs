//! Persons in SQLite. Invariant: a register is read, changed and written in one transaction.

use std::sync::Arc;

use landfast_identity::{TrustDomain, UnixTime};
use rusqlite::{Connection, Row, params};

use super::entries;
use super::writer::Tx;
use crate::datastore::{Change, DatastoreError, people_text as text};
use crate::people::{Done, Person, PersonRef, Register, Step, Write};
use crate::registry::RegistryError;

pub(super) fn step(
    tx: &mut Tx<'_>,
    td: &TrustDomain,
    step: Step,
    by: Option<&PersonRef>,
    now: UnixTime,
) -> Result<Done, RegistryError> {
    let before = register(tx, td)?;
    let mut after = before.clone();
    let done = step.apply(&mut after, by, now)?;
    for id in after.identities_since(&before) {
        entries::can_be_a_login(tx, &id)?;
    }
    for write in after.writes_since(&before) {
        put(tx, write)?;
    }
    Ok(done)
}

pub(super) fn register(tx: &Tx<'_>, td: &TrustDomain) -> Result<Register, DatastoreError> {
    let mut register = Register::empty(td.clone());
    for person in all(tx)? {
        register
            .persons
            .insert(person.reference.clone(), (*person).clone());
    }
    for (reference, name) in pairs(tx.conn(), "SELECT reference, name FROM person_names")? {
        register.names.insert(text::read_reference(&reference)?, name);
    }
    for (id, body) in pairs(tx.conn(), "SELECT id, body FROM person_proposals")? {
        let proposal = text::read_proposal(&id, &body)?;
        register.proposals.insert(id, proposal);
    }
    Ok(register)
}

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Arc<Person>>, DatastoreError> {
    let rows = pairs(tx.conn(), "SELECT reference, body FROM people")?;
    let person = |(reference, body): (String, String)| text::read_person(&reference, &body).map(Arc::new);
    rows.into_iter().map(person).collect()
}

pub(super) fn pairs(conn: &Connection, sql: &str) -> Result<Vec<(String, String)>, DatastoreError> {
    let mut rows = conn.prepare_cached(sql)?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(rows.query_map([], pair)?.collect::<Result<_, _>>()?)
}

fn put(tx: &mut Tx<'_>, write: Write) -> Result<(), DatastoreError> {
    let run = |tx: &Tx<'_>, sql: &str, params: &[&dyn rusqlite::ToSql]| -> Result<(), DatastoreError> {
        tx.conn().prepare_cached(sql)?.execute(params)?;
        Ok(())
    };
    match write {
        Write::Person(person) => {
            let revision = tx.next_revision()?;
            let (reference, body) = (person.reference.as_str(), text::person(&person)?);
            run(tx, PUT, params![reference, body, revision])?;
            run(
                tx,
                "DELETE FROM person_logins WHERE reference = ?1",
                params![reference],
            )?;
            for login in &person.logins {
                run(tx, LOGIN, params![login.what.to_string(), reference])?;
            }
            tx.changed(revision, Change::PutPerson(Arc::new(person)));
            Ok(())
        }
        Write::Name(reference, name) => run(tx, NAME, params![reference.as_str(), name]),
        Write::EraseName(reference) => run(
            tx,
            "DELETE FROM person_names WHERE reference = ?1",
            params![reference.as_str()],
        ),
        Write::Proposal(proposal) => run(tx, PROPOSAL, params![proposal.id, text::proposal(&proposal)?]),
        Write::RemoveProposal(id) => run(tx, "DELETE FROM person_proposals WHERE id = ?1", params![id]),
    }
}

const PUT: &str = "INSERT INTO people (reference, body, revision) VALUES (?1, ?2, ?3) \
    ON CONFLICT (reference) DO UPDATE SET body = excluded.body, revision = excluded.revision";
const LOGIN: &str = "INSERT INTO person_logins (login, reference) VALUES (?1, ?2)";
const NAME: &str = "INSERT OR REPLACE INTO person_names (reference, name) VALUES (?1, ?2)";
const PROPOSAL: &str = "INSERT OR REPLACE INTO person_proposals (id, body) VALUES (?1, ?2)";
