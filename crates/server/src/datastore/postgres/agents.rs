//! Agents in PostgreSQL. Invariant: no write but a deletion turns a banned agent into another.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};

use super::row::get;
use super::tx::Tx;
use super::{entries, recoveries, text, tokens};
use crate::datastore::sharing::Sharing;
use crate::datastore::{AgentChange, Change, DatastoreError, Entering};
use crate::registry::{AgentRecord, RegistryError, alias_selector};

pub(super) async fn attest(
    tx: &mut Tx,
    mut record: AgentRecord,
    entering: Entering,
) -> Result<(), RegistryError> {
    let known = find(tx, &record.id).await?;
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
    if tokens::is_revoked(tx, &record.id).await? {
        return Err(RegistryError::TokenRevoked);
    }
    if let Some(at) = first {
        recoveries::enrol(tx, &record.id, at).await?;
    }
    Ok(put(tx, record).await?)
}

/// `false` when there is no such agent, or not in the state that the change needs.
pub(super) async fn change(tx: &mut Tx, id: &SpiffeId, change: AgentChange) -> Result<bool, RegistryError> {
    let Some(mut agent) = find(tx, id).await? else {
        return Ok(false);
    };
    match change {
        AgentChange::Ban => {
            agent.serial.clear();
            agent.new_serial = None;
            agent.new_not_after = None;
            tokens::revoke(tx, id).await?;
        }
        AgentChange::Version(version) => agent.agent_version = version,
        _ if agent.is_banned() => return Err(RegistryError::Banned),
        AgentChange::Stage {
            serial,
            not_after,
            at,
        } => {
            recoveries::hear(tx, id, at).await?;
            agent.new_serial = Some(serial);
            agent.new_not_after = Some(not_after);
        }
        AgentChange::Adopt { not_before, .. } if !agent.may_have_renewed(not_before) => return Ok(false),
        AgentChange::Adopt {
            serial,
            not_before,
            not_after,
        } => {
            recoveries::hear(tx, id, not_before).await?;
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
    put(tx, agent).await?;
    Ok(true)
}

pub(super) async fn delete(tx: &mut Tx, id: &SpiffeId, now: UnixTime) -> Result<bool, RegistryError> {
    // Also when there is no such agent yet: a token that was redeemed, but whose agent has not been stored, ends here.
    tokens::revoke(tx, id).await?;
    recoveries::forget(tx, id).await?;
    if tx
        .execute("DELETE FROM agents WHERE id = $1", &[&id.as_str()])
        .await?
        == 0
    {
        return Ok(false);
    }
    tx.bury(now, Change::RemoveAgent(id.clone()));
    if let Some(selector) = alias_selector(id) {
        let selectors = text::selectors(&selector);
        let aliases = tx
            .rows(
                "SELECT id FROM entries WHERE parent_id = $1 AND selectors = $2",
                &[&id.as_str(), &selectors],
            )
            .await?;
        for alias in &aliases {
            entries::remove(tx, get(alias, "id")?, now).await?;
        }
    }
    Ok(true)
}

pub(super) async fn find(tx: &mut Tx, id: &SpiffeId) -> Result<Option<AgentRecord>, DatastoreError> {
    let row = tx
        .opt("SELECT body FROM agents WHERE id = $1", &[&id.as_str()])
        .await?;
    row.map(|row| text::read_agent(get(&row, "body")?, &mut Sharing::none()))
        .transpose()
}

async fn put(tx: &mut Tx, agent: AgentRecord) -> Result<(), DatastoreError> {
    let revision = tx.next_revision();
    let body = text::agent(&agent)?;
    tx.execute(PUT, &[&agent.id.as_str(), &body, &revision]).await?;
    tx.changed(revision, Change::PutAgent(Arc::new(agent)), None);
    Ok(())
}

const PUT: &str = "INSERT INTO agents (id, body, revision) VALUES ($1, $2, $3) \
    ON CONFLICT (id) DO UPDATE SET body = excluded.body, revision = excluded.revision";
