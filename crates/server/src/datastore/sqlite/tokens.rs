//! Join tokens in SQLite. Invariant: a token is bound to the first key in the transaction that finds it free.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use rusqlite::{OptionalExtension as _, params};

use super::convert::{opt_hash, opt_id, opt_time, time};
use super::writer::Tx;
use super::{agents, entries};
use crate::datastore::{DatastoreError, NewToken, Redemption};
use crate::registry::{Created, Redeemed, RegistryError, TokenError, alias_draft};

struct Row {
    expires_at: UnixTime,
    alias: Option<SpiffeId>,
    redeemed: Option<(UnixTime, [u8; 32])>,
    revoked: bool,
}

pub(super) fn create(tx: &Tx<'_>, token: &NewToken) -> Result<(), RegistryError> {
    // An operator may give a spent text again: that is a new token.
    tx.conn()
        .prepare_cached("DELETE FROM join_tokens WHERE hash = ?1 AND (redeemed_at IS NOT NULL OR revoked)")?
        .execute(params![token.hash.as_slice()])?;
    let made = tx
        .conn()
        .prepare_cached(
            "INSERT INTO join_tokens (hash, expires_at, alias) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            token.hash.as_slice(),
            token.expires_at.as_secs(),
            token.alias.as_ref().map(SpiffeId::as_str)
        ])?;
    if made == 0 {
        Err(RegistryError::TokenExists)
    } else {
        Ok(())
    }
}

pub(super) fn redeem(tx: &mut Tx<'_>, r: Redemption) -> Result<Redeemed, TokenError> {
    let token = find(tx, &r.hash)?.ok_or(TokenError::Unknown)?;
    if token.revoked {
        return Err(TokenError::Revoked);
    }
    if let Some((at, key)) = token.redeemed {
        // A clock that stepped back shows zero time since, which lets the same key in: nobody else has it.
        let again = key == r.key_hash && r.now.since(at) < r.retry_window;
        return if again {
            Ok(Redeemed {
                first: false,
                agent_id: r.agent_id,
            })
        } else {
            Err(TokenError::Used)
        };
    }
    if r.now >= token.expires_at {
        return Err(TokenError::Expired);
    }
    if agents::find(tx, &r.agent_id)?.is_some_and(|agent| agent.is_banned()) {
        return Err(TokenError::Revoked);
    }
    tx.conn()
        .prepare_cached(
            "UPDATE join_tokens SET redeemed_at = ?2, redeemed_key = ?3, agent_id = ?4 WHERE hash = ?1",
        )?
        .execute(params![
            r.hash.as_slice(),
            r.now.as_secs(),
            r.key_hash.as_slice(),
            r.agent_id.as_str()
        ])?;
    if let Some(draft) = token.alias.and_then(|alias| alias_draft(&r.agent_id, alias)) {
        alias(tx, draft, r.alias_entry_id, r.now)?;
    }
    Ok(Redeemed {
        first: true,
        agent_id: r.agent_id,
    })
}

fn alias(
    tx: &mut Tx<'_>,
    draft: crate::registry::EntryDraft,
    id: String,
    now: UnixTime,
) -> Result<(), TokenError> {
    match entries::create(tx, draft, id, "join token", now) {
        Ok(Created::New(_) | Created::Similar(_)) => Ok(()),
        Err(RegistryError::Storage { source }) => Err(source.into()),
        Err(other) => Err(DatastoreError::Failed {
            source: Arc::new(other),
        }
        .into()),
    }
}

/// Ends the tokens that made this agent.
pub(super) fn revoke(tx: &Tx<'_>, agent: &SpiffeId) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached("UPDATE join_tokens SET revoked = 1 WHERE agent_id = ?1")?
        .execute(params![agent.as_str()])?;
    Ok(())
}

/// Whether the token that made this agent has been ended.
pub(super) fn is_revoked(tx: &Tx<'_>, agent: &SpiffeId) -> Result<bool, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT 1 FROM join_tokens WHERE agent_id = ?1 AND revoked")?;
    Ok(row.exists(params![agent.as_str()])?)
}

pub(super) fn prune(tx: &Tx<'_>, before: UnixTime, limit: usize) -> Result<usize, DatastoreError> {
    let mut delete = tx.conn().prepare_cached(
        "DELETE FROM join_tokens WHERE hash IN (SELECT hash FROM join_tokens WHERE max(expires_at, coalesce(redeemed_at, expires_at)) < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute(params![
        before.as_secs(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?)
}

fn find(tx: &Tx<'_>, hash: &[u8; 32]) -> Result<Option<Row>, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT * FROM join_tokens WHERE hash = ?1")?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            expires_at: time(row, "expires_at")?,
            alias: opt_id(row, "alias")?,
            redeemed: opt_time(row, "redeemed_at")?.zip(opt_hash(row, "redeemed_key")?),
            revoked: row.get("revoked")?,
        })
    };
    Ok(row.query_row(params![hash.as_slice()], read).optional()?)
}
