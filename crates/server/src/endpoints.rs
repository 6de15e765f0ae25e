//! The listeners: TCP with TLS, and the admin socket.
//!
//! Invariant: both carry the same services behind the same table. Connections are bounded in number, in the time they have to begin,
//! and over TCP in age and by whose they are; running out of descriptors makes a listener wait, not spin.

mod connection;
mod cut;
mod intake;
mod outflow;
mod peer;
mod places;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::{TaskHandle, error_chain};
use landfast_identity::SpiffeId;
use landfast_lifecycle::SharedClock;
use landfast_tls::{BundleStore, refusal};
use landfast_uds::{PeerInfo, UdsListener, UdsStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected as _;

use crate::ledger::{Failure, Ledger};
use connection::Connection;
pub(crate) use cut::Cut;
pub(crate) use intake::{Allowance, Held, metered};
pub(crate) use outflow::Outflow;
use peer::Shown;
pub(crate) use peer::TlsPeer;
pub(crate) use places::{Place, Places, network};

/// A connection over TLS.
pub(crate) type TlsConnection = Connection<TlsStream<TcpStream>, TlsPeer>;
/// A connection of a local operator.
pub(crate) type AdminConnection = Connection<UdsStream, PeerInfo>;

/// What a TCP listener needs to make connections.
#[derive(Clone)]
pub(crate) struct TlsFront {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) bundles: BundleStore,
    pub(crate) clock: SharedClock,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) places: Places,
    /// Whether the identity may connect at all: others' trust domains are here for the administrators they have.
    pub(crate) admits: Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>,
    /// Whether the identity opens anything here. An agent may have thousands that do not: those count as no certificate does.
    pub(crate) knows: Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>,
    /// For TLS and the beginning of HTTP/2 together.
    pub(crate) handshake_timeout: Duration,
    /// Who did not come in is counted there.
    pub(crate) ledger: Ledger,
    /// After it a connection breaks off.
    pub(crate) last: Duration,
}

/// A connection of which nothing is known but where it comes from.
struct Arrival {
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    place: Place,
}

