//! Why the core of a server was not opened.

use std::path::PathBuf;

use landfast_store::StoreError;

use crate::authority::AuthorityError;
use crate::backup::BackupError;
use crate::datastore::{DatastoreError, OpenError};
use crate::ledger::OpenLedgerError;

/// Why the core was not opened. Nothing was begun anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The data directory or a file in it cannot be used.
    #[error("the data directory cannot be used")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// The ledger was not opened.
    #[error("the ledger was not opened")]
    Ledger {
        /// Why.
        #[from]
        source: OpenLedgerError,
    },
    /// A restore was interrupted, and cannot be completed.
    #[error("a restore was interrupted and cannot be completed now")]
    Restore {
        /// Why.
        #[from]
        source: BackupError,
    },
    /// The file that names this server holds something else.
    #[error("{} does not hold the name of this server: restore it from a backup", path.display())]
    ServerId {
        /// The file.
        path: PathBuf,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The database was not opened.
    #[error("the database was not opened")]
    Database {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// The database was opened, but cannot be read.
    #[error("the database {} cannot be read", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DatastoreError,
    },
    /// There are no authorities to sign with.
    #[error("the authorities cannot be used")]
    Authority {
        /// Why.
        #[from]
        source: AuthorityError,
    },
}
