//! Rungs in PostgreSQL: who still has which, and who knows which bundle. Invariant: one that was revoked is in nobody's debt again.

use std::collections::{BTreeMap, BTreeSet};

use landfast_identity::{SpiffeId, UnixTime};
use tokio_postgres::Row;

use super::row::{get, limit, opt_time, time};
use super::tx::Tx;
use crate::datastore::debt::{agent, requester};
use crate::datastore::{DatastoreError, Debt, DebtQuery};
use crate::issuance::IssuanceRecord;

/// What this agent has is to be refused from now on.
pub(super) async fn revoke_of_agent(tx: &mut Tx, id: &SpiffeId, now: UnixTime) -> Result<(), DatastoreError> {
    let requester = requester(id.as_str());
    tx.execute(OF_AGENT, &[&requester, &now.as_secs()]).await?;
    Ok(())
}

/// What anybody has for this entry, likewise.
pub(super) async fn revoke_of_entry(tx: &mut Tx, id: &str, now: UnixTime) -> Result<(), DatastoreError> {
    tx.execute(OF_ENTRY, &[&id, &now.as_secs()]).await?;
    Ok(())
}

/// When the last of those ends that nodes have of this identity, for whichever entry.
pub(super) async fn last_of_id(
    tx: &mut Tx,
    id: &SpiffeId,
    now: UnixTime,
) -> Result<Option<UnixTime>, DatastoreError> {
    let row = tx.one(LAST_OF_ID, &[&id.as_str(), &now.as_secs()]).await?;
    opt_time(&row, "ends")
}

/// When the last of those ends that were signed before a time, and begin after another.
pub(super) async fn last_of_before(
    tx: &mut Tx,
    signed_before: UnixTime,
    begin_after: UnixTime,
) -> Result<Option<UnixTime>, DatastoreError> {
    let row = tx
        .one(
            LAST_OF_BEFORE,
            &[&signed_before.as_secs(), &begin_after.as_secs()],
        )
        .await?;
    opt_time(&row, "ends")
}

/// Of these agents and entries, those that are still there, each as a record has it: a ban or a deletion marks what is recorded, and what is signed
/// meanwhile is not yet.
pub(super) async fn those_there(
    tx: &mut Tx,
    records: &[IssuanceRecord],
) -> Result<(BTreeSet<String>, BTreeSet<String>), DatastoreError> {
    let rungs = || records.iter().filter(|record| record.is_rung);
    let agents: BTreeSet<String> = rungs().map(|record| agent(&record.requester)).collect();
    let entries: BTreeSet<String> = rungs().filter_map(|record| record.entry_id.clone()).collect();
    if agents.is_empty() {
        return Ok(Default::default());
    }
    let (agents, entries) = (Vec::from_iter(agents), Vec::from_iter(entries));
    let agents = tx.rows(AGENTS_THERE, &[&agents]).await?;
    let entries = tx.rows(ENTRIES_THERE, &[&entries]).await?;
    let agents = agents.iter().map(|row| Ok(requester(get(row, "id")?)));
    let entries = entries.iter().map(|row| get::<String>(row, "id"));
    Ok((
        agents.collect::<Result<_, DatastoreError>>()?,
        entries.collect::<Result<_, DatastoreError>>()?,
    ))
}

/// Those of before that these take the place of, as in SQLite.
pub(super) async fn replace(tx: &mut Tx, records: &[&IssuanceRecord]) -> Result<(), DatastoreError> {
    let rungs = || records.iter().filter(|record| record.is_rung);
    if rungs().next().is_none() {
        return Ok(());
    }
    let agents: Vec<_> = rungs().map(|rung| rung.requester.clone()).collect();
    let entries: Vec<_> = rungs().map(|rung| rung.entry_id.clone()).collect();
    let times =
        |of: fn(&IssuanceRecord) -> UnixTime| rungs().map(|rung| of(rung).as_secs()).collect::<Vec<_>>();
    let (now, begins, ends) = (
        times(|rung| rung.issued_at),
        times(|rung| rung.not_before),
        times(|rung| rung.not_after),
    );
    tx.execute(REPLACED, &[&agents, &entries, &now, &begins, &ends])
        .await?;
    Ok(())
}

/// How many the agents of these have for their entries that are neither spent nor revoked. They have given up those of a tainted authority.
pub(super) async fn ahead(
    tx: &mut Tx,
    records: &[IssuanceRecord],
) -> Result<BTreeMap<(String, Option<String>), u64>, DatastoreError> {
    let rungs = || records.iter().filter(|record| record.is_rung);
    let Some(now) = rungs().map(|record| record.issued_at).min() else {
        return Ok(BTreeMap::new());
    };
    let agents: BTreeSet<String> = rungs().map(|record| record.requester.clone()).collect();
    let entries: BTreeSet<String> = rungs().filter_map(|record| record.entry_id.clone()).collect();
    let (agents, entries) = (Vec::from_iter(agents), Vec::from_iter(entries));
    let rows = tx.rows(AHEAD, &[&agents, &entries, &now.as_secs()]).await?;
    let count = |row: &Row| {
        let whose = (get(row, "requester")?, get(row, "entry_id")?);
        Ok((whose, get::<i64>(row, "rungs")?.unsigned_abs()))
    };
    rows.iter().map(count).collect()
}

