//! From one database to another, while no server runs. Invariant: the old database is only read, and put aside when the new one has everything;
//! wherever this is interrupted, running it again ends it.

use std::path::{Path, PathBuf};

use landfast_identity::{TrustDomain, UnixTime};
use landfast_store::{Store, StoreError};

use super::error::BackupError;
use super::swap::Swap;
use crate::authority::{AuthorityRow, Journal};
use crate::core::{self, DATABASE};
use crate::datastore::postgres::{Opening, PostgresConfig, PostgresDatastore, Taken, adopt};
use crate::datastore::sqlite::Export;
use crate::datastore::{Datastore as _, OpenError};
use crate::quarantine::state::{FILE, State};

/// What was done.
#[derive(Debug)]
pub(super) struct Migrated {
    /// `None`: an earlier run had brought it there.
    pub(super) taken: Option<Taken>,
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
    // It stands beside this database, and would not go with what is in it.
    if !State::read(lock.read(FILE)?.as_deref().map(Vec::as_slice), now)
        .causes
        .is_empty()
    {
        return Err(BackupError::Choice(
            "this server is in quarantine: start it, look (landfast quarantine show) and end that first",
        ));
    }
    let swap = Swap::open(data_dir)?;
    if let Some(old_data) = swap.finish_aside()? {
        return Ok(Migrated {
            taken: None,
            old_data,
        });
    }
    super::recover(data_dir)?;
    let export = match Export::open(&data_dir.join(DATABASE), trust_domain) {
        Err(error @ OpenError::Absent { .. }) => {
            return Err(swap
                .moved()?
                .map_or_else(|| error.into(), |old_data| BackupError::Moved { old_data }));
        }
        opened => opened?,
    };
    let server = core::server_id(&lock).map_err(|source| BackupError::ServerName {
        source: Box::new(source),
    })?;
    let failed = |source| BackupError::Adopt { source };
    let taken = match adopt(target, trust_domain, server.clone(), &export, now).await {
        Ok(taken) => Some(taken),
        // An earlier run may not have heard that all had arrived, or have failed after that.
        Err(error @ OpenError::Used { .. }) => {
            let journal = export.journal()?;
            match is_there(target, trust_domain, server, &journal).await {
                true => None,
                false => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    // Its log is taken into it when it is closed.
    drop(export);
    let old_data = swap.put_aside(now)?;
    Ok(Migrated { taken, old_data })
}

/// Whether the database has the authorities of this one, which no other can have.
async fn is_there(
    target: &PostgresConfig,
    trust_domain: &TrustDomain,
    server: String,
    old: &Journal,
) -> bool {
    let opening = Opening {
        target,
        trust_domain,
        server,
        initialised: true,
        lock: None,
    };
    let Ok(datastore) = PostgresDatastore::open(opening).await else {
        return false;
    };
    let Ok(found) = datastore.journal().await else {
        return false;
    };
    let same = |(old, found): (&AuthorityRow, &AuthorityRow)| {
        (&old.id, &old.key_name, &old.public_key) == (&found.id, &found.key_name, &found.public_key)
    };
    !old.rows.is_empty() && old.rows.len() == found.rows.len() && old.rows.iter().zip(&found.rows).all(same)
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
