//! Numbered migrations. Invariant: what was applied is exactly what this program has, up to a number it knows; two servers that start at once
//! apply each once.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use landfast_identity::TrustDomain;
use tokio_postgres::error::SqlState;

use super::link::{Link, Session};
use super::row::get;
use super::{Identity, PostgresConfig};
use crate::datastore::pending::{Pending, known, sum};
use crate::datastore::{DatastoreError, OpenError};

/// In order, from 1. Never changed once released: append.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_begin.sql"),
    include_str!("../../../migrations/postgres/0002_journal_mark.sql"),
    include_str!("../../../migrations/postgres/0003_rungs.sql"),
    include_str!("../../../migrations/postgres/0004_recoveries.sql"),
    include_str!("../../../migrations/postgres/0005_chain.sql"),
    include_str!("../../../migrations/postgres/0006_people.sql"),
    include_str!("../../../migrations/postgres/0007_availability.sql"),
    include_str!("../../../migrations/postgres/0008_third_party.sql"),
];

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
    match done {
        Err(OpenError::Held { path, .. }) => {
            let by = holders(session).await.map_err(|e| refused(shown, e))?;
            Err(OpenError::Held { path, by })
        }
        done => done.and(ended),
    }
}

/// Who is in the way of a migration, the oldest first.
async fn holders(session: &Session) -> Result<String, DatastoreError> {
    if !session.notifies {
        return Ok("another transaction".to_owned());
    }
    let rows = session.rows(HOLDERS, &[]).await?;
    let named: Vec<String> = rows
        .iter()
        .map(|row| get::<String>(row, "holder"))
        .collect::<Result<_, _>>()?;
    Ok(match named.is_empty() {
        true => "a transaction that has ended meanwhile".to_owned(),
        false => named.join(", "),
    })
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
        .batch("SELECT pg_advisory_xact_lock(1279672659); SET LOCAL statement_timeout = '100s'")
        .await
        .map_err(wrong)?;
    let missing = missing(session, shown, initialised, migrations).await?;
    if missing.schema == 0 {
        session
            .batch("CREATE TABLE IF NOT EXISTS schema_migrations (number BIGINT PRIMARY KEY, sha256 TEXT NOT NULL)")
            .await
            .map_err(wrong)?;
    } else if !missing.numbers.is_empty() {
        // No transaction of a server that knows the old schema is under way from here on, and the next one sees the new one. A lock of the row
        // would deadlock with those that wait for it, when a migration changes the table. Whoever reads the table for long, as pg_dump does, is not
        // waited for: all servers would wait behind this one.
        let lock = match session.notifies {
            true => "SET LOCAL lock_timeout = '300ms'; LOCK TABLE state IN ACCESS EXCLUSIVE MODE",
            false => "SELECT one FROM state FOR UPDATE",
        };
        session.batch(lock).await.map_err(|e| held(shown, e))?;
    }
    for (number, text) in (1..).zip(migrations) {
        if !missing.numbers.contains(&number) {
            continue;
        }
        session.batch(text).await.map_err(|e| held(shown, e))?;
        session
            .execute(APPLY, &[&number, &sum(text)])
            .await
            .map_err(wrong)?;
        tracing::info!(number, database = %shown.display(), "migration applied");
    }
    if missing.schema == 0 {
        session
            .execute(FIRST, &[&identity.trust_domain.as_str()])
            .await
            .map_err(wrong)?;
    }
    owner(session, shown, &identity.trust_domain).await?;
    // This process writes for this server from now on.
    session
        .execute(BOOT, &[&identity.server, &identity.boot])
        .await
        .map_err(wrong)?;
    Ok(())
}

/// Which migrations a start would apply. Changes nothing, also beside servers that run.
pub(crate) async fn pending(
    target: &PostgresConfig,
    trust_domain: &TrustDomain,
    initialised: bool,
) -> Result<Pending, OpenError> {
    pending_of(target, trust_domain, initialised, MIGRATIONS).await
}

