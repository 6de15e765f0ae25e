//! Join tokens in PostgreSQL. Invariant: a token is bound to the first key in the transaction that finds it free; the row says so too.

use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};

use super::row::{get, limit, opt_hash, opt_id, opt_time, time};
use super::tx::Tx;
use super::{agents, entries};
use crate::datastore::{DatastoreError, NewToken, Redemption};
use crate::registry::{Created, EntryDraft, Redeemed, RegistryError, TokenError, alias_draft};

pub(super) async fn create(tx: &mut Tx, token: &NewToken) -> Result<(), RegistryError> {
    let hash = token.hash.as_slice();
    // An operator may give a spent text again: that is a new token.
    tx.execute(
        "DELETE FROM join_tokens WHERE hash = $1 AND (redeemed_at IS NOT NULL OR revoked)",
        &[&hash],
    )
    .await?;
    let alias = token.alias.as_ref().map(SpiffeId::as_str);
    let made = tx
        .execute(
            "INSERT INTO join_tokens (hash, expires_at, alias) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING",
            &[&hash, &token.expires_at.as_secs(), &alias],
        )
        .await?;
    match made {
        0 => Err(RegistryError::TokenExists),
        _ => Ok(()),
    }
}

pub(super) async fn redeem(tx: &mut Tx, r: Redemption) -> Result<Redeemed, TokenError> {
    let hash = r.hash.as_slice();
    let row = tx
        .opt("SELECT * FROM join_tokens WHERE hash = $1 FOR UPDATE", &[&hash])
        .await?;
    let row = row.ok_or(TokenError::Unknown)?;
    if get(&row, "revoked")? {
        return Err(TokenError::Revoked);
    }
    if let Some((at, key)) = opt_time(&row, "redeemed_at")?.zip(opt_hash(&row, "redeemed_key")?) {
        // A clock that stepped back shows zero time since, which lets the same key in: nobody else has it.
        let again = key == r.key_hash && r.now.since(at) < r.retry_window;
        return match again {
            true => Ok(Redeemed {
                first: false,
                agent_id: r.agent_id,
            }),
            false => Err(TokenError::Used),
        };
    }
    if r.now >= time(&row, "expires_at")? {
        return Err(TokenError::Expired);
    }
    if agents::find(tx, &r.agent_id)
        .await?
        .is_some_and(|agent| agent.is_banned())
    {
        return Err(TokenError::Revoked);
    }
    let bound = tx
        .execute(
            REDEEM,
            &[
                &hash,
                &r.now.as_secs(),
                &r.key_hash.as_slice(),
                &r.agent_id.as_str(),
            ],
        )
        .await?;
    if bound == 0 {
        return Err(TokenError::Used);
    }
    if let Some(draft) = opt_id(&row, "alias")?.and_then(|alias| alias_draft(&r.agent_id, alias)) {
        alias(tx, draft, r.alias_entry_id, r.now).await?;
    }
    Ok(Redeemed {
        first: true,
        agent_id: r.agent_id,
    })
}

async fn alias(tx: &mut Tx, draft: EntryDraft, id: String, now: UnixTime) -> Result<(), TokenError> {
    match entries::create(tx, draft, id, "join token", now).await {
        Ok(Created::New(_) | Created::Similar(_)) => Ok(()),
        Err(RegistryError::Storage { source }) => Err(source.into()),
        Err(other) => Err(DatastoreError::Failed {
            source: Arc::new(other),
        }
        .into()),
    }
}

/// Ends the tokens that made this agent.
pub(super) async fn revoke(tx: &mut Tx, agent: &SpiffeId) -> Result<(), DatastoreError> {
    tx.execute(
        "UPDATE join_tokens SET revoked = TRUE WHERE agent_id = $1",
        &[&agent.as_str()],
    )
    .await?;
    Ok(())
}

/// Whether the token that made this agent has been ended.
pub(super) async fn is_revoked(tx: &mut Tx, agent: &SpiffeId) -> Result<bool, DatastoreError> {
    let sql = "SELECT 1 FROM join_tokens WHERE agent_id = $1 AND revoked LIMIT 1";
    Ok(tx.opt(sql, &[&agent.as_str()]).await?.is_some())
}

pub(super) async fn prune(tx: &mut Tx, before: UnixTime, most: usize) -> Result<usize, DatastoreError> {
    let gone = tx.execute(PRUNE, &[&before.as_secs(), &limit(most)]).await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

const REDEEM: &str = "UPDATE join_tokens SET redeemed_at = $2, redeemed_key = $3, agent_id = $4 \
    WHERE hash = $1 AND redeemed_at IS NULL AND NOT revoked";
const PRUNE: &str = "DELETE FROM join_tokens WHERE hash IN (SELECT hash FROM join_tokens \
    WHERE greatest(expires_at, coalesce(redeemed_at, expires_at)) < $1 LIMIT $2)";
