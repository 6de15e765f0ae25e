//! What can be wrong with a backup, and what the operator should do about it.

use std::io;
use std::path::PathBuf;

use landfast_identity::TrustDomain;
use landfast_store::StoreError;

use super::age::AgeError;
use crate::authority::AuthorityError;
use crate::core::CoreError;
use crate::datastore::{DatastoreError, ImportError, OpenError};

/// Why a backup was not made, not shown or not restored. Nothing was replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The backup itself.
    #[error("the backup {} {}", path.display(), source.verdict())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory of ours.
    #[error("the files cannot be used")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// A server runs.
    #[error("a server, or another restore, is using the data directory {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The database cannot be read.
    #[error("the database cannot be read")]
    Open {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// An earlier run has moved it.
    #[error(
        "there is no database to move: an earlier migrate has brought it into PostgreSQL, and put the old one into {}",
        old_data.display()
    )]
    Moved {
        /// Where the old one is.
        old_data: PathBuf,
    },
    /// It cannot be brought into another.
    #[error("the registry cannot be brought into PostgreSQL")]
    Adopt {
        /// Why.
        source: OpenError,
    },
    /// Nor can its rows.
    #[error("the database cannot be read")]
    Datastore {
        /// Why.
        #[from]
        source: DatastoreError,
    },
    /// The new database is not whole without its log.
    #[error("the new database was not closed as it should be: its log is left")]
    Log,
    /// The rows do not make a database.
    #[error("its tables do not make a database")]
    Import {
        /// Why.
        #[from]
        source: ImportError,
    },
    /// A key that should be there is not.
    #[error("the key of {authority} is missing")]
    NoKey {
        /// Whose.
        authority: String,
    },
    /// A key is not the one of its authority.
    #[error("the key of {authority} is damaged, or another authority's")]
    OtherKey {
        /// Whose.
        authority: String,
    },
    /// A key that nobody has.
    #[error("the key {name} belongs to no authority of the backup")]
    StrayKey {
        /// Its name.
        name: String,
    },
    /// The authorities do not make a bundle.
    #[error("its authorities cannot be used")]
    Authorities {
        /// Why.
        source: Box<AuthorityError>,
    },
    /// A count differs.
    #[error("it should have {expected} rows of {table}, and {found} can be read")]
    Count {
        /// Of what.
        table: &'static str,
        /// What the manifest says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// It is not ours.
    #[error("the backup is of trust domain {found}, the configuration of {configured}")]
    OtherTrustDomain {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        configured: TrustDomain,
    },
    /// Nothing was given that opens the keys.
    #[error("the keys in this backup are {sealed}, and nothing was given that opens them")]
    NeedsUnlock {
        /// For which recipients, or with a passphrase.
        sealed: String,
    },
    /// Nothing here shows that it is of this trust domain: anybody can seal something for a recipient.
    #[error(
        "nothing shows who made this backup: none of its authorities has its key in the data directory, nor is it trusted. Its authorities: {authorities}"
    )]
    Unknown {
        /// What it holds.
        authorities: String,
    },
    /// An identity or recipient that is none, random bytes that cannot be had.
    #[error("what seals or opens keys cannot be used")]
    Age {
        /// Why.
        #[from]
        source: AgeError,
    },
    /// What is chosen does not fit the backup, or one another.
    #[error("{0}")]
    Choice(&'static str),
    /// What names this server among those that share a database.
    #[error("the name of this server cannot be had")]
    ServerName {
        /// Why.
        source: Box<CoreError>,
    },
    /// The clock shows no time.
    #[error("the clock shows no time")]
    NoClock,
    /// Moving files into their place failed.
    #[error("cannot {what} in {}", path.display())]
    Replace {
        /// What was to be done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system has no thread or socket for us.
    #[error("the program cannot begin")]
    Begin {
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Another kind of file.
    #[error("it is no backup of landfast-server")]
    NotOurs,
    /// Written by a newer program.
    #[error("its format is {0:?}, and this program knows landfast-backup 1")]
    NewerFormat(String),
    /// Something in it is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The sealed keys were sealed with another manifest, or other tables.
    #[error(
        "its tables or its manifest are not those that its keys were sealed with: somebody has changed it"
    )]
    OtherManifest,
    /// The keys cannot be opened.
    #[error("its keys cannot be opened")]
    Sealed(#[from] AgeError),
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// A key that does not fit says nothing against the backup.
    fn verdict(&self) -> &'static str {
        match self {
            Self::Sealed(AgeError::NotForUs) => "stays closed",
            _ => "is of no use",
        }
    }
}

impl BackupError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Archive { source, .. } => match source {
                ArchiveError::NewerFormat(_) => "restore it with the version that made it, or a newer one",
                ArchiveError::Sealed(AgeError::NotForUs) => {
                    "`landfast-server backup show FILE` says what it is sealed for: --identity-file or --passphrase-file"
                }
                ArchiveError::Io(_) => "look at the path and at who may read it",
                _ => "nothing was replaced; take another copy of it, or an older backup",
            },
            Self::InUse { .. } => "stop the server first: systemctl stop landfast-server",
            Self::Store {
                source: StoreError::ForeignDirectory { .. } | StoreError::ForeignFile { .. },
            } => "run it as the user of the server, as in: runuser -u landfast-server -- landfast-server …",
            Self::NeedsUnlock { .. } => {
                "give --identity-file or --passphrase-file, also with --keys or --new-authorities: what it says of itself is verified with them"
            }
            Self::Adopt {
                source: OpenError::Used { .. },
            } => "it is not the registry of this data directory: give an empty database",
            Self::Adopt { .. } => {
                "mend it and run it again; the old database is where it was. Had all arrived and only the answer been lost, that run finds it and goes on"
            }
            Self::Moved { .. } => "start the server",
            Self::Unknown { .. } => {
                "compare a fingerprint with what was written down when the backup was made, or with a node's bundle, and give it with --trust FINGERPRINT"
            }
            Self::NoKey { .. } => {
                "give the directory that has it with --keys DIR, or begin anew with --new-authorities"
            }
            Self::OtherTrustDomain { .. } => "choose the configuration, or the backup, of the other one",
            Self::Age { .. } => "age-keygen, or `landfast-server backup key --out FILE`, makes such keys",
            Self::Choice(_) => {
                "landfast-server help COMMAND says what can be chosen, docs/operations.md how it is done"
            }
            Self::Replace { .. } => "mend that and start again: what was begun is completed then",
            Self::NoClock => "set the clock",
            _ => "mend it and try again; nothing was replaced",
        }
    }
}
