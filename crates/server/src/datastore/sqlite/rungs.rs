//! Rungs in SQLite: who still has which, and who knows which bundle. Invariant: one that was revoked is in nobody's debt again.

use landfast_identity::{SpiffeId, UnixTime};
use rusqlite::types::Value;
use rusqlite::{params, params_from_iter};

use super::convert::opt_time;
use super::writer::Tx;
use crate::datastore::debt::{agent, requester};
use crate::datastore::{DatastoreError, Debt, DebtQuery};
use crate::issuance::IssuanceRecord;

/// What this agent has is to be refused from now on.
pub(super) fn revoke_of_agent(tx: &Tx<'_>, id: &SpiffeId, now: UnixTime) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached(
            "UPDATE issued SET revoked_at = ?2 WHERE rung = 1 AND requester = ?1 AND revoked_at IS NULL AND not_after > ?2",
        )?
        .execute(params![requester(id.as_str()), now.as_secs()])?;
    Ok(())
}

/// What anybody has for this entry, likewise.
pub(super) fn revoke_of_entry(tx: &Tx<'_>, id: &str, now: UnixTime) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached(
            "UPDATE issued SET revoked_at = ?2 WHERE rung = 1 AND entry_id = ?1 AND revoked_at IS NULL AND not_after > ?2",
        )?
        .execute(params![id, now.as_secs()])?;
    Ok(())
}

/// When the last of those ends that nodes have of this identity, for whichever entry.
pub(super) fn last_of_id(
    tx: &Tx<'_>,
    id: &SpiffeId,
    now: UnixTime,
) -> Result<Option<UnixTime>, DatastoreError> {
    let mut last = tx.conn().prepare_cached(
        "SELECT max(not_after) AS ends FROM issued WHERE rung = 1 AND spiffe_id = ?1 AND revoked_at IS NULL AND not_after > ?2",
    )?;
    Ok(last.query_row(params![id.as_str(), now.as_secs()], |row| opt_time(row, "ends"))?)
}

/// When the last of those ends that were signed before a time, and begin after another.
pub(super) fn last_of_before(
    tx: &Tx<'_>,
    signed_before: UnixTime,
    begin_after: UnixTime,
) -> Result<Option<UnixTime>, DatastoreError> {
    let mut last = tx.conn().prepare_cached(
        "SELECT max(not_after) AS ends FROM issued WHERE rung = 1 AND revoked_at IS NULL AND issued_at < ?1 AND not_before > ?2",
    )?;
    let (before, after) = (signed_before.as_secs(), begin_after.as_secs());
    Ok(last.query_row(params![before, after], |row| opt_time(row, "ends"))?)
}

/// Whether the agent and the entry that this one is for are still there: a ban or a deletion marks what is recorded, and this is not yet.
pub(super) fn may_be_recorded(tx: &Tx<'_>, record: &IssuanceRecord) -> Result<bool, DatastoreError> {
    let mut both = tx.conn().prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM agents WHERE id = ?1 AND serial <> '') AND EXISTS (SELECT 1 FROM entries WHERE id = ?2)",
    )?;
    Ok(
        both.query_row(params![agent(&record.requester), record.entry_id], |row| {
            row.get(0)
        })?,
    )
}

/// Those that this one takes the place of: a node asks for what it does not have. One that outlasts it stays in its node's debt, so whoever asks
/// again and again makes that end no sooner.
pub(super) fn replace(tx: &Tx<'_>, record: &IssuanceRecord) -> Result<(), DatastoreError> {
    let (begins, ends) = (record.not_before.as_secs(), record.not_after.as_secs());
    let mut replaced = tx.conn().prepare_cached(
        "UPDATE issued SET revoked_at = ?3 WHERE rung = 1 AND requester = ?1 AND entry_id = ?2 AND revoked_at IS NULL \
         AND not_after > ?3 AND not_after <= ?5 AND not_before <= ?4 AND not_before > ?4 - max((?5 - ?4) / 2, 1)",
    )?;
    let now = record.issued_at.as_secs();
    replaced.execute(params![record.requester, record.entry_id, now, begins, ends])?;
    Ok(())
}

