//! Why a log was not copied, or nothing was taken away from it, and what to do about it.

use std::io;

use crate::LogError;
use crate::verify::NoteError;

/// Nothing was taken away, and an archive has the checkpoint that it had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A file is missing.
    #[error(
        "{what} is missing: landfast audit verify says what else is; where the ledger was pruned its archive has it"
    )]
    Missing {
        /// Which.
        what: String,
    },
    /// A file cannot be read.
    #[error("{what} cannot be read")]
    Read {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A checkpoint is not believed.
    #[error("{what} is not believed")]
    Checkpoint {
        /// Which.
        what: String,
        /// Why.
        source: NoteError,
    },
    /// Something is not as it was signed.
    #[error("{what}: keep both as evidence, and look with landfast audit verify")]
    NotGood {
        /// The first finding.
        what: String,
    },
    /// The archive is none of its own.
    #[error("the archive lacks its first {records} records: give the directory that has them all")]
    Short {
        /// So many.
        records: u64,
    },
    /// What would be taken away is the archive itself.
    #[error(
        "{what} is one with that of the archive: what would go is the only copy; archive to another directory, best on another disk"
    )]
    Itself {
        /// The file or directory of the ledger.
        what: String,
    },
    /// The archive has fewer records than are to go.
    #[error("the archive has {archived} records, and those before {before} are to go: archive first")]
    Behind {
        /// In the archive.
        archived: u64,
        /// What was asked for.
        before: u64,
    },
    /// A file cannot be written.
    #[error("the archive cannot be written")]
    Write {
        /// Why.
        source: LogError,
    },
    /// A file of the ledger cannot be taken away, or it cannot be said that it is.
    #[error("{what} cannot be changed: what was taken away so far is in the archive")]
    Remove {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}
