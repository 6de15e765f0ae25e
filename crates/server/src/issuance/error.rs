//! Why nothing was issued.

use landfast_identity::{IssueError as BuildError, JwtError, SpiffeId, UnixTime};

use crate::datastore::DatastoreError;

/// Why nothing was issued. Nothing has left, whatever was signed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The disk is full: what cannot be recorded is not issued.
    #[error("the disk of the server is full: nothing is issued that cannot be recorded")]
    StorageFull,
    /// The record could not be written.
    #[error("the issuance cannot be recorded")]
    Storage {
        /// Why.
        source: DatastoreError,
    },
    /// The server may have forgotten something.
    #[error("nothing is issued in a quarantine")]
    Quarantine {
        /// Since when, and why.
        source: DatastoreError,
    },
    /// No authority is active, or it has expired.
    #[error("no authority can sign now")]
    NoAuthority,
    /// The time is unknown.
    #[error("the clock of this server shows no time: nothing can be issued")]
    NoClock,
    /// The clock shows a time before the authority was made.
    #[error(
        "the clock of this server shows {now}, before its authority begins at {authority_not_before}: set the clock"
    )]
    ClockBehind {
        /// What it shows.
        now: UnixTime,
        /// When the authority begins.
        authority_not_before: UnixTime,
    },
    /// The policy says no.
    #[error("{0}")]
    Policy(String),
    /// The key is known as another identity's.
    #[error("the key already belongs to another identity: make a new one for {id}")]
    KeyInUse {
        /// Who asked for it now.
        id: SpiffeId,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// No certificate could be built.
    #[error("the certificate cannot be built")]
    Build {
        /// Why.
        source: std::sync::Arc<BuildError>,
    },
    /// No token could be built.
    #[error("the token cannot be built")]
    Token {
        /// Why.
        source: std::sync::Arc<JwtError>,
    },
}

impl From<DatastoreError> for IssueError {
    fn from(source: DatastoreError) -> Self {
        match source {
            DatastoreError::Full => Self::StorageFull,
            source @ DatastoreError::Quarantine { .. } => Self::Quarantine { source },
            source => Self::Storage { source },
        }
    }
}

impl From<BuildError> for IssueError {
    fn from(source: BuildError) -> Self {
        Self::Build {
            source: source.into(),
        }
    }
}

impl From<JwtError> for IssueError {
    fn from(source: JwtError) -> Self {
        Self::Token {
            source: source.into(),
        }
    }
}
