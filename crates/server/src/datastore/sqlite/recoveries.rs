//! Device keys of nodes in SQLite. Invariant: a row is there only while its agent is.

use landfast_identity::{SpiffeId, UnixTime};
use landfast_lifecycle::recovery::Recovery;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::agents;
use super::convert::opt_time;
use super::writer::Tx;
use crate::datastore::{DatastoreError, recovery_text};
use crate::registry::{RecoveryStep, RegistryError, Stepped};

pub(super) fn step(
    tx: &Tx<'_>,
    id: &SpiffeId,
    step: RecoveryStep,
) -> Result<(Stepped, Recovery), RegistryError> {
    match agents::find(tx, id)? {
        None => return Err(RegistryError::NoSuchAgent { id: id.clone() }),
        Some(agent) if agent.is_banned() => return Err(RegistryError::Banned),
        Some(_) => {}
    }
    let before = find(tx, id)?.unwrap_or_default();
    let mut after = before.clone();
    let stepped = step.apply(&mut after);
    if after != before {
        put(tx, id, &after)?;
    }
    Ok((stepped, after))
}

/// The node is in for the first time.
pub(super) fn enrol(tx: &Tx<'_>, id: &SpiffeId, at: UnixTime) -> Result<(), DatastoreError> {
    let recovery = Recovery {
        enrolled_at: Some(at),
        heard_at: Some(at),
        ..Recovery::default()
    };
    put(tx, id, &recovery)
}

/// The node has got an SVID.
pub(super) fn hear(tx: &Tx<'_>, id: &SpiffeId, at: UnixTime) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached(
            "UPDATE recoveries SET heard_at = max(coalesce(heard_at, ?2), ?2) WHERE agent_id = ?1",
        )?
        .execute(params![id.as_str(), at.as_secs()])?;
    Ok(())
}

/// All of them: the registry has gone back, and what was decided since is not known.
pub(super) fn doubt_all(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.execute(
        "UPDATE recoveries SET heard_at = NULL, body = json_set(body, '$.doubted', json('true'))",
        [],
    )?;
    Ok(())
}

pub(super) fn forget(tx: &Tx<'_>, id: &SpiffeId) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached("DELETE FROM recoveries WHERE agent_id = ?1")?
        .execute(params![id.as_str()])?;
    Ok(())
}

pub(super) fn find(tx: &Tx<'_>, id: &SpiffeId) -> Result<Option<Recovery>, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT heard_at, body FROM recoveries WHERE agent_id = ?1")?;
    let found = row.query_row(params![id.as_str()], columns).optional()?;
    found
        .map(|(heard, body)| recovery_text::decode(&body, heard))
        .transpose()
}

pub(super) fn waiting(
    tx: &Tx<'_>,
    after: &str,
    limit: usize,
) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
    let mut rows = tx.conn().prepare_cached(
        "SELECT agent_id, heard_at, body FROM recoveries WHERE waiting AND agent_id > ?1 ORDER BY agent_id LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = rows.query_map(params![after, limit], |row| {
        Ok((row.get::<_, String>("agent_id")?, columns(row)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (id, (heard, body)) = row?;
        let id = SpiffeId::parse(&id).map_err(|error| DatastoreError::Corrupt {
            source: std::sync::Arc::new(error),
        })?;
        found.push((id, recovery_text::decode(&body, heard)?));
    }
    Ok(found)
}

fn columns(row: &Row<'_>) -> Result<(Option<UnixTime>, String), rusqlite::Error> {
    Ok((opt_time(row, "heard_at")?, row.get("body")?))
}

fn put(tx: &Tx<'_>, id: &SpiffeId, recovery: &Recovery) -> Result<(), DatastoreError> {
    let body = recovery_text::encode(recovery)?;
    let waiting = !recovery.questions().is_empty();
    tx.conn()
        .prepare_cached(
            "INSERT OR REPLACE INTO recoveries (agent_id, heard_at, waiting, body) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            id.as_str(),
            recovery.heard_at.map(UnixTime::as_secs),
            waiting,
            body
        ])?;
    Ok(())
}
