//! `DelegatedIdentity`: identities of other programs of the node, for programs that act for them.
//!
//! Invariant: the caller is attested as on the Workload API, and its right is judged anew by the newest snapshot before every message. What
//! it gets is within its allow-list, whatever selectors or process it names (T-11).

mod numbers;
pub(crate) mod rights;
mod seen;
mod subscription;
mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use landfast_identity::{Selector, SelectorSet, UnixTime};
use landfast_lifecycle::SharedClock;
use landfast_proto::spire::api::agent::delegatedidentity::v1 as pb;
use landfast_proto::spire::api::types;
use landfast_uds::{PeerInfo, PinError, Pins};
use landfast_workload_api::{Attestor, Caller, Desk, Gauges, Limits, SourceError};
use tonic::{Request, Response, Status};

use crate::entry::Entry;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::source::AgentSource;

use rights::{Delegates, Right};
use subscription::{Subscription, Whose};

/// The service on one socket.
#[derive(Clone)]
pub(crate) struct DelegatedIdentity {
    office: Arc<Office>,
    door: Door,
}

/// By which way callers come.
#[derive(Clone)]
enum Door {
    /// Taken in at accept.
    Own,
    /// The admin socket, which has few places: delegates take some and leave the rest to operators.
    Admin(Arc<Desk>),
}

/// What the service knows, whichever socket it is asked on.
pub(crate) struct Office {
    pub(crate) delegates: Delegates,
    pub(crate) views: Views,
    pub(crate) source: Arc<AgentSource>,
    pub(crate) clock: SharedClock,
    pins: Pins,
    /// Attests the processes that delegates name.
    subjects: Desk,
}

impl Office {
    pub(crate) fn new(
        delegates: Delegates,
        views: Views,
        source: Arc<AgentSource>,
        clock: SharedClock,
        attestor: Arc<dyn Attestor>,
    ) -> Arc<Self> {
        let limits = Limits {
            connections_total: MAX_SUBJECTS,
            ..Limits::default()
        };
        Arc::new(Self {
            delegates,
            views,
            source,
            clock,
            pins: Pins::default(),
            subjects: Desk::new(attestor, limits, Arc::new(Gauges::unpublished())),
        })
    }

    /// What the caller may have, as things are.
    fn right(
        &self,
        selectors: &SelectorSet,
        snapshot: &Snapshot,
        now: UnixTime,
    ) -> Result<Right<'_>, Status> {
        let own = snapshot.entries.matching(selectors, now);
        if own.is_empty() {
            return Err(no_identity());
        }
        self.delegates
            .right(own.iter().map(|entry| &entry.spiffe_id))
            .ok_or_else(|| {
                Status::permission_denied(
                    "caller not configured as an authorized delegate: authorized_delegates of the agent does not name its identity",
                )
            })
    }

    /// The caller's right, once anything is known.
    async fn authorise(&self, caller: &Caller) -> Result<(), Status> {
        let mut published = self.views.published();
        let known = published.wait_for(|_| {
            let snapshot = self.views.snapshot();
            snapshot.synced_at.is_some() || snapshot.banned
        });
        let known = tokio::time::timeout(FIRST_ANSWER, known).await;
        if !known.is_ok_and(|known| known.is_ok()) {
            return Err(Status::unavailable("the agent is starting"));
        }
        let selectors = caller.selectors().await?;
        let now = self.now()?;
        let right = self.right(&selectors, &self.views.snapshot(), now).map(drop);
        if let Err(refusal) = &right {
            // What it lacks may be there by the next time.
            caller.forget();
            caller.complain("delegate-refused", refusal.message());
        }
        right
    }

    /// Whom the caller asks about. Only to be called for delegates: it tells what processes there are.
    fn whose(&self, selectors: Vec<types::Selector>, pid: i32) -> Result<Whose, Status> {
        match (selectors.is_empty(), pid) {
            (false, 0) if selectors.len() <= MAX_SELECTORS => {
                let parsed = selectors
                    .iter()
                    .map(|selector| Selector::new(&selector.r#type, &selector.value).ok())
                    .collect::<Option<SelectorSet>>();
                parsed
                    .map(Whose::Selectors)
                    .ok_or_else(|| Status::invalid_argument("could not parse provided selectors"))
            }
            (false, 0) => Err(Status::invalid_argument(format!(
                "more than {MAX_SELECTORS} selectors"
            ))),
            (true, pid) if pid > 0 => self.subject(pid).map(Whose::Process),
            _ => Err(Status::invalid_argument(
                "must provide either selectors or non-zero PID, but not both",
            )),
        }
    }

    fn subject(&self, pid: i32) -> Result<Caller, Status> {
        if pid == INIT || u32::try_from(pid) == Ok(std::process::id()) {
            return Err(Status::permission_denied(format!(
                "process {pid} is nobody's to ask for"
            )));
        }
        let process = self.pins.open(pid).map_err(|error| match error {
            PinError::Exited { .. } => Status::not_found(format!("there is no process {pid}")),
            other => {
                tracing::info!(
                    pid,
                    error = landfast_daemon::error_chain(&other),
                    "a process that a delegate named could not be pinned"
                );
                Status::unavailable("workload attestation failed")
            }
        })?;
        self.subjects.admit(&process)
    }

    fn now(&self) -> Result<UnixTime, Status> {
        self.clock
            .now()
            .ok_or_else(|| Status::unavailable("the system has no time of day"))
    }
}

/// The entries with these selectors that the delegate may have.
fn granted(
    snapshot: &Snapshot,
    selectors: &SelectorSet,
    right: &Right<'_>,
    now: UnixTime,
) -> Vec<Arc<Entry>> {
    let mut entries = snapshot.entries.matching(selectors, now);
    entries.retain(|entry| {
        let id = &entry.spiffe_id;
        !snapshot.entries.is_privileged(id) && right.covers(id)
    });
    entries
}

impl DelegatedIdentity {
    /// For callers that were taken in at accept.
    pub(crate) fn on_its_own_socket(office: Arc<Office>) -> Self {
        Self {
            office,
            door: Door::Own,
        }
    }

    /// For callers of the admin socket.
    pub(crate) fn on_the_admin_socket(office: Arc<Office>, attestor: Arc<dyn Attestor>) -> Self {
        let limits = Limits {
            connections_total: MAX_ON_ADMIN_SOCKET,
            ..Limits::default()
        };
        let desk = Desk::new(attestor, limits, Arc::new(Gauges::unpublished()));
        Self {
            office,
            door: Door::Admin(Arc::new(desk)),
        }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let extensions = request.extensions();
        match &self.door {
            Door::Own => extensions
                .get::<Caller>()
                .cloned()
                .ok_or_else(|| Status::internal("a request without a caller")),
            Door::Admin(desk) => {
                let process = extensions.get::<PeerInfo>().and_then(PeerInfo::process);
                desk.admit(process.ok_or_else(|| Status::unavailable("workload attestation failed"))?)
            }
        }
    }

    async fn subscribe<M>(
        &self,
        caller: Caller,
        whose: Whose,
        build: subscription::Build<M>,
    ) -> Result<Response<Messages<M>>, Status>
    where
        M: Clone + PartialEq + Send + Sync + 'static,
    {
        let subscription = Subscription::new(Arc::clone(&self.office), caller, whose, build);
        Ok(Response::new(Box::pin(stream::unfold(
            subscription,
            Subscription::next,
        ))))
    }
}

type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl pb::delegated_identity_server::DelegatedIdentity for DelegatedIdentity {
    type SubscribeToX509SVIDsStream = Messages<pb::SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Messages<pb::SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<pb::SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<pb::SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let caller = self.caller(&request)?;
        self.office.authorise(&caller).await?;
        let pb::SubscribeToX509sviDsRequest { selectors, pid } = request.into_inner();
        numbers::mean_the_same(&caller, pid)?;
        let whose = self.office.whose(selectors, pid)?;
        // A process that cannot be attested is said to be so at once.
        whose.selectors().await?;
        self.subscribe(caller, whose, wire::x509_svids).await
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<pb::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let caller = self.caller(&request)?;
        self.office.authorise(&caller).await?;
        self.subscribe(caller, Whose::Nobody, wire::x509_bundles).await
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<pb::FetchJwtsviDsRequest>,
    ) -> Result<Response<pb::FetchJwtsviDsResponse>, Status> {
        let caller = self.caller(&request)?;
        let pb::FetchJwtsviDsRequest {
            audience,
            selectors,
            pid,
        } = request.into_inner();
        landfast_identity::jwt::check_audience(&audience)
            .map_err(|error| landfast_workload_api::audience_refused(&error))?;
        self.office.authorise(&caller).await?;
        numbers::mean_the_same(&caller, pid)?;
        let whose = self.office.whose(selectors, pid)?;
        self.office
            .tokens(&caller, &whose, &audience)
            .await
            .map(Response::new)
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<pb::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let caller = self.caller(&request)?;
        self.office.authorise(&caller).await?;
        self.subscribe(caller, Whose::Nobody, wire::jwt_bundles).await
    }
}

