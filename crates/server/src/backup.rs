//! Backups: made beside a running server, shown, and put in the place of a data directory (docs/formats/backup.md).
//!
//! Invariant: signing keys leave the data directory under a seal or not at all; nothing is replaced before everything was verified.

mod age;
mod archive;
mod command;
mod error;
mod keys;
mod make;
mod manifest;
mod migrate;
mod noted;
mod restore;
mod rows;
mod say;
mod swap;
mod tar;

pub use age::AgeError;
pub use command::{BackupArgs, BackupVerb, Form, MigrateArgs, RestoreArgs, backup, migrate, restore};
pub use error::{ArchiveError, BackupError};

pub(crate) use noted::keep as keep_notes;
pub(crate) use swap::recover;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
