//! `/metrics`, `/live` and `/ready` over plain HTTP/1.1, for whoever scrapes. Read-only. An answer to `/live` is the proof of
//! life: the same runtime that does the work has turned to give it.
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
        let response = answer(&request, metrics, health);
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

fn answer<B>(
    request: &Request<B>,
    metrics: &Metrics,
    health: &watch::Receiver<Health>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => page(StatusCode::OK, PROMETHEUS, metrics.render()),
        "/live" => verdict(request, "live", &Health::ready()),
        "/ready" => verdict(request, "ready", &health.borrow()),
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n"),
    }
}

/// 200 or 503, for eyes or for programs.
fn verdict<B>(request: &Request<B>, what: &'static str, health: &Health) -> Response<Full<Bytes>> {
    let status = match health.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = if wants_json(request) {
        let mut body = serde_json::json!({ what: health.ready });
        if !health.reason.is_empty() {
            body["reason"] = health.reason.as_str().into();
        }
        page(status, JSON, format!("{body}\n"))
    } else if health.ready && health.reason.is_empty() {
        text(status, format!("{what}\n"))
    } else if health.ready {
        text(status, format!("{what}; degraded: {}\n", health.reason))
    } else {
        text(status, format!("not {what}: {}\n", health.reason))
    };
    // A proxy that remembers would answer for a process that is gone.
    let fresh = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, fresh);
    response
}

/// `?format=json`, or an `Accept` whose first type that we have is JSON. Weights (`q=`) are not read.
fn wants_json<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    if let Some(format) = query.split('&').find_map(|pair| pair.strip_prefix("format=")) {
        return format == "json";
    }
    let accepted = request.headers().get_all(header::ACCEPT).into_iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find(|range| ["application/json", "text/plain", "text/*", "*/*"].contains(range))
        .is_some_and(|range| range == "application/json")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    page(status, TEXT, body)
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const CONNECTIONS: usize = 16;
const LIFETIME: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 16 * 1024;
const UPKEEP: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