impl Office {
    /// Charged to the delegate: what it asks for is not what the workload uses up, and selectors that it names must not choose who pays.
    async fn tokens(
        &self,
        caller: &Caller,
        whose: &Whose,
        audience: &[String],
    ) -> Result<pb::FetchJwtsviDsResponse, Status> {
        let (payer, wanted) = (caller.selectors().await?, whose.selectors().await?);
        let snapshot = self.views.snapshot();
        let right = self.right(&payer, &snapshot, self.now()?)?;
        let entries = granted(&snapshot, &wanted, &right, self.now()?);
        if entries.is_empty() {
            return Err(no_identity());
        }
        let fetched = self
            .source
            .tokens_of(&entries, &payer, audience, snapshot.bundle.as_deref())
            .await
            .map_err(|error| match error {
                SourceError::NoIdentity => no_identity(),
                SourceError::InvalidArgument(reason) => Status::invalid_argument(reason),
                SourceError::Unavailable(reason) => {
                    caller.complain("jwt-unavailable", &reason);
                    Status::unavailable("the JWT-SVID is not available now")
                }
            })?;
        // Any of the rights may have ended while the server was asked.
        let after = self.views.snapshot();
        let right = self.right(&payer, &after, self.now()?)?;
        let still = granted(&after, &wanted, &right, self.now()?);
        let kept = |entry: &Arc<Entry>| {
            still
                .iter()
                .any(|now| now.id == entry.id && now.spiffe_id == entry.spiffe_id)
        };
        if !entries.iter().all(kept) {
            return Err(no_identity());
        }
        caller.still_the_same()?;
        whose.still_the_same()?;
        Ok(pb::FetchJwtsviDsResponse {
            svids: fetched.into_iter().map(wire::jwt_svid).collect(),
        })
    }
}

fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

/// Never a workload: in a host's namespace it is the system, in a container's what the container is.
const INIT: i32 = 1;
/// As in an entry.
const MAX_SELECTORS: usize = 256;
/// Processes that streams are open about, each stream for itself; a pidfd each at most.
pub(crate) const MAX_SUBJECTS: u32 = 1024;
/// Half of that socket's places.
const MAX_ON_ADMIN_SOCKET: u32 = 8;
const FIRST_ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests;
