//! Why nothing was issued.

use landfast_identity::{IssueError as BuildError, JwtError, SpiffeId, UnixTime};

use crate::datastore::DatastoreError;
use crate::ledger::LedgerError;
use crate::reserve::ReserveError;

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
    /// The ledger does not take its record.
    #[error("nothing is issued that the ledger cannot record")]
    Ledger {
        /// Why, and what to do.
        #[from]
        source: LedgerError,
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
    /// Nothing may be had ahead for this entry, or not this.
    #[error(transparent)]
    Reserve {
        /// Why.
        #[from]
        source: ReserveError,
    },
    /// It would begin too early or too late.
    #[error("{begins} is not within the reserve: from {first} to {last}")]
    OutOfReserve {
        /// When it would begin.
        begins: UnixTime,
        /// When it may, from here on.
        first: UnixTime,
        /// Up to this.
        last: UnixTime,
    },
    /// Its entry ends before it.
    #[error("it would end at {ends}, after entry {id}")]
    OutlivesEntry {
        /// When it would end.
        ends: UnixTime,
        /// Which entry.
        id: String,
    },
    /// The authority that would sign it ends before it.
    #[error(
        "it would end at {ends}, after the authority that signs now, at {authority_ends}: the next one will sign it"
    )]
    OutlivesAuthority {
        /// When it would end.
        ends: UnixTime,
        /// When the authority ends.
        authority_ends: UnixTime,
    },
    /// The key is known as another identity's.
    #[error("the key already belongs to another identity: make a new one for {id}")]
    KeyInUse {
        /// Who asked for it now.
        id: SpiffeId,
    },
    /// What is signed for later has a key of its own.
    #[error("a rung needs a key that has no other certificate: make a new one for {id}")]
    KeyNotNew {
        /// Who asked for it now.
        id: SpiffeId,
    },
    /// The node has more ahead than its reserve takes.
    #[error(
        "this node has more identities ahead for entry {entry}, neither spent nor revoked, than its reserve takes. A reserve or a TTL that was made shorter, \
         or a clock that went back, does this too: wait until they are spent, or take the reserve from the entry and give it back \
         (landfast entry policy set --offline-reserve), which marks them as revoked. Only if it comes again without any of these, somebody else may use \
         the node's SVID: look whether two machines do, and then ban it, which destroys what the node has"
    )]
    Enough {
        /// Which entry.
        entry: String,
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
