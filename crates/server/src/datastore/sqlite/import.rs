//! Builds a database file out of rows. Invariant: it has exactly the tables of its schema, and what they refer to is there.

use std::path::{Path, PathBuf};

use landfast_identity::TrustDomain;
use rusqlite::{Connection, params, params_from_iter};

use super::export::{quoted, tables};
use super::open::{self, refused};
use super::{authorities, migrate, recoveries};
use crate::datastore::rows::{Restoration, SEQUENCE_STEP, Table, Value};
use crate::datastore::{DatastoreError, OpenError};
use crate::registry::renewed_since;

/// A file that nobody uses yet.
pub(crate) struct Import {
    conn: Connection,
    path: PathBuf,
    trust_domain: TrustDomain,
    schema: i64,
    tables: Vec<Table>,
}

/// Why rows do not make a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be made.
    #[error("the database was not built")]
    Open {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// The database refuses.
    #[error("the database was not built")]
    Database {
        /// Why.
        #[from]
        source: DatastoreError,
    },
    /// The schema has no such table, or with other columns.
    #[error("schema {schema} has no table {table} with these columns")]
    Table {
        /// Which schema.
        schema: i64,
        /// Which table.
        table: String,
    },
    /// A row breaks a rule of its table.
    #[error("row {row} of table {table} is none that was ever stored")]
    Row {
        /// The table.
        table: String,
        /// Counted from 1.
        row: u64,
        /// The rule.
        source: DatastoreError,
    },
    /// A row names another that is not there.
    #[error("a row of table {table} names one that is not there")]
    Dangling {
        /// The table.
        table: String,
    },
}

impl Import {
    /// Begins a new file with the tables of this schema.
    pub(crate) fn begin(path: &Path, trust_domain: &TrustDomain, schema: i64) -> Result<Self, ImportError> {
        open::create(path)?;
        let conn = Connection::open(path).map_err(|e| refused(path, e))?;
        // It is synchronised once, when it is whole; until then it is nobody's.
        let settings = "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY";
        conn.execute_batch(settings).map_err(|e| refused(path, e))?;
        conn.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))
            .map_err(|e| refused(path, e))?;
        migrate::up_to(&conn, path, trust_domain, schema)?;
        let tables = tables(&conn)?;
        let mut begin = "BEGIN;".to_owned();
        for table in &tables {
            // One row stands there from the start.
            begin += &format!("DELETE FROM {};", quoted(&table.name));
        }
        conn.execute_batch(&begin).map_err(DatastoreError::from)?;
        Ok(Self {
            conn,
            path: path.into(),
            trust_domain: trust_domain.clone(),
            schema,
            tables,
        })
    }

    /// The tables that there have to be.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }

    /// Fills one table.
    pub(crate) fn fill<E: From<ImportError>>(
        &self,
        table: &Table,
        rows: impl Iterator<Item = Result<Vec<Value>, E>>,
    ) -> Result<(), E> {
        if !self.tables.contains(table) {
            let (schema, table) = (self.schema, table.name.clone());
            return Err(ImportError::Table { schema, table }.into());
        }
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            quoted(&table.name),
            columns.join(", "),
            vec!["?"; columns.len()].join(", ")
        );
        let failed = |e: rusqlite::Error| ImportError::from(DatastoreError::from(e));
        let mut insert = self.conn.prepare(&sql).map_err(failed)?;
        for (row, values) in (1..).zip(rows) {
            let values = values?;
            insert
                .execute(params_from_iter(values.iter().map(sql_value)))
                .map_err(|e| ImportError::Row {
                    table: table.name.clone(),
                    row,
                    source: e.into(),
                })?;
        }
        Ok(())
    }

    /// Brings it to the newest schema, makes the changes of a restoration, and looks whether it is whole.
    pub(crate) fn finish(self, restoration: &Restoration) -> Result<(), ImportError> {
        let conn = &self.conn;
        conn.execute_batch("COMMIT").map_err(DatastoreError::from)?;
        migrate::run(conn, &self.path, &self.trust_domain)?;
        restore(conn, restoration).map_err(DatastoreError::from)?;
        let dangling = conn.query_row("PRAGMA foreign_key_check", [], |row| row.get(0));
        match dangling {
            Ok(table) => return Err(ImportError::Dangling { table }),
            Err(rusqlite::Error::QueryReturnedNoRows) => {}
            Err(error) => return Err(DatastoreError::from(error).into()),
        }
        let found: String = conn
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(DatastoreError::from)?;
        if found != "ok" {
            let path = self.path;
            return Err(OpenError::Damaged { path, found }.into());
        }
        Ok(())
    }
}

fn restore(conn: &Connection, restoration: &Restoration) -> Result<(), rusqlite::Error> {
    conn.execute(
        "UPDATE state SET epoch = max(epoch + 1, ?1), bundle_sequence = max(bundle_sequence + ?2, ?3)",
        [restoration.epoch, SEQUENCE_STEP, restoration.least_sequence],
    )?;
    let mut spend =
        conn.prepare("UPDATE join_tokens SET revoked = 1 WHERE hash = ?1 AND redeemed_at IS NULL")?;
    for hash in &restoration.spent {
        spend.execute([hash])?;
    }
    if restoration.void_tokens {
        conn.execute("UPDATE join_tokens SET revoked = 1 WHERE redeemed_at IS NULL", [])?;
    }
    conn.execute(
        "UPDATE agents SET new_serial = ?1, new_not_after = NULL WHERE serial <> ''",
        [renewed_since(restoration.renewed_since)],
    )?;
    // What has been asked with device keys since, and decided about them, is not known but where the old data knows it.
    recoveries::doubt_all(conn)?;
    let mut known = conn.prepare(
        "INSERT OR REPLACE INTO recoveries (agent_id, heard_at, waiting, body) SELECT id, ?2, ?3, ?4 FROM agents WHERE id = ?1",
    )?;
    for (agent, heard_at, waiting, body) in &restoration.recoveries {
        known.execute(params![agent, heard_at, waiting, body])?;
    }
    authorities::may_have_signed(conn)?;
    if restoration.forget_authorities {
        conn.execute("DELETE FROM authorities", [])?;
    }
    Ok(())
}

fn sql_value(value: &Value) -> rusqlite::types::ToSqlOutput<'_> {
    use rusqlite::types::ValueRef;
    rusqlite::types::ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Integer(number) => ValueRef::Integer(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    })
}
