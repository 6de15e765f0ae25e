//! Why authorities cannot be had.

use std::sync::Arc;

use landfast_identity::{IssueError as BuildError, X509Error};

use super::keys::KeyManagerError;
use super::upstream::UpstreamError;
use crate::datastore::DatastoreError;

/// Why authorities cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The key of an authority cannot be read, made or removed.
    #[error("the key of an authority cannot be used")]
    Key {
        /// Why.
        #[from]
        source: KeyManagerError,
    },
    /// A key file that holds another key.
    #[error("{file} is not the key of authority {id}: restore it from the backup that the database is from")]
    WrongKey {
        /// The file.
        file: String,
        /// The authority.
        id: String,
    },
    /// The journal lacks the certificate of an X.509 authority.
    #[error("the journal holds an X.509 authority without its certificate")]
    NoCertificate,
    /// The certificate cannot be built.
    #[error("the certificate of a new authority cannot be built")]
    Build {
        /// Why.
        #[from]
        source: BuildError,
    },
    /// The journal makes no bundle.
    #[error("the journal of authorities makes no bundle")]
    Bundle {
        /// Why.
        #[from]
        source: landfast_identity::BundleError,
    },
    /// A certificate in the journal cannot be read.
    #[error("the certificate of an authority cannot be read")]
    Certificate {
        /// Why.
        #[from]
        source: X509Error,
    },
    /// The first authorities need to know the time.
    #[error("the clock of this server shows no time, and without it no authority can be made")]
    NoClock,
    /// The authority above ours does not sign, or not well.
    #[error("the upstream authority has signed no authority for us; what we have is used until it ends")]
    Upstream(#[source] UpstreamFailure),
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The datastore failed.
    #[error("the journal of authorities cannot be read or written")]
    Storage {
        /// Why.
        #[from]
        source: DatastoreError,
    },
    /// The process is shutting down.
    #[error("the server is stopping")]
    Stopped,
}

/// Why the authority above ours is of no use.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct UpstreamFailure(pub(super) Arc<UpstreamError>);
