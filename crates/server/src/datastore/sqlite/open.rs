//! Opening a database file. Invariant: a file that is damaged, gone, foreign or newer stays as it is and is named.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use landfast_identity::TrustDomain;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::migrate;
use crate::datastore::{DatastoreError, OpenError};

pub(super) fn file(
    path: &Path,
    trust_domain: &TrustDomain,
    initialised: bool,
) -> Result<Connection, OpenError> {
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && initialised => {
            return Err(OpenError::Missing { path: path.into() });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(cannot(path, error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| refused(path, e))?;
    prepare(&conn, path, trust_domain, initialised)?;
    Ok(conn)
}

pub(super) fn memory(trust_domain: &TrustDomain) -> Result<Connection, OpenError> {
    let path = Path::new(MEMORY);
    let conn = Connection::open_in_memory().map_err(|e| refused(path, e))?;
    prepare(&conn, path, trust_domain, false)?;
    Ok(conn)
}

fn prepare(
    conn: &Connection,
    path: &Path,
    trust_domain: &TrustDomain,
    initialised: bool,
) -> Result<(), OpenError> {
    let wrong = |e| refused(path, e);
    // Before anything is written: is it ours, and whole?
    match found(conn, path)? {
        (APPLICATION, 1..) => check_start(conn, path, WHOLE)?,
        (0, 0) if initialised => return Err(OpenError::Missing { path: path.into() }),
        (0, 0) => {}
        _ => return Err(OpenError::NotOurs { path: path.into() }),
    }
    conn.execute_batch(
        "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;
         -- Records fall all over the index of keys: a log of 16 MB and 8 MB of pages in memory write each page less often.
         PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -8192;",
    )
    .map_err(wrong)?;
    let mode: String = conn
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(wrong)?;
    if mode != "wal" && path != Path::new(MEMORY) {
        return Err(cannot(
            path,
            format!("its file system has no write-ahead log: journal mode {mode}"),
        ));
    }
    conn.set_prepared_statement_cache_capacity(64);
    let migrated = migrate::run(conn, path, trust_domain)?;
    owner(conn, path, trust_domain)?;
    if migrated {
        // The schema and whose it is go into the main file: should the log get lost, the file still says what it is.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(wrong)?;
    }
    Ok(())
}

/// The whole of a file up to this size. Of a larger one all but the records of what was issued, which may be many gigabytes: a start
/// must not take the longer the more was ever issued. A damaged one is named when it is read.
pub(super) fn check_start(conn: &Connection, path: &Path, whole: u64) -> Result<(), OpenError> {
    let wrong = |e| refused(path, e);
    let bytes: i64 = conn
        .query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |row| row.get(0),
        )
        .map_err(wrong)?;
    if bytes.unsigned_abs() <= whole {
        return check(conn, path);
    }
    let mut tables = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'issued'")
        .map_err(wrong)?;
    let names = tables.query_map([], |row| row.get(0)).map_err(wrong)?;
    for name in names.collect::<Result<Vec<String>, _>>().map_err(wrong)? {
        let mut found = String::new();
        conn.pragma(None, "quick_check", name, |row| {
            if found.is_empty() {
                found = row.get(0)?;
            }
            Ok(())
        })
        .map_err(wrong)?;
        judge(path, &found)?;
    }
    Ok(())
}

/// Whose file it is, and how many tables and indexes it has.
fn found(conn: &Connection, path: &Path) -> Result<(i64, i64), OpenError> {
    let number = |sql| conn.query_row(sql, [], |row| row.get(0));
    let application = number("PRAGMA application_id").map_err(|e| refused(path, e))?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(|e| refused(path, e))?;
    Ok((application, tables))
}

/// Whether it is a database of ours, and whole.
pub(super) fn recognise(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    match found(conn, path)? {
        (APPLICATION, 1..) => check(conn, path),
        _ => Err(OpenError::NotOurs { path: path.into() }),
    }
}

fn check(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| refused(path, e))?;
    judge(path, &found)
}

fn judge(path: &Path, found: &str) -> Result<(), OpenError> {
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: path.into(),
        found: found.chars().take(200).collect(),
    })
}

pub(super) fn owner(conn: &Connection, path: &Path, trust_domain: &TrustDomain) -> Result<(), OpenError> {
    let found: Option<String> = conn
        .query_row("SELECT trust_domain FROM state", [], |row| row.get(0))
        .optional()
        .map_err(|e| refused(path, e))?;
    match found {
        Some(found) if found == trust_domain.as_str() => Ok(()),
        Some(found) => Err(OpenError::OtherTrustDomain {
            path: path.into(),
            found,
            configured: trust_domain.clone(),
        }),
        None => Err(OpenError::Damaged {
            path: path.into(),
            found: "table state is empty".to_owned(),
        }),
    }
}

/// Readable by us alone from its first moment; the write-ahead log takes its mode from it.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    made.map(|_| ()).map_err(|error| cannot(path, error))
}

pub(super) fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    match DatastoreError::from(error) {
        DatastoreError::Corrupt { source } => OpenError::Damaged {
            path: path.into(),
            found: source.to_string(),
        },
        source => OpenError::Open {
            path: path.into(),
            source,
        },
    }
}

fn cannot(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::Open {
        path: path.into(),
        source: DatastoreError::Failed {
            source: Arc::from(source.into()),
        },
    }
}

/// Read in a quarter of a second.
const WHOLE: u64 = 256 * 1024 * 1024;
/// Spells `LFAS`.
pub(super) const APPLICATION: i64 = 0x4c46_4153;
pub(super) const MEMORY: &str = ":memory:";
