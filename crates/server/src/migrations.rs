//! What a start would do to the configured database, before it does it. Invariant: nothing is changed.

use std::fmt;

use serde_json::{Value, json};

use crate::config::ServerConfig;
use crate::core::{DATABASE, MARKER};
use crate::datastore::{OpenError, Pending, postgres, sqlite};

/// The database that a configuration names, and what a start would do to it.
#[derive(Debug)]
pub struct DatabaseReport(Option<Place>);

#[derive(Debug)]
struct Place {
    kind: &'static str,
    name: String,
    pending: Pending,
}

/// Says which migrations a start would apply, also while servers run.
///
/// # Errors
/// A start would refuse the database.
pub async fn check_database(config: &ServerConfig) -> Result<DatabaseReport, OpenError> {
    let dir = config.data_dir.as_deref();
    if let Some(target) = &config.postgres {
        // Where the server has been before; a check need not run there.
        let initialised = dir.is_some_and(|dir| dir.join(MARKER).exists());
        let pending = postgres::pending(target, &config.trust_domain, initialised).await?;
        let (kind, name) = ("postgres", target.shown().display().to_string());
        return Ok(DatabaseReport(Some(Place { kind, name, pending })));
    }
    let Some(dir) = dir else {
        return Ok(DatabaseReport(None));
    };
    let path = dir.join(DATABASE);
    let pending = sqlite::pending(&path, &config.trust_domain)?;
    let (kind, name) = ("sqlite", path.display().to_string());
    Ok(DatabaseReport(Some(Place { kind, name, pending })))
}

impl DatabaseReport {
    /// `kind` is `sqlite`, `postgres` or `memory`; `schema` 0 when there is nothing yet; `pending` the migrations that a start would apply.
    pub fn json(&self) -> Value {
        match &self.0 {
            None => json!({ "kind": "memory" }),
            Some(Place { kind, name, pending }) => {
                json!({ "kind": kind, "name": name, "schema": pending.schema, "pending": pending.numbers })
            }
        }
    }
}

impl fmt::Display for DatabaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Place { kind, name, pending }) = &self.0 else {
            return f.write_str("everything is kept in memory: there is no database");
        };
        let numbers: Vec<String> = pending.numbers.iter().map(ToString::to_string).collect();
        let (schema, numbers) = (pending.schema, numbers.join(", "));
        match (schema, numbers.is_empty()) {
            (0, _) if *kind == "postgres" => {
                write!(
                    f,
                    "{name}: is empty; a start makes the registry, with migrations {numbers}"
                )
            }
            (0, _) => write!(
                f,
                "{name}: is not there yet; a start makes it, with migrations {numbers}"
            ),
            (_, true) => write!(f, "{name}: schema {schema}, no migration to apply"),
            (_, false) if *kind == "postgres" => write!(
                f,
                "{name}: schema {schema}; the first start applies migrations {numbers}. Servers of an older version stop serving then: make a backup first"
            ),
            (_, false) => write!(
                f,
                "{name}: schema {schema}; a start applies migrations {numbers}. An older version does not open it then: make a backup first"
            ),
        }
    }
}
