//! JWT-SVIDs: asked for when wanted, kept until half their life, asked for once however many want the same.
//!
//! Invariant: a token that is expired, or signed by a key that left the bundle or is tainted, is never handed out; a token
//! that is still valid is handed out when no new one can be had.

pub(crate) mod budget;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use landfast_identity::{Bundle, SpiffeId, UnixTime};

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: Arc<str>,
    pub(crate) id: SpiffeId,
    /// Since when it is held here. Not its `iat`, which servers date back by as much as it lives.
    pub(crate) held_since: UnixTime,
    pub(crate) expires_at: UnixTime,
}

impl Token {
    /// Half the life is over that it had when it came.
    fn is_old(&self, now: UnixTime) -> bool {
        now.since(self.held_since) * 2 >= self.expires_at.since(self.held_since)
    }

    fn is_usable(&self, id: &SpiffeId, bundle: Option<&Bundle>, now: UnixTime) -> bool {
        self.id == *id && now < self.expires_at && bundle.is_none_or(|bundle| self.is_signed_by(bundle))
    }

    fn is_signed_by(&self, bundle: &Bundle) -> bool {
        let kid = key_id(&self.text);
        let authority = bundle
            .jwt_authorities()
            .iter()
            .find(|authority| Some(&authority.key_id) == kid.as_ref());
        authority.is_some_and(|authority| !authority.tainted)
    }
}

/// Whom a token is for: an entry's ID and a set of audiences.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    entry: Arc<str>,
    audience: Vec<String>,
}

impl Key {
    /// The order of audiences does not matter.
    pub(crate) fn new(entry: Arc<str>, audience: &[String]) -> Self {
        let mut audience = audience.to_vec();
        audience.sort();
        audience.dedup();
        Self { entry, audience }
    }
}

/// Why no token could be had, for the log; a workload learns only that.
pub(crate) type Refusal = Arc<str>;
type Pending = BoxFuture<'static, Result<Token, Refusal>>;

/// The cache. Clone to share.
#[derive(Clone, Default)]
pub(crate) struct JwtCache(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// At most [`MAX_TOKENS`]; the one not used for longest goes.
    tokens: HashMap<Key, (Token, u64)>,
    /// Requests under way. Bounded by the callers waiting: without one, an entry here is dead and swept.
    pending: HashMap<Key, WeakShared<Pending>>,
    uses: u64,
}

impl JwtCache {
    /// A token for `id`: from the cache, or by `fetch`. `now` is asked again after waiting.
    pub(crate) async fn token<F>(
        &self,
        key: Key,
        id: &SpiffeId,
        bundle: Option<&Bundle>,
        now: impl Fn() -> Option<UnixTime>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Token, Refusal>
    where
        F: Future<Output = Result<Token, Refusal>> + Send + 'static,
    {
        let time = now().ok_or_else(no_clock)?;
        let cached = self
            .lock()
            .get(&key)
            .filter(|token| token.is_usable(id, bundle, time));
        if let Some(token) = cached.as_ref().filter(|token| !token.is_old(time)) {
            return Ok(token.clone());
        }
        let request = {
            let mut inner = self.lock();
            match inner.pending.get(&key).and_then(WeakShared::upgrade) {
                Some(request) => request,
                None => {
                    let request = fetch().boxed().shared();
                    inner.pending.retain(|_, pending| pending.upgrade().is_some());
                    if let Some(weak) = request.downgrade() {
                        inner.pending.insert(key.clone(), weak);
                    }
                    request
                }
            }
        };
        let fetched = request.await;
        let time = now().ok_or_else(no_clock)?;
        let mut inner = self.lock();
        inner.pending.remove(&key);
        match fetched {
            Ok(token) if token.id == *id && time < token.expires_at => {
                let token = Token {
                    held_since: time,
                    ..token
                };
                inner.put(key, token.clone());
                Ok(token)
            }
            Ok(_) => Err("the server sent a token of another ID, or one that has expired".into()),
            Err(refusal) => match cached.filter(|token| token.is_usable(id, bundle, time)) {
                Some(token) => {
                    tracing::debug!(spiffe_id = %id, %refusal, valid_until = %token.expires_at, "JWT-SVID not renewed; the present one is served");
                    Ok(token)
                }
                None => Err(refusal),
            },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().tokens.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&mut self, key: &Key) -> Option<Token> {
        self.uses += 1;
        let (token, used) = self.tokens.get_mut(key)?;
        *used = self.uses;
        Some(token.clone())
    }

    fn put(&mut self, key: Key, token: Token) {
        if self.tokens.len() >= MAX_TOKENS
            && !self.tokens.contains_key(&key)
            && let Some(oldest) = self
                .tokens
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone())
        {
            self.tokens.remove(&oldest);
        }
        self.uses += 1;
        self.tokens.insert(key, (token, self.uses));
    }
}

fn no_clock() -> Refusal {
    "the system has no time of day".into()
}

/// The `kid` in a token's header.
fn key_id(token: &str) -> Option<String> {
    let header = token.split('.').next()?;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("kid")?.as_str().map(str::to_owned)
}

const MAX_TOKENS: usize = 1000;

#[cfg(test)]
mod tests;
