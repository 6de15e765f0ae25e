//! Why a ledger says nothing.

use std::path::PathBuf;

use landfast_audit::ProveError;

use super::joined::MOST_RECORDS;

/// Why a ledger says nothing.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The directory has no key, and none was given.
    #[error("{} has no verifier key: give the one that you kept", directory.display())]
    NoKey {
        /// Of the ledger.
        directory: PathBuf,
    },
    /// The key is none.
    #[error("the verifier key of {} cannot be used: {what}", directory.display())]
    Key {
        /// Of the ledger.
        directory: PathBuf,
        /// Why.
        what: String,
    },
    /// The checkpoint is none of this key.
    #[error("the checkpoint of {} cannot be believed: {what}", directory.display())]
    Checkpoint {
        /// Of the ledger.
        directory: PathBuf,
        /// Why.
        what: String,
    },
    /// There are more records than fit.
    #[error("more than {MOST_RECORDS} records are asked for: narrow the period with --from and --to")]
    TooMany,
    /// The period is none.
    #[error("no period: {what}")]
    Period {
        /// Why.
        what: String,
    },
    /// Every record would count twice.
    #[error("{origin} is given twice: give each ledger once, and its archive with --archive")]
    Twice {
        /// The name of the log.
        origin: String,
    },
    /// A proof cannot be made.
    #[error("record {record} of {} cannot be proven", directory.display())]
    Proof {
        /// Of the ledger.
        directory: PathBuf,
        /// Which.
        record: u64,
        /// Why.
        source: ProveError,
    },
}
