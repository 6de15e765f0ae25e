//! What `landfast-server` is told when it is started. In the library, so that `landfast man` can make the manual of it.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::backup::{BackupArgs, MigrateArgs, RestoreArgs};

/// Landfast's signing server: knows who may have which SPIFFE identity, and signs.
#[derive(Parser, Debug)]
#[command(name = "landfast-server", version, propagate_version = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How a result is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON value.
    Json,
}

/// What landfast-server can be asked to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the server in the foreground.
    Run {
        /// The configuration file (see examples/server.toml).
        #[arg(long, default_value = "/etc/landfast/server.toml")]
        config: PathBuf,
    },
    /// After the PostgreSQL database has lost changes: what it has now is to hold. Servers and agents then take it for newer than what they
    /// have seen. Look first for what is missing, such as bans.
    AcceptLoss {
        /// The configuration file.
        #[arg(long, default_value = "/etc/landfast/server.toml")]
        config: PathBuf,
    },
    /// Check a configuration file without starting.
    Check {
        /// The configuration file.
        file: PathBuf,
        /// Look at the database as well, also while a server runs: say which migrations this version would apply, and apply none.
        #[arg(long)]
        database: bool,
        /// How the result is shown.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Make a backup of database and keys, also while the server runs.
    Backup(BackupArgs),
    /// Put a backup in the place of the data directory, while the server does not run.
    Restore(RestoreArgs),
    /// Move the registry from SQLite to PostgreSQL, while the server does not run.
    Migrate(MigrateArgs),
}
