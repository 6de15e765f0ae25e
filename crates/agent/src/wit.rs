//! WIT-SVIDs (incubating): asked for when a workload asks, each with a key made here, renewed while somebody listens.
//!
//! Invariant: a server without keys for WIT-SVIDs in its bundle is never asked, one that refuses is left alone for a while; a private key
//! never leaves this process but to workloads of its entry, and a token is adopted only with the key it was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use landfast_identity::{Bundle, KeyType, PrivateKey, SelectorSet, SpiffeId, UnixTime, wit};
use landfast_lifecycle::SharedClock;
use landfast_proto::spire::api::server::svid::v1 as svid_api;
use landfast_proto::spire::api::types;
use landfast_workload_api::{FetchedWit, FetchedWits, SourceError};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::entry::Entry;
use crate::jwt::{BoundKey, JwtCache, Key, Refusal, Stragglers, Token};
use crate::link::failure::LinkError;
use crate::link::{LinkHandle, Question, rpc};
use crate::source::{AgentSource, PARALLEL, still};

/// The WIT-SVIDs of the node. Clone to share.
#[derive(Clone)]
pub(crate) struct Wits {
    pub(crate) cache: JwtCache,
    key_type: KeyType,
    /// Entries that the server refused lately: at most one for each that is authorised, and swept at [`MAX_TOKENS`].
    pauses: Arc<Mutex<HashMap<Arc<str>, Pause>>>,
}

struct Pause {
    failures: u32,
    until: Instant,
    reason: Refusal,
}

impl Wits {
    /// None yet, and the task for what nobody waits for any more. Keys are made of this kind.
    pub(crate) fn new(clock: SharedClock, key_type: KeyType) -> (Self, Stragglers) {
        let (cache, stragglers) = JwtCache::of("WIT-SVID", MAX_TOKENS, clock);
        let wits = Self {
            cache,
            key_type,
            pauses: Arc::default(),
        };
        (wits, stragglers)
    }

    /// The one of an entry: from the cache, or from the server.
    async fn of(
        &self,
        link: &LinkHandle,
        entry: Arc<Entry>,
        bundle: &Bundle,
        deadline: Instant,
    ) -> Result<Token, Refusal> {
        let key = Key::new(Arc::clone(&entry.id), &[]);
        let needed_by = self.cache.held_until(&key);
        let fetch = || {
            let (wits, link, entry) = (self.clone(), link.clone(), Arc::clone(&entry));
            async move {
                if let Some(refusal) = wits.pause(&entry.id) {
                    return Err(refusal);
                }
                let fetched = fetch(link, &entry, wits.key_type, needed_by).await;
                wits.note(&entry, fetched.as_ref().err());
                fetched
            }
        };
        self.cache
            .token(key, &entry.spiffe_id, Some(bundle), deadline, fetch)
            .await
    }

    /// What the server last said of an entry, while it is not to be asked again.
    fn pause(&self, entry_id: &Arc<str>) -> Option<Refusal> {
        let pauses = self.lock();
        let pause = pauses.get(entry_id)?;
        (Instant::now() < pause.until).then(|| pause.reason.clone())
    }

    fn note(&self, entry: &Entry, refusal: Option<&Refusal>) {
        let now = Instant::now();
        let mut pauses = self.lock();
        let Some(refusal) = refusal else {
            pauses.remove(&entry.id);
            return;
        };
        if pauses.len() >= MAX_TOKENS {
            pauses.retain(|_, pause| now < pause.until);
        }
        let pause = pauses.entry(Arc::clone(&entry.id)).or_insert_with(|| Pause {
            failures: 0,
            until: now,
            reason: refusal.clone(),
        });
        let wait = RETRY_MIN
            .saturating_mul(1 << pause.failures.min(10))
            .min(RETRY_MAX);
        if pause.failures == 0 {
            tracing::warn!(spiffe_id = %entry.spiffe_id, reason = %refusal, "no new WIT-SVID; trying again while somebody wants one");
        }
        pause.failures = pause.failures.saturating_add(1);
        pause.until = now + wait;
        pause.reason = refusal.clone();
    }

