//! What a start would do to the configured database, before it does it. Invariant: nothing is changed.

use crate::config::ServerConfig;
use crate::core::DATABASE;
use crate::datastore::{OpenError, sqlite};

/// Says which migrations a start would apply.
///
/// # Errors
/// A start would refuse the database.
pub fn check_database(config: &ServerConfig) -> Result<String, OpenError> {
    if config.postgres.is_some() {
        return Ok("the registry is in PostgreSQL, which is not looked at: the first server of a version applies its migrations when it starts".to_owned());
    }
    let Some(dir) = &config.data_dir else {
        return Ok("everything is kept in memory: there is no database".to_owned());
    };
    let path = dir.join(DATABASE);
    let pending = sqlite::pending(&path, &config.trust_domain)?;
    let numbers: Vec<String> = pending.numbers.iter().map(ToString::to_string).collect();
    let (path, schema, numbers) = (path.display(), pending.schema, numbers.join(", "));
    Ok(match (schema, numbers.is_empty()) {
        (0, _) => format!("{path}: is not there yet; a start makes it, with migrations {numbers}"),
        (_, true) => format!("{path}: schema {schema}, no migration to apply"),
        (_, false) => format!(
            "{path}: schema {schema}; a start applies migrations {numbers}. An older version does not open it then: make a backup first"
        ),
    })
}
