//! Between rows and values. Invariant: what does not read back is damage, never a default.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};
use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row};

use crate::datastore::DatastoreError;
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
    column: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    let source: Box<dyn std::error::Error + Send + Sync> =
        format!("column {column}: {}", source.into()).into();
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, source)
}

pub(super) fn id(row: &Row<'_>, column: &'static str) -> Result<SpiffeId, rusqlite::Error> {
    let text: String = row.get(column)?;
    SpiffeId::parse(&text).map_err(|e| damage(column, e))
}

pub(super) fn opt_id(row: &Row<'_>, column: &'static str) -> Result<Option<SpiffeId>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| SpiffeId::parse(&text).map_err(|e| damage(column, e)))
        .transpose()
}

pub(super) fn time(row: &Row<'_>, column: &'static str) -> Result<UnixTime, rusqlite::Error> {
    row.get(column).map(UnixTime::from_secs)
}

pub(super) fn opt_time(row: &Row<'_>, column: &'static str) -> Result<Option<UnixTime>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixTime::from_secs))
}

pub(super) fn ttl(row: &Row<'_>, column: &'static str) -> Result<Option<Duration>, rusqlite::Error> {
    let secs: Option<i64> = row.get(column)?;
    let read = |secs| {
        u64::try_from(secs)
            .map(Duration::from_secs)
            .map_err(|e| damage(column, e))
    };
    secs.map(read).transpose()
}

pub(super) fn secs(ttl: Option<Duration>) -> Option<i64> {
    ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}

pub(super) fn hash(row: &Row<'_>, column: &'static str) -> Result<[u8; 32], rusqlite::Error> {
    let bytes: Vec<u8> = row.get(column)?;
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|e| damage(column, e))
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

pub(super) fn selectors(row: &Row<'_>, column: &'static str) -> Result<SelectorSet, rusqlite::Error> {
    strings(row, column)?
        .iter()
        .map(|text| Selector::parse(text).map_err(|e| damage(column, e)))
        .collect()
}

pub(super) fn strings_text(list: &[String]) -> String {
    serde_json::Value::from_iter(list.iter().map(String::as_str)).to_string()
}

pub(super) fn strings(row: &Row<'_>, column: &'static str) -> Result<Vec<String>, rusqlite::Error> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| damage(column, e))
}

pub(super) fn domain(text: &str) -> Result<TrustDomain, rusqlite::Error> {
    TrustDomain::parse(text).map_err(|e| damage("trust_domain", e))
}
