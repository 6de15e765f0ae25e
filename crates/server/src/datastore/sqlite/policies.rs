//! Policies of entries in SQLite. Invariant: a row is there only while its entry is; the schema sees to that.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};

use super::writer::Tx;
use crate::datastore::{Change, DatastoreError};
use crate::registry::{EntryPolicy, PolicyPatch, RegistryError};

pub(super) fn set(
    tx: &mut Tx<'_>,
    id: &str,
    patch: PolicyPatch,
    if_revision: Option<u64>,
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
    let policy = Arc::new(patch.apply(old, revision.unsigned_abs()));
    tx.conn()
        .prepare_cached(
            "INSERT INTO entry_policies (entry_id, description, revision) VALUES (?1, ?2, ?3) \
             ON CONFLICT (entry_id) DO UPDATE SET description = excluded.description, revision = excluded.revision",
        )?
        .execute(params![id, policy.description, revision])?;
    tx.changed(revision, Change::PutPolicy(Arc::clone(&policy)));
    Ok(policy)
}

/// `None` when there is no such entry.
fn find(tx: &Tx<'_>, id: &str) -> Result<Option<EntryPolicy>, DatastoreError> {
    let mut row = tx.conn().prepare_cached(
        "SELECT p.description, p.revision FROM entries e LEFT JOIN entry_policies p ON p.entry_id = e.id WHERE e.id = ?1",
    )?;
    let found: Option<(Option<String>, Option<i64>)> = row
        .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let policy = |(description, revision): (Option<String>, Option<i64>)| match (description, revision) {
        (Some(description), Some(revision)) => EntryPolicy {
            entry_id: id.to_owned(),
            description,
            revision: revision.unsigned_abs(),
        },
        _ => EntryPolicy::defaults(id),
    };
    Ok(found.map(policy))
}
