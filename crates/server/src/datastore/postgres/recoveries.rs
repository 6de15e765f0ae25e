//! Device keys of nodes in PostgreSQL. Invariant: a row is there only while its agent is.

use landfast_identity::{SpiffeId, UnixTime};
use landfast_lifecycle::recovery::Recovery;
use tokio_postgres::Row;

use super::agents;
use super::row::{get, id as read_id, limit, opt_time};
use super::tx::Tx;
use crate::datastore::{DatastoreError, recovery_text};
use crate::registry::{RecoveryStep, RegistryError, Stepped};

pub(super) async fn step(
    tx: &mut Tx,
    id: &SpiffeId,
    step: RecoveryStep,
) -> Result<(Stepped, Recovery), RegistryError> {
    match agents::find(tx, id).await? {
        None => return Err(RegistryError::NoSuchAgent { id: id.clone() }),
        Some(agent) if agent.is_banned() => return Err(RegistryError::Banned),
        Some(_) => {}
    }
    let before = find(tx, id).await?.unwrap_or_default();
    let mut after = before.clone();
    let stepped = step.apply(&mut after);
    if after != before {
        put(tx, id, &after).await?;
    }
    Ok((stepped, after))
}

/// The node is in for the first time.
pub(super) async fn enrol(tx: &mut Tx, id: &SpiffeId, at: UnixTime) -> Result<(), DatastoreError> {
    let recovery = Recovery {
        enrolled_at: Some(at),
        heard_at: Some(at),
        ..Recovery::default()
    };
    put(tx, id, &recovery).await
}

/// The node has got an SVID.
pub(super) async fn hear(tx: &mut Tx, id: &SpiffeId, at: UnixTime) -> Result<(), DatastoreError> {
    let sql = "UPDATE recoveries SET heard_at = greatest(coalesce(heard_at, $2), $2) WHERE agent_id = $1";
    tx.execute(sql, &[&id.as_str(), &at.as_secs()]).await?;
    Ok(())
}

pub(super) async fn forget(tx: &mut Tx, id: &SpiffeId) -> Result<(), DatastoreError> {
    tx.execute("DELETE FROM recoveries WHERE agent_id = $1", &[&id.as_str()])
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut Tx, id: &SpiffeId) -> Result<Option<Recovery>, DatastoreError> {
    let sql = "SELECT heard_at, body FROM recoveries WHERE agent_id = $1";
    let row = tx.opt(sql, &[&id.as_str()]).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn waiting(
    tx: &mut Tx,
    after: &str,
    most: usize,
) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
    let rows = tx.rows(WAITING, &[&after, &limit(most)]).await?;
    rows.iter()
        .map(|row| Ok((read_id(row, "agent_id")?, read(row)?)))
        .collect()
}

fn read(row: &Row) -> Result<Recovery, DatastoreError> {
    recovery_text::decode(get(row, "body")?, opt_time(row, "heard_at")?)
}

async fn put(tx: &mut Tx, id: &SpiffeId, recovery: &Recovery) -> Result<(), DatastoreError> {
    let body = recovery_text::encode(recovery)?;
    let waiting = !recovery.questions().is_empty();
    let heard = recovery.heard_at.map(UnixTime::as_secs);
    tx.execute(PUT, &[&id.as_str(), &heard, &waiting, &body]).await?;
    Ok(())
}

/// By bytes, as SQLite has it: a page begins after the one before in any language.
const WAITING: &str = "SELECT agent_id, heard_at, body FROM recoveries WHERE waiting AND agent_id > $1 COLLATE \"C\" \
    ORDER BY agent_id COLLATE \"C\" LIMIT $2";
pub(super) const PUT: &str = "INSERT INTO recoveries (agent_id, heard_at, waiting, body) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (agent_id) DO UPDATE SET heard_at = excluded.heard_at, waiting = excluded.waiting, body = excluded.body";
