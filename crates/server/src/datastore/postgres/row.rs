//! Between rows and values, and between the database's errors and ours. Invariant: what does not read back is damage, never a default.

use std::error::Error;
use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;

use crate::datastore::DatastoreError;

impl From<tokio_postgres::Error> for DatastoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Self::NoSpace {
                source: Arc::new(error),
            },
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly,
            Some(code) if ends_the_session(code) => Self::unreachable(error),
            Some(_) => Self::Failed {
                source: Arc::new(error),
            },
            // No answer of the database: the connection, or what cannot be read of it.
            None => Self::unreachable(error),
        }
    }
}

impl DatastoreError {
    pub(super) fn unreachable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unreachable {
            source: Arc::from(source.into()),
        }
    }
}

/// Whether another connection may do better: the database stops, starts, or has ended this session.
pub(super) fn ends_the_session(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATABASE_DROPPED,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::TOO_MANY_CONNECTIONS,
    ]
    .contains(code)
        || code.code().starts_with("08")
}

/// Whether the same transaction may do on a second try.
pub(super) fn is_passing(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
    ]
    .contains(code)
}

/// A value that does not read back.
pub(super) fn damage(
    column: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> DatastoreError {
    let source: Box<dyn Error + Send + Sync> = format!("column {column}: {}", source.into()).into();
    DatastoreError::Corrupt {
        source: Arc::from(source),
    }
}

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &'static str) -> Result<T, DatastoreError> {
    row.try_get(column).map_err(|e| damage(column, e))
}

pub(super) fn opt_id(row: &Row, column: &'static str) -> Result<Option<SpiffeId>, DatastoreError> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| SpiffeId::parse(text).map_err(|e| damage(column, e)))
        .transpose()
}

pub(super) fn id(row: &Row, column: &'static str) -> Result<SpiffeId, DatastoreError> {
    SpiffeId::parse(get(row, column)?).map_err(|e| damage(column, e))
}

pub(super) fn domain(row: &Row, column: &'static str) -> Result<TrustDomain, DatastoreError> {
    TrustDomain::parse(get(row, column)?).map_err(|e| damage(column, e))
}

pub(super) fn time(row: &Row, column: &'static str) -> Result<UnixTime, DatastoreError> {
    get(row, column).map(UnixTime::from_secs)
}

pub(super) fn opt_time(row: &Row, column: &'static str) -> Result<Option<UnixTime>, DatastoreError> {
    Ok(get::<Option<i64>>(row, column)?.map(UnixTime::from_secs))
}

pub(super) fn opt_hash(row: &Row, column: &'static str) -> Result<Option<[u8; 32]>, DatastoreError> {
    let bytes: Option<&[u8]> = get(row, column)?;
    bytes
        .map(|b| <[u8; 32]>::try_from(b).map_err(|e| damage(column, e)))
        .transpose()
}

/// Counters are never negative, and never reach the sign.
pub(super) fn unsigned(row: &Row, column: &'static str) -> Result<u64, DatastoreError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|e| damage(column, e))
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
