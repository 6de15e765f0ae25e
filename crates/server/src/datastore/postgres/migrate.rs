//! Numbered migrations. Invariant: what was applied is exactly what this program has, up to a number it knows; two servers that start at once
//! apply each once.

use std::path::Path;

use ring::digest::{SHA256, digest};

use super::Identity;
use super::link::Session;
use super::row::get;
use crate::datastore::{DatastoreError, OpenError};
use crate::random::hex;

/// In order, from 1. Never changed once released: append.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/postgres/0001_begin.sql")];

/// Brings the schema up to date, all or nothing. With `initialised` there was a database: one that is empty is refused.
pub(super) async fn run(
    session: &Session,
    shown: &Path,
    identity: &Identity,
    initialised: bool,
    migrations: &[&str],
) -> Result<(), OpenError> {
    let wrong = |source: tokio_postgres::Error| refused(shown, source.into());
    session.batch("BEGIN").await.map_err(wrong)?;
    let done = apply(session, shown, identity, initialised, migrations).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.batch(end).await.map_err(wrong);
    done.and(ended)
}

async fn apply(
    session: &Session,
    shown: &Path,
    identity: &Identity,
    initialised: bool,
    migrations: &[&str],
) -> Result<(), OpenError> {
    let wrong = |source: tokio_postgres::Error| refused(shown, source.into());
    // Spells LFAS. Where there are no such locks the statements below conflict, and one of two servers starts again.
    session
        .batch("SELECT pg_advisory_xact_lock(1279672659)")
        .await
        .map_err(wrong)?;
    let tables = session.rows(TABLES, &[]).await.map_err(wrong)?;
    let names: Vec<&str> = tables
        .iter()
        .map(|row| get(row, "name"))
        .collect::<Result<_, _>>()
        .map_err(|e| refused(shown, e))?;
    match names.contains(&"schema_migrations") {
        true => {}
        false if !names.is_empty() => return Err(OpenError::NotEmpty { database: shown.into() }),
        false if initialised => return Err(OpenError::Missing { path: shown.into() }),
        false => session
            .batch("CREATE TABLE schema_migrations (number BIGINT PRIMARY KEY, sha256 TEXT NOT NULL)")
            .await
            .map_err(wrong)?,
    }
    let done = session.rows(APPLIED, &[]).await.map_err(wrong)?;
    let done: Vec<(i64, String)> = done
        .iter()
        .map(|row| Ok((get(row, "number")?, get(row, "sha256")?)))
        .collect::<Result<_, _>>()
        .map_err(|e| refused(shown, e))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if let Some((found, _)) = done.last().filter(|(number, _)| *number > known) {
        return Err(OpenError::NewerSchema {
            path: shown.into(),
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
                    path: shown.into(),
                    number,
                });
            }
            None => {
                session.batch(text).await.map_err(wrong)?;
                let number: i64 = number;
                session
                    .execute(
                        "INSERT INTO schema_migrations (number, sha256) VALUES ($1, $2)",
                        &[&number, &sum],
                    )
                    .await
                    .map_err(wrong)?;
                tracing::info!(number, database = %shown.display(), "migration applied");
            }
        }
    }
    if done.is_empty() {
        session
            .execute(FIRST, &[&identity.trust_domain.as_str()])
            .await
            .map_err(wrong)?;
    }
    owner(session, shown, identity).await
}

/// Whose database it is, and that this process writes for this server from now on.
async fn owner(session: &Session, shown: &Path, identity: &Identity) -> Result<(), OpenError> {
    let wrong = |source: tokio_postgres::Error| refused(shown, source.into());
    let found = session
        .rows("SELECT trust_domain FROM state", &[])
        .await
        .map_err(wrong)?;
    let found: &str = match found.first() {
        Some(row) => get(row, "trust_domain").map_err(|e| refused(shown, e))?,
        None => {
            return Err(OpenError::Damaged {
                path: shown.into(),
                found: "table state is empty".to_owned(),
            });
        }
    };
    if found != identity.trust_domain.as_str() {
        return Err(OpenError::OtherTrustDomain {
            path: shown.into(),
            found: found.to_owned(),
            configured: identity.trust_domain.clone(),
        });
    }
    session
        .execute(BOOT, &[&identity.server, &identity.boot])
        .await
        .map_err(wrong)?;
    Ok(())
}

pub(super) fn refused(shown: &Path, source: DatastoreError) -> OpenError {
    OpenError::Open {
        path: shown.into(),
        source,
    }
}

const TABLES: &str =
    "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = current_schema()";
const APPLIED: &str = "SELECT number, sha256 FROM schema_migrations ORDER BY number";
const FIRST: &str = "INSERT INTO state (one, trust_domain, epoch, revision, mark, journal_version, bundle_sequence) \
    VALUES (1, $1, floor(extract(epoch FROM now()))::bigint, 0, '', 0, 0)";
const BOOT: &str = "INSERT INTO servers (id, boot, commits, started_at) \
    VALUES ($1, $2, 0, floor(extract(epoch FROM now()))::bigint) \
    ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, commits = 0, started_at = excluded.started_at";
