//! The accept loop and the life of a connection.
//!
//! Invariant: a connection is charged before anything is done for it, and ends when its process changes, when its client stops
//! reading, or at shutdown.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use landfast_proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use landfast_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use landfast_uds::{PinnedProcess, Tolerant, UdsError, UdsListener, UdsStream};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tonic::{Status, service::Routes};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    Attestor, Begun, Front, Gauges, IdentitySource, Limits, Sds,
    connection::Connection,
    desk::Desk,
    front::Carrier,
    guard::{self, Header, METHODS},
    limits::Limit,
    sds::SecretService,
    service::Service,
};

/// Why serving has ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The socket is lost.
    #[error("cannot accept on the workload socket")]
    Accept {
        /// Why.
        source: UdsError,
    },
}

/// Serves the Workload API, SDS if it is wanted and gRPC health on `listener` until `shutdown`, then gives streams three seconds to end.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listener: UdsListener,
    source: Arc<dyn IdentitySource>,
    attestor: Arc<dyn Attestor>,
    sds: Option<Sds>,
    limits: Limits,
    gauges: Arc<Gauges>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let health = HealthReporter::new();
    let mut ready = source.ready();
    let secrets = sds.map(|sds| {
        let service = SecretService::new(source.clone(), sds);
        SecretDiscoveryServiceServer::new(service).max_decoding_message_size(limits.max_sds_message)
    });
    let workload =
        SpiffeWorkloadApiServer::new(Service { source }).max_decoding_message_size(limits.max_message);
    let health_server = HealthServer::new(HealthService::from_health_reporter(health.clone()))
        .max_decoding_message_size(limits.max_message);
    let mut routes = Routes::new(workload).add_service(health_server);
    if let Some(secrets) = secrets {
        routes = routes.add_service(secrets);
    }
    let surface = Surface {
        routes,
        methods: &METHODS,
        header: Some(guard::WORKLOAD),
        front: None,
    };
    let mut served = std::pin::pin!(serve_surface(
        listener, surface, attestor, limits, gauges, shutdown
    ));
    let now = *ready.borrow_and_update();
    report(&health, now).await;
    let mut watching = true;
    loop {
        tokio::select! {
            biased;
            changed = ready.changed(), if watching => {
                watching = changed.is_ok();
                let now = *ready.borrow_and_update();
                report(&health, now).await;
            }
            outcome = &mut served => return outcome,
        }
    }
}

/// What a socket serves: services, and which of their methods, by their exact paths.
#[derive(Clone, Debug)]
pub struct Surface {
    /// The services. A request has its [`Caller`](crate::Caller) among its extensions.
    pub routes: Routes,
    /// `/package.Service/Method`.
    pub methods: &'static [&'static str],
    /// What requests must carry.
    pub header: Option<Header>,
    /// What connections pass first.
    pub front: Option<Arc<dyn Front>>,
}

/// Serves other services as [`serve`] serves the Workload API: to pinned processes, within limits.
///
/// # Errors
/// The listener fails for good.
pub async fn serve_surface(
    mut listener: UdsListener,
    surface: Surface,
    attestor: Arc<dyn Attestor>,
    limits: Limits,
    gauges: Arc<Gauges>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let server = Server {
        surface: Arc::new(Surface {
            routes: surface.routes.prepare(),
            ..surface
        }),
        desk: Desk::new(attestor, limits, gauges),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
    };
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let outcome = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            Some(ended) = connections.join_next() => inspect(ended),
            accepted = listener.accept() => match accepted {
                Ok(stream) => server.open(stream, &mut connections),
                Err(source) => break Err(ServeError::Accept { source }),
            },
        }
    };
    drop(listener);
    server.desk.close();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            inspect(ended);
        }
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections did not end in time and are cut"
        );
        connections.shutdown().await;
    }
    outcome
}

async fn report(health: &HealthReporter, ready: bool) {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in ["", "SpiffeWorkloadAPI"] {
        health.set_service_status(service, status).await;
    }
}

fn inspect(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection has panicked");
    }
}

struct Server {
    surface: Arc<Surface>,
    desk: Desk,
    /// How many refused connections get an answer at a time; the rest are closed.
    refusals: Arc<Semaphore>,
}

impl Server {
    /// Takes a connection in, or turns it away with an answer.
    fn open(&self, mut stream: UdsStream, connections: &mut JoinSet<()>) {
        let ledger = self.desk.ledger();
        let limits = ledger.limits();
        stream.set_handshake_timeout(limits.handshake_timeout);
        let Some(process) = stream.peer().process().cloned() else {
            let peer = stream.peer();
            let reason = peer.unpinned().map(ToString::to_string).unwrap_or_default();
            if ledger.may_log("unpinned") {
                tracing::warn!(
                    pid = peer.pid,
                    uid = peer.uid,
                    reason,
                    "a caller could not be bound to a process"
                );
            }
            return self.turn_away(
                stream,
                Status::unavailable("workload attestation failed"),
                connections,
            );
        };
        match self.desk.connection(process.clone()) {
            Ok(connection) => {
                let (connection, surface) = (Arc::new(connection), Arc::clone(&self.surface));
                match surface.front.clone() {
                    None => connections.spawn(run(stream, connection, surface, Passed::default())),
                    Some(front) => connections.spawn(pass(stream, connection, surface, front)),
                };
            }
            Err(limit) => {
                ledger.report(limit, &process);
                self.turn_away(stream, guard::limit_reached(limit), connections);
            }
        }
    }

