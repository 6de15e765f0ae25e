//! JWT-SVIDs and WIT-SVIDs: asked for when wanted, kept until half their life, asked for once however many want the same.
//!
//! Invariant: a token that is expired, or signed by a key that left the bundle or is tainted, is never handed out; a token
//! that is still valid is handed out when no new one can be had.

pub(crate) mod budget;
mod kept;
pub(crate) mod offline;
mod stragglers;
mod token;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use landfast_identity::{Bundle, SpiffeId, UnixTime};
use landfast_lifecycle::SharedClock;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
pub(crate) use stragglers::Stragglers;
pub(crate) use token::{BoundKey, Key, Refusal, Token};

type Request = Shared<BoxFuture<'static, Result<Token, Refusal>>>;

/// The cache. Clone to share.
#[derive(Clone)]
pub(crate) struct JwtCache {
    inner: Arc<Mutex<Inner>>,
    clock: SharedClock,
    stragglers: mpsc::Sender<Request>,
    /// Tokens that are held; the one not used for longest goes.
    most: usize,
    kind: &'static str,
    /// The node is on its own: tokens for that may be handed out.
    islanded: Arc<AtomicBool>,
}

#[derive(Default)]
struct Inner {
    /// At most `most` of the cache, and [`offline::MOST`] for an island.
    tokens: HashMap<Key, (Token, u64)>,
    /// Since when which of them are over by the clock. No more than there are of those.
    over: HashMap<Key, Instant>,
    /// Requests under way. Bounded by the callers waiting and the stragglers: without them, an entry here is dead and swept.
    pending: HashMap<Key, Pending>,
    uses: u64,
    /// The node is banned: what still comes is not kept.
    closed: bool,
}

struct Pending {
    request: WeakShared<BoxFuture<'static, Result<Token, Refusal>>>,
    since: Instant,
    /// It goes on without its callers.
    straggles: bool,
}

impl JwtCache {
    /// The cache, and the task for what nobody waits for any more.
    pub(crate) fn new(clock: SharedClock) -> (Self, Stragglers) {
        Self::of("JWT-SVID", MAX_TOKENS, clock)
    }

    /// A cache of other tokens, named in the log.
    pub(crate) fn of(kind: &'static str, most: usize, clock: SharedClock) -> (Self, Stragglers) {
        let (stragglers, queue) = mpsc::channel(QUEUE);
        let cache = Self {
            inner: Arc::default(),
            clock,
            stragglers,
            most,
            kind,
            islanded: Arc::default(),
        };
        (cache, Stragglers(queue))
    }

    /// Until when one who asks now waits, for however many tokens.
    pub(crate) fn deadline() -> Instant {
        Instant::now() + IN_FLIGHT
    }

    /// A token for `id`: from the cache, or by `fetch`. Who has one that is still good waits for a newer one only a moment.
    pub(crate) async fn token<F>(
        &self,
        key: Key,
        id: &SpiffeId,
        bundle: Option<&Bundle>,
        deadline: Instant,
        fetch: impl FnOnce() -> F,
    ) -> Result<Token, Refusal>
    where
        F: Future<Output = Result<Token, Refusal>> + Send + 'static,
    {
        let time = self.now()?;
        let cached = self
            .lock()
            .get(&key)
            .filter(|token| token.is_usable(id, bundle, time));
        if let Some(token) = cached.as_ref().filter(|token| !token.is_old(time)) {
            return Ok(token.clone());
        }
        if cached.is_none() && deadline <= Instant::now() {
            return Err("the server has not answered in time".into());
        }
        let (request, since) = self.request(&key, id, fetch);
        let still_good = |time| cached.clone().filter(|token| token.is_usable(id, bundle, time));
        let in_time = match cached {
            Some(_) => timeout_at(since + PATIENCE, request.clone()).await.ok(),
            None => None,
        };
        let fetched = match in_time {
            Some(fetched) => fetched,
            None => {
                if let Some(token) = still_good(self.now()?) {
                    self.let_straggle(&key, request);
                    return Ok(token);
                }
                // It goes on: whoever asks again may find it done.
                match timeout_at(deadline, request.clone()).await {
                    Ok(fetched) => fetched,
                    Err(_elapsed) => {
                        self.let_straggle(&key, request);
                        Err("the server has not answered yet".into())
                    }
                }
            }
        };
        let time = self.now()?;
        match fetched {
            Ok(token) if token.id == *id && time < token.expires_at => Ok(token),
            Ok(_) => Err("the server sent a token of another ID, or one that has expired".into()),
            Err(refusal) => still_good(time).ok_or(refusal),
        }
    }

    /// The request that is under way for this, since when, or a new one. What it brings is in the cache when it is done, whoever waits.
    fn request<F>(&self, key: &Key, id: &SpiffeId, fetch: impl FnOnce() -> F) -> (Request, Instant)
    where
        F: Future<Output = Result<Token, Refusal>> + Send + 'static,
    {
        let mut inner = self.lock();
        let under_way = inner
            .pending
            .get(key)
            .and_then(|pending| Some((pending.request.upgrade()?, pending.since)));
        if let Some(under_way) = under_way {
            return under_way;
        }
        let (cache, of, id, fetched) = (self.clone(), key.clone(), id.clone(), fetch());
        let request = async move { cache.adopt(of, &id, fetched.await) }
            .boxed()
            .shared();
        inner
            .pending
            .retain(|_, pending| pending.request.upgrade().is_some());
        let since = Instant::now();
        if let Some(weak) = request.downgrade() {
            let pending = Pending {
                request: weak,
                since,
                straggles: false,
            };
            inner.pending.insert(key.clone(), pending);
        }
        (request, since)
    }

