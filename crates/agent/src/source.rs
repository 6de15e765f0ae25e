//! What the Workload API serves from: views of the keeper's state, and JWT-SVIDs fetched on demand.
//!
//! Invariant: only entries whose selectors are all among the workload's are ever considered.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use landfast_identity::jwt::check_audience;
use landfast_identity::{Bundle, BundleSet, SelectorSet, SpiffeId, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_proto::spire::api::server::svid::v1 as svid_api;
use landfast_proto::spire::api::types;
use landfast_workload_api::{
    FetchedJwt, FetchedWits, HandOut, IdentitySource, Party, SourceError, Way, WorkloadView,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::entry::{Entry, one_for_each_hint};
use crate::handouts::HandOuts;
use crate::journal::Desk;
use crate::jwt::budget::Budget;
use crate::jwt::{JwtCache, Key, Refusal, Token};
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::link::failure::LinkError;
use crate::link::{LinkHandle, Question, rpc};
use crate::wit::Wits;

/// The agent's side of the Workload API.
pub(crate) struct AgentSource {
    pub(crate) views: Views,
    pub(crate) link: LinkHandle,
    pub(crate) tokens: JwtCache,
    pub(crate) budget: Budget,
    pub(crate) wits: Wits,
    pub(crate) clock: SharedClock,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) hand_outs: HandOuts,
    pub(crate) journal: Desk,
}

impl AgentSource {
    async fn token(
        &self,
        entry: Arc<Entry>,
        payer: &SelectorSet,
        audience: &[String],
        bundle: Option<&Bundle>,
        deadline: Instant,
    ) -> Result<FetchedJwt, Refusal> {
        let key = Key::new(Arc::clone(&entry.id), audience);
        if let Some(token) = self.tokens.stands_in(&key, &entry.spiffe_id, bundle) {
            return Ok(fetched(token, &entry, true));
        }
        let needed_by = self.tokens.held_until(&key);
        let fetch = || {
            let within = self.budget.take(payer);
            let fetch = fetch(
                self.link.clone(),
                Arc::clone(&entry),
                audience.to_vec(),
                needed_by,
            );
            async move {
                match within {
                    true => fetch.await,
                    false => Err("the workload asks for too many new tokens".into()),
                }
            }
        };
        let token = self
            .tokens
            .token(key, &entry.spiffe_id, bundle, deadline, fetch)
            .await?;
        Ok(fetched(token, &entry, false))
    }

    /// A token for each entry, in their order. New ones are charged to whoever has the selectors `payer`.
    pub(crate) async fn tokens_of(
        &self,
        entries: &[Arc<Entry>],
        payer: &SelectorSet,
        audience: &[String],
        bundle: Option<&Bundle>,
    ) -> Result<Vec<FetchedJwt>, SourceError> {
        let deadline = JwtCache::deadline();
        // Collected first: a stream over a borrowing closure is not `Send` in the compiler's eyes.
        let fetches: Vec<_> = entries
            .iter()
            .map(|entry| self.token(Arc::clone(entry), payer, audience, bundle, deadline))
            .collect();
        let fetched: Vec<_> = futures_util::stream::iter(fetches)
            .buffered(PARALLEL)
            .collect()
            .await;
        let mut tokens = Vec::with_capacity(fetched.len());
        for (entry, fetched) in entries.iter().zip(fetched) {
            match fetched {
                Ok(token) => tokens.push(token),
                Err(Refusal::Invalid(reason)) => {
                    return Err(SourceError::InvalidArgument(format!(
                        "the server refuses the request: {reason}"
                    )));
                }
                Err(Refusal::Later(reason) | Refusal::Unsupported(reason)) => {
                    return Err(SourceError::Unavailable(format!("{}: {reason}", entry.spiffe_id)));
                }
            }
        }
        Ok(tokens)
    }
}

impl AgentSource {
    /// The entries of whoever has these selectors, or that of one identity of his.
    pub(crate) fn entitled(
        &self,
        selectors: &SelectorSet,
        id: Option<&SpiffeId>,
    ) -> Result<(Arc<Snapshot>, Vec<Arc<Entry>>), SourceError> {
        let (snapshot, now) = (self.views.snapshot(), self.time()?);
        if snapshot.banned {
            return Err(SourceError::NoIdentity);
        }
        if snapshot.synced_at.is_none() {
            return Err(SourceError::Unavailable(
                "the agent has not reached its server yet".to_owned(),
            ));
        }
        let mut entries = one_for_each_hint(snapshot.entries.matching(selectors, now));
        entries.retain(|entry| id.is_none_or(|id| entry.spiffe_id == *id));
        if entries.is_empty() {
            return Err(SourceError::NoIdentity);
        }
        Ok((snapshot, entries))
    }

    pub(crate) fn time(&self) -> Result<UnixTime, SourceError> {
        self.clock
            .now()
            .ok_or_else(|| SourceError::Unavailable("no time of day".to_owned()))
    }
}

/// Whether a token that was asked for before may still be handed out to whoever has these selectors.
pub(crate) fn still(after: &Snapshot, entry: &Entry, selectors: &SelectorSet, now: UnixTime) -> bool {
    let fits = |entry: &Entry| entry.selectors.is_subset_of(selectors) && !entry.is_over(now);
    let current = after.entries.get(&entry.id);
    !after.banned && current.is_some_and(|current| current.spiffe_id == entry.spiffe_id && fits(current))
}

#[async_trait]
impl IdentitySource for AgentSource {
    fn view(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<WorkloadView>> {
        self.views.watch(selectors, self.clock.now())
    }

    fn ask_for_x509(&self, selectors: &SelectorSet) {
        self.views.ask_for_x509(selectors, self.clock.now());
    }

    async fn fetch_jwt(
        &self,
        selectors: &SelectorSet,
        audience: &[String],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, SourceError> {
        check_audience(audience).map_err(|error| SourceError::InvalidArgument(error.to_string()))?;
        let (snapshot, entries) = self.entitled(selectors, id)?;
        let tokens = self
            .tokens_of(&entries, selectors, audience, snapshot.bundle.as_deref())
            .await?;
        // A ban, a removal or a change while we waited.
        let (after, now) = (self.views.snapshot(), self.time()?);
        if !entries.iter().all(|entry| still(&after, entry, selectors, now)) {
            return Err(SourceError::NoIdentity);
        }
        Ok(tokens)
    }

    fn has_wit(&self) -> Option<bool> {
        let snapshot = self.views.snapshot();
        let bundle = snapshot.bundle.as_ref()?;
        Some(!bundle.wit_authorities().is_empty())
    }

    async fn fetch_wit(
        &self,
        selectors: &SelectorSet,
        id: Option<&SpiffeId>,
    ) -> Result<FetchedWits, SourceError> {
        self.wits_of(selectors, id).await
    }

    fn handed_out(&self, handed: &HandOut<'_>) {
        self.hand_outs.note(handed);
    }

    fn refused(&self, way: Way, to: Party<'_>) {
        self.journal.denied(way, to);
    }

    fn now(&self) -> Option<UnixTime> {
        self.clock.now()
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    fn validation_bundles(&self, selectors: &SelectorSet) -> BundleSet {
        let view = self.view(selectors);
        let view = view.borrow();
        std::iter::once(&view.own_bundle)
            .chain(&view.federated)
            .map(|bundle| Bundle::clone(bundle))
            .collect()
    }
}

fn fetched(token: Token, entry: &Entry, reserve: bool) -> FetchedJwt {
    FetchedJwt {
        id: token.id,
        token: token.text.to_string(),
        hint: entry.hint.clone(),
        entry_id: entry.id.to_string(),
        reserve,
    }
}

/// Asks the server. Does not borrow: it may outlive the first caller for the sake of the second.
async fn fetch(
    link: LinkHandle,
    entry: Arc<Entry>,
    audience: Vec<String>,
    needed_by: Option<UnixTime>,
) -> Result<Token, Refusal> {
    let (entry, audience) = (&*entry, &audience[..]);
    let question = Question {
        kind: "jwt",
        renewal: needed_by.is_some(),
    };
    let fetched = link
        .ask(question, move |channel| once(channel, entry, audience, needed_by))
        .await;
    fetched.map_err(|error| match error {
        LinkError::Refused {
            code: tonic::Code::InvalidArgument,
            message,
            ..
        } => Refusal::Invalid(message.into()),
        error => Refusal::Later(landfast_daemon::error_chain(&error).into()),
    })
}

async fn once(
    channel: Channel,
    entry: &Entry,
    audience: &[String],
    needed_by: Option<UnixTime>,
) -> Result<Token, LinkError> {
    let request = svid_api::NewJwtsvidRequest {
        entry_id: entry.id.to_string(),
        audience: audience.to_vec(),
    };
    let mut client = svid_api::svid_client::SvidClient::new(channel);
    let request = rpc::needed_by(request, needed_by.map(UnixTime::as_secs));
    let answer = rpc::call(NEW_JWT, client.new_jwtsvid(request)).await?;
    token_from(NEW_JWT, answer.svid)
}

/// What a server answered, with every rule for it checked but whether anybody trusts it.
pub(crate) fn token_from(method: &'static str, svid: Option<types::Jwtsvid>) -> Result<Token, LinkError> {
    let svid = svid.ok_or_else(|| LinkError::protocol(method, "the answer holds no token"))?;
    let parsed = landfast_identity::jwt::parse_unverified(&svid.token)
        .map_err(|error| LinkError::protocol(method, landfast_daemon::error_chain(&error)))?;
    let (issued_at, expires_at) = (UnixTime::from_secs(svid.issued_at), parsed.expires_at());
    if svid.issued_at == 0 || expires_at <= issued_at {
        return Err(LinkError::protocol(method, "the token's times make no sense"));
    }
    Ok(Token {
        text: svid.token.into(),
        id: parsed.id().clone(),
        held_since: issued_at,
        expires_at,
        key: None,
    })
}

const NEW_JWT: &str = "NewJWTSVID";
pub(crate) const PARALLEL: usize = 8;

#[cfg(test)]
mod tests;
