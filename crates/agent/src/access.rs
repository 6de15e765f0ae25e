//! Who may call what on which of the agent's sockets.
//!
//! Invariant: a method without a row here is served nowhere. The Workload API's own rows are enforced in its crate, from a list that a
//! test compares with this one.

use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, ready};
use landfast_uds::PeerInfo;
use tonic::Status;
use tonic::body::Body;

use Socket::{Admin, Broker, Delegate, Workload};

/// One of the agent's sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Socket {
    /// Any process of the node; attestation decides what it gets.
    Workload,
    /// Operators: root, the agent's own user, a group that the configuration names.
    Admin,
    /// Programs that act for others: attestation, then `authorized_delegates` decides what they get.
    Delegate,
    /// Brokers: TLS, attestation, then `authorized_brokers` decides what they get.
    Broker,
}

/// Every method, by its path.
const TABLE: &[(&str, &[Socket])] = &[
    ("/SpiffeWorkloadAPI/FetchJWTBundles", &[Workload]),
    ("/SpiffeWorkloadAPI/FetchJWTSVID", &[Workload]),
    ("/SpiffeWorkloadAPI/FetchWITBundles", &[Workload]),
    ("/SpiffeWorkloadAPI/FetchWITSVID", &[Workload]),
    ("/SpiffeWorkloadAPI/FetchX509Bundles", &[Workload]),
    ("/SpiffeWorkloadAPI/FetchX509SVID", &[Workload]),
    ("/SpiffeWorkloadAPI/ValidateJWTSVID", &[Workload]),
    (
        "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        &[Workload],
    ),
    (
        "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
        &[Workload],
    ),
    (
        "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        &[Workload],
    ),
    ("/grpc.health.v1.Health/Check", &[Workload]),
    ("/grpc.health.v1.Health/Watch", &[Workload]),
    ("/landfast.agent.v1.AgentAdmin/GetStatus", &[Admin]),
    ("/landfast.agent.v1.AgentAdmin/Why", &[Admin]),
    ("/spire.agent.debug.v1.Debug/GetInfo", &[Admin]),
    ("/spire.api.agent.logger.v1.Logger/GetLogger", &[Admin]),
    ("/spire.api.agent.logger.v1.Logger/ResetLogLevel", &[Admin]),
    ("/spire.api.agent.logger.v1.Logger/SetLogLevel", &[Admin]),
    // SPIRE serves these on the admin socket, and tools look for them there.
    (DELEGATED[0], &[Admin, Delegate]),
    (DELEGATED[1], &[Admin, Delegate]),
    (DELEGATED[2], &[Admin, Delegate]),
    (DELEGATED[3], &[Admin, Delegate]),
    (BROKERED[0], &[Broker]),
    (BROKERED[1], &[Broker]),
    (BROKERED[2], &[Broker]),
    (BROKERED[3], &[Broker]),
];

/// All that the delegates' own socket serves.
pub(crate) const DELEGATED: [&str; 4] = [
    "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/FetchJWTSVIDs",
    "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToJWTBundles",
    "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509Bundles",
    "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs",
];

/// All that the brokers' socket serves.
pub(crate) const BROKERED: [&str; 4] = [
    "/spiffe.broker.API/FetchJWTSVID",
    "/spiffe.broker.API/SubscribeToJWTBundles",
    "/spiffe.broker.API/SubscribeToX509Bundles",
    "/spiffe.broker.API/SubscribeToX509SVID",
];

/// Puts the table in front of the admin socket's services, and asks who the caller is.
#[derive(Clone, Debug)]
pub(crate) struct AdminGate {
    /// The mode of the socket's file has let in a group that the operator named.
    pub(crate) group_allowed: bool,
}

impl AdminGate {
    fn judge(&self, uri: &http::Uri, extensions: &http::Extensions) -> Result<(), Status> {
        let served =
            |(method, sockets): &(&str, &[Socket])| *method == uri.path() && sockets.contains(&Admin);
        if uri.query().is_some() || !TABLE.iter().any(served) {
            return Err(Status::unimplemented("no such method"));
        }
        let uid = extensions.get::<PeerInfo>().map(|peer| peer.uid);
        may_ask(uid, nix::unistd::geteuid().as_raw(), self.group_allowed)
            .then_some(())
            .ok_or_else(|| Status::permission_denied("only root and the agent's own user may ask"))
    }
}

/// With a group, the mode of the socket's file has already let in nobody but owner, group and root.
fn may_ask(uid: Option<u32>, own: u32, group_allowed: bool) -> bool {
    uid.is_some_and(|uid| uid == 0 || uid == own || group_allowed)
}

impl<S> tower::Layer<S> for AdminGate {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            gate: self.clone(),
        }
    }
}

/// See [`AdminGate`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    gate: AdminGate,
}

impl<S> tower::Service<http::Request<Body>> for Guarded<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.gate.judge(request.uri(), request.extensions()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests;
