//! From one database to another, while no server runs. Invariant: the old database is only read, and put aside when the new one has everything.

use std::path::{Path, PathBuf};

use landfast_identity::{TrustDomain, UnixTime};
use landfast_store::{Store, StoreError};

use super::error::BackupError;
use super::swap::Swap;
use crate::core::{self, DATABASE};
use crate::datastore::postgres::{PostgresConfig, Taken, adopt};
use crate::datastore::sqlite::Export;

/// What was done.
#[derive(Debug)]
pub(super) struct Migrated {
    pub(super) taken: Taken,
    /// Where the old database is.
    pub(super) old_data: PathBuf,
}

/// Copies the SQLite database of this data directory into PostgreSQL. Keys stay where they are.
pub(super) async fn migrate(
    data_dir: &Path,
    trust_domain: &TrustDomain,
    target: &PostgresConfig,
    now: UnixTime,
) -> Result<Migrated, BackupError> {
    let lock = Store::open(data_dir).map_err(|error| match error {
        StoreError::InUse { path } => BackupError::InUse { path },
        other => other.into(),
    })?;
    super::recover(data_dir)?;
    let export = Export::open(&data_dir.join(DATABASE), trust_domain)?;
    let server = core::server_id(&lock).map_err(|source| BackupError::ServerName {
        source: Box::new(source),
    })?;
    let taken = adopt(target, trust_domain, server, &export, now).await?;
    // Its log is taken into it when it is closed.
    drop(export);
    let old_data = Swap::open(data_dir)?.put_aside(now)?;
    Ok(Migrated { taken, old_data })
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
