//! Numbered migrations. Invariant: what was applied is exactly what this program has, up to a number it knows.

use std::path::Path;

use landfast_identity::TrustDomain;
use rusqlite::{Connection, OpenFlags, params};

use super::open::{self, APPLICATION, refused};
use crate::datastore::OpenError;
use crate::datastore::pending::{Pending, known, sum};

/// In order, from 1. Never changed once released: append.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_begin.sql"),
    include_str!("../../../migrations/sqlite/0002_taint.sql"),
    include_str!("../../../migrations/sqlite/0003_federation.sql"),
    include_str!("../../../migrations/sqlite/0004_appended.sql"),
    include_str!("../../../migrations/sqlite/0005_wit.sql"),
    include_str!("../../../migrations/sqlite/0006_upstream.sql"),
    include_str!("../../../migrations/sqlite/0007_policies.sql"),
    include_str!("../../../migrations/sqlite/0008_rungs.sql"),
    include_str!("../../../migrations/sqlite/0009_recoveries.sql"),
    include_str!("../../../migrations/sqlite/0010_chain.sql"),
    include_str!("../../../migrations/sqlite/0011_people.sql"),
    include_str!("../../../migrations/sqlite/0012_availability.sql"),
    include_str!("../../../migrations/sqlite/0013_third_party.sql"),
];

/// Brings the schema up to date, all or nothing; returns whether there was anything to do.
pub(super) fn run(conn: &Connection, path: &Path, trust_domain: &TrustDomain) -> Result<bool, OpenError> {
    apply(conn, path, trust_domain, MIGRATIONS)
}

/// Brings a new database to an older schema.
pub(super) fn up_to(
    conn: &Connection,
    path: &Path,
    trust_domain: &TrustDomain,
    schema: i64,
) -> Result<bool, OpenError> {
    let known = known(MIGRATIONS);
    let count = usize::try_from(schema).ok().filter(|count| *count > 0);
    let migrations = count.and_then(|count| MIGRATIONS.get(..count));
    let migrations = migrations.ok_or_else(|| OpenError::NewerSchema {
        path: path.into(),
        found: schema,
        known,
    })?;
    apply(conn, path, trust_domain, migrations)
}

/// The schema of a database that nothing is to be done to.
pub(super) fn current(conn: &Connection, path: &Path) -> Result<i64, OpenError> {
    let (known, path) = (known(MIGRATIONS), path.to_owned());
    let done = applied(conn).map_err(|e| refused(&path, e))?;
    match done.last().map_or(0, |(number, _)| *number) {
        found if found > known => Err(OpenError::NewerSchema { path, found, known }),
        found if found < known => Err(OpenError::OlderSchema { path, found, known }),
        found => Ok(found),
    }
}

/// Looks, and changes nothing; also beside a server that runs. Refuses what a start would refuse for the schema's sake.
pub(crate) fn pending(path: &Path, trust_domain: &TrustDomain) -> Result<Pending, OpenError> {
    pending_of(path, trust_domain, MIGRATIONS)
}

pub(super) fn pending_of(
    path: &Path,
    trust_domain: &TrustDomain,
    migrations: &[&str],
) -> Result<Pending, OpenError> {
    if !path.exists() {
        return Ok(Pending::all(migrations));
    }
    let wrong = |e| refused(path, e);
    // Not read-only: without a server the log has to be made, and taken in again.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(wrong)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 5000")
        .map_err(wrong)?;
    open::recognise(&conn, path)?;
    open::owner(&conn, path, trust_domain)?;
    let done = applied(&conn).map_err(wrong)?;
    Pending::of(path, &done, migrations)
}

pub(super) fn apply(
    conn: &Connection,
    path: &Path,
    trust_domain: &TrustDomain,
    migrations: &[&str],
) -> Result<bool, OpenError> {
    let wrong = |e| refused(path, e);
    let known = known(migrations);
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
        let sum = sum(text);
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
                if !done.is_empty() {
                    tracing::info!(number, database = %path.display(), "migration applied");
                }
            }
        }
    }
    if done.is_empty() {
        tracing::info!(schema = known, database = %path.display(), "a new database begins");
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
