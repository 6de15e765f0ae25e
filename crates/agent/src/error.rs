//! Why an agent cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

use landfast_uds::UdsError;

use crate::link::evidence::EvidenceError;
use crate::persist::PersistError;

/// Why an agent cannot start. Never because of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The trust bundle cannot be read.
    #[error("cannot read trust_bundle {}", path.display())]
    TrustBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The trust bundle is none.
    #[error("trust_bundle {} is not usable: {what}", path.display())]
    TrustBundleContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The node's state cannot be used.
    #[error("the node's state cannot be used")]
    State(#[from] PersistError),
    /// What the node is to attest with cannot be used.
    #[error("the node cannot attest with what the configuration names")]
    Evidence(#[source] EvidenceError),
    /// A socket cannot be opened.
    #[error("cannot serve on {}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: UdsError,
    },
    /// No TLS for brokers.
    #[error("cannot serve brokers")]
    Tls(#[from] landfast_tls::TlsError),
    /// The address for metrics and health cannot be used.
    #[error("cannot listen on http_listen {address}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process is ending.
    #[error("stopping")]
    Stopping,
}
