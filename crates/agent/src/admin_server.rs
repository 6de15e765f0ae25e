//! Serves the admin socket: our own service, SPIRE's beside it, and delegates who may open it.
//!
//! Invariant: at most [`MAX_CONNECTIONS`] at a time, each with few streams, each with a time to begin and a time to end; a slow client
//! costs only its own place, and that for a minute.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use landfast_proto::landfast::agent::v1::agent_admin_server::AgentAdminServer;
use landfast_proto::spire::agent::debug::v1::debug_server::DebugServer;
use landfast_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use landfast_proto::spire::api::agent::logger::v1::logger_server::LoggerServer;
use landfast_uds::{PeerInfo, UdsError, UdsListener, UdsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::access::AdminGate;
use crate::admin::Admin;
use crate::delegate::DelegatedIdentity;

/// What is served, and who may ask.
pub(crate) struct Services {
    pub(crate) admin: Admin,
    pub(crate) delegated: DelegatedIdentity,
    pub(crate) gate: AdminGate,
}

/// Runs until `stop`. A connection has `handshake` to begin.
pub(crate) async fn serve(
    listener: UdsListener,
    services: Services,
    handshake: Duration,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let served = Server::builder()
        .timeout(DEADLINE)
        .max_concurrent_streams(8)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .max_connection_age(MAX_AGE)
        .layer(services.gate)
        .add_service(AgentAdminServer::new(services.admin.clone()))
        .add_service(DebugServer::new(services.admin.clone()))
        .add_service(LoggerServer::new(services.admin))
        .add_service(DelegatedIdentityServer::new(services.delegated))
        .serve_with_incoming_shutdown(accept(listener, handshake), stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = served => ended,
        () = overdue => {
            tracing::warn!("connections to the admin socket did not end in time and are cut");
            Ok(())
        }
    }
}

/// Accepted connections, each holding its place until it ends.
fn accept(
    listener: UdsListener,
    handshake: Duration,
) -> impl tokio_stream::Stream<Item = Result<Placed, UdsError>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    futures_util::stream::unfold((listener, places), move |(mut listener, places)| async move {
        // Closing the semaphore is not something anybody does.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accepted = listener.accept().await.map(|mut stream| {
            stream.set_handshake_timeout(handshake);
            Placed {
                stream,
                _place: place,
            }
        });
        Some((accepted, (listener, places)))
    })
}

/// A connection and its place.
struct Placed {
    stream: UdsStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Placed {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(crate) const MAX_CONNECTIONS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(10);
/// A command asks once. Streams that are open then go on: it is new requests that need another connection.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Less than the agent as a whole has.
const DRAIN: Duration = Duration::from_secs(3);
