//! `/metrics`, `/live` and `/ready` over plain HTTP/1.1, for whoever scrapes. Read-only.
//!
//! Invariant: at most [`CONNECTIONS`] clients at a time, none for longer than [`LIFETIME`], and none of them can end the server.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::{Health, Metrics};

/// Serves until `shutdown`. Connections that are open then are cut.
///
/// # Errors
/// None.
pub async fn serve_http(
    listener: TcpListener,
    metrics: Metrics,
    health: watch::Receiver<Health>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    let mut shutdown = pin!(shutdown);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    // Bounded by the permits.
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            _ = upkeep.tick() => metrics.upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => match accepted {
                Ok((stream, permit)) => {
                    let (metrics, health) = (metrics.clone(), health.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        let served = serve_connection(stream, &metrics, &health);
                        if tokio::time::timeout(LIFETIME, served).await.is_err() {
                            tracing::debug!("a metrics client took too long");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a metrics client");
                    // Out of descriptors: trying at once would spin.
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// The permit first: clients beyond the bound wait in the kernel's queue, which is bounded too.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, permit))
}

async fn serve_connection(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    metrics: &Metrics,
    health: &watch::Receiver<Health>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), metrics, health);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a metrics client failed");
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    health: &watch::Receiver<Health>,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => text(StatusCode::OK, metrics.render()),
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" => match &*health.borrow() {
            Health { ready: true, .. } => text(StatusCode::OK, "ready\n"),
            Health { reason, .. } => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

const CONNECTIONS: usize = 16;
const LIFETIME: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 16 * 1024;
const UPKEEP: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