    /// As if nobody had been refused.
    #[cfg(test)]
    pub(crate) fn forget_pauses(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentSource {
    /// Those of whoever has these selectors that can be had, at least one.
    pub(crate) async fn wits_of(
        &self,
        selectors: &SelectorSet,
        id: Option<&SpiffeId>,
    ) -> Result<FetchedWits, SourceError> {
        let (snapshot, entries) = self.entitled(selectors, id)?;
        let bundle = snapshot.bundle.as_deref().ok_or(SourceError::Unsupported)?;
        if bundle.wit_authorities().is_empty() {
            return Err(SourceError::Unsupported);
        }
        let deadline = JwtCache::deadline();
        let fetches: Vec<_> = entries
            .iter()
            .map(|entry| self.wits.of(&self.link, Arc::clone(entry), bundle, deadline))
            .collect();
        let fetched: Vec<_> = futures_util::stream::iter(fetches)
            .buffered(PARALLEL)
            .collect()
            .await;
        // A ban, a removal or a change while we waited.
        let (after, now) = (self.views.snapshot(), self.time()?);
        let (mut svids, mut again_at, mut missing) = (Vec::new(), None::<UnixTime>, None);
        for (entry, fetched) in entries
            .iter()
            .zip(fetched)
            .filter(|(entry, _)| still(&after, entry, selectors, now))
        {
            match fetched {
                Ok(token) => {
                    let due = token.old_from();
                    again_at = Some(again_at.map_or(due, |other| other.min(due)));
                    svids.extend(served(entry, token));
                }
                Err(refusal) => missing = missing.or(Some((entry, refusal))),
            }
        }
        match (svids.is_empty(), missing) {
            (true, None) => Err(SourceError::NoIdentity),
            (true, Some((_, Refusal::Unsupported(_)))) => Err(SourceError::Unsupported),
            (true, Some((entry, refusal))) => {
                let reason = format!("{}: {refusal}", entry.spiffe_id);
                Err(SourceError::Unavailable(reason))
            }
            (false, missing) => {
                let soon = UnixTime::EPOCH;
                let again_at = again_at.filter(|_| missing.is_none()).unwrap_or(soon);
                Ok(FetchedWits { svids, again_at })
            }
        }
    }
}

fn served(entry: &Entry, token: Token) -> Option<FetchedWit> {
    Some(FetchedWit {
        id: token.id,
        token: token.text.to_string(),
        key: token.key?.0,
        hint: entry.hint.clone(),
        entry_id: entry.id.to_string(),
    })
}

/// Asks the server for one, with a new key.
async fn fetch(
    link: LinkHandle,
    entry: &Entry,
    key_type: KeyType,
    needed_by: Option<UnixTime>,
) -> Result<Token, Refusal> {
    let key = PrivateKey::generate_as(key_type).map_err(|_cause| Refusal::from("no key can be made"))?;
    let key = &Arc::new(key);
    let question = Question {
        kind: "wit",
        renewal: needed_by.is_some(),
    };
    let fetched = link
        .ask(question, move |channel| once(channel, entry, key, needed_by))
        .await;
    fetched.map_err(|error| {
        let reason = landfast_daemon::error_chain(&error).into();
        match error {
            LinkError::Refused {
                code: tonic::Code::Unimplemented,
                ..
            } => Refusal::Unsupported(reason),
            _ => Refusal::Later(reason),
        }
    })
}

async fn once(
    channel: Channel,
    entry: &Entry,
    key: &Arc<PrivateKey>,
    needed_by: Option<UnixTime>,
) -> Result<Token, LinkError> {
    let public = key.public_key();
    let algorithm = wit::algorithms(&public).first().copied().unwrap_or_default();
    let params = svid_api::NewWitsvidParams {
        entry_id: entry.id.to_string(),
        public_key: public.spki_der().to_vec().into(),
        signing_algorithm: algorithm.to_owned(),
    };
    let request = svid_api::BatchNewWitsvidRequest { params: vec![params] };
    let mut client = svid_api::svid_client::SvidClient::new(channel);
    let request = rpc::needed_by(request, needed_by.map(UnixTime::as_secs));
    let answer = rpc::call(NEW_WIT, client.batch_new_witsvid(request)).await?;
    let [result] = <[_; 1]>::try_from(answer.results)
        .map_err(|other| LinkError::protocol(NEW_WIT, format!("{} results for one request", other.len())))?;
    // SPIRE leaves the status of a success out.
    let svid = match (result.svid, result.status.filter(|status| status.code != 0)) {
        (Some(svid), None) => svid,
        (None, None) => return Err(LinkError::protocol(NEW_WIT, "the answer holds no token")),
        (_, Some(refused)) => return Err(refusal(&refused)),
    };
    let parsed = wit::parse_unverified(&svid.token)
        .map_err(|error| LinkError::protocol(NEW_WIT, landfast_daemon::error_chain(&error)))?;
    if *parsed.confirmation_key() != public || parsed.confirmation_algorithm() != algorithm {
        return Err(LinkError::protocol(NEW_WIT, "the token is bound to another key"));
    }
    Ok(Token {
        id: parsed.id().clone(),
        // Set when it is adopted.
        held_since: parsed.expires_at(),
        expires_at: parsed.expires_at(),
        text: svid.token.into(),
        key: Some(BoundKey(Arc::clone(key))),
    })
}

fn refusal(refused: &types::Status) -> LinkError {
    let status = tonic::Status::new(refused.code.into(), refused.message.as_str());
    LinkError::from_status(NEW_WIT, &status)
}

const NEW_WIT: &str = "BatchNewWITSVID";
/// One for each entry, of as many as a node has; each with its key is below 2 KiB.
const MAX_TOKENS: usize = 16_384;
/// A refused entry is asked for again after these times, doubling, if somebody wants it.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
