//! Serves the admin service on its socket.
//!
//! Invariant: at most [`MAX_CONNECTIONS`] at a time, each with few streams; a slow client costs only its own place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use landfast_proto::landfast::agent::v1::agent_admin_server::AgentAdminServer;
use landfast_uds::{PeerInfo, UdsError, UdsListener, UdsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::admin::Admin;

/// Runs until `stop`.
pub(crate) async fn serve(
    listener: UdsListener,
    service: AgentAdminServer<Admin>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = accept(listener);
    Server::builder()
        .timeout(DEADLINE)
        .max_concurrent_streams(8)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// Accepted connections, each holding its place until it ends.
fn accept(listener: UdsListener) -> impl tokio_stream::Stream<Item = Result<Placed, UdsError>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    futures_util::stream::unfold((listener, places), |(mut listener, places)| async move {
        // Closing the semaphore is not something anybody does.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accepted = listener.accept().await.map(|stream| Placed {
            stream,
            _place: place,
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

const MAX_CONNECTIONS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(10);
