//! Agents in SQLite. Invariant: no write but a deletion turns a banned agent into another.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row, named_params, params};

use super::convert::{damage, hash, opt_time, selectors, selectors_text, text, time};
use super::tombstones::bury;
use super::writer::Tx;
use super::{entries, recoveries, tokens};
use crate::datastore::sharing::Sharing;
use crate::datastore::{AgentChange, Change, DatastoreError, Entering};
use crate::registry::{AgentRecord, RegistryError, alias_selector};

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Arc<AgentRecord>>, DatastoreError> {
    let mut rows = tx.conn().prepare("SELECT * FROM agents")?;
    let mut sharing = Sharing::among(entries::own_domain(tx)?);
    Ok(rows
        .query_map([], |row| read(row, &mut sharing).map(Arc::new))?
        .collect::<Result<_, _>>()?)
}

pub(super) fn attest(
    tx: &mut Tx<'_>,
    mut record: AgentRecord,
    entering: Entering,
) -> Result<(), RegistryError> {
    let known = find(tx, &record.id)?;
    let first = match (&known, entering) {
        // It was evicted while it came back.
        (None, Entering::Returned) => return Err(RegistryError::NoSuchAgent { id: record.id }),
        (None, Entering::Attested { at }) if !record.can_reattest => Some(at),
        _ => None,
    };
    match known {
        Some(agent) if agent.is_banned() => return Err(RegistryError::Banned),
        // It says which it is after it has attested, and perhaps not at once.
        Some(agent) if record.agent_version.is_empty() => record.agent_version = agent.agent_version,
        _ => {}
    }
    // An eviction may have come between the redemption of the token and this.
    if tokens::is_revoked(tx, &record.id)? {
        return Err(RegistryError::TokenRevoked);
    }
    if let Some(at) = first {
        recoveries::enrol(tx, &record.id, at)?;
    }
    Ok(put(tx, record)?)
}

/// `false` when there is no such agent, or not in the state that the change needs.
pub(super) fn change(tx: &mut Tx<'_>, id: &SpiffeId, change: AgentChange) -> Result<bool, RegistryError> {
    let Some(mut agent) = find(tx, id)? else {
        return Ok(false);
    };
    match change {
        AgentChange::Ban => {
            agent.serial.clear();
            agent.new_serial = None;
            agent.new_not_after = None;
            tokens::revoke(tx, id)?;
        }
        AgentChange::Version(version) => agent.agent_version = version,
        _ if agent.is_banned() => return Err(RegistryError::Banned),
        AgentChange::Stage {
            serial,
            not_after,
            at,
        } => {
            recoveries::hear(tx, id, at)?;
            agent.new_serial = Some(serial);
            agent.new_not_after = Some(not_after);
        }
        AgentChange::Adopt { not_before, .. } if !agent.may_have_renewed(not_before) => return Ok(false),
        AgentChange::Adopt {
            serial,
            not_before,
            not_after,
        } => {
            recoveries::hear(tx, id, not_before)?;
            agent.serial = serial;
            agent.not_after = not_after;
            agent.new_serial = None;
            agent.new_not_after = None;
        }
        // Two calls with a new SVID may both see it as not yet promoted.
        AgentChange::Promote { serial } if agent.serial == serial => return Ok(true),
        AgentChange::Promote { serial } => {
            if agent.new_serial.as_ref() != Some(&serial) {
                return Ok(false);
            }
            agent.serial = serial;
            agent.not_after = agent.new_not_after.take().unwrap_or(agent.not_after);
            agent.new_serial = None;
        }
    }
    put(tx, agent)?;
    Ok(true)
}

pub(super) fn delete(tx: &mut Tx<'_>, id: &SpiffeId, now: UnixTime) -> Result<bool, RegistryError> {
    // Also when there is no such agent yet: a token that was redeemed, but whose agent has not been stored, ends here.
    tokens::revoke(tx, id)?;
    recoveries::forget(tx, id)?;
    if tx
        .conn()
        .prepare_cached("DELETE FROM agents WHERE id = ?1")?
        .execute(params![id.as_str()])?
        == 0
    {
        return Ok(false);
    }
    bury(tx, "agent", id.as_str(), now, Change::RemoveAgent(id.clone()))?;
    if let Some(selector) = alias_selector(id) {
        let aliases: Vec<String> = {
            let mut rows = tx
                .conn()
                .prepare_cached("SELECT id FROM entries WHERE parent_id = ?1 AND selectors = ?2")?;
            rows.query_map(params![id.as_str(), selectors_text(&selector)], |row| row.get(0))?
                .collect::<Result<_, _>>()?
        };
        for alias in aliases {
            entries::remove(tx, &alias, now)?;
        }
    }
    Ok(true)
}

pub(super) fn find(tx: &Tx<'_>, id: &SpiffeId) -> Result<Option<AgentRecord>, DatastoreError> {
    let mut row = tx.conn().prepare_cached("SELECT * FROM agents WHERE id = ?1")?;
    Ok(row
        .query_row(params![id.as_str()], |row| read(row, &mut Sharing::none()))
        .optional()?)
}

fn put(tx: &mut Tx<'_>, agent: AgentRecord) -> Result<(), DatastoreError> {
    let revision = tx.next_revision()?;
    tx.conn().prepare_cached(PUT)?.execute(named_params! {
        ":id": agent.id.as_str(),
        ":attestation_type": agent.attestation_type,
        ":serial": agent.serial,
        ":not_after": agent.not_after.as_secs(),
        ":new_serial": agent.new_serial,
        ":new_not_after": agent.new_not_after.map(UnixTime::as_secs),
        ":selectors": selectors_text(&agent.selectors),
        ":can_reattest": agent.can_reattest,
        ":agent_version": agent.agent_version,
        ":key_hash": agent.key_hash.as_slice(),
        ":revision": revision,
    })?;
    tx.changed(revision, Change::PutAgent(Arc::new(agent)));
    Ok(())
}

fn read(row: &Row<'_>, sharing: &mut Sharing) -> Result<AgentRecord, rusqlite::Error> {
    Ok(AgentRecord {
        id: sharing.id(text(row, "id")?).map_err(|e| damage("id", e))?,
        attestation_type: row.get("attestation_type")?,
        serial: row.get("serial")?,
        not_after: time(row, "not_after")?,
        new_serial: row.get("new_serial")?,
        new_not_after: opt_time(row, "new_not_after")?,
        selectors: selectors(row, "selectors", sharing)?,
        can_reattest: row.get("can_reattest")?,
        agent_version: row.get("agent_version")?,
        key_hash: hash(row, "key_hash")?,
    })
}

const PUT: &str = "INSERT OR REPLACE INTO agents (id, attestation_type, serial, not_after, new_serial, new_not_after, selectors, \
    can_reattest, agent_version, key_hash, revision) VALUES (:id, :attestation_type, :serial, :not_after, :new_serial, \
    :new_not_after, :selectors, :can_reattest, :agent_version, :key_hash, :revision)";