/// How many the agent of this one has for its entry that are neither spent nor revoked. It has given up those of a tainted authority.
pub(super) fn ahead(tx: &Tx<'_>, record: &IssuanceRecord) -> Result<u64, DatastoreError> {
    let mut count = tx.conn().prepare_cached(
        "SELECT count(*) FROM issued WHERE rung = 1 AND requester = ?1 AND entry_id = ?2 AND revoked_at IS NULL AND not_after > ?3 \
         AND authority_id NOT IN (SELECT id FROM authorities WHERE tainted = 1)",
    )?;
    let of = params![record.requester, record.entry_id, record.issued_at.as_secs()];
    Ok(count.query_row(of, |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// In the order of agents and entries.
pub(super) fn debts(tx: &Tx<'_>, query: &DebtQuery) -> Result<Vec<Debt>, DatastoreError> {
    let (after_agent, after_entry) = &query.after;
    let after = match after_agent.as_str() {
        "" => String::new(),
        after => requester(after),
    };
    let mut values: Vec<Value> = vec![
        query.now.as_secs().into(),
        after.into(),
        after_entry.clone().into(),
    ];
    let mut sql = "SELECT requester, entry_id, count(*), max(not_after) FROM issued WHERE rung = 1 AND revoked_at IS NULL AND not_after > ? \
         AND (requester, entry_id) > (?, ?)"
        .to_owned();
    let mut among = |column: &str, list: Vec<String>| {
        if !list.is_empty() {
            let marks = vec!["?"; list.len()].join(", ");
            sql.push_str(&format!(" AND {column} IN ({marks})"));
            values.extend(list.into_iter().map(Value::from));
        }
    };
    among("requester", query.agents.iter().map(|id| requester(id)).collect());
    among("entry_id", query.entries.clone());
    among("authority_id", query.authorities.clone());
    if query.untainted {
        sql.push_str(" AND authority_id NOT IN (SELECT id FROM authorities WHERE tainted = 1)");
    }
    sql.push_str(" GROUP BY requester, entry_id ORDER BY requester, entry_id LIMIT ?");
    values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    let mut rows = tx.conn().prepare(&sql)?;
    let rows = rows.query_map(params_from_iter(values), |row| {
        Ok(Debt {
            agent: agent(&row.get::<_, String>(0)?),
            entry: row.get(1)?,
            rungs: row.get::<_, i64>(2)?.unsigned_abs(),
            ends: UnixTime::from_secs(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Also when it says an older one: it was restored, or begins anew. One that this registry never made is of before it was restored, and says nothing.
pub(super) fn acknowledge(tx: &Tx<'_>, id: &SpiffeId, sequence: u64) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached(
            "INSERT INTO acknowledged (agent_id, sequence) SELECT id, ?2 FROM agents, state WHERE id = ?1 AND ?2 <= bundle_sequence \
             ON CONFLICT (agent_id) DO UPDATE SET sequence = excluded.sequence",
        )?
        .execute(params![id.as_str(), sequence.cast_signed()])?;
    Ok(())
}

/// How many agents there are that may still be online, or have something to hand out, and have not said that they have this bundle or a newer one.
/// Of one that may have been renewed before the registry went back, nobody knows what it has.
pub(super) fn unacknowledged(tx: &Tx<'_>, sequence: u64, now: UnixTime) -> Result<usize, DatastoreError> {
    let count: i64 = tx
        .conn()
        .prepare_cached(
            "SELECT count(*) FROM agents a WHERE a.serial <> '' \
             AND NOT EXISTS (SELECT 1 FROM acknowledged k WHERE k.agent_id = a.id AND k.sequence >= ?1) \
             AND (max(a.not_after, coalesce(a.new_not_after, 0)) > ?2 OR a.new_serial LIKE 'renewed-since:%' OR EXISTS (SELECT 1 FROM issued i WHERE i.rung = 1 \
                 AND i.requester = 'agent ' || a.id AND i.revoked_at IS NULL AND i.not_after > ?2))",
        )?
        .query_row(params![sequence.cast_signed(), now.as_secs()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub(super) fn forget(tx: &Tx<'_>, id: &SpiffeId) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached("DELETE FROM acknowledged WHERE agent_id = ?1")?
        .execute(params![id.as_str()])?;
    Ok(())
}