pub(super) async fn pending_of(
    target: &PostgresConfig,
    trust_domain: &TrustDomain,
    initialised: bool,
    migrations: &[&str],
) -> Result<Pending, OpenError> {
    let shown = target.shown();
    let wrong = |source| refused(&shown, source);
    let mut link = Link::connect(target).await.map_err(wrong)?;
    let session = Rc::clone(&link.session);
    let looked = async {
        session.batch("BEGIN READ ONLY").await?;
        let found = missing(&session, &shown, initialised, migrations).await;
        let found = match found {
            Ok(found) if found.schema > 0 => {
                let owned = owner(&session, &shown, trust_domain).await;
                owned.map(|()| found)
            }
            found => found,
        };
        session.batch("ROLLBACK").await?;
        Ok(found)
    };
    link.run(LOOK, looked).await.map_err(wrong)?
}

async fn missing(
    session: &Session,
    shown: &Path,
    initialised: bool,
    migrations: &[&str],
) -> Result<Pending, OpenError> {
    let wrong = |source: tokio_postgres::Error| refused(shown, source.into());
    let tables = session.rows(TABLES, &[]).await.map_err(wrong)?;
    let names: Vec<&str> = tables
        .iter()
        .map(|row| get(row, "name"))
        .collect::<Result<_, _>>()
        .map_err(|e| refused(shown, e))?;
    match (names.contains(&"schema_migrations"), names.is_empty()) {
        (true, _) => {}
        (false, false) => {
            let database = shown.into();
            return Err(OpenError::NotEmpty { database });
        }
        (false, true) if initialised => return Err(OpenError::Missing { path: shown.into() }),
        (false, true) => return Ok(Pending::all(migrations)),
    }
    let applied = session.rows(APPLIED, &[]).await.map_err(wrong)?;
    let applied: Vec<(i64, String)> = applied
        .iter()
        .map(|row| Ok((get(row, "number")?, get(row, "sha256")?)))
        .collect::<Result<_, _>>()
        .map_err(|e| refused(shown, e))?;
    Pending::of(shown, &applied, migrations)
}

async fn owner(session: &Session, shown: &Path, trust_domain: &TrustDomain) -> Result<(), OpenError> {
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
    match found == trust_domain.as_str() {
        true => Ok(()),
        false => Err(OpenError::OtherTrustDomain {
            path: shown.into(),
            found: found.to_owned(),
            configured: trust_domain.clone(),
        }),
    }
}

/// For a server that runs: another may have been replaced by a newer one meanwhile, which has migrated the database.
pub(super) fn not_newer(found: Option<i64>) -> Result<(), DatastoreError> {
    let (found, known) = (found.unwrap_or(0), known(MIGRATIONS));
    match found > known {
        true => Err(DatastoreError::NewerSchema { found, known }),
        false => Ok(()),
    }
}

fn held(shown: &Path, error: tokio_postgres::Error) -> OpenError {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => OpenError::Held {
            path: shown.into(),
            by: String::new(),
        },
        _ => refused(shown, error.into()),
    }
}

pub(super) fn refused(shown: &Path, source: DatastoreError) -> OpenError {
    OpenError::Open {
        path: shown.into(),
        source,
    }
}

const TABLES: &str =
    "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = current_schema()";
/// Those who have a table of ours, and not only for the moment of a look.
const HOLDERS: &str = "SELECT 'process ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), 'no name') || ' of user ' || coalesce(a.usename, '?') || ')' \
    AS holder FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND EXISTS (SELECT 1 FROM pg_locks l, pg_class c \
    WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation' AND l.database = a.datid AND c.oid = l.relation AND c.relkind = 'r' \
    AND c.relnamespace = current_schema()::text::regnamespace) ORDER BY a.xact_start LIMIT 3";
const APPLIED: &str = "SELECT number, sha256 FROM schema_migrations ORDER BY number";
const APPLY: &str = "INSERT INTO schema_migrations (number, sha256) VALUES ($1, $2)";
/// To say what would be done.
const LOOK: Duration = Duration::from_secs(10);
const FIRST: &str = "INSERT INTO state (one, trust_domain, epoch, revision, mark, journal_version, bundle_sequence) \
    VALUES (1, $1, floor(extract(epoch FROM now()))::bigint, 0, '', 0, 0)";
const BOOT: &str = "INSERT INTO servers (id, boot, commits, started_at) \
    VALUES ($1, $2, 0, floor(extract(epoch FROM now()))::bigint) \
    ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, commits = 0, started_at = excluded.started_at";