    fn adopt(&self, key: Key, id: &SpiffeId, fetched: Result<Token, Refusal>) -> Result<Token, Refusal> {
        let time = self.now();
        let mut inner = self.lock();
        inner.pending.remove(&key);
        let time = time?;
        match fetched {
            Ok(token) => {
                let token = Token {
                    held_since: time,
                    ..token
                };
                if !inner.closed && token.id == *id && time < token.expires_at {
                    inner.put(key, token.clone(), self.most);
                }
                Ok(token)
            }
            Err(refusal) => {
                tracing::debug!(spiffe_id = %id, %refusal, "no new {}", self.kind);
                Err(refusal)
            }
        }
    }

    /// When all places are taken, it ends with its last caller.
    fn let_straggle(&self, key: &Key, request: Request) {
        if let Some(pending) = self.lock().pending.get_mut(key)
            && !pending.straggles
        {
            pending.straggles = self.stragglers.try_send(request).is_ok();
        }
    }

    /// Looks at what is held whenever the bundle or the entries are others, and for what has run out now and then, until `stop`.
    pub(crate) async fn keep_clean(self, views: Views, stop: CancellationToken) -> Result<(), Infallible> {
        let mut published = views.published();
        let mut judged: Option<Arc<Snapshot>> = None;
        loop {
            let snapshot = views.snapshot();
            let same = |last: &Snapshot| {
                last.same_bundle(&snapshot)
                    && last.banned == snapshot.banned
                    && Arc::ptr_eq(&last.entries, &snapshot.entries)
            };
            if !judged.is_some_and(|last| same(&last)) {
                self.purge(&snapshot);
            }
            judged = Some(snapshot);
            self.drop_expired();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(CLEAN_EVERY) => {}
                changed = published.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Forgets what is not to be handed out any more: tokens of a key that is tainted or gone, those with a key of their own whose entry is
    /// gone, and all once the node is banned.
    fn purge(&self, snapshot: &Snapshot) {
        let entitled = |key: &Key, token: &Token| {
            let entry = snapshot.entries.get(&key.entry);
            token.key.is_none() || entry.is_some_and(|entry| entry.spiffe_id == token.id)
        };
        let kept = |key: &Key, token: &Token| {
            !snapshot.banned
                && entitled(key, token)
                && snapshot
                    .bundle
                    .as_deref()
                    .is_none_or(|bundle| token.is_signed_by(bundle))
        };
        let mut inner = self.lock();
        inner.closed = snapshot.banned;
        let before = inner.tokens.len();
        inner.tokens.retain(|key, (token, _)| kept(key, token));
        let purged = before - inner.tokens.len();
        if purged > 0 {
            let kind = self.kind;
            tracing::info!(
                tokens = purged,
                kind,
                "tokens of a tainted or removed key are forgotten"
            );
        }
    }

    /// What is over is not handed out, and neither it nor a key bound to it is kept for longer than it would have lived by a clock that has
    /// not leapt: while the server is away there is no other.
    fn drop_expired(&self) {
        let Ok(now) = self.now() else { return };
        let mut inner = self.lock();
        let Inner { tokens, over, .. } = &mut *inner;
        over.retain(|key, _| tokens.get(key).is_some_and(|(token, _)| token.expires_at <= now));
        for (key, _) in tokens.iter().filter(|(_, (token, _))| token.expires_at <= now) {
            if !over.contains_key(key) {
                over.insert(key.clone(), Instant::now());
            }
        }
        tokens.retain(|key, (token, _)| {
            over.get(key)
                .is_none_or(|since| since.elapsed() < kept_over(token))
        });
    }

    /// When what there is ends; `None` when there is nothing that is valid.
    pub(crate) fn held_until(&self, key: &Key) -> Option<UnixTime> {
        let now = self.now().ok()?;
        let end = self.lock().tokens.get(key).map(|(token, _)| token.expires_at);
        end.filter(|end| now < *end)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().tokens.len()
    }

    fn now(&self) -> Result<UnixTime, Refusal> {
        self.clock
            .now()
            .ok_or_else(|| "the system has no time of day".into())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&mut self, key: &Key) -> Option<Token> {
        self.uses += 1;
        let (token, used) = self.tokens.get_mut(key)?;
        *used = self.uses;
        Some(token.clone())
    }

    fn put(&mut self, key: Key, token: Token, most: usize) {
        // Those for an island are used by nobody until there is one: whoever asks for many others must not push them out.
        let for_later = key.for_later;
        let most = if for_later { offline::MOST } else { most };
        let alike = |one: &&Key| one.for_later == for_later;
        if self.tokens.keys().filter(alike).count() >= most
            && !self.tokens.contains_key(&key)
            && let Some(oldest) = self
                .tokens
                .iter()
                .filter(|(key, _)| alike(key))
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone())
        {
            self.tokens.remove(&oldest);
        }
        self.uses += 1;
        self.tokens.insert(key, (token, self.uses));
    }
}

fn kept_over(token: &Token) -> Duration {
    let lived = token.expires_at.since(token.held_since);
    lived.clamp(KEEP_OVER, LONGEST_OVER)
}

const MAX_TOKENS: usize = 1000;
/// So long after it began, a request is no reason any more to let somebody wait who has a good token.
const PATIENCE: Duration = Duration::from_millis(500);
/// As long as callers of the Workload API wait for an X.509-SVID that is being signed.
const IN_FLIGHT: Duration = Duration::from_secs(5);
const QUEUE: usize = 16;
/// How long what has run out may stay.
const CLEAN_EVERY: Duration = Duration::from_secs(60);
/// As the server waits before it removes anything by a clock that has leapt.
const KEEP_OVER: Duration = Duration::from_secs(1800);
/// No token lives for longer.
const LONGEST_OVER: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
