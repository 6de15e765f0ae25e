//! Between rows and values. Invariant: what does not read back is damage, never a default.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SelectorSet, SpiffeId, TrustDomain, UnixTime};
use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row, RowIndex};
use serde::Deserialize;

use crate::datastore::DatastoreError;
use crate::datastore::sharing::Sharing;
use crate::registry::{RegistryError, TokenError};

impl From<rusqlite::Error> for DatastoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let no_room = error
            .sqlite_error()
            .is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
        let conversion = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        );
        match code {
            Some(ErrorCode::DiskFull) => Self::Full,
            // The index of the write-ahead log does not fit.
            Some(_) if no_room => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt {
                source: Arc::new(error),
            },
            None if conversion => Self::Corrupt {
                source: Arc::new(error),
            },
            _ => Self::Failed {
                source: Arc::new(error),
            },
        }
    }
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> Self {
        DatastoreError::from(error).into()
    }
}

impl From<rusqlite::Error> for TokenError {
    fn from(error: rusqlite::Error) -> Self {
        DatastoreError::from(error).into()
    }
}

/// A value that does not read back.
pub(super) fn damage(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    let source: Box<dyn std::error::Error + Send + Sync> =
        format!("column {column}: {}", source.into()).into();
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, source)
}

/// The same, of a column by name or number.
pub(super) fn damaged<C: RowIndex>(
    row: &Row<'_>,
    column: C,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    let statement = row.as_ref();
    let name = column
        .idx(statement)
        .and_then(|at| statement.column_name(at).map(str::to_owned));
    damage(name.as_deref().unwrap_or("?"), source)
}

pub(super) fn id<C: RowIndex + Copy>(row: &Row<'_>, column: C) -> Result<SpiffeId, rusqlite::Error> {
    let text: String = row.get(column)?;
    SpiffeId::parse(&text).map_err(|e| damaged(row, column, e))
}

pub(super) fn opt_id(row: &Row<'_>, column: &'static str) -> Result<Option<SpiffeId>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| SpiffeId::parse(&text).map_err(|e| damage(column, e)))
        .transpose()
}

/// A text as it stands in the row, not copied.
pub(super) fn text<'r, C: RowIndex + Copy>(row: &'r Row<'_>, column: C) -> Result<&'r str, rusqlite::Error> {
    row.get_ref(column)?.as_str().map_err(|e| damaged(row, column, e))
}

pub(super) fn time<C: RowIndex>(row: &Row<'_>, column: C) -> Result<UnixTime, rusqlite::Error> {
    row.get(column).map(UnixTime::from_secs)
}

pub(super) fn opt_time<C: RowIndex>(row: &Row<'_>, column: C) -> Result<Option<UnixTime>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixTime::from_secs))
}

pub(super) fn ttl<C: RowIndex + Copy>(row: &Row<'_>, column: C) -> Result<Option<Duration>, rusqlite::Error> {
    let secs: Option<i64> = row.get(column)?;
    let read = |secs| {
        u64::try_from(secs)
            .map(Duration::from_secs)
            .map_err(|e| damaged(row, column, e))
    };
    secs.map(read).transpose()
}

pub(super) fn secs(ttl: Option<Duration>) -> Option<i64> {
    ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}

pub(super) fn hash<C: RowIndex + Copy>(row: &Row<'_>, column: C) -> Result<[u8; 32], rusqlite::Error> {
    let bytes: Vec<u8> = row.get(column)?;
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|e| damaged(row, column, e))
}

pub(super) fn opt_hash(row: &Row<'_>, column: &'static str) -> Result<Option<[u8; 32]>, rusqlite::Error> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes
        .map(|b| <[u8; 32]>::try_from(b.as_slice()).map_err(|e| damage(column, e)))
        .transpose()
}

/// Canonical: a set has one spelling, so that two are equal when their texts are.
pub(super) fn selectors_text(set: &SelectorSet) -> String {
    serde_json::Value::from_iter(set.iter().map(ToString::to_string)).to_string()
}

pub(super) fn selectors<C: RowIndex + Copy>(
    row: &Row<'_>,
    column: C,
    sharing: &mut Sharing,
) -> Result<SelectorSet, rusqlite::Error> {
    let texts: Vec<Cow<'_, str>> = list(row, column)?;
    texts
        .iter()
        .map(|text| sharing.selector(text).map_err(|e| damaged(row, column, e)))
        .collect()
}

pub(super) fn strings_text(list: &[String]) -> String {
    serde_json::Value::from_iter(list.iter().map(String::as_str)).to_string()
}

pub(super) fn strings<C: RowIndex + Copy>(row: &Row<'_>, column: C) -> Result<Vec<String>, rusqlite::Error> {
    list(row, column)
}

fn list<'r, C: RowIndex + Copy, T: Deserialize<'r>>(
    row: &'r Row<'_>,
    column: C,
) -> Result<Vec<T>, rusqlite::Error> {
    serde_json::from_str(text(row, column)?).map_err(|e| damaged(row, column, e))
}

pub(super) fn domain(text: &str) -> Result<TrustDomain, rusqlite::Error> {
    TrustDomain::parse(text).map_err(|e| damage("trust_domain", e))
}
