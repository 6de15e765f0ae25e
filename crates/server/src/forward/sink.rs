//! What takes records. Invariant: [`Sink::deliver`] returns well only when all of a batch was taken, as far as the protocol of the destination tells.

use std::io;
use std::path::PathBuf;

use landfast_lifecycle::SharedClock;
use landfast_tls::{TlsError, WebRootsError};

use super::batch::Batch;
use super::{ForwardConfig, Target, lines, otlp, syslog};
use crate::forward::wire::Peer;

pub(super) enum Sink {
    Syslog(Peer),
    Otlp { peer: Peer, path: String },
    File(PathBuf),
    Unix(PathBuf),
}

impl Sink {
    pub(super) fn new(config: &ForwardConfig, clock: SharedClock) -> Self {
        let peer = |host: &str, port, tls| Peer::new(host, port, tls, config.ca_file.clone(), clock.clone());
        match &config.target {
            Target::Syslog { host, port, tls } => Self::Syslog(peer(host, *port, *tls)),
            Target::Otlp {
                host,
                port,
                tls,
                path,
            } => Self::Otlp {
                peer: peer(host, *port, *tls),
                path: path.clone(),
            },
            Target::File(path) => Self::File(path.clone()),
            Target::Unix(path) => Self::Unix(path.clone()),
        }
    }

    pub(super) async fn deliver(&self, batch: Batch) -> Result<(), SinkError> {
        match self {
            Self::Syslog(peer) => peer.hand_over(&syslog::messages(&batch)).await,
            Self::Otlp { peer, path } => otlp::deliver(peer, path, &batch).await,
            Self::File(path) => lines::append(path.clone(), &batch).await,
            Self::Unix(path) => lines::send(path, &batch).await,
        }
    }
}

/// Why a batch was not taken. It is sent again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("the host cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error("the host has no address that may be asked: without TLS only this machine's own")]
    Address,
    #[error("it cannot be reached")]
    Connect(#[source] io::Error),
    #[error("the host is no name or address")]
    Name(#[source] rustls::pki_types::InvalidDnsNameError),
    #[error("it does not prove to be who it should be")]
    Tls(#[source] io::Error),
    #[error("TLS cannot be set up")]
    SetUp(#[from] TlsError),
    #[error("this system has no file of authorities: install ca-certificates, or name ca_file")]
    NoRoots,
    #[error("{} cannot be read", path.display())]
    Roots { path: PathBuf, source: io::Error },
    #[error("{} has no authorities", path.display())]
    BadRoots { path: PathBuf, source: WebRootsError },
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    #[error("it does not speak HTTP/1.1 properly")]
    Http(#[from] hyper::Error),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("{} cannot be written", path.display())]
    File { path: PathBuf, source: io::Error },
}
