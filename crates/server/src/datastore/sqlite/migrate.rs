//! Numbered migrations. Invariant: what was applied is exactly what this program has, up to a number it knows.

use std::path::Path;

use landfast_identity::TrustDomain;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use super::open::{APPLICATION, refused};
use crate::datastore::OpenError;
use crate::random::hex;

/// In order, from 1. Never changed once released: append.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_begin.sql"),
    include_str!("../../../migrations/sqlite/0002_taint.sql"),
    include_str!("../../../migrations/sqlite/0003_federation.sql"),
    include_str!("../../../migrations/sqlite/0004_appended.sql"),
    include_str!("../../../migrations/sqlite/0005_wit.sql"),
    include_str!("../../../migrations/sqlite/0006_upstream.sql"),
    include_str!("../../../migrations/sqlite/0007_policies.sql"),
];

/// Brings the schema up to date, all or nothing; returns whether there was anything to do.
pub(super) fn run(conn: &Connection, path: &Path, trust_domain: &TrustDomain) -> Result<bool, OpenError> {
    apply(conn, path, trust_domain, MIGRATIONS)
}

pub(super) fn apply(
    conn: &Connection,
    path: &Path,
    trust_domain: &TrustDomain,
    migrations: &[&str],
) -> Result<bool, OpenError> {
    let wrong = |e| refused(path, e);
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let tx = conn.unchecked_transaction().map_err(wrong)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT",
    )
    .map_err(wrong)?;
    let done = applied(&tx).map_err(wrong)?;
    if let Some((found, _)) = done.last().filter(|(number, _)| *number > known) {
        return Err(OpenError::NewerSchema {
            path: path.into(),
            found: *found,
            known,
        });
    }
    for (number, text) in (1..).zip(migrations) {
        let sum = hex(digest(&SHA256, text.as_bytes()).as_ref());
        match done.iter().find(|(n, _)| *n == number) {
            Some((_, found)) if *found == sum => {}
            Some(_) => {
                return Err(OpenError::ChangedMigration {
                    path: path.into(),
                    number,
                });
            }
            None => {
                tx.execute_batch(text).map_err(wrong)?;
                tx.execute(
                    "INSERT INTO schema_migrations (number, sha256) VALUES (?1, ?2)",
                    params![number, sum],
                )
                .map_err(wrong)?;
                tracing::info!(number, database = %path.display(), "migration applied");
            }
        }
    }
    if done.is_empty() {
        tx.execute(
            "INSERT INTO state (one, trust_domain, revision, journal_version, bundle_sequence) VALUES (1, ?1, 0, 0, 0)",
            params![trust_domain.as_str()],
        )
        .map_err(wrong)?;
        tx.execute_batch(&format!("PRAGMA application_id = {APPLICATION}"))
            .map_err(wrong)?;
    }
    tx.commit().map_err(wrong)?;
    Ok(done.len() < migrations.len())
}

fn applied(conn: &Connection) -> Result<Vec<(i64, String)>, rusqlite::Error> {
    let mut rows = conn.prepare("SELECT number, sha256 FROM schema_migrations ORDER BY number")?;
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
