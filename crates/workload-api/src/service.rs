//! The methods of the Workload API.
//!
//! Invariant: every answer is preceded by attestation, and every message of a stream by a look at the process.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use landfast_identity::{SelectorSet, SpiffeId, jwt};
use landfast_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::SpiffeWorkloadApi,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::source::Wanted;
use crate::{
    IdentitySource, SourceError, ViewState, WorkloadView,
    connection::{Connection, Held, changed, next_attestation},
    encode,
};

pub(crate) struct Service {
    pub(crate) source: Arc<dyn IdentitySource>,
}

type Views = watch::Receiver<Arc<WorkloadView>>;
type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
type Build<M> = fn(&WorkloadView) -> Result<M, Status>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;
    type FetchWITSVIDStream = Messages<WitsvidResponse>;
    type FetchWITBundlesStream = Messages<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.stream(request, encode::x509_svids, Wanted::X509Svids).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.stream(request, encode::x509_bundles, Wanted::Rest).await
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.stream(request, encode::jwt_bundles, Wanted::Rest).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let connection = connection(&request)?;
        let JwtsvidRequest { audience, spiffe_id } = request.into_inner();
        jwt::check_audience(&audience).map_err(|error| match error {
            jwt::JwtError::NoAudience => Status::invalid_argument("audience must be specified"),
            other => Status::invalid_argument(other.to_string()),
        })?;
        let id = match spiffe_id.as_str() {
            "" => None,
            text => Some(
                SpiffeId::parse(text)
                    .map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}")))?,
            ),
        };
        let (selectors, view) = self.entitled(&connection).await?;
        let known = |id: &SpiffeId| view.jwt_identities.iter().any(|identity| identity.id == *id);
        if view.jwt_identities.is_empty() || id.as_ref().is_some_and(|id| !known(id)) {
            return Err(encode::no_identity());
        }
        let fetched = self
            .source
            .fetch_jwt(&selectors, &audience, id.as_ref())
            .await
            .map_err(|error| match error {
                SourceError::NoIdentity => encode::no_identity(),
                SourceError::InvalidArgument(reason) => Status::invalid_argument(reason),
                SourceError::Unavailable(reason) => {
                    connection
                        .ledger
                        .complain("jwt-unavailable", &connection.process, &reason);
                    Status::unavailable("the JWT-SVID is not available now")
                }
            })?;
        if fetched.is_empty() {
            return Err(encode::no_identity());
        }
        connection.still_the_same()?;
        Ok(Response::new(encode::jwt_svids(fetched)))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let connection = connection(&request)?;
        let ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        if audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        let (selectors, view) = self.entitled(&connection).await?;
        let now = self
            .source
            .now()
            .ok_or_else(|| Status::unavailable("the time is not known"))?;
        let bundles = self.source.validation_bundles(&selectors);
        let valid = jwt::verify(&svid, &bundles, &audience, now)
            .map_err(|error| Status::invalid_argument(format!("svid is not valid: {error}")))?;
        let claims = Some(encode::claims(&valid, view.own_bundle.trust_domain()));
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: valid.id().to_string(),
            claims,
        }))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented("the WIT-SVID profile is not supported"))
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented("the WIT-SVID profile is not supported"))
    }
}

