//! Why a datastore did not do what it was asked. Invariant: what is said of one that holds is for an operator, with what to do next.

use std::error::Error;
use std::sync::Arc;

use landfast_identity::UnixTime;

/// Why a read or write failed. Cheap to clone: all requests of one commit share one failure.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DatastoreError {
    /// The disk, or the room given to the database, is full. Nothing was written.
    #[error("the disk of the datastore is full")]
    Full,
    /// The disk of a database elsewhere is full. Nothing was written.
    #[error(
        "the disk of the database is full: nothing is stored or signed until there is room, what is known is read and served on; make room \
         there, no restart is needed"
    )]
    NoSpace {
        /// What the database says.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The database is damaged.
    #[error(
        "the database is damaged: stop the server and restore it from a backup, together with the keys directory"
    )]
    Corrupt {
        /// What does not fit.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It may have forgotten bans and deletions (ADR 30). Nobody is answered from it.
    #[error(
        "this server is in quarantine since {since}: {why}; nothing is signed, and nodes are told nothing and serve what they hold, until somebody has \
         looked: landfast quarantine show"
    )]
    Quarantine {
        /// When it was noticed.
        since: UnixTime,
        /// How.
        why: String,
    },
    /// The database refused.
    #[error("the datastore failed")]
    Failed {
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// There is no connection, or no answer.
    #[error("the database cannot be reached")]
    Unreachable {
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It is a replica, or was set so.
    #[error("the database only reads: it is a replica, or default_transaction_read_only is set")]
    ReadOnly,
    /// What others have changed has not been read for too long.
    #[error("this server has not learnt for some seconds what others have changed")]
    Behind,
    /// The connection was lost after the commit had been asked for.
    #[error("the database did not say whether this was stored: look before you do it again")]
    Undecided {
        /// How it was lost.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It has lost commits that this server knows. Nothing is answered from it until somebody says that what it has is to hold.
    #[error(
        "the database went back from revision {known} to {found}: changes that were acknowledged are lost, as after a fail-over to a replica that \
         lagged; bring back the database that has them, or, for what it has now to hold: landfast-server accept-loss"
    )]
    WentBack {
        /// What this server has seen.
        known: u64,
        /// What is there.
        found: u64,
    },
    /// It has lost changes of the authorities that this server knows, or has others in their place. As with `WentBack`.
    #[error(
        "the database has lost changes of the authorities, as after a fail-over to a replica that lagged: their journal, which was at version {known}, \
         is at {found} with another history; bring back the database that has them, or, for what it has now to hold: landfast-server accept-loss"
    )]
    JournalWentBack {
        /// What this server has seen.
        known: u64,
        /// What is there; it may be as much, or more.
        found: u64,
    },
    /// A newer program has changed the schema while this one ran.
    #[error(
        "a newer landfast-server has migrated the database: its schema is {found}, and this program knows {known}: update this server too"
    )]
    NewerSchema {
        /// What is there.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// Another process writes in the name of this server.
    #[error(
        "another process writes to the database in the name of this server: a copy of the data directory is in use; stop one of the two, \
         and give it an empty data directory"
    )]
    Fenced,
    /// The writer has ended: the process is shutting down.
    #[error("the datastore has stopped")]
    Stopped,
}