    /// Behind a front the client would have to pass it first to understand the answer: it is closed.
    fn turn_away(&self, stream: UdsStream, status: Status, connections: &mut JoinSet<()>) {
        if self.surface.front.is_some() {
            return;
        }
        let Ok(turn) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        connections.spawn(async move {
            let refuse = service_fn(move |_: http::Request<Incoming>| {
                std::future::ready(guard::refuse(status.clone()))
            });
            let answered = Box::pin(http(8).serve_connection(TokioIo::new(stream), refuse));
            // An error is the client's going away, which is what we want.
            drop(tokio::time::timeout(REFUSAL, answered).await);
            drop(turn);
        });
    }
}

/// Serves one connection to its end, if the front lets it pass.
async fn pass(stream: UdsStream, connection: Arc<Connection>, surface: Arc<Surface>, front: Arc<dyn Front>) {
    let limits = connection.limits();
    let process: &Arc<PinnedProcess> = &connection.process;
    let begun = tokio::select! {
        biased;
        _ = process.changed() => return,
        () = connection.shutdown.cancelled() => return,
        begun = tokio::time::timeout(limits.handshake_timeout, front.begin(stream.into_parts().0, process)) => begun,
    };
    let Begun { stream, shown, over } = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            return connection
                .ledger
                .complain("not-let-in", process, &error.to_string());
        }
        Err(_elapsed) => return connection.ledger.report(Limit::HandshakeTimeout, process),
    };
    let mut stream = Tolerant::new(stream);
    stream.set_handshake_timeout(limits.handshake_timeout);
    run(stream, connection, surface, Passed { shown, over }).await;
}

/// What a front leaves behind.
struct Passed {
    shown: http::Extensions,
    over: BoxFuture<'static, ()>,
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            shown: http::Extensions::new(),
            over: std::future::pending().boxed(),
        }
    }
}

/// Serves one connection to its end.
async fn run<S: Carrier + 'static>(
    stream: S,
    connection: Arc<Connection>,
    surface: Arc<Surface>,
    passed: Passed,
) {
    let limits = connection.limits().clone();
    let answering = connection.clone();
    let Passed { shown, mut over } = passed;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(tonic::body::Body::new);
        request.extensions_mut().extend(shown.clone());
        Box::pin(guard::answer(answering.clone(), Arc::clone(&surface), request))
    });
    // A few more than the limit, so that a client over it is told instead of left waiting.
    let streams = limits.streams_per_process.saturating_add(16);
    let mut served = Box::pin(http(streams).serve_connection(TokioIo::new(stream), service));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    if is_late(&error) {
                        connection.ledger.report(Limit::HandshakeTimeout, &connection.process);
                    }
                    tracing::debug!(pid = connection.process.pid(), %error, "a connection has failed");
                }
                return;
            }
            change = connection.process.changed(), if until.is_none() => {
                if connection.ledger.due("changed") {
                    tracing::info!(pid = connection.process.pid(), ?change, "a caller has changed, its connection ends");
                }
                served.as_mut().graceful_shutdown();
                until = Some(Instant::now() + CHANGED_GRACE);
            }
            () = &mut over, if until.is_none() => {
                served.as_mut().graceful_shutdown();
                until = Some(Instant::now() + DRAIN);
            }
            () = connection.shutdown.cancelled(), if until.is_none() => {
                served.as_mut().graceful_shutdown();
                until = Some(Instant::now() + DRAIN);
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return,
            _ = look.tick() => if connection.stalled(limits.stalled_reader) {
                connection.ledger.report(Limit::StalledReader, &connection.process);
                return;
            }
        }
    }
}

/// Whether the client took longer over the handshake than it may: nothing else makes reading from a Unix socket time out.
fn is_late(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// HTTP/2 with everything bounded.
fn http(streams: u32) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_header_list_size(8 * 1024)
        .max_send_buf_size(16 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// What a client may send us unread.
const WINDOW: u32 = 64 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(5);
const REFUSALS: usize = 32;
const REFUSAL: Duration = Duration::from_secs(2);
/// For the last status to reach a process that has changed.
const CHANGED_GRACE: Duration = Duration::from_millis(500);
/// Less than the five seconds that the agent as a whole has: who does not read is cut here, and nothing else with it.
const DRAIN: Duration = Duration::from_secs(3);
