//! `DelegatedIdentity`: identities of other programs of the node, for programs that act for them.
//!
//! Invariant: the caller is attested as on the Workload API, and its right is judged anew by the newest snapshot before every message. What
//! it gets is within its allow-list, whatever selectors or process it names (T-11).

pub(crate) mod asker;
pub(crate) mod numbers;
pub(crate) mod office;
pub(crate) mod refusal;
pub(crate) mod rights;
mod seen;
pub(crate) mod subscription;
mod wire;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use landfast_identity::{Selector, SelectorSet};
use landfast_proto::spire::api::agent::delegatedidentity::v1 as pb;
use landfast_proto::spire::api::types;
use landfast_uds::PeerInfo;
use landfast_workload_api::{Attestor, Caller, Desk, Gauges, Limits};
use tonic::{Request, Response, Status};

use asker::Asker;
use numbers::Numbers;
use office::Office;
use subscription::{Build, Subscription, Whose};

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

    fn asker<T>(&self, request: &Request<T>) -> Result<Asker, Status> {
        let extensions = request.extensions();
        let caller = match &self.door {
            Door::Own => extensions
                .get::<Caller>()
                .cloned()
                .ok_or_else(|| Status::internal("a request without a caller")),
            Door::Admin(desk) => {
                let process = extensions.get::<PeerInfo>().and_then(PeerInfo::process);
                desk.admit(process.ok_or_else(|| Status::unavailable("workload attestation failed"))?)
            }
        };
        caller.map(Asker::attested)
    }

    /// Whom the caller asks about. Only to be called for delegates: it tells what processes there are.
    async fn whose(&self, asker: &Asker, selectors: Vec<types::Selector>, pid: i32) -> Result<Whose, Status> {
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
            (true, pid) if pid > 0 => self.office.subject(asker, pid).await.map(Whose::Process),
            _ => Err(Status::invalid_argument(
                "must provide either selectors or non-zero PID, but not both",
            )),
        }
    }

    async fn subscribe<M>(
        &self,
        asker: Asker,
        whose: Whose,
        build: Build<M>,
    ) -> Result<Response<Messages<M>>, Status>
    where
        M: Clone + PartialEq + Send + Sync + 'static,
    {
        let subscription = Subscription::new(Arc::clone(&self.office), asker, whose, build);
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
        let asker = self.asker(&request)?;
        self.office.authorise(&asker).await?;
        let pb::SubscribeToX509sviDsRequest { selectors, pid } = request.into_inner();
        numbers_count(asker.caller(), pid)?;
        let whose = self.whose(&asker, selectors, pid).await?;
        // A process that cannot be attested is said to be so at once.
        whose.selectors().await?;
        self.subscribe(asker, whose, wire::x509_svids).await
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<pb::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let asker = self.asker(&request)?;
        self.office.authorise(&asker).await?;
        self.subscribe(asker, Whose::Nobody, wire::x509_bundles).await
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<pb::FetchJwtsviDsRequest>,
    ) -> Result<Response<pb::FetchJwtsviDsResponse>, Status> {
        let asker = self.asker(&request)?;
        let pb::FetchJwtsviDsRequest {
            mut audience,
            selectors,
            pid,
        } = request.into_inner();
        audience.retain(|one| !one.is_empty());
        landfast_identity::jwt::check_audience(&audience)
            .map_err(|error| landfast_workload_api::audience_refused(&error))?;
        self.office.authorise(&asker).await?;
        numbers_count(asker.caller(), pid)?;
        let whose = self.whose(&asker, selectors, pid).await?;
        let fetched = self.office.tokens(&asker, &whose, &audience, |all| all).await?;
        Ok(Response::new(pb::FetchJwtsviDsResponse {
            svids: fetched.into_iter().map(wire::jwt_svid).collect(),
        }))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<pb::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let asker = self.asker(&request)?;
        self.office.authorise(&asker).await?;
        self.subscribe(asker, Whose::Nobody, wire::jwt_bundles).await
    }
}

/// For a request that names a process by its number; of any other there is nothing to say.
fn numbers_count(delegate: &Caller, pid: i32) -> Result<(), Status> {
    match (pid, numbers::of(delegate.process())) {
        (0, _) | (_, Numbers::Ours) => Ok(()),
        (_, Numbers::Unseen) => Err(Status::unavailable("workload attestation failed")),
        (_, Numbers::Another) => Err(Status::invalid_argument(
            "the delegate is in a PID namespace of its own, where numbers mean other processes: name the process by selectors, or run the \
             delegate in the agent's PID namespace",
        )),
    }
}

/// As SPIRE's agent says it, and where to look.
pub(crate) const NO_DELEGATE: &str = "caller not configured as an authorized delegate: authorized_delegates of the agent does not name its identity";
/// As in an entry.
const MAX_SELECTORS: usize = 256;
/// Half of that socket's places.
const MAX_ON_ADMIN_SOCKET: u32 = 8;

#[cfg(test)]
pub(crate) mod tests;
