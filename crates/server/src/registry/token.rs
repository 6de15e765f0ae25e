//! Join tokens. Invariant: one token makes one agent; only its SHA-256 is stored, and nothing here logs it.
//!
//! The agent's ID keeps SPIRE's form `/spire/agent/join_token/<token>` although paths are seen by many: operators write entries
//! with that parent from the printed token. Before redemption the ID is nowhere but with who made the token, and in entries that
//! they write themselves; afterwards the token is spent. The alias entry that SPIRE makes with the token, and that would hold it in
//! clear, is therefore made at redemption, in the same transaction.

use std::time::Duration;

use landfast_identity::{Selector, SelectorSet, SpiffeId, UnixTime};
use ring::digest::{SHA256, digest};

use super::entry::EntryDraft;
use super::{Registry, RegistryError, TokenError, check_subject};
use crate::datastore::{NewToken, Redemption};
use crate::random;

/// A join token, to be given to one node. Whoever holds it can be that node.
pub struct JoinToken {
    /// The secret.
    pub value: String,
    /// From then on it is refused.
    pub expires_at: UnixTime,
}

/// Never the token.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken(.., until {})", self.expires_at)
    }
}

/// A redeemed token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redeemed {
    /// Whether this was the first time; else the same key has asked again.
    pub first: bool,
    /// Who the holder is now.
    pub agent_id: SpiffeId,
}

impl Registry {
    /// Makes a join token that lives for `ttl`; of this text, or random. With `agent_id`, the node is also known by that ID.
    ///
    /// # Errors
    /// The text cannot be part of an ID or is taken, the ID is no other's to have, or the datastore fails.
    pub async fn create_join_token(
        &self,
        token: Option<String>,
        ttl: Duration,
        agent_id: Option<SpiffeId>,
        now: UnixTime,
    ) -> Result<JoinToken, RegistryError> {
        if ttl.is_zero() {
            return Err(RegistryError::BadToken {
                what: "ttl is required, you must provide one",
            });
        }
        let value = match token {
            Some(value) => value,
            None => random::uuid().ok_or(RegistryError::Random)?,
        };
        let node = self.agent_of(&value).ok_or(RegistryError::BadToken {
            what: "a join token consists of 1 to 255 of a-z, A-Z, 0-9, '.', '-' and '_'",
        })?;
        // A text that was given before makes the same node again, and whoever is that node has what hangs under it.
        if let Some((id, person)) = self.login_below(&node) {
            return Err(RegistryError::IsLogin { id, person });
        }
        if let Some(alias) = &agent_id {
            check_subject(alias, &self.trust_domain)?;
            self.margo.check_alias(alias)?;
        }
        let expires_at = now.saturating_add(ttl);
        self.datastore
            .create_token(NewToken {
                hash: hash(&value),
                expires_at,
                alias: agent_id,
            })
            .await?;
        Ok(JoinToken { value, expires_at })
    }

    /// Redeems a token for the holder of a key, in one transaction: the first key gets it. The same key may ask again for ten minutes,
    /// so that a lost reply bricks no node, until the agent is evicted or banned.
    ///
    /// # Errors
    /// As [`TokenError`] says; nothing was redeemed.
    pub async fn redeem_join_token(
        &self,
        token: &str,
        key_hash: [u8; 32],
        now: UnixTime,
    ) -> Result<Redeemed, TokenError> {
        let agent_id = self.agent_of(token).ok_or(TokenError::Unknown)?;
        // Nor does one that was made before there was the login.
        let is_another = self
            .agent(&agent_id)
            .is_none_or(|known| known.key_hash != key_hash);
        if is_another && self.login_below(&agent_id).is_some() {
            return Err(TokenError::Used);
        }
        // The alias entry needs an ID of its own whether or not the token has one: what the token says is known in the transaction.
        let alias_entry_id = random::uuid().ok_or(TokenError::Unknown)?;
        let redemption = Redemption {
            hash: hash(token),
            key_hash,
            agent_id,
            alias_entry_id,
            now,
            retry_window: RETRY_WINDOW,
        };
        self.datastore.redeem_token(redemption).await
    }

    fn agent_of(&self, token: &str) -> Option<SpiffeId> {
        let one_segment = token.len() <= MAX_TOKEN && !token.contains('/');
        one_segment
            .then(|| SpiffeId::agent(&self.trust_domain, "join_token", token).ok())
            .flatten()
    }
}

/// The entry by which a node is also known as `alias`; removed with the node.
pub(crate) fn alias_draft(agent: &SpiffeId, alias: SpiffeId) -> Option<EntryDraft> {
    Some(EntryDraft::new(agent.clone(), alias, alias_selector(agent)?))
}

pub(crate) fn alias_selector(agent: &SpiffeId) -> Option<SelectorSet> {
    Some(SelectorSet::from_iter([Selector::new(
        "spiffe_id",
        agent.as_str(),
    )
    .ok()?]))
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

/// For how long the key that redeemed a token may do so again.
const RETRY_WINDOW: Duration = Duration::from_secs(600);
const MAX_TOKEN: usize = 255;