impl Service {
    async fn stream<R, M>(
        &self,
        request: Request<R>,
        build: Build<M>,
        wanted: Wanted,
    ) -> Result<Response<Messages<M>>, Status>
    where
        M: Clone + PartialEq + Send + 'static,
    {
        let connection = connection(&request)?;
        drop(request);
        let Entitled { held, mut views, .. } = self.look(&connection, wanted).await?;
        views.mark_changed();
        let subscription = Subscription {
            next: Box::pin(next_attestation(connection.clone(), held.clone())),
            source: self.source.clone(),
            connection,
            held,
            views,
            build,
            wanted,
            sent: None,
            ended: false,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            subscription,
            Subscription::next,
        ))))
    }

    /// The caller's selectors and view, once that is ready.
    async fn entitled(&self, connection: &Connection) -> Result<(SelectorSet, Arc<WorkloadView>), Status> {
        let entitled = self.look(connection, Wanted::Rest).await?;
        Ok((entitled.held.selectors.clone(), entitled.view))
    }

    /// What the caller is entitled to; attests him if need be.
    async fn look(&self, connection: &Connection, wanted: Wanted) -> Result<Entitled, Status> {
        loop {
            let held = connection.attested().await?;
            let mut views = self.source.view(&held.selectors);
            let view = settled(&mut views, wanted, connection.limits().first_answer).await?;
            match view.state {
                state if state.is_served(wanted) => return Ok(Entitled { held, views, view }),
                // The first synchronisation may have come while we waited, with entries that ask for more than was looked for.
                ViewState::NoIdentity if held.is_outdated() => {}
                ViewState::NoIdentity => {
                    connection.forget(&held);
                    return Err(encode::no_identity());
                }
                ViewState::Starting => {
                    connection.forget(&held);
                    return Err(starting());
                }
                // Being fetched for the first time, or run out while no server could be reached.
                ViewState::WithoutX509 | ViewState::Ready => {
                    return Err(Status::unavailable("no X509-SVID can be had now"));
                }
            }
        }
    }
}

/// A caller's selectors, and what they are entitled to.
struct Entitled {
    held: Arc<Held>,
    views: Views,
    view: Arc<WorkloadView>,
}

/// Waits a little for what is being fetched.
async fn settled(views: &mut Views, wanted: Wanted, within: Duration) -> Result<Arc<WorkloadView>, Status> {
    let answers = views.wait_for(|view| view.state.answers(wanted));
    if let Ok(settled) = tokio::time::timeout(within, answers).await {
        return settled.map(|view| view.clone()).map_err(|_closed| starting());
    }
    Ok(views.borrow().clone())
}

fn starting() -> Status {
    Status::unavailable("the agent is starting")
}

fn connection<R>(request: &Request<R>) -> Result<Arc<Connection>, Status> {
    let found = request.extensions().get::<Arc<Connection>>().cloned();
    found.ok_or_else(|| Status::internal("the request has no connection"))
}

/// One open stream.
struct Subscription<M> {
    connection: Arc<Connection>,
    source: Arc<dyn IdentitySource>,
    held: Arc<Held>,
    /// What takes the place of `held`: more than was looked for may be asked for while the stream is open.
    next: Pin<Box<dyn Future<Output = Arc<Held>> + Send>>,
    views: Views,
    build: Build<M>,
    wanted: Wanted,
    /// Shares its bytes with what was sent.
    sent: Option<M>,
    ended: bool,
}

impl<M: Clone + PartialEq> Subscription<M> {
    async fn next(mut self) -> Option<(Result<M, Status>, Self)> {
        if self.ended {
            return None;
        }
        let next = self.wait().await;
        self.ended = next.is_err();
        Some((next, self))
    }

    fn adopt(&mut self, held: Arc<Held>) {
        if held.selectors != self.held.selectors {
            self.views = self.source.view(&held.selectors);
        }
        self.next = Box::pin(next_attestation(self.connection.clone(), held.clone()));
        self.held = held;
    }

    /// The next message that differs from the last.
    async fn wait(&mut self) -> Result<M, Status> {
        loop {
            tokio::select! {
                biased;
                _ = self.connection.process.changed() => return Err(changed()),
                () = self.connection.shutdown.cancelled() => return Err(Status::unavailable("the agent is shutting down")),
                held = &mut self.next => self.adopt(held),
                changed = self.views.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the agent is shutting down"));
                    }
                }
            }
            let view = self.views.borrow_and_update().clone();
            // What was served before stays valid.
            if !view.state.answers(self.wanted) {
                continue;
            }
            if view.state == ViewState::NoIdentity {
                if !self.held.is_outdated() {
                    self.connection.forget(&self.held);
                    return Err(encode::no_identity());
                }
                // What took this identity away may have brought another, of a kind that was not looked for.
                let held = self.connection.attested().await?;
                self.adopt(held);
                self.views.mark_changed();
                continue;
            }
            let message = (self.build)(&view)?;
            if self.sent.as_ref() == Some(&message) {
                continue;
            }
            self.connection.still_the_same()?;
            self.sent = Some(message.clone());
            return Ok(message);
        }
    }
}
