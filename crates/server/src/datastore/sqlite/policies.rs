//! Policies of entries in SQLite. Invariant: a row is there only while its entry is; the schema sees to that.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use rusqlite::{OptionalExtension as _, Row, params};

use super::convert::damage;
use super::rungs;
use super::writer::Tx;
use crate::datastore::debt::{audiences, read_audiences};
use crate::datastore::{Change, DatastoreError};
use crate::registry::{EntryPolicy, PolicyPatch, RegistryError, ThirdParty};

pub(super) fn set(
    tx: &mut Tx<'_>,
    id: &str,
    patch: PolicyPatch,
    if_revision: Option<u64>,
    now: UnixTime,
) -> Result<Arc<EntryPolicy>, RegistryError> {
    let Some(old) = find(tx, id)? else {
        return Err(RegistryError::NoSuchEntry { id: id.to_owned() });
    };
    if if_revision.is_some_and(|expected| expected != old.revision) {
        return Err(RegistryError::PolicyChanged {
            id: old.entry_id,
            found: old.revision,
        });
    }
    let revision = tx.next_revision()?;
    let policy = Arc::new(patch.apply(old, revision.unsigned_abs())?);
    tx.conn().prepare_cached(PUT)?.execute(params![
        id,
        policy.description,
        revision,
        policy.reserve.as_secs().cast_signed(),
        policy.privileged,
        serde_json::json!(audiences(&policy.jwt_offline)).to_string(),
        policy.availability_first,
        policy.third_party.as_ref().map(|party| party.sponsor.as_str()),
        policy.third_party.as_ref().map(|party| party.contract.as_str()),
    ])?;
    if policy.reserve.is_zero() {
        // Its node destroys them when it hears of it.
        rungs::revoke_of_entry(tx, id, now)?;
    }
    tx.changed(revision, Change::PutPolicy(Arc::clone(&policy)));
    Ok(policy)
}

/// `None` when there is no such entry.
fn find(tx: &Tx<'_>, id: &str) -> Result<Option<EntryPolicy>, DatastoreError> {
    let mut row = tx.conn().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM entries e LEFT JOIN entry_policies p ON p.entry_id = e.id WHERE e.id = ?1"
    ))?;
    let found = row.query_row(params![id], |row| read(row, 0, id)).optional()?;
    Ok(found.map(|policy| policy.unwrap_or_else(|| EntryPolicy::defaults(id))))
}

/// From [`COLUMNS`], the first of them here; `None` when the entry has none.
pub(super) fn read(
    row: &Row<'_>,
    first: usize,
    entry_id: &str,
) -> Result<Option<EntryPolicy>, rusqlite::Error> {
    let Some(revision) = row.get::<_, Option<i64>>(first)? else {
        return Ok(None);
    };
    let tokens: String = row.get(first + 4)?;
    let tokens = serde_json::from_str(&tokens).map_err(|e| damage("jwt_offline", e))?;
    Ok(Some(EntryPolicy {
        entry_id: entry_id.to_owned(),
        description: row.get(first + 1)?,
        reserve: Duration::from_secs(row.get::<_, i64>(first + 2)?.unsigned_abs()),
        privileged: row.get(first + 3)?,
        jwt_offline: read_audiences(tokens),
        availability_first: row.get("availability_first")?,
        third_party: third_party(row)?,
        revision: revision.unsigned_abs(),
    }))
}

fn third_party(row: &Row<'_>) -> Result<Option<ThirdParty>, rusqlite::Error> {
    let (sponsor, contract): (Option<String>, Option<String>) = (row.get("sponsor")?, row.get("contract")?);
    Ok(sponsor
        .zip(contract)
        .map(|(sponsor, contract)| ThirdParty { sponsor, contract }))
}

pub(super) const COLUMNS: &str = "p.revision, p.description, p.reserve, p.privileged, p.jwt_offline, p.availability_first, p.sponsor, p.contract";
const PUT: &str = "INSERT INTO entry_policies (entry_id, description, revision, reserve, privileged, jwt_offline, availability_first, sponsor, contract) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
    ON CONFLICT (entry_id) DO UPDATE SET description = excluded.description, revision = excluded.revision, reserve = excluded.reserve, \
    privileged = excluded.privileged, jwt_offline = excluded.jwt_offline, availability_first = excluded.availability_first, \
    sponsor = excluded.sponsor, contract = excluded.contract";
