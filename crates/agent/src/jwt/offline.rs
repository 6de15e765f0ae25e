//! Tokens for declared audiences, had while there is a server and handed out while there is none.
//!
//! Invariant: such a token is never handed out while the node is not an island, nor for any other audiences than the one that it was declared for.
//! There is no ladder of tokens: nobody is obliged to look at `nbf`, so one for later could be used now.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use landfast_identity::{Bundle, SpiffeId};
use landfast_proto::landfast::reserve::v1 as api;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{JwtCache, Key, Refusal, Token};
use crate::entry::Entry;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::link::failure::LinkError;
use crate::link::status::Phase;
use crate::link::{LinkHandle, Question, rpc};
use crate::source::token_from;

impl JwtCache {
    /// What is handed out in place of a token for `key` that cannot be had: nothing, unless the node is an island.
    pub(crate) fn stands_in(&self, key: &Key, id: &SpiffeId, bundle: Option<&Bundle>) -> Option<Token> {
        let now = self.now().ok().filter(|_| self.islanded.load(Ordering::SeqCst))?;
        let mut inner = self.lock();
        let usable = |token: &Token| token.is_usable(id, bundle, now);
        if inner.get(key).is_some_and(|token| usable(&token)) {
            return None;
        }
        inner.get(&key.for_later()).filter(usable)
    }

    /// How the node stands.
    pub(crate) fn on_an_island(&self, is: bool) {
        self.islanded.store(is, Ordering::SeqCst);
    }

    fn retain_for_later(&self, wanted: impl Fn(&Key) -> bool) {
        let mut inner = self.lock();
        inner.tokens.retain(|key, _| !key.for_later || wanted(key));
    }

    fn is_due(&self, key: &Key, id: &SpiffeId, bundle: Option<&Bundle>) -> bool {
        let Ok(now) = self.now() else { return false };
        let inner = self.lock();
        let held = inner.tokens.get(key).map(|(token, _)| token);
        held.is_none_or(|token| !token.is_usable(id, bundle, now) || token.is_old(now))
    }
}

/// The task that has them.
pub(crate) struct OfflineTokens {
    pub(crate) views: Views,
    pub(crate) link: LinkHandle,
    pub(crate) tokens: JwtCache,
    /// What could not be had, and when it is asked for again. Only of what is declared.
    pub(crate) refused: HashMap<Key, Instant>,
    /// So many are declared that are not kept.
    pub(crate) left_out: usize,
}

impl OfflineTokens {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut published = self.views.published();
        let mut status = self.link.status.clone();
        loop {
            let serving = self.link.status.borrow().phase == Phase::Serving;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.look(serving) => {}
            }
            let again = async {
                let other = |now: &crate::link::status::LinkStatus| (now.phase == Phase::Serving) != serving;
                tokio::select! {
                    _ = published.changed() => {}
                    _ = status.wait_for(other) => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = again => {}
            }
        }
    }

    /// Has what is missing, or half over.
    async fn look(&mut self, serving: bool) {
        let snapshot = self.views.snapshot();
        let (wanted, left_out) = wanted(&snapshot);
        if left_out > 0 && left_out != self.left_out {
            tracing::warn!(
                left_out,
                most = MOST,
                "more offline tokens are declared than a node keeps; declare fewer"
            );
        }
        self.left_out = left_out;
        if snapshot.synced_at.is_some() {
            self.tokens.retain_for_later(|key| wanted.contains_key(key));
        }
        self.refused
            .retain(|key, until| wanted.contains_key(key) && Instant::now() < *until);
        if !serving {
            return;
        }
        let bundle = snapshot.bundle.as_deref();
        for (key, entry) in wanted {
            let due = self.tokens.is_due(&key, &entry.spiffe_id, bundle);
            if !due || self.refused.contains_key(&key) {
                continue;
            }
            let fetch = || fetch(self.link.clone(), Arc::clone(&entry), key.clone());
            let deadline = JwtCache::deadline();
            let had = self
                .tokens
                .token(key.clone(), &entry.spiffe_id, bundle, deadline, fetch)
                .await;
            if let Err(refusal) = had {
                let audience = key.audience().join(" ");
                tracing::warn!(spiffe_id = %entry.spiffe_id, audience, %refusal, again_in = ?AGAIN, "no token for when the server is away");
            }
            if self.tokens.is_due(&key, &entry.spiffe_id, bundle) {
                self.refused.insert(key, Instant::now() + AGAIN);
            }
        }
    }
}

/// How many are declared beyond those that a node keeps.
pub(crate) fn left_out(snapshot: &Snapshot) -> usize {
    let all = snapshot.entries.iter();
    let declared: usize = all
        .map(|entry| snapshot.entries.offline(entry).tokens.len())
        .sum();
    declared.saturating_sub(MOST)
}

/// Always the same ones, and how many are left out.
fn wanted(snapshot: &Snapshot) -> (HashMap<Key, Arc<Entry>>, usize) {
    let each = snapshot
        .entries
        .iter()
        .filter(|_| !snapshot.banned)
        .flat_map(|entry| {
            let keys = snapshot
                .entries
                .offline(entry)
                .tokens
                .iter()
                .map(|(audience, _)| {
                    Key::new(Arc::clone(&entry.id), std::slice::from_ref(audience)).for_later()
                });
            keys.map(|key| (key, Arc::clone(entry))).collect::<Vec<_>>()
        });
    (each.take(MOST).collect(), left_out(snapshot))
}

async fn fetch(link: LinkHandle, entry: Arc<Entry>, key: Key) -> Result<Token, Refusal> {
    let question = Question {
        kind: "jwt-offline",
        renewal: true,
    };
    let (entry, audience) = (&*entry, key.audience().concat());
    let fetched = link
        .ask(question, |channel| once(channel, entry, audience.clone()))
        .await;
    fetched.map_err(|error| Refusal::Later(landfast_daemon::error_chain(&error).into()))
}

async fn once(channel: Channel, entry: &Entry, audience: String) -> Result<Token, LinkError> {
    let request = api::NewTokenRequest {
        entry_id: entry.id.to_string(),
        audience,
    };
    let mut client = api::reserve_client::ReserveClient::new(channel);
    let answer = rpc::call(NEW_TOKEN, client.new_token(request)).await?;
    token_from(NEW_TOKEN, answer.svid)
}

/// Of one node.
pub(crate) const MOST: usize = 1000;
const NEW_TOKEN: &str = "NewToken";
/// Half a life is hours.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
