//! Which migrations a database lacks. Invariant: it was made by the very texts that this program has, and by no later ones; else it is refused.

use std::path::Path;

use ring::digest::{SHA256, digest};

use super::OpenError;
use crate::random::hex;

/// What a start would do to the schema of a database.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    /// Number of the last migration; 0 when there is no database yet.
    pub(crate) schema: i64,
    /// Numbers of those that would be applied.
    pub(crate) numbers: Vec<i64>,
}

impl Pending {
    /// Of a database to which these migrations, number and digest, were applied in their order.
    pub(super) fn of(path: &Path, applied: &[(i64, String)], migrations: &[&str]) -> Result<Self, OpenError> {
        let (known, schema) = (known(migrations), applied.last().map_or(0, |(number, _)| *number));
        let path = path.to_owned();
        if schema > known {
            let found = schema;
            return Err(OpenError::NewerSchema { path, found, known });
        }
        let mut numbers = Vec::new();
        for (number, text) in (1..).zip(migrations) {
            match applied.iter().find(|(n, _)| *n == number) {
                None => numbers.push(number),
                Some((_, found)) if *found == sum(text) => {}
                Some(_) => return Err(OpenError::ChangedMigration { path, number }),
            }
        }
        Ok(Self { schema, numbers })
    }

    /// Of a database that is not there, or has nothing in it.
    pub(super) fn all(migrations: &[&str]) -> Self {
        Self {
            schema: 0,
            numbers: (1..=known(migrations)).collect(),
        }
    }
}

/// By which a migration is known again.
pub(super) fn sum(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// The number of the last one.
pub(super) fn known(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}
