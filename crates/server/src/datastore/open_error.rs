//! Why a datastore was not opened. Invariant: each says what to do with the file, and none replaces it.

use std::path::PathBuf;

use landfast_identity::TrustDomain;

use super::DatastoreError;

/// Why the datastore was not opened. It is never replaced by an empty one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened, or is no database.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DatastoreError,
    },
    /// The file is damaged.
    #[error("{} ({found})", damaged(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found first.
        found: String,
    },
    /// There was a database, and it is gone or empty.
    #[error(
        "the database {} is missing or empty, but this server was initialised: restore it from a backup, together with the keys \
         directory; to begin anew, with new authorities, move the whole data directory away",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file, and nothing says that there was.
    #[error("there is no database {}: is data_dir in the configuration the server's?", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// A database with tables of others.
    #[error("the database {} has tables that are not Landfast's: give it a database of its own", database.display())]
    NotEmpty {
        /// Which.
        database: PathBuf,
    },
    /// A database to which another is to be moved has something in it.
    #[error("the database {} holds a registry already: give an empty one", database.display())]
    Used {
        /// Which.
        database: PathBuf,
    },
    /// Another program's database.
    #[error("{} is not a Landfast database: choose another data_dir", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The database of another trust domain.
    #[error("the database {} is of trust domain {found}, not {configured}: choose another data_dir", path.display())]
    OtherTrustDomain {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What the configuration says.
        configured: TrustDomain,
    },
    /// It has to be migrated, and somebody reads or changes it in one transaction for longer than a migration waits.
    #[error(
        "the database {} has to be migrated and is in use by {by}: wait until that has ended, as a pg_dump does, or end it, and start again; nothing was changed, \
         and servers that run go on",
        path.display()
    )]
    Held {
        /// The database.
        path: PathBuf,
        /// Who.
        by: String,
    },
    /// Written by a newer version.
    #[error(
        "the database {} has schema {found}, newer than the {known} of this program: run the newer version", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// Written by an older version, and not migrated yet.
    #[error(
        "the database {} has schema {found}, older than the {known} of this program: start the server with it once, or use the older version",
        path.display()
    )]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// The schema was made by another text of this migration.
    #[error("migration {number} of the database {} is not the one this program has: restore it from a backup", path.display())]
    ChangedMigration {
        /// The file.
        path: PathBuf,
        /// Which.
        number: i64,
    },
}

fn damaged(path: &std::path::Path) -> String {
    format!(
        "the database {} is damaged: stop the server and restore it from a backup, together with the keys directory",
        path.display()
    )
}
