//! Why a server did not start. Invariant: each says what is in the way, by name.

use std::net::SocketAddr;

use crate::core::CoreError;
use crate::issuance::IssueError;
use crate::publish::PublishError;
use crate::registry::RegistryError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Datastore, keys or authorities.
    #[error("the server cannot be opened")]
    Core {
        /// Why.
        #[from]
        source: CoreError,
    },
    /// The bundle of a federated trust domain.
    #[error("a federated bundle of the configuration cannot be stored")]
    Federation {
        /// Why.
        #[from]
        source: RegistryError,
    },
    /// An address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The admin socket.
    #[error("cannot open the admin socket")]
    AdminSocket {
        /// Why.
        #[from]
        source: landfast_uds::UdsError,
    },
    /// No question of a login could be told from another's.
    #[error("the random source failed")]
    Random,
    /// The own SVID was not issued.
    #[error("the server cannot issue its own SVID")]
    OwnIssue {
        /// Why.
        #[from]
        source: IssueError,
    },
    /// No key could be made.
    #[error("the server cannot make a key")]
    OwnKey {
        /// Why.
        source: landfast_identity::KeyError,
    },
    /// The own SVID is not one.
    #[error("the server's own SVID cannot be used")]
    OwnSvid {
        /// Why.
        source: landfast_identity::X509Error,
    },
    /// What was to be published cannot be.
    #[error("the trust domain cannot be published")]
    Publish {
        /// Why.
        #[from]
        source: PublishError,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls {
        /// Why.
        #[from]
        source: landfast_tls::TlsError,
    },
}