/// In the order of agents and entries.
pub(super) async fn debts(tx: &mut Tx, query: &DebtQuery) -> Result<Vec<Debt>, DatastoreError> {
    let (after_agent, after_entry) = &query.after;
    let after = match after_agent.as_str() {
        "" => String::new(),
        after => requester(after),
    };
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let agents = some(query.agents.iter().map(|id| requester(id)).collect());
    let entries = some(query.entries.clone());
    let authorities = some(query.authorities.clone());
    let rows = tx
        .rows(
            DEBTS,
            &[
                &query.now.as_secs(),
                &after,
                after_entry,
                &agents,
                &entries,
                &authorities,
                &limit(query.limit),
                &query.untainted,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Debt, DatastoreError> {
    Ok(Debt {
        agent: agent(get(row, "requester")?),
        entry: get(row, "entry_id")?,
        rungs: get::<i64>(row, "rungs")?.unsigned_abs(),
        ends: time(row, "ends")?,
    })
}

/// Also when it says an older one: it was restored, or begins anew. One that this registry never made is of before it was restored, and says nothing.
pub(super) async fn acknowledge(tx: &mut Tx, id: &SpiffeId, sequence: u64) -> Result<(), DatastoreError> {
    tx.execute(ACKNOWLEDGE, &[&id.as_str(), &sequence.cast_signed()])
        .await?;
    Ok(())
}

/// How many agents there are that may still be online, or have something to hand out, and have not said that they have this bundle or a newer one.
/// Of one that may have been renewed before the registry went back, nobody knows what it has.
pub(super) async fn unacknowledged(
    tx: &mut Tx,
    sequence: u64,
    now: UnixTime,
) -> Result<usize, DatastoreError> {
    let row = tx
        .one(UNACKNOWLEDGED, &[&sequence.cast_signed(), &now.as_secs()])
        .await?;
    Ok(usize::try_from(get::<i64>(&row, "count")?).unwrap_or(usize::MAX))
}

pub(super) async fn forget(tx: &mut Tx, id: &SpiffeId) -> Result<(), DatastoreError> {
    tx.execute("DELETE FROM acknowledged WHERE agent_id = $1", &[&id.as_str()])
        .await?;
    Ok(())
}

const AHEAD: &str = "SELECT requester, entry_id, count(*) AS rungs FROM issued WHERE rung AND requester = ANY ($1) AND entry_id = ANY ($2) \
    AND revoked_at IS NULL AND not_after > $3 AND authority_id NOT IN (SELECT id FROM authorities WHERE tainted) GROUP BY requester, entry_id";
const REPLACED: &str = "UPDATE issued i SET revoked_at = n.now FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) \
    AS n (requester, entry_id, now, begins, ends) WHERE i.rung AND i.requester = n.requester AND i.entry_id = n.entry_id AND i.revoked_at IS NULL \
    AND i.not_after > n.now AND i.not_after <= n.ends AND i.not_before <= n.begins AND i.not_before > n.begins - greatest((n.ends - n.begins) / 2, 1)";
const LAST_OF_ID: &str = "SELECT max(not_after) AS ends FROM issued WHERE rung AND spiffe_id = $1 AND revoked_at IS NULL AND not_after > $2";
const LAST_OF_BEFORE: &str = "SELECT max(not_after) AS ends FROM issued WHERE rung AND revoked_at IS NULL AND issued_at < $1 AND not_before > $2";
const AGENTS_THERE: &str = "SELECT id FROM agents WHERE id = ANY ($1) AND body::jsonb->>'serial' <> ''";
const ENTRIES_THERE: &str = "SELECT id FROM entries WHERE id = ANY ($1)";
const OF_AGENT: &str = "UPDATE issued SET revoked_at = $2 WHERE rung AND requester = $1 AND revoked_at IS NULL AND not_after > $2";
const OF_ENTRY: &str = "UPDATE issued SET revoked_at = $2 WHERE rung AND entry_id = $1 AND revoked_at IS NULL AND not_after > $2";
const DEBTS: &str = "SELECT requester, entry_id, count(*) AS rungs, max(not_after) AS ends FROM issued WHERE rung AND revoked_at IS NULL \
    AND not_after > $1 AND (requester, entry_id) > ($2, $3) AND ($4::text[] IS NULL OR requester = ANY ($4)) \
    AND ($5::text[] IS NULL OR entry_id = ANY ($5)) AND ($6::text[] IS NULL OR authority_id = ANY ($6)) \
    AND NOT ($8 AND authority_id IN (SELECT id FROM authorities WHERE tainted)) \
    GROUP BY requester, entry_id ORDER BY requester, entry_id LIMIT $7";
const ACKNOWLEDGE: &str = "INSERT INTO acknowledged (agent_id, sequence) SELECT id, $2::bigint FROM agents, state WHERE id = $1 AND $2 <= bundle_sequence \
    ON CONFLICT (agent_id) DO UPDATE SET sequence = excluded.sequence";
const UNACKNOWLEDGED: &str = "SELECT count(*) AS count FROM agents a, LATERAL (SELECT a.body::jsonb AS b) t WHERE b->>'serial' <> '' \
    AND NOT EXISTS (SELECT 1 FROM acknowledged k WHERE k.agent_id = a.id AND k.sequence >= $1) \
    AND (greatest((b->>'not_after')::bigint, coalesce((b->>'new_not_after')::bigint, 0)) > $2 \
    OR b->>'new_serial' LIKE 'renewed-since:%' OR EXISTS (SELECT 1 FROM issued i WHERE i.rung AND i.requester = 'agent ' || a.id AND i.revoked_at IS NULL AND i.not_after > $2))";