impl TlsFront {
    /// Accepts until the tree stops; connections come out when they have begun.
    pub(crate) fn listen(
        self,
        listener: TcpListener,
        tasks: &TaskHandle,
    ) -> ReceiverStream<io::Result<TlsConnection>> {
        let (out, connections) = mpsc::channel(BACKLOG);
        let stop = tasks.token();
        let jobs = tasks.clone();
        tasks.spawn("accept-tls", async move {
            for number in 1_u64.. {
                // What is ready goes on before more is begun: a crowd waits in the kernel, in its order, and no handshake waits for the processor
                // until its time is over.
                if number % AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = self.accept(&listener) => match accepted {
                        Ok(arrival) => {
                            let (front, out) = (self.clone(), out.clone());
                            jobs.spawn_job("handshake", async move {
                                if let Some(connection) = front.begin(arrival).await {
                                    // The receiver is gone only when the server stops.
                                    drop(out.send(Ok(connection)).await);
                                }
                            });
                        }
                        Err(error) if concerns_one(&error) => tracing::debug!(%error, "a connection went before it came"),
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

    /// A permit first, then a connection: when all are taken the kernel's backlog holds the next. Who has too many under way is let go
    /// at once, so that its silence holds no permit that another needs.
    async fn accept(&self, listener: &TcpListener) -> io::Result<Arrival> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        loop {
            let (stream, address) = listener.accept().await?;
            if let Some(place) = self.places.arrive(address.ip()) {
                return Ok(Arrival {
                    stream,
                    address,
                    permit,
                    place,
                });
            }
        }
    }

    async fn begin(&self, arrival: Arrival) -> Option<TlsConnection> {
        let address = arrival.address;
        match tokio::time::timeout(self.handshake_timeout, self.shake_hands(arrival)).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => {
                let reason =
                    refusal(&error).map_or_else(|| error_chain(&error), |refusal| error_chain(refusal));
                tracing::info!(%address, reason, "a connection did not begin");
                self.ledger.failed(Failure::Connection, address.ip(), &reason);
            }
            Err(_elapsed) => {
                let reason = "a connection took too long to begin";
                tracing::info!(%address, "{reason}");
                self.ledger.failed(Failure::Connection, address.ip(), reason);
            }
        }
        None
    }

    async fn shake_hands(&self, arrival: Arrival) -> io::Result<TlsConnection> {
        let Arrival {
            stream,
            address,
            permit,
            place: arriving,
        } = arrival;
        stream.set_nodelay(true)?;
        let stream = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let (now, bundles) = (self.clock.now(), self.bundles.load());
        let peer = now.and_then(|now| landfast_tls::peer(chain, &bundles, now));
        if chain.is_some() && peer.is_none() {
            return Err(io::Error::other(
                "the client's certificate stopped verifying during the handshake",
            ));
        }
        if let Some(peer) = peer.as_ref().filter(|peer| !(self.admits)(&peer.id)) {
            let reason = format!("{} is of another trust domain and not in admin_ids", peer.id);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let (place, last) = match &peer {
            Some(peer) if (self.knows)(&peer.id) => (self.places.known(&peer.id), self.last),
            // Enough to attest over a slow link; then it comes again with a certificate.
            _ => (self.places.stranger(address.ip()), STRANGERS_LAST),
        };
        let Some(place) = place else {
            return Err(io::Error::other(match peer {
                Some(peer) => format!("too many connections of {}", peer.id),
                None => "too many connections without a certificate from this address".to_owned(),
            }));
        };
        drop(arriving);
        let shown = peer
            .zip(chain)
            .map(|(peer, chain)| Shown::new(peer, chain, bundles, self.bundles.clone()));
        let info = TlsPeer {
            address,
            shown: shown.map(Arc::new),
            intake: place.intake(),
            cut: Arc::default(),
            outflow: Arc::default(),
            begun: Instant::now(),
        };
        let (cut, outflow) = (info.cut(), info.outflow());
        Ok(Connection::begin(stream, info, permit, Some(last))
            .await?
            .until(cut)
            .telling(outflow)
            .holding(place))
    }
}

/// Accepts on the admin socket until the tree stops.
pub(crate) fn listen_admin(
    mut listener: UdsListener,
    tasks: &TaskHandle,
) -> ReceiverStream<io::Result<AdminConnection>> {
    let (out, connections) = mpsc::channel(BACKLOG);
    let (stop, jobs) = (tasks.token(), tasks.clone());
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    tasks.spawn("accept-admin", async move {
        let accept = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                match listener.accept().await {
                    Ok(stream) => {
                        let out = out.clone();
                        jobs.spawn_job("begin-admin", async move {
                            let info = stream.connect_info();
                            let begun = Connection::begin(stream, info, permit, None);
                            // Who goes or stalls before the first word is no more than that.
                            if let Ok(Ok(connection)) = tokio::time::timeout(ADMIN_BEGIN, begun).await {
                                drop(out.send(Ok(connection)).await);
                            }
                        });
                    }
                    Err(error) => {
                        let error = error_chain(&error);
                        tracing::warn!(error, "the admin socket cannot accept; trying again shortly");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accept).await.unwrap_or_default();
    });
    ReceiverStream::new(connections)
}

/// accept(2): an error of the connection that would have come, not of ours; the next one may be fine.
pub(crate) fn concerns_one(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

/// Binds for listening, with room for a fleet that comes back at once. The kernel may have a lower limit (`net.core.somaxconn`).
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Its connections have it from it.
    socket.set_send_buffer_size(UNSENT)?;
    socket.bind(address)?;
    socket.listen(CROWD)
}

/// Bytes that the kernel holds of what a connection sends; Linux takes twice as much, with what it costs. Else it would be up to 4 MiB, and more
/// than a minute would pass on a slow link until it asks for more.
const UNSENT: u32 = 128 * 1024;

/// Connections that wait to be served.
const BACKLOG: usize = 16;
/// Connections that the kernel takes before we do.
const CROWD: u32 = 4096;
/// Connections that are taken before all that is ready has its turn.
const AT_ONCE: u64 = 8;
const STRANGERS_LAST: Duration = Duration::from_secs(60);
/// To TLS, and to the first bytes of HTTP/2.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// After an error of accept(2) that is ours: trying at once would spin.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// On the admin socket at a time; further ones wait.
const ADMIN_CONNECTIONS: usize = 256;
const ADMIN_BEGIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
