//! What was removed, and at which revision. Invariant: every removal has one, written with it.

use landfast_identity::UnixTime;
use rusqlite::params;

use super::writer::Tx;
use crate::datastore::{Change, DatastoreError};

/// Notes a removal and tells of it once it is committed.
pub(super) fn bury(
    tx: &mut Tx<'_>,
    kind: &'static str,
    object: &str,
    now: UnixTime,
    change: Change,
) -> Result<(), DatastoreError> {
    let revision = tx.next_revision()?;
    tx.conn()
        .prepare_cached(
            "INSERT INTO tombstones (revision, kind, object, removed_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![revision, kind, object, now.as_secs()])?;
    tx.changed(revision, change);
    Ok(())
}

pub(super) fn prune(tx: &Tx<'_>, before: UnixTime, limit: usize) -> Result<usize, DatastoreError> {
    let mut delete = tx.conn().prepare_cached(
        "DELETE FROM tombstones WHERE revision IN (SELECT revision FROM tombstones WHERE removed_at < ?1 ORDER BY revision LIMIT ?2)",
    )?;
    Ok(delete.execute(params![
        before.as_secs(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?)
}
