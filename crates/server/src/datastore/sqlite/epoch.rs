//! A new epoch of a registry that was put back. Invariant: whatever others have seen of it before, what it has now is newer.

use rusqlite::{OptionalExtension as _, params};

use super::writer::Tx;
use super::{agents, authorities, recoveries};
use crate::datastore::rows::SEQUENCE_STEP;
use crate::datastore::{Change, DatastoreError};
use crate::registry::{AgentRecord, renewed_since};

pub(super) fn renew(tx: &mut Tx<'_>, epoch: u64, sequence: u64) -> Result<(), DatastoreError> {
    let column = |number| i64::try_from(number).unwrap_or(i64::MAX - 1);
    let (epoch, sequence) = (column(epoch), column(sequence));
    let epoch: i64 = tx
        .conn()
        .prepare_cached(
            "UPDATE state SET epoch = max(epoch + 1, ?1), journal_version = journal_version + 1, \
             bundle_sequence = max(bundle_sequence + ?2, ?3 + 1) RETURNING epoch",
        )?
        .query_row(params![epoch, SEQUENCE_STEP, sequence], |row| row.get(0))?;
    recoveries::doubt_all(tx.conn())?;
    authorities::may_have_signed(tx.conn())?;
    let revision = tx.next_revision()?;
    tx.changed(revision, Change::BeginEpoch(epoch.unsigned_abs()));
    for agent in agents::all(tx)? {
        let Some(since) = begins(tx, &agent)? else {
            continue;
        };
        // What begins earlier was superseded; later ones may be lost.
        let changed = AgentRecord {
            new_serial: Some(renewed_since(since)),
            new_not_after: None,
            ..(*agent).clone()
        };
        agents::put(tx, changed)?;
    }
    Ok(())
}

/// When the current SVID of an agent begins; `None` of one that is banned.
fn begins(tx: &Tx<'_>, agent: &AgentRecord) -> Result<Option<i64>, DatastoreError> {
    if agent.is_banned() {
        return Ok(None);
    }
    let mut record = tx
        .conn()
        .prepare_cached("SELECT not_before FROM issued WHERE spiffe_id = ?1 AND serial = ?2")?;
    let begins = record.query_row(params![agent.id.as_str(), agent.serial], |row| row.get(0));
    Ok(begins.optional()?)
}
