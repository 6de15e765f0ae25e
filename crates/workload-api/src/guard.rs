//! What every request passes before any service sees it.
//!
//! Invariant: only the methods of the socket's list, by their exact paths, reach a service; those of the Workload API only with the
//! security header, which is looked at before anything is attested (Envoy cannot send it). A request is charged before its message is read.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tower::Service as _;

use crate::{
    Caller, Surface, body::ChargedBody, connection::Connection, limits::Limit, punctual::PunctualBody,
};

pub(crate) type Answer = Result<Response<ChargedBody>, Infallible>;

/// Answers one request of an accepted connection.
pub(crate) async fn answer(
    connection: Arc<Connection>,
    surface: Arc<Surface>,
    mut request: Request<tonic::body::Body>,
) -> Answer {
    if let Err(status) = admit(&surface, request.uri(), request.headers()) {
        return refuse(status);
    }
    if connection.process.change().is_some() {
        return refuse(crate::connection::changed());
    }
    let permit = match connection.permit.stream() {
        Ok(permit) => permit,
        Err(limit) => {
            connection.ledger.report(limit, &connection.process);
            return refuse(limit_reached(limit));
        }
    };
    let probe = connection.probe();
    probe.taken();
    let limits = connection.limits();
    let (arriving, patience) = (connection.permit.arriving(), limits.request_complete);
    let body = std::mem::take(request.body_mut());
    let body = match request.uri().path() {
        path if STREAMED.contains(&path) => PunctualBody::many(body, patience, arriving, limits.sds_turns()),
        path if path.starts_with(SDS) => PunctualBody::one(body, patience, arriving, limits.sds_turns()),
        _ => PunctualBody::one(body, patience, arriving, 1),
    };
    let Some(body) = body else {
        let limit = Limit::IncompletePerUid;
        connection.ledger.report(limit, &connection.process);
        return refuse(limit_reached(limit));
    };
    request.extensions_mut().insert(connection.clone());
    request
        .extensions_mut()
        .insert(Caller::connected(connection.clone()));
    let request = request.map(|_taken| tonic::body::Body::new(body));
    match tokio::time::timeout(REQUEST_DEADLINE, surface.routes.clone().call(request)).await {
        Ok(Ok(response)) => {
            // No service of ours answers so: it is the decoder, of a message that is too large.
            if Status::from_header_map(response.headers())
                .is_some_and(|status| status.code() == tonic::Code::OutOfRange)
            {
                connection.ledger.report(Limit::MaxMessage, &connection.process);
            }
            probe.handed_over();
            Ok(response.map(|body| ChargedBody::charged(body, probe, permit)))
        }
        Ok(Err(never)) => match never {},
        Err(_elapsed) => refuse(Status::deadline_exceeded("the request took too long")),
    }
}

/// Answers with a status and nothing else.
pub(crate) fn refuse(status: Status) -> Answer {
    Ok(status.into_http::<tonic::body::Body>().map(ChargedBody::free))
}

pub(crate) fn limit_reached(limit: Limit) -> Status {
    Status::resource_exhausted(format!("limit {} reached", limit.name()))
}

/// A header that requests must have, exactly once and exactly `true`: what an attacker can make a program send over HTTP has none such.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Paths that begin so.
    pub paths: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// The header rule (Workload Endpoint §3, §6; Broker Endpoint §3, §6) and the list of methods.
fn admit(surface: &Surface, uri: &http::Uri, headers: &HeaderMap) -> Result<(), Status> {
    let (path, methods) = (uri.path(), surface.methods);
    if let Some(header) = surface.header
        && path.starts_with(header.paths)
        && !has(headers, header.name)
    {
        return Err(Status::invalid_argument("security header missing from request"));
    }
    if uri.query().is_some() || !methods.contains(&path) {
        return Err(Status::unimplemented("no such method"));
    }
    Ok(())
}

/// Exactly one value, exactly `true`.
fn has(headers: &HeaderMap, name: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

pub(crate) const SECURITY_HEADER: &str = "workload.spiffe.io";
/// Envoy cannot send it.
pub(crate) const WORKLOAD: Header = Header {
    paths: "/SpiffeWorkloadAPI/",
    name: SECURITY_HEADER,
};
const SDS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/";
/// Those whose client sends message after message.
const STREAMED: [&str; 2] = [
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
];
/// What [`crate::serve()`] serves.
pub const METHODS: [&str; 12] = [
    "/SpiffeWorkloadAPI/FetchX509SVID",
    "/SpiffeWorkloadAPI/FetchX509Bundles",
    "/SpiffeWorkloadAPI/FetchJWTSVID",
    "/SpiffeWorkloadAPI/FetchJWTBundles",
    "/SpiffeWorkloadAPI/ValidateJWTSVID",
    "/SpiffeWorkloadAPI/FetchWITSVID",
    "/SpiffeWorkloadAPI/FetchWITBundles",
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
    "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];
/// Until the answer starts; attestation and the wait for a first identity lie within.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
