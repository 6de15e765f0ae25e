//! The methods of the Workload API.
//!
//! Invariant: every answer is preceded by attestation, and every message of a stream by a look at the process.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use landfast_identity::{SpiffeId, jwt};
use landfast_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::SpiffeWorkloadApi,
};
use tonic::{Request, Response, Status};

use crate::source::Wanted;
use crate::{
    Given, GivenBefore, HandOut, IdentitySource, SourceError, Way, WorkloadView,
    connection::Connection,
    encode,
    entitled::{Entitled, Following},
    wit::WitStream,
};

pub(crate) struct Service {
    pub(crate) source: Arc<dyn IdentitySource>,
}

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
        let JwtsvidRequest {
            mut audience,
            spiffe_id,
        } = request.into_inner();
        // An empty one among others is nobody.
        audience.retain(|one| !one.is_empty());
        jwt::check_audience(&audience).map_err(|error| audience_refused(&error))?;
        let id = wanted_id(&spiffe_id)?;
        let entitled = self.entitled(&connection).await?;
        let view = &entitled.view;
        let known = |id: &SpiffeId| view.jwt_identities.iter().any(|identity| identity.id == *id);
        let denied = || {
            let to = connection.party(entitled.selectors());
            self.source.refused(Way::WorkloadApi, to);
            encode::no_identity()
        };
        if view.jwt_identities.is_empty() || id.as_ref().is_some_and(|id| !known(id)) {
            return Err(denied());
        }
        let fetched = self
            .source
            .fetch_jwt(entitled.selectors(), &audience, id.as_ref())
            .await
            .map_err(|error| match error {
                SourceError::NoIdentity => denied(),
                SourceError::InvalidArgument(reason) => Status::invalid_argument(reason),
                SourceError::Unsupported => Status::unimplemented("JWT-SVIDs are not supported"),
                SourceError::Unavailable(reason) => {
                    connection
                        .ledger
                        .complain("jwt-unavailable", &connection.process, &reason);
                    Status::unavailable("the JWT-SVID is not available now")
                }
            })?;
        if fetched.is_empty() {
            return Err(denied());
        }
        connection.still_the_same()?;
        for jwt in &fetched {
            self.source.handed_out(&HandOut {
                way: Way::WorkloadApi,
                to: connection.party(entitled.selectors()),
                of: None,
                given: Given::Jwt(jwt),
            });
        }
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
        let entitled = self.entitled(&connection).await?;
        let now = self
            .source
            .now()
            .ok_or_else(|| Status::unavailable("the time is not known"))?;
        let bundles = self.source.validation_bundles(entitled.selectors());
        let valid = jwt::verify(&svid, &bundles, &audience, now)
            .map_err(|error| Status::invalid_argument(format!("svid is not valid: {error}")))?;
        let claims = Some(encode::claims(&valid, entitled.view.own_bundle.trust_domain()));
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: valid.id().to_string(),
            claims,
        }))
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        self.wit_is_served()?;
        let connection = connection(&request)?;
        let id = wanted_id(&request.into_inner().spiffe_id)?;
        let entitled = self.entitled(&connection).await?;
        let known = |id: &SpiffeId| {
            entitled
                .view
                .jwt_identities
                .iter()
                .any(|identity| identity.id == *id)
        };
        if id.as_ref().is_some_and(|id| !known(id)) {
            let to = connection.party(entitled.selectors());
            self.source.refused(Way::WorkloadApi, to);
            return Err(encode::no_identity());
        }
        let following = entitled.follow(self.source.clone(), connection, Wanted::Rest);
        Ok(Response::new(Box::pin(stream::unfold(
            WitStream::new(self.source.clone(), following, id),
            WitStream::next,
        ))))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        self.wit_is_served()?;
        self.stream(request, encode::wit_bundles, Wanted::Rest).await
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
        let entitled = Entitled::look(&self.source, &connection, (wanted, Way::WorkloadApi)).await?;
        let subscription = Subscription {
            following: entitled.follow(self.source.clone(), connection, wanted),
            build,
            sent: None,
            svids: (wanted == Wanted::X509Svids).then(GivenBefore::default),
            ended: false,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            subscription,
            Subscription::next,
        ))))
    }

    /// Where it is known that there are no WIT-SVIDs, everybody learns that, and nobody is attested for it (Workload API §7).
    fn wit_is_served(&self) -> Result<(), Status> {
        match self.source.has_wit() {
            Some(false) => Err(encode::no_wit()),
            Some(true) | None => Ok(()),
        }
    }

    /// What the caller is entitled to, once that is ready.
    async fn entitled(&self, connection: &Connection) -> Result<Entitled, Status> {
        Entitled::look(&self.source, connection, (Wanted::Rest, Way::WorkloadApi)).await
    }
}

/// The identity that a request names, on whichever socket; `None` when it names none.
///
/// # Errors
/// InvalidArgument, when it is no SPIFFE ID.
pub fn wanted_id(text: &str) -> Result<Option<SpiffeId>, Status> {
    match text {
        "" => Ok(None),
        text => SpiffeId::parse(text)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}"))),
    }
}

/// What who asks for a token hears of its audience, on whichever socket.
pub fn audience_refused(error: &jwt::JwtError) -> Status {
    Status::invalid_argument(match error {
        jwt::JwtError::NoAudience => "audience must be specified".to_owned(),
        other => other.to_string(),
    })
}

/// The connection that a request came on.
pub(crate) fn connection<R>(request: &Request<R>) -> Result<Arc<Connection>, Status> {
    let found = request.extensions().get::<Arc<Connection>>().cloned();
    found.ok_or_else(|| Status::internal("the request has no connection"))
}

/// One open stream.
struct Subscription<M> {
    following: Following,
    build: Build<M>,
    /// Shares its bytes with what was sent.
    sent: Option<M>,
    /// Of messages that have SVIDs.
    svids: Option<GivenBefore>,
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

    /// The next message that differs from the last.
    async fn wait(&mut self) -> Result<M, Status> {
        loop {
            let view = self.following.next().await?.ok_or_else(encode::no_identity)?;
            let message = (self.build)(&view)?;
            if self.sent.as_ref() == Some(&message) {
                continue;
            }
            self.following.connection.still_the_same()?;
            if let Some(before) = &mut self.svids {
                for served in before.new_among(encode::told(&view)) {
                    self.following.hands_out(Way::WorkloadApi, Given::X509(served));
                }
            }
            self.sent = Some(message.clone());
            return Ok(message);
        }
    }
}
