//! Why the log did not do what it was asked, and what to do about it.

use std::io;
use std::path::PathBuf;

use landfast_store::StoreError;

/// Nothing was acknowledged. `Display` leaves the cause to the source chain.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory cannot be used.
    #[error("the directory of the ledger cannot be used")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// A file cannot be read.
    #[error("cannot read {} of the ledger", path.display())]
    CannotRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written; what was acknowledged before is whole.
    #[error("cannot write {} of the ledger", path.display())]
    CannotWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a key and no log.
    #[error(
        "there is no ledger in {}, but its key has been used: put the ledger back; only if it is lost, move the key away as well, and a new ledger begins under a new name",
        path.display()
    )]
    Gone {
        /// The directory.
        path: PathBuf,
    },
    /// There is a log already.
    #[error(
        "there is a ledger in {}, but its key is missing: put the key back; only if it is lost, move the ledger away, keep it, and a new one begins under a new name",
        path.display()
    )]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The checkpoint is none that this key has signed.
    #[error(
        "{} was not signed by the key of this ledger: put back the key or the ledger that belongs to it",
        path.display()
    )]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A file is not as it was written: no power cut does this.
    #[error(
        "{} of the ledger is not as it was written, at record {record}: look with `landfast audit verify`, keep the directory as evidence, and put back a copy of it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first record that is not there as it was.
        record: u64,
    },
}
