//! A listener over TLS and HTTP/1.1 for anybody. Invariant: connections are bounded in number, for one address and in all; none lasts longer than
//! a handshake and two requests may take, whatever its client does; and none of them can end the listener.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use landfast_daemon::{TaskHandle, error_chain};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{answer, later};
use super::documents::Site;
use crate::api::limit::RateLimit;
use crate::config::ServerLimits;
use crate::endpoints::{HANDSHAKE, PAUSE, Place, Places, concerns_one};
use crate::quarantine::Quarantine;

/// What the listeners of one profile share.
#[derive(Clone)]
pub(super) struct Front {
    tls: Arc<rustls::ServerConfig>,
    site: Arc<Site>,
    /// For the metric.
    profile: &'static str,
    permits: Arc<Semaphore>,
    places: Places,
    /// A handshake costs us more than its client: a signature with the operator's key, RSA perhaps.
    handshakes: Arc<RateLimit>,
    patience: Patience,
    quarantine: Arc<Quarantine>,
}

/// How long is waited for clients.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) handshake: Duration,
    /// For a request to come, and again for its answer to go.
    pub(super) request: Duration,
}

/// A connection, with its place in all and among those of its address.
struct Arrival {
    stream: TcpStream,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Front {
    pub(super) fn new(tls: Arc<rustls::ServerConfig>, site: Arc<Site>, profile: &'static str) -> Self {
        Self {
            tls,
            site,
            profile,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            places: Places::new(CONNECTIONS),
            handshakes: handshakes(ServerLimits::default().publish_handshakes),
            patience: Patience {
                handshake: HANDSHAKE,
                request: REQUEST,
            },
            quarantine: Quarantine::none(),
        }
    }

    /// See [`super::Publishing::held_by`].
    pub(super) fn held_by(mut self, quarantine: Arc<Quarantine>) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// So many handshakes a second of one address.
    pub(super) fn limited(mut self, per_second: u32) -> Self {
        self.handshakes = handshakes(per_second);
        self
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Serves until the tree stops. Connections that are open then are cut.
    pub(super) fn listen(self, listener: TcpListener, tasks: &TaskHandle) {
        let stop = tasks.token();
        tasks.spawn("publish", async move {
            // Bounded by the permits.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(_ended) = connections.join_next() => {}
                    accepted = self.accept(&listener) => match accepted {
                        Ok(arrival) => {
                            connections.spawn(self.clone().serve(arrival));
                        }
                        Err(error) if concerns_one(&error) => tracing::debug!(%error, "a connection went before it came"),
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection to what is published; trying again shortly");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            }
        });
    }

    /// A permit first: when all are taken the kernel's backlog holds the next. Who has too many, or comes too often, is let go at once. Nobody shows who he is
    /// here, so all count as strangers.
    async fn accept(&self, listener: &TcpListener) -> io::Result<Arrival> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        loop {
            let (stream, address) = listener.accept().await?;
            if self.handshakes.admits(address.ip())
                && let Some(place) = self.places.stranger(address.ip())
            {
                return Ok(Arrival {
                    stream,
                    address,
                    _permit: permit,
                    _place: place,
                });
            }
        }
    }

    async fn serve(self, arrival: Arrival) {
        let Arrival {
            stream,
            address,
            _permit,
            _place,
        } = arrival;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let stream = match tokio::time::timeout(self.patience.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let error = error_chain(&error);
                tracing::debug!(%address, error, "a client of what is published did not begin");
                return;
            }
            Err(_elapsed) => {
                tracing::debug!(%address, "a client of what is published took too long to begin");
                return;
            }
        };
        let service = service_fn(|request: http::Request<Incoming>| {
            let response = match self.quarantine.holds() {
                true => later(),
                false => answer(&request, &self.site.documents()),
            };
            let status = response.status().as_u16().to_string();
            metrics::counter!("landfast_server_publish_requests_total", "profile" => self.profile, "status" => status)
                .increment(1);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut connection = pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.patience.request)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut served = tokio::time::timeout(self.patience.request, connection.as_mut()).await;
        if served.is_err() {
            // Idle connections end now; the request that is under way has its time.
            connection.as_mut().graceful_shutdown();
            served = tokio::time::timeout(self.patience.request, connection).await;
        }
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = error_chain(&error);
                tracing::debug!(%address, error, "a client of what is published failed");
            }
            Err(_elapsed) => tracing::debug!(%address, "a client of what is published took too long"),
        }
    }
}

/// After a rest, three seconds' worth come at once.
fn handshakes(per_second: u32) -> Arc<RateLimit> {
    let burst = per_second.saturating_mul(16) / 5;
    Arc::new(RateLimit::new(per_second, burst.max(1), "HTTPS handshakes"))
}

/// Of one profile at a time. A federated server needs one for a moment, once in a hint's time.
pub(super) const CONNECTIONS: usize = 256;
const REQUEST: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: usize = 16 * 1024;
