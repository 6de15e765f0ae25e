//! The listeners: TCP with TLS, and the admin socket.
//!
//! Invariant: both carry the same services behind the same table. A connection has a bounded time to shake hands and the number of
//! connections is bounded; running out of descriptors makes the listener wait, not spin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use landfast_daemon::{TaskHandle, error_chain};
use landfast_identity::VerifiedPeer;
use landfast_lifecycle::SharedClock;
use landfast_tls::{BundleStore, refusal};
use landfast_uds::{UdsListener, UdsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Who is at the other end of a TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsPeer {
    address: SocketAddr,
    peer: Option<Arc<VerifiedPeer>>,
}

impl TlsPeer {
    /// The peer that showed a certificate, verified at the handshake.
    pub(crate) fn verified(&self) -> Option<&VerifiedPeer> {
        self.peer.as_deref()
    }

    /// Where it called from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// A TLS connection that counts while it lives.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: TlsPeer,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TlsPeer;
    fn connect_info(&self) -> TlsPeer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a TCP listener needs to make connections.
#[derive(Clone)]
pub(crate) struct TlsFront {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) bundles: BundleStore,
    pub(crate) clock: SharedClock,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) handshake_timeout: Duration,
}

impl TlsFront {
    /// Accepts until the tree stops; connections come out when their handshake is done.
    pub(crate) fn listen(
        self,
        listener: TcpListener,
        tasks: &TaskHandle,
    ) -> ReceiverStream<io::Result<Connection>> {
        let (out, connections) = mpsc::channel(BACKLOG);
        let stop = tasks.token();
        let jobs = tasks.clone();
        tasks.spawn("accept-tls", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = self.accept(&listener) => match accepted {
                        Ok((stream, address, permit)) => {
                            let (front, out) = (self.clone(), out.clone());
                            jobs.spawn_job("handshake", async move { front.shake_hands(stream, address, permit, &out).await });
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection; trying again shortly");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            }
        });
        ReceiverStream::new(connections)
    }

    /// A place first, then a connection: when all are taken the kernel's backlog holds the next.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, address) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, address, permit))
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
        out: &mpsc::Sender<io::Result<Connection>>,
    ) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let stream = match tokio::time::timeout(self.handshake_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let reason =
                    refusal(&error).map_or_else(|| error_chain(&error), |refusal| error_chain(refusal));
                tracing::info!(%address, reason, "a TLS handshake failed");
                return;
            }
            Err(_elapsed) => {
                tracing::info!(%address, "a TLS handshake took too long");
                return;
            }
        };
        let chain = stream.get_ref().1.peer_certificates();
        let peer = self
            .clock
            .now()
            .and_then(|now| landfast_tls::peer(chain, &self.bundles.load(), now));
        if chain.is_some() && peer.is_none() {
            tracing::info!(%address, "a client certificate stopped verifying during its handshake");
            return;
        }
        let peer = TlsPeer {
            address,
            peer: peer.map(Arc::new),
        };
        // The receiver is gone only when the server stops.
        drop(
            out.send(Ok(Connection {
                stream,
                peer,
                _permit: permit,
            }))
            .await,
        );
    }
}

/// Accepts on the admin socket until the tree stops.
pub(crate) fn listen_admin(
    mut listener: UdsListener,
    tasks: &TaskHandle,
) -> ReceiverStream<io::Result<UdsStream>> {
    let (out, connections) = mpsc::channel(BACKLOG);
    let stop = tasks.token();
    tasks.spawn("accept-admin", async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(stream) => drop(out.send(Ok(stream)).await),
                    Err(error) => {
                        let error = error_chain(&error);
                        tracing::warn!(error, "the admin socket cannot accept; trying again shortly");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

/// Connections that wait to be served.
const BACKLOG: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);
